//! Wrong passphrases in a row: how many and when the last one came, in a small file beside the
//! sealed key. Slows down who guesses through this program; who has a copy of the folder pays the
//! price of Argon2id alone. Never keeps anything of a passphrase, and never deletes a key.

use std::fs;

use qpc_proto::codec::{Reader, Writer};

use super::Home;
use crate::error::ClientError;

pub(super) const ATTEMPTS_FILE: &str = "key.attempts";
const LABEL: &str = "qpc/v1 wrong passphrases";
/// So many wrong ones in a row cost nothing.
const FREE: u32 = 3;
/// The longest wait, in milliseconds.
const WAIT_MS_MAX: u64 = 60_000;

/// Wrong passphrases since the last right one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Attempts {
    wrong: u32,
    last_ms: u64,
}

impl Attempts {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        r.label(LABEL).ok()?;
        let attempts = Self { wrong: r.u32().ok()?, last_ms: r.u64().ok()? };
        r.finish().ok().map(|()| attempts)
    }

    fn to_bytes(self) -> Vec<u8> {
        Writer::with_label(LABEL).u32(self.wrong).u64(self.last_ms).finish()
    }

    /// How long the next one is refused. Nothing where the clock was set back: the last one would
    /// seem to come from the future, and the home would stay shut until then.
    fn left_ms(self, now_ms: u64) -> u64 {
        let Some(doublings) = self.wrong.checked_sub(FREE.saturating_add(1)) else { return 0 };
        let Some(passed) = now_ms.checked_sub(self.last_ms) else { return 0 };
        let wait = 1_000_u64.saturating_mul(2_u64.saturating_pow(doublings)).min(WAIT_MS_MAX);
        wait.saturating_sub(passed)
    }
}

impl Home {
    /// A file that is damaged, or gone, counts for nothing: it must not shut the owner out.
    fn attempts(&self) -> Attempts {
        let bytes = fs::read(self.file(ATTEMPTS_FILE)).unwrap_or_default();
        Attempts::parse(&bytes).unwrap_or_default()
    }

    /// Refuses while wrong passphrases have to be waited for.
    pub(super) fn may_try(&self, now_ms: u64) -> Result<(), ClientError> {
        match self.attempts().left_ms(now_ms) {
            0 => Ok(()),
            left_ms => Err(ClientError::PassphraseWait { left_ms }),
        }
    }

    /// Counts a wrong passphrase, or forgets the wrong ones after a right one. A disk that is full
    /// changes nothing about what is answered.
    pub(super) fn tried(&self, (right, now_ms): (bool, u64)) {
        let noted = if right {
            match fs::remove_file(self.file(ATTEMPTS_FILE)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                Ok(()) | Err(_) => Ok(()),
            }
        } else {
            let wrong = self.attempts().wrong.saturating_add(1);
            self.replace(ATTEMPTS_FILE, &Attempts { wrong, last_ms: now_ms }.to_bytes())
        };
        if let Err(error) = noted {
            tracing::warn!("wrong passphrases are not counted: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::{DATABASE, Protection, SEALED_FILE, Unlock};
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn sealed_home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        home.create(&Protection::Passphrase(Zeroizing::new("right".to_owned()))).unwrap();
        home.open(&unlock("right")).unwrap().close().unwrap();
        (dir, home)
    }

    fn unlock(text: &str) -> Unlock {
        Unlock::Passphrase(Zeroizing::new(text.to_owned()))
    }

    /// How long a try has to wait; `None` when it was made and the passphrase is wrong.
    fn refused(home: &Home, text: &str, now_ms: u64) -> Option<u64> {
        let error = home.key(&unlock(text), now_ms).map(drop).unwrap_err();
        if let ClientError::PassphraseWait { left_ms } = error {
            return Some(left_ms);
        }
        assert_eq!(error.to_string(), "the passphrase is wrong");
        None
    }

    #[test]
    fn case_214_ten_wrong_passphrases_cost_ever_longer_waits_and_delete_nothing() {
        let (_dir, home) = sealed_home();
        let before = fs::read(home.file(SEALED_FILE)).unwrap();
        let mut now_ms = NOW;
        for wait_s in [0, 0, 0, 1, 2, 4, 8, 16, 32, 60] {
            assert_eq!(refused(&home, "wrong", now_ms), None);
            if wait_s == 0 {
                continue;
            }
            // Neither a wrong nor a right one is tried, and neither makes the wait longer.
            assert_eq!(refused(&home, "wrong", now_ms), Some(wait_s * 1_000));
            assert_eq!(refused(&home, "right", now_ms + wait_s * 1_000 - 1), Some(1));
            now_ms += wait_s * 1_000;
        }
        assert_eq!(refused(&home, "wrong", now_ms), None);
        assert_eq!(refused(&home, "wrong", now_ms), Some(WAIT_MS_MAX), "never longer");
        now_ms += WAIT_MS_MAX;
        assert_eq!(fs::read(home.file(SEALED_FILE)).unwrap(), before);
        assert!(home.file(DATABASE).exists());
        home.key(&unlock("right"), now_ms).unwrap();
        // A right one begins the count anew.
        for _ in 0..4 {
            assert_eq!(refused(&home, "wrong", now_ms), None);
        }
        assert_eq!(refused(&home, "wrong", now_ms), Some(1_000));
        now_ms += 1_000;
        home.key(&unlock("right"), now_ms).unwrap();
        home.open(&unlock("right")).unwrap().close().unwrap();
    }

    #[test]
    fn case_214_the_wait_outlives_the_process_and_not_a_clock_that_was_set_back() {
        let (_dir, home) = sealed_home();
        home.replace(ATTEMPTS_FILE, &Attempts { wrong: 10, last_ms: NOW }.to_bytes()).unwrap();
        let again = Home::new(home.path().to_owned());
        assert_eq!(refused(&again, "right", NOW + 1), Some(WAIT_MS_MAX - 1));
        let year = 365 * 24 * 3_600_000;
        // One try, which is counted by the clock as it is now.
        assert_eq!(refused(&again, "wrong", NOW - year), None);
        assert_eq!(refused(&again, "right", NOW - year), Some(WAIT_MS_MAX));
        again.key(&unlock("right"), NOW - year + WAIT_MS_MAX).unwrap();
        assert!(!again.file(ATTEMPTS_FILE).exists());
    }

    #[test]
    fn case_214_only_wrong_passphrases_count_and_a_damaged_count_shuts_nobody_out() {
        let (_dir, home) = sealed_home();
        let sealed = fs::read(home.file(SEALED_FILE)).unwrap();
        fs::write(home.file(SEALED_FILE), b"damaged").unwrap();
        assert!(matches!(home.key(&unlock("right"), NOW), Err(ClientError::Key(_))));
        assert!(!home.file(ATTEMPTS_FILE).exists());
        fs::write(home.file(SEALED_FILE), sealed).unwrap();
        fs::write(home.file(ATTEMPTS_FILE), [0xff; 40]).unwrap();
        home.key(&unlock("right"), NOW).unwrap();
        assert_eq!(refused(&home, "wrong", NOW), None);
        assert_eq!(home.attempts(), Attempts { wrong: 1, last_ms: NOW });
        home.clone().wipe().unwrap();
        assert!(!home.path().exists());
    }

    #[test]
    fn a_wait_says_how_long_in_whole_seconds() {
        let error = ClientError::PassphraseWait { left_ms: 1_001 };
        assert!(error.to_string().contains("in 2 s"), "{error}");
        assert_eq!((error.code(), error.exit()), ("PASSPHRASE_WAIT", crate::ExitKind::Key));
    }
}
