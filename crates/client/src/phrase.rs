//! The recovery phrase: the 24 words of BIP-39 that stand for the root's Ed25519 seed. Never logs a
//! word, and no error names one.

use bip39::{Error, Language, Mnemonic};
use zeroize::Zeroizing;

use crate::error::ClientError;
use crate::keys::Seed;

/// Words of a phrase for 32 bytes (BIP-39).
const WORDS: usize = 24;

/// Who has these words has the account, whatever device it is lost with.
#[derive(Clone)]
pub struct Phrase(Seed);

impl std::fmt::Debug for Phrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Phrase(redacted)")
    }
}

impl Phrase {
    pub(crate) fn of(seed: &Seed) -> Self {
        Self(seed.clone())
    }

    /// Reads a phrase as a person types it: any case, any white space, numbers before the words.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when it is none: says what to look at, never which words.
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let mut plain = Zeroizing::new(String::with_capacity(text.len()));
        let mut count = 0_usize;
        let numbered = |word: &&str| !word.trim_end_matches(['.', ':', ')']).is_empty();
        let is_number =
            |word: &str| word.bytes().all(|b| b.is_ascii_digit() || b".:)".contains(&b));
        for word in text.split_whitespace().filter(numbered).filter(|word| !is_number(word)) {
            if count > 0 {
                plain.push(' ');
            }
            plain.extend(word.chars().map(|letter| letter.to_ascii_lowercase()));
            count = count.saturating_add(1);
        }
        if count != WORDS {
            return Err(ClientError::Usage(format!("a phrase has {WORDS} words, not {count}")));
        }
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &plain).map_err(wrong)?;
        let (bytes, length) = mnemonic.to_entropy_array();
        let bytes = Zeroizing::new(bytes);
        let seed = bytes.get(..length).and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        seed.map(|seed| Self(Zeroizing::new(seed))).ok_or(ClientError::Internal("a phrase"))
    }

    /// The words, with single spaces.
    pub fn words(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(WORDS * 9));
        // 32 bytes always have a phrase.
        let Ok(mnemonic) = Mnemonic::from_entropy_in(Language::English, self.0.as_slice()) else {
            return text;
        };
        for (number, word) in mnemonic.words().enumerate() {
            if number > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    pub(crate) fn root(&self) -> &Seed {
        &self.0
    }
}

fn wrong(error: Error) -> ClientError {
    ClientError::Usage(match error {
        Error::UnknownWord(index) => {
            format!("word {} of the phrase is not one of the list: look at it again", index + 1)
        }
        Error::InvalidChecksum => {
            "the phrase does not add up: a word is another, or two are swapped".to_owned()
        }
        Error::BadWordCount(_) | Error::BadEntropyBitCount(_) | Error::AmbiguousLanguages(_) => {
            format!("a phrase has {WORDS} English words")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vectors of BIP-39.
    const VECTORS: [(u8, &str, &str); 2] = [(0x00, "abandon", "art"), (0xff, "zoo", "vote")];

    fn phrase_of(word: &str, last: &str) -> String {
        [vec![word; 23], vec![last]].concat().join(" ")
    }

    #[test]
    fn the_published_vectors_both_ways() {
        for (byte, word, last) in VECTORS {
            let phrase = Phrase::of(&Zeroizing::new([byte; 32]));
            assert_eq!(phrase.words().as_str(), phrase_of(word, last));
            let read = Phrase::parse(&phrase.words()).unwrap();
            assert_eq!(**read.root(), [byte; 32]);
        }
    }

    #[test]
    fn a_phrase_as_people_write_it() {
        let mut text = String::new();
        for number in 1..=23 {
            text.push_str(&format!(" {number}.\tAbandon\n"));
        }
        text.push_str("24)  ART \n");
        assert_eq!(**Phrase::parse(&text).unwrap().root(), [0; 32]);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_words() {
        for (wrong, says) in [
            (phrase_of("abandon", "vote"), "does not add up"),
            (phrase_of("secretword", "art"), "word 1 "),
            ("zoo zoo zoo".to_owned(), "has 24 words, not 3"),
            (String::new(), "not 0"),
        ] {
            let text = Phrase::parse(&wrong).unwrap_err().to_string();
            assert!(text.contains(says), "{text}");
            assert!(!text.contains("abandon") && !text.contains("secretword"), "{text}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Phrase::of(&Zeroizing::new([7; 32]))), "Phrase(redacted)");
    }
}
