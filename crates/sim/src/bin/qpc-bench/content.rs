//! What a message holds: its number, when it was due, and bytes that follow from the pair alone.
//! Both ends keep a hash over all of a round, so that not one bit is lost, doubled or moved.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// Bytes of a message before any framing.
pub(crate) const CONTENT_BYTES: usize = 1_024;
/// The pair (4), the number (8), the time in nanoseconds (8).
const HEAD_BYTES: usize = 20;

/// Makes the messages of a pair, one after the other.
pub(crate) struct Maker {
    pair: u32,
    next: u64,
    rng: ChaCha8Rng,
}

impl Maker {
    /// The first message has number 0.
    pub(crate) fn new(pair: u32) -> Self {
        Self { pair, next: 0, rng: ChaCha8Rng::seed_from_u64(pair.into()) }
    }

    /// The next message and its number; `due` counts from the start of the run.
    pub(crate) fn make(&mut self, due: Duration) -> (u64, Bytes) {
        let number = self.next;
        self.next = number.saturating_add(1);
        let mut bytes = BytesMut::with_capacity(CONTENT_BYTES);
        bytes.put_u32(self.pair);
        bytes.put_u64(number);
        bytes.put_u64(u64::try_from(due.as_nanos()).unwrap_or(u64::MAX));
        bytes.resize(CONTENT_BYTES, 0);
        let (_, fill) = bytes.split_at_mut(HEAD_BYTES);
        self.rng.fill_bytes(fill);
        (number, bytes.freeze())
    }
}

/// Takes the messages of a pair, in their order only.
pub(crate) struct Taker {
    pair: u32,
    next: u64,
}

impl Taker {
    /// Takes message `next` first.
    pub(crate) fn at(pair: u32, next: u64) -> Self {
        Self { pair, next }
    }

    /// The number of the next message.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// When a message was due.
    ///
    /// # Errors
    /// When it is not the next of this pair, whole.
    pub(crate) fn take(&mut self, content: &[u8]) -> Result<Duration> {
        ensure!(content.len() == CONTENT_BYTES, "a message of {} bytes", content.len());
        let mut head = content;
        let (pair, number, due) = (head.try_get_u32()?, head.try_get_u64()?, head.try_get_u64()?);
        ensure!(pair == self.pair, "a message of pair {pair} came to pair {}", self.pair);
        ensure!(number == self.next, "message {number} came instead of {}", self.next);
        self.next = number.saturating_add(1);
        Ok(Duration::from_nanos(due))
    }
}

/// A hash over messages in their order.
#[derive(Default)]
pub(crate) struct Sum(Sha256);

impl Sum {
    pub(crate) fn add(&mut self, content: &[u8]) {
        self.0.update(content);
    }

    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_doubled_or_moved_message_is_seen() {
        let mut maker = Maker::new(3);
        let made: Vec<_> = (0..3).map(|ms| maker.make(Duration::from_millis(ms)).1).collect();
        let mut taker = Taker::at(3, 0);
        assert_eq!(taker.take(&made[0]).unwrap(), Duration::ZERO);
        assert!(taker.take(&made[0]).is_err(), "doubled");
        assert!(taker.take(&made[2]).is_err(), "lost or moved");
        assert!(taker.take(&made[1][1..]).is_err(), "cut");
        assert!(Taker::at(4, 0).take(&made[0]).is_err(), "of another pair");
        assert_eq!(taker.take(&made[1]).unwrap(), Duration::from_millis(1));
        assert_eq!(taker.next(), 2);
    }

    #[test]
    fn a_changed_bit_changes_the_sum() {
        let (_, content) = Maker::new(1).make(Duration::ZERO);
        let sum = |bytes: &[u8]| {
            let mut sum = Sum::default();
            sum.add(bytes);
            sum.finish()
        };
        let mut changed = content.to_vec();
        changed[CONTENT_BYTES - 1] ^= 1;
        assert_eq!(sum(&content), sum(&content));
        assert_ne!(sum(&content), sum(&changed));
    }
}
