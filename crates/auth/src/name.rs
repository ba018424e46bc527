//! The rules for account names. Knows nothing of who has which.

use qpc_proto::limits::NAME_CHARS_MAX;
use unicode_normalization::UnicodeNormalization as _;

use crate::AuthError;

/// The one form of a name, which is both stored and shown: NFKC, then lower case; 1 to 32
/// characters of `a-z 0-9 . _ -`. With ASCII alone, no two names look alike by script, and none
/// holds a control or direction character.
///
/// # Errors
/// [`AuthError::NameInvalid`] for a name that has no such form.
pub fn normalise(name: &str) -> Result<String, AuthError> {
    // No character takes more than four bytes; a longer input is not worth normalising.
    if name.len() > NAME_CHARS_MAX.saturating_mul(4) {
        return Err(AuthError::NameInvalid);
    }
    let name: String = name.nfkc().flat_map(char::to_lowercase).collect();
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
    let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count());
    (fits && name.chars().all(allowed)).then_some(name).ok_or(AuthError::NameInvalid)
}

/// What a normalised name looks like: its skeleton (UTS 39 section 4) in lower case, because names
/// are shown so. Two names with one skeleton can be taken for each other.
pub(crate) fn skeleton(name: &str) -> String {
    unicode_security::skeleton(name).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatible_forms_become_one_name() {
        for name in ["alice", "Alice", "ＡＬＩＣＥ", "ａlice"] {
            assert_eq!(normalise(name).unwrap(), "alice");
        }
        assert_eq!(normalise("\u{212a}im.o-1_2").unwrap(), "kim.o-1_2");
    }

    #[test]
    fn length_is_judged_after_normalising() {
        assert!(normalise("").is_err());
        assert_eq!(normalise(&"A".repeat(32)).unwrap(), "a".repeat(32));
        assert!(normalise(&"a".repeat(33)).is_err());
        // One ligature of three letters.
        assert!(normalise(&"\u{fb03}".repeat(10)).is_ok());
        assert!(normalise(&"\u{fb03}".repeat(11)).is_err());
    }

    #[test]
    fn case_044_hostile_names_are_refused() {
        let long = "a".repeat(10 << 20);
        for name in ["al ice", "a\0", "a\u{202e}b", "\u{1b}[31m", "аlice", "a/b", "a\n", "İ", &long]
        {
            assert!(matches!(normalise(name), Err(AuthError::NameInvalid)));
        }
    }

    #[test]
    fn names_that_look_alike_have_one_skeleton() {
        for (name, other) in
            [("paypal", "paypa1"), ("modern", "rnodern"), ("root", "r00t"), ("m0l", "rno1")]
        {
            assert_eq!(skeleton(name), skeleton(other));
        }
        for (name, other) in [("alice", "alicia"), ("bob", "rob"), ("a.b", "a-b"), ("ab", "a_b")] {
            assert_ne!(skeleton(name), skeleton(other));
        }
    }

    #[test]
    fn skeletons_are_what_the_migration_wrote() {
        let allowed = ('a'..='z').chain('0'..='9').chain(['.', '_', '-']);
        for character in allowed {
            let name = character.to_string();
            let written = name.replace('0', "o").replace('1', "l").replace('m', "rn");
            assert_eq!(skeleton(&name), written);
        }
    }
}
