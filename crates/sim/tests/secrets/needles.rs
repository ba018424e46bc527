//! What is searched for: secrets in each form in which a log might show them.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a form that are looked up at each place; what is shorter proves nothing when found.
const HEAD: usize = 8;

/// Secrets in all forms, by the first bytes of each.
#[derive(Default)]
pub(crate) struct Needles {
    heads: BTreeMap<[u8; HEAD], Vec<(Vec<u8>, String)>>,
}

impl Needles {
    /// A secret of random bytes. Half of a long one is a find, too.
    pub(crate) fn bytes(&mut self, name: &str, secret: &[u8]) {
        for (form, bytes) in forms(secret) {
            self.form(&format!("{name} as {form}"), &bytes);
        }
        if secret.len() >= 4 * HEAD {
            let (first, last) = secret.split_at(secret.len() / 2);
            self.bytes(&format!("first half of {name}"), first);
            self.bytes(&format!("last half of {name}"), last);
        }
    }

    /// A secret text.
    pub(crate) fn text(&mut self, name: &str, secret: &str) {
        self.bytes(name, secret.as_bytes());
        self.form(
            &format!("{name} as escaped text"),
            format!("{secret:?}").trim_matches('"').as_bytes(),
        );
    }

    fn form(&mut self, name: &str, bytes: &[u8]) {
        let head = bytes.first_chunk::<HEAD>().expect("too short to be told from chance");
        self.heads.entry(*head).or_default().push((bytes.to_vec(), name.to_owned()));
    }

    /// The names of those that are in `log`.
    pub(crate) fn found_in(&self, log: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let begins: BTreeSet<u8> = self.heads.keys().map(|head| head[0]).collect();
        let begins: Vec<bool> = (0..=u8::MAX).map(|byte| begins.contains(&byte)).collect();
        for (at, byte) in log.iter().enumerate() {
            if !begins[usize::from(*byte)] {
                continue;
            }
            let Some(head) = log[at..].first_chunk::<HEAD>() else { break };
            for (needle, name) in self.heads.get(head).into_iter().flatten() {
                if log[at..].starts_with(needle) && found.insert(name.clone()) {
                    eprintln!("{name}: {}", around(log, at));
                }
            }
        }
        found
    }
}

/// The line in which a find stands, as far as it helps.
fn around(log: &[u8], at: usize) -> String {
    let from = at.saturating_sub(200);
    let to = log.len().min(at + 120);
    String::from_utf8_lossy(&log[from..to]).into_owned()
}

fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let join = |with: &str, each: fn(&u8) -> String| {
        secret.iter().map(each).collect::<Vec<_>>().join(with).into_bytes()
    };
    let (lower, upper) = (|byte: &u8| format!("{byte:02x}"), |byte: &u8| format!("{byte:02X}"));
    let decimal = |byte: &u8| byte.to_string();
    let escaped = format!("{:?}", bytes::Bytes::copy_from_slice(secret));
    vec![
        ("raw bytes", secret.to_vec()),
        ("hex", join("", lower)),
        ("upper-case hex", join("", upper)),
        ("a list of hex numbers", join(", ", lower)),
        ("hex with colons", join(":", lower)),
        ("a list of numbers", join(", ", decimal)),
        ("a JSON list", join(",", decimal)),
        ("escaped bytes", escaped.trim_start_matches('b').trim_matches('"').into()),
        ("base64", base64(secret, b"+/")),
        ("base64url", base64(secret, b"-_")),
    ]
}

/// RFC 4648 section 4 without padding, up to the last whole group.
fn base64(bytes: &[u8], last: &[u8; 2]) -> Vec<u8> {
    let alphabet: Vec<u8> =
        (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*last).collect();
    let group = |three: &[u8]| {
        let bits = three.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| alphabet[bits >> shift & 63])
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

#[test]
fn every_form_is_found_and_chance_is_not() {
    let secret: Vec<u8> = (0..32).map(|n| n * 7 + 3).collect();
    let mut needles = Needles::default();
    needles.bytes("key", &secret);
    for (form, bytes) in forms(&secret) {
        let log = [b"before ".as_slice(), &bytes, b" after"].concat();
        assert!(needles.found_in(&log).contains(&format!("key as {form}")), "{form}");
    }
    assert!(needles.found_in(b"nothing at all in here, nor 03, 0a, 11").is_empty());
    assert_eq!(base64(b"any carnal pleas", b"+/"), b"YW55IGNhcm5hbCBwbGVh");
}
