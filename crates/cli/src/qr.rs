//! A text as a QR code of half blocks, two modules a character: for the camera of another device.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The code, or nothing for a text that has none. Light modules are drawn, so that it reads on a
/// dark terminal.
pub(crate) fn of(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let (light, dark) = (Dense1x2::Dark, Dense1x2::Light);
    Some(code.render::<Dense1x2>().dark_color(dark).light_color(light).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_link_fits_on_a_terminal() {
        let url = format!("qpc://chat.example:4810/link-{}#{}", "ab".repeat(16), "cd".repeat(32));
        let code = of(&url).unwrap();
        let width = code.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(width <= 60 && code.lines().count() <= 30, "{width} x {}", code.lines().count());
        assert!(code.chars().all(|c| " \n█▀▄".contains(c)));
        assert!(of(&"x".repeat(4_000)).is_none());
    }
}
