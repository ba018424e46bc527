//! Makes text from others harmless on a terminal: what could move the cursor, change colours,
//! reorder letters or hide is shown as an escape. Never changes visible text.

use std::borrow::Cow;

/// `text` with hidden and steering characters shown, e.g. `\n`, `\u{1b}`, `\u{202e}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            other if steers(other) => shown.extend(other.escape_unicode()),
            other => shown.push(other),
        }
    }
    Cow::Owned(shown)
}

/// A JSON text in which such characters stand as `\uXXXX`. They occur only inside strings, because
/// what JSON itself allows between tokens is plain ASCII.
pub(crate) fn visible_json(json: &str) -> Cow<'_, str> {
    if !json.contains(steers) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        if steers(letter) {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// Controls (C0, DEL, C1), line separators, bidirectional formatting, and invisible characters
/// that serve to hide. The joiners U+200C and U+200D stay: scripts and emoji need them.
fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_044_steering_characters_are_shown() {
        for (raw, shown) in [
            ("\u{1b}[31mred\u{1b}[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\0b", "a\\u{0}b"),
            ("a\u{202e}txt.exe", "a\\u{202e}txt.exe"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("one\ntwo\r\tthree\u{7f}", "one\\ntwo\\r\\tthree\\u{7f}"),
            ("bob\u{200b}", "bob\\u{200b}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(visible(raw), shown);
        }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "Grüße, 你好, שלום", "👩‍👩‍👧 \\n literal", "न्‍"]
        {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn case_044_json_means_the_same_after_escaping() {
        let text = "\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{e0041}\"\\ ü";
        let json = serde_json::to_string(text).unwrap();
        let shown = visible_json(&json);
        assert!(!shown.contains(steers));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }
}
