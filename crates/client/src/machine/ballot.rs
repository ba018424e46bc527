//! Who has a voice about a Commit that members disagree about, and what their verdicts come to.
//!
//! Pure: the same list of leaves and the same verdicts in the same order give every member the same
//! outcome. Reads no clock; a day is one of accept times.

use std::collections::BTreeSet;

use qpc_proto::codec::{Reader, Writer};
use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, Malformed, PublicKey};

/// How long after a Commit its verdicts count, in milliseconds of accept time.
pub(crate) const COUNTED_MS: u64 = 24 * 3_600 * 1_000;

/// A device that was in before and after a Commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Leaf {
    pub(crate) device: DeviceRef,
    pub(crate) key: PublicKey,
}

/// The devices that were in before and after a Commit, and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Electorate {
    pub(crate) committer: DeviceRef,
    pub(crate) leaves: Vec<Leaf>,
}

/// One voice: an account, or a device where there is but one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Voter {
    Account(AccountId),
    Device(DeviceRef),
}

impl Voter {
    /// Bytes that differ for different voters.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Account(account) => account.as_ref().to_vec(),
            Self::Device(device) => {
                Writer::default().fixed(device.account).fixed(device.device).finish()
            }
        }
    }
}

impl Electorate {
    /// Whether the holder of this key was in as this device.
    pub(crate) fn holds(&self, device: &DeviceRef, key: &PublicKey) -> bool {
        self.leaves.iter().any(|leaf| leaf.device == *device && leaf.key == *key)
    }

    /// The voice of a device; the committer's account has none, and in a channel of one account the
    /// committing device.
    pub(crate) fn voter(&self, device: &DeviceRef) -> Option<Voter> {
        if !self.leaves.iter().any(|leaf| leaf.device == *device) {
            return None;
        }
        if self.is_of_one_account() {
            return (*device != self.committer).then_some(Voter::Device(*device));
        }
        let account = device.account;
        (account != self.committer.account).then_some(Voter::Account(account))
    }

    fn is_of_one_account(&self) -> bool {
        self.leaves.iter().all(|leaf| leaf.device.account == self.committer.account)
    }

    /// How many voices there are.
    pub(crate) fn size(&self) -> usize {
        let voters = self.leaves.iter().filter_map(|leaf| self.voter(&leaf.device));
        voters.collect::<BTreeSet<_>>().len()
    }

    /// The leaves as they are stored.
    pub(crate) fn encode_leaves(&self) -> Vec<u8> {
        let write = |writer: Writer, leaf: &Leaf| {
            writer.fixed(leaf.device.account).fixed(leaf.device.device).fixed(leaf.key)
        };
        self.leaves.iter().fold(Writer::default(), write).finish()
    }

    /// Reads stored leaves.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub(crate) fn decode_leaves(bytes: &[u8]) -> Result<Vec<Leaf>, Malformed> {
        let mut leaves = Vec::new();
        for bytes in bytes.chunks(LEAF_BYTES) {
            let mut r = Reader::new(bytes);
            let device = DeviceRef { account: AccountId(r.array()?), device: DeviceId(r.array()?) };
            leaves.push(Leaf { device, key: PublicKey(r.array()?) });
            r.finish()?;
        }
        Ok(leaves)
    }
}

/// Account, device, key.
const LEAF_BYTES: usize = 16 + 16 + 32;

/// What becomes of a Commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stands,
    Falls,
}

/// Verdicts counted so far, one a voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) applied: usize,
    pub(crate) unjudged: usize,
}

impl Tally {
    /// The side that more than half of all voters are on.
    pub(crate) fn majority(&self, voters: usize) -> Option<Outcome> {
        let wins = |votes: usize| votes > voters / 2;
        match (wins(self.applied), wins(self.unjudged)) {
            (true, _) => Some(Outcome::Stands),
            (false, true) => Some(Outcome::Falls),
            (false, false) => None,
        }
    }

    /// The larger side, once the day is over. At a tie the Commit falls; where nobody said anything
    /// it stands: who was away for a day must not undo what all others went on from.
    pub(crate) fn at_the_end(&self) -> Outcome {
        let silent = self.applied == 0 && self.unjudged == 0;
        if silent || self.applied > self.unjudged { Outcome::Stands } else { Outcome::Falls }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(account: u8, device: u8) -> DeviceRef {
        DeviceRef { account: AccountId([account; 16]), device: DeviceId([device; 16]) }
    }

    fn leaf(account: u8, number: u8) -> Leaf {
        Leaf { device: device(account, number), key: PublicKey([number; 32]) }
    }

    fn of(committer: (u8, u8), leaves: &[(u8, u8)]) -> Electorate {
        let leaves = leaves.iter().map(|(account, number)| leaf(*account, *number)).collect();
        Electorate { committer: device(committer.0, committer.1), leaves }
    }

    #[test]
    fn accounts_vote_without_the_committers_however_many_devices_they_have() {
        let all = of((1, 1), &[(1, 1), (1, 2), (2, 3), (2, 4), (3, 5)]);
        assert_eq!(all.size(), 2);
        assert_eq!(all.voter(&device(1, 1)), None);
        assert_eq!(all.voter(&device(1, 2)), None);
        assert_eq!(all.voter(&device(2, 3)), Some(Voter::Account(AccountId([2; 16]))));
        assert_eq!(all.voter(&device(2, 3)), all.voter(&device(2, 4)));
        assert_eq!(all.voter(&device(4, 9)), None, "a stranger has a voice");
        assert_eq!(all.voter(&device(2, 9)), None, "a device that was not in has a voice");
    }

    #[test]
    fn in_a_channel_of_one_account_devices_vote_without_the_committing_one() {
        let all = of((1, 1), &[(1, 1), (1, 2), (1, 3)]);
        assert_eq!(all.size(), 2);
        assert_eq!(all.voter(&device(1, 1)), None);
        assert_eq!(all.voter(&device(1, 2)), Some(Voter::Device(device(1, 2))));
        assert_ne!(all.voter(&device(1, 2)), all.voter(&device(1, 3)));
        assert_eq!(of((1, 1), &[(1, 1)]).size(), 0);
    }

    #[test]
    fn a_voice_is_of_the_key_that_was_in() {
        let all = of((1, 1), &[(1, 1), (2, 2)]);
        assert!(all.holds(&device(2, 2), &PublicKey([2; 32])));
        assert!(!all.holds(&device(2, 2), &PublicKey([3; 32])));
        assert!(!all.holds(&device(2, 3), &PublicKey([2; 32])));
    }

    #[test]
    fn leaves_are_stored_as_they_are() {
        let all = of((1, 1), &[(1, 1), (2, 2), (3, 3)]);
        let bytes = all.encode_leaves();
        assert_eq!(Electorate::decode_leaves(&bytes).unwrap(), all.leaves);
        assert!(Electorate::decode_leaves(&bytes[1..]).is_err());
        assert_eq!(Electorate::decode_leaves(&[]).unwrap(), []);
    }

    #[test]
    fn more_than_half_of_all_voters_decide_and_half_do_not() {
        for voters in 0..8 {
            for applied in 0..=voters {
                for unjudged in 0..=voters - applied {
                    let outcome = Tally { applied, unjudged }.majority(voters);
                    let expected = if 2 * applied > voters {
                        Some(Outcome::Stands)
                    } else if 2 * unjudged > voters {
                        Some(Outcome::Falls)
                    } else {
                        None
                    };
                    assert_eq!(outcome, expected, "{applied}:{unjudged} of {voters}");
                }
            }
        }
    }

    #[test]
    fn after_the_day_the_larger_side_a_tie_falls_and_silence_stands() {
        let end = |applied, unjudged| Tally { applied, unjudged }.at_the_end();
        assert_eq!(end(0, 0), Outcome::Stands);
        assert_eq!(end(1, 0), Outcome::Stands);
        assert_eq!(end(0, 1), Outcome::Falls);
        assert_eq!(end(1, 1), Outcome::Falls);
        assert_eq!(end(2, 1), Outcome::Stands);
        assert_eq!(end(2, 2), Outcome::Falls);
        assert_eq!(end(2, 3), Outcome::Falls);
        assert_eq!(end(3, 2), Outcome::Stands);
    }
}
