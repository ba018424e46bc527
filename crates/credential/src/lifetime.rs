//! How long KeyPackages live: one policy for those who make, serve and admit them. All in seconds.
//!
//! The MLS Lifetime (RFC 9420 section 7.2) is longer than a directory serves a package, because
//! OpenMLS refuses a received Add whose Lifetime has ended by the local clock: a member who returns
//! after the whole retention must still read the Add of a package claimed on its last day.

use crate::error::CredentialError;

/// From `not_before` to the issue: room for receivers' clocks that are behind.
pub const BACK: u64 = 24 * 3_600;
/// How long a directory serves a KeyPackage.
pub const DIRECTORY: u64 = 24 * 3_600;
/// How long a directory serves a last resort.
pub const DIRECTORY_LAST_RESORT: u64 = 30 * 24 * 3_600;
/// The longest that an entry may wait to be read.
pub const RETENTION_MAX: u64 = 30 * 24 * 3_600;
/// Room for receivers' clocks that are ahead.
pub const MARGIN: u64 = 24 * 3_600;
/// From the issue to `not_after`; one length for both kinds, so that packages do not differ by it.
pub const AHEAD: u64 = DIRECTORY_LAST_RESORT + RETENTION_MAX + MARGIN;
/// How far issuer's and judge's clocks may be apart at admission.
pub const SKEW: u64 = 3_600;

/// `not_before` and `not_after` (Unix seconds) of a KeyPackage issued now.
pub fn issued_at(now_ms: u64) -> (u64, u64) {
    let now = now_ms / 1_000;
    (now.saturating_sub(BACK), now.saturating_add(AHEAD))
}

/// Judges a Lifetime and returns its time of issue, Unix milliseconds.
///
/// The length must be exactly [`BACK`] and [`AHEAD`]: a longer one outlives the policy, a shorter
/// one would end while members still have to read its Add. It may have begun up to [`SKEW`] after
/// now. A package may be [`DIRECTORY`] and [`SKEW`] old, a last resort [`DIRECTORY_LAST_RESORT`].
///
/// # Errors
/// [`CredentialError::Lifetime`] for any other.
pub(crate) fn judge(
    (not_before, not_after): (u64, u64),
    last_resort: bool,
    now_ms: u64,
) -> Result<u64, CredentialError> {
    let age_max = match last_resort {
        true => DIRECTORY_LAST_RESORT,
        false => DIRECTORY + SKEW,
    };
    let issued_at = not_before.checked_add(BACK);
    let of_policy_length = issued_at.and_then(|at| at.checked_add(AHEAD)) == Some(not_after);
    let issued_at_ms = issued_at.and_then(|at| at.checked_mul(1_000));
    let (true, Some(issued_at_ms)) = (of_policy_length, issued_at_ms) else {
        return Err(CredentialError::Lifetime);
    };
    let begun = not_before <= (now_ms / 1_000).saturating_add(SKEW);
    let fresh = now_ms.saturating_sub(issued_at_ms) <= age_max * 1_000;
    (begun && fresh).then_some(issued_at_ms).ok_or(CredentialError::Lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUED: u64 = 1_800_000_000;
    const REFUSED: Result<u64, CredentialError> = Err(CredentialError::Lifetime);

    fn at(last_resort: bool, now_ms: u64) -> Result<u64, CredentialError> {
        judge(issued_at(ISSUED * 1_000), last_resort, now_ms)
    }

    #[test]
    fn case_079_age_is_judged_to_the_millisecond() {
        for (last_resort, age) in [(false, 25 * 3_600), (true, 30 * 24 * 3_600)] {
            let end = (ISSUED + age) * 1_000;
            assert_eq!(at(last_resort, end - 1), Ok(ISSUED * 1_000));
            assert_eq!(at(last_resort, end), Ok(ISSUED * 1_000));
            assert_eq!(at(last_resort, end + 1), REFUSED);
        }
    }

    #[test]
    fn a_lifetime_may_begin_one_hour_after_now() {
        let begin = ISSUED - BACK;
        assert_eq!(at(false, (begin - SKEW + 1) * 1_000), Ok(ISSUED * 1_000));
        assert_eq!(at(false, (begin - SKEW) * 1_000), Ok(ISSUED * 1_000));
        assert_eq!(at(false, (begin - SKEW) * 1_000 - 1), REFUSED);
    }

    #[test]
    fn only_the_policy_s_length_is_taken() {
        let (not_before, not_after) = issued_at(ISSUED * 1_000);
        let now = ISSUED * 1_000;
        assert!(judge((not_before, not_after), false, now).is_ok());
        assert_eq!(judge((not_before, not_after - 1), false, now), REFUSED);
        assert_eq!(judge((not_before, not_after + 1), false, now), REFUSED);
        assert_eq!(judge((not_after, not_before), false, now), REFUSED);
        assert_eq!(judge((u64::MAX, u64::MAX), false, now), REFUSED);
        assert_eq!(judge((u64::MAX - BACK, u64::MAX), false, now), REFUSED);
        assert_eq!(judge((0, BACK + AHEAD), false, now), REFUSED);
    }
}
