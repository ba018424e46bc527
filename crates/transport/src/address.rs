//! The address of a server: `qpc://HOST:PORT/#FINGERPRINT`, with an invite or a link's code before
//! the `#` if there is one. Text in, validated parts out; never resolves a name.

use std::fmt;
use std::str::FromStr;

use qpc_proto::Digest;
use qpc_proto::limits::INVITE_BYTES;
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

const SCHEME: &str = "qpc://";
/// Stands before the code of a link.
const LINK: &str = "link-";
/// Bytes of a link's one-time code.
const LINK_CODE_BYTES: usize = 16;

/// Where a server is and which key it must show.
///
/// `Display` prints the whole address, the invite included, for handing it to a person; `Debug`
/// redacts the invite.
#[derive(Clone)]
pub struct ServerUrl {
    /// DNS name or IP address; an IPv6 address without brackets.
    pub host: String,
    /// UDP port, not 0.
    pub port: u16,
    /// SHA-256 of the server certificate's public key (SPKI, RFC 5280 section 4.1).
    pub fingerprint: [u8; 32],
    /// One-use code that lets its holder register: a secret.
    pub invite: Option<Zeroizing<[u8; INVITE_BYTES]>>,
}

/// Where a new device and one of the account meet: `qpc://HOST:PORT/link-CODE#FINGERPRINT`.
///
/// `Display` prints the code, for handing it to the other device; `Debug` redacts it.
#[derive(Clone)]
pub struct LinkUrl {
    /// The server of both.
    pub server: ServerUrl,
    /// The one-time code: a secret.
    pub code: Zeroizing<[u8; LINK_CODE_BYTES]>,
}

/// What is wrong with the text of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlFault {
    /// It does not begin with `qpc://`.
    Scheme,
    /// The host is neither a DNS name nor an IP address.
    Host,
    /// The port is missing or not in 1..=65535.
    Port,
    /// No `/` follows the port.
    Slash,
    /// What stands before the `#` is no invite (32 hexadecimal digits).
    Invite,
    /// What stands before the `#` is not `link-` and a code (32 hexadecimal digits).
    Link,
    /// No `#FINGERPRINT` ends it.
    NoFingerprint,
    /// The fingerprint is not 64 hexadecimal digits.
    Fingerprint,
}

impl fmt::Display for UrlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "an address begins with qpc://",
            Self::Host => "the host is no DNS name and no IP address (IPv6 goes in brackets)",
            Self::Port => "the address needs a port from 1 to 65535, as in qpc://host:4810/",
            Self::Slash => "a / follows the port, as in qpc://host:4810/#fingerprint",
            Self::Invite => "the invite is not 32 hexadecimal digits; copy the whole address",
            Self::Link => "this is no address of a link; copy all that the other device shows",
            Self::NoFingerprint => {
                "the address ends in # and the server's fingerprint; copy it all"
            }
            Self::Fingerprint => "the fingerprint is not 64 hexadecimal digits; copy it whole",
        })
    }
}

impl std::error::Error for UrlFault {}

impl FromStr for ServerUrl {
    type Err = UrlFault;

    fn from_str(text: &str) -> Result<Self, UrlFault> {
        let (server, invite) = parts(text)?;
        let invite = match invite {
            "" => None,
            code => Some(Zeroizing::new(hex(code).ok_or(UrlFault::Invite)?)),
        };
        Ok(Self { invite, ..server })
    }
}

impl FromStr for LinkUrl {
    type Err = UrlFault;

    fn from_str(text: &str) -> Result<Self, UrlFault> {
        let (server, code) = parts(text)?;
        let code = code.strip_prefix(LINK).and_then(hex).ok_or(UrlFault::Link)?;
        Ok(Self { server, code: Zeroizing::new(code) })
    }
}

/// The server, and what stands between `/` and `#`.
fn parts(text: &str) -> Result<(ServerUrl, &str), UrlFault> {
    let rest = text.trim().strip_prefix(SCHEME).ok_or(UrlFault::Scheme)?;
    let (place, fingerprint) = rest.split_once('#').ok_or(UrlFault::NoFingerprint)?;
    let (authority, between) = place.split_once('/').ok_or(UrlFault::Slash)?;
    let (host, port) = authority.rsplit_once(':').ok_or(UrlFault::Port)?;
    let host = host_name(host)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or(UrlFault::Port)?;
    let fingerprint = hex(fingerprint).ok_or(UrlFault::Fingerprint)?;
    Ok((ServerUrl { host, port, fingerprint, invite: None }, between))
}

fn host_name(host: &str) -> Result<String, UrlFault> {
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let plain = bracketed.unwrap_or(host);
    // A colon outside brackets would make the port ambiguous.
    if bracketed.is_some() != plain.contains(':') {
        return Err(UrlFault::Host);
    }
    ServerName::try_from(plain).map_err(|_| UrlFault::Host)?;
    Ok(plain.to_owned())
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N.saturating_mul(2) || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let invite = self.invite.as_ref().map(|code| code.as_slice());
        write_parts(f, self, ("", invite.unwrap_or_default()))
    }
}

impl fmt::Display for LinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(f, &self.server, (LINK, self.code.as_slice()))
    }
}

impl fmt::Debug for LinkUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkUrl").field("server", &self.server).finish_non_exhaustive()
    }
}

fn write_parts(
    f: &mut fmt::Formatter<'_>,
    server: &ServerUrl,
    (before, code): (&str, &[u8]),
) -> fmt::Result {
    let (open, close) = if server.host.contains(':') { ("[", "]") } else { ("", "") };
    write!(f, "{SCHEME}{open}{}{close}:{}/{before}", server.host, server.port)?;
    code.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
    write!(f, "#{}", Digest(server.fingerprint))
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerUrl")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("fingerprint", &Digest(self.fingerprint))
            .field("invite", &self.invite.as_ref().map(|_| "redacted"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(place: &str) -> String {
        format!("qpc://{place}#{}", "ab".repeat(32))
    }

    #[test]
    fn addresses_round_trip() {
        let invite = "01".repeat(16);
        for place in [
            "chat.example:4810/".to_owned(),
            "127.0.0.1:1/".to_owned(),
            "[2001:db8::1]:65535/".to_owned(),
            format!("chat.example:4810/{invite}"),
        ] {
            let url: ServerUrl = text(&place).parse().unwrap();
            assert_eq!(url.to_string(), text(&place));
        }
        let url: ServerUrl = text(&format!("[::1]:4810/{invite}")).parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", 4810));
        assert_eq!(url.fingerprint, [0xab; 32]);
        assert_eq!(**url.invite.as_ref().unwrap(), [1; 16]);
    }

    #[test]
    fn an_address_prints_lower_case_and_forgives_space_around_it() {
        let url: ServerUrl = format!(" qpc://h:1/#{}\n", "AB".repeat(32)).parse().unwrap();
        assert_eq!(url.to_string(), text("h:1/"));
    }

    #[test]
    fn every_fault_is_named() {
        for (wrong, fault) in [
            ("https://h:1/".to_owned(), UrlFault::Scheme),
            ("qpc://h:1/".to_owned(), UrlFault::NoFingerprint),
            (text("h:1"), UrlFault::Slash),
            (text("h/"), UrlFault::Port),
            (text("h:0/"), UrlFault::Port),
            (text("h:65536/"), UrlFault::Port),
            (text(":1/"), UrlFault::Host),
            (text("a b:1/"), UrlFault::Host),
            (text("::1:1/"), UrlFault::Host),
            (text("[h]:1/"), UrlFault::Host),
            (text("h:1/abc"), UrlFault::Invite),
            (text(&format!("h:1/{}", "+1".repeat(16))), UrlFault::Invite),
            ("qpc://h:1/#abc".to_owned(), UrlFault::Fingerprint),
            (format!("qpc://h:1/#{}", "zz".repeat(32)), UrlFault::Fingerprint),
        ] {
            assert_eq!(wrong.parse::<ServerUrl>().unwrap_err(), fault, "{wrong}");
        }
    }

    #[test]
    fn a_link_is_told_from_an_invite() {
        let code = "0a".repeat(16);
        for place in [format!("chat.example:4810/link-{code}"), format!("[::1]:1/link-{code}")] {
            let url: LinkUrl = text(&place).parse().unwrap();
            assert_eq!(*url.code, [10; 16]);
            assert_eq!(url.to_string(), text(&place));
            assert!(!format!("{url:?}").contains("0a0a"), "{url:?}");
            assert_eq!(text(&place).parse::<ServerUrl>().unwrap_err(), UrlFault::Invite);
        }
        for wrong in ["h:1/", "h:1/link-", &format!("h:1/{code}"), &format!("h:1/link-{code}0")] {
            assert_eq!(text(wrong).parse::<LinkUrl>().unwrap_err(), UrlFault::Link);
        }
    }

    #[test]
    fn debug_hides_the_invite() {
        let invite = "5c".repeat(16);
        let url: ServerUrl = text(&format!("h:1/{invite}")).parse().unwrap();
        let shown = format!("{url:?}");
        assert!(!shown.contains("5c5c") && !shown.contains("92"), "{shown}");
        assert!(shown.contains("redacted"));
    }
}
