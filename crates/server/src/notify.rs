//! Wakes readers of logs that have grown, with what is new where that is known, and holds what was
//! published until they take it.
//!
//! A reader registers before its first read and a wake-up leaves a mark, so none is lost between a
//! read and the wait that follows it. Never reads a log itself, and judges nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use qpc_proto::ChannelId;
use qpc_proto::message::{Entry, Publish};
use tokio::sync::Notify;

use crate::tail::{Behind, Tails};

/// Publications that wait for one reader; beyond them the oldest go first.
const PUBLISHED_MAX: usize = 32;

/// All waiting readers by channel.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    channels: HashMap<ChannelId, BTreeMap<u64, Arc<Bell>>>,
    /// Of logs in `channels` alone.
    tails: Tails,
}

#[derive(Debug)]
struct Bell {
    marks: Mutex<Marks>,
    rung: Notify,
    /// Whether its reader takes what is published.
    hears: bool,
}

#[derive(Debug, Default)]
struct Marks {
    grown: BTreeSet<ChannelId>,
    /// At most [`PUBLISHED_MAX`], oldest first.
    published: VecDeque<(ChannelId, Bytes)>,
}

/// One reader's registration; ends when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    notifier: Arc<Notifier>,
    number: u64,
    channels: BTreeSet<ChannelId>,
    bell: Arc<Bell>,
}

impl Notifier {
    /// Registers a reader. From here on no growth of these channels escapes it.
    pub(crate) fn watch(self: &Arc<Self>, channels: BTreeSet<ChannelId>) -> Watch {
        self.register(channels, false)
    }

    /// Registers a reader that takes what is published, too.
    pub(crate) fn follow(self: &Arc<Self>, channels: BTreeSet<ChannelId>) -> Watch {
        self.register(channels, true)
    }

    fn register(self: &Arc<Self>, channels: BTreeSet<ChannelId>, hears: bool) -> Watch {
        let bell = Arc::new(Bell { marks: Mutex::default(), rung: Notify::new(), hears });
        let mut waiting = locked(&self.waiting);
        let number = waiting.next;
        waiting.next = number.wrapping_add(1);
        for channel in &channels {
            let readers = waiting.channels.entry(*channel).or_default();
            readers.insert(number, Arc::clone(&bell));
        }
        drop(waiting);
        Watch { notifier: Arc::clone(self), number, channels, bell }
    }

    /// Takes up what logs have grown by, after it is on disk, then tells their readers. Of each
    /// commit's growth in turn: the logs, and what the one log has grown by, if its readers need
    /// not ask the database first.
    pub(crate) fn grown<'a>(&self, grown: impl Iterator<Item = (&'a [ChannelId], Vec<Entry>)>) {
        let mut waiting = locked(&self.waiting);
        let mut rung = BTreeSet::new();
        for (channels, mut posted) in grown {
            for channel in channels {
                if !waiting.channels.contains_key(channel) {
                    continue;
                }
                match std::mem::take(&mut posted) {
                    none if none.is_empty() => waiting.tails.clear(channel),
                    posted => waiting.tails.push(*channel, posted),
                }
                rung.insert(*channel);
            }
        }
        for channel in rung {
            for bell in waiting.channels.get(&channel).into_iter().flat_map(BTreeMap::values) {
                locked(&bell.marks).grown.insert(channel);
                bell.rung.notify_one();
            }
        }
    }

    /// Leaves a publication for those who follow its channel. Returns how many older ones had to
    /// make room for it.
    pub(crate) fn publish(&self, publish: &Publish) -> u64 {
        // A copy: the payload is a part of some larger buffer, which nobody is to hold.
        let payload = Bytes::copy_from_slice(&publish.payload);
        let mut left_out = 0_u64;
        let waiting = locked(&self.waiting);
        let readers = waiting.channels.get(&publish.channel);
        let bells = readers.into_iter().flat_map(BTreeMap::values);
        for bell in bells.filter(|bell| bell.hears) {
            let mut marks = locked(&bell.marks);
            if marks.published.len() >= PUBLISHED_MAX {
                marks.published.pop_front();
                left_out = left_out.saturating_add(1);
            }
            marks.published.push_back((publish.channel, payload.clone()));
            drop(marks);
            bell.rung.notify_one();
        }
        left_out
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        locked(&self.waiting).channels.is_empty()
    }
}

impl Watch {
    /// The channels that have grown since the last call.
    pub(crate) fn take(&self) -> BTreeSet<ChannelId> {
        std::mem::take(&mut locked(&self.bell.marks).grown)
    }

    /// What the tail of a log has behind a sequence number, at `now_ms` (Unix milliseconds).
    pub(crate) fn behind(&self, (channel, after_seq): (&ChannelId, u64), now_ms: u64) -> Behind {
        locked(&self.notifier.waiting).tails.behind((channel, after_seq), now_ms)
    }

    /// Whether anything published waits to be taken.
    pub(crate) fn has_published(&self) -> bool {
        !locked(&self.bell.marks).published.is_empty()
    }

    /// Takes what was published to one channel, oldest first: the one whose turn it is.
    pub(crate) fn published(&self) -> Option<(ChannelId, Vec<Bytes>)> {
        let mut marks = locked(&self.bell.marks);
        let channel = marks.published.front()?.0;
        let (taken, left) = std::mem::take(&mut marks.published)
            .into_iter()
            .partition::<Vec<_>, _>(|(of, _)| *of == channel);
        marks.published = left.into();
        Some((channel, taken.into_iter().map(|(_, payload)| payload).collect()))
    }

    /// Waits until there is something to take since it was last taken, or, rarely, for nothing.
    pub(crate) async fn rung(&self) {
        self.bell.rung.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = locked(&self.notifier.waiting);
        for channel in &self.channels {
            if let Some(readers) = waiting.channels.get_mut(channel) {
                readers.remove(&self.number);
                if readers.is_empty() {
                    waiting.channels.remove(channel);
                    waiting.tails.clear(channel);
                }
            }
        }
    }
}

/// The sets stay whole whatever panics, so a poisoned lock is as good as any.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ChannelId = ChannelId([1; 16]);
    const B: ChannelId = ChannelId([2; 16]);

    #[tokio::test]
    async fn case_145_a_wake_up_before_the_wait_is_kept() {
        let notifier = Arc::new(Notifier::default());
        let watch = notifier.watch([A].into());
        notifier.grown([([B, A].as_slice(), Vec::new())].into_iter());
        watch.rung().await;
        assert_eq!(watch.take(), [A].into());
        assert_eq!(watch.take(), BTreeSet::new());
    }

    fn publish(channel: ChannelId, number: u8) -> Publish {
        Publish { channel, payload: Bytes::from(vec![number; 3]) }
    }

    fn numbers(published: &[Bytes]) -> Vec<u8> {
        published.iter().map(|payload| payload[0]).collect()
    }

    #[tokio::test]
    async fn what_is_published_waits_for_those_who_follow_and_for_nobody_else() {
        let notifier = Arc::new(Notifier::default());
        let (follower, waiter) = (notifier.follow([A, B].into()), notifier.watch([A].into()));
        for (channel, number) in [(A, 1), (B, 2), (A, 3)] {
            assert_eq!(notifier.publish(&publish(channel, number)), 0);
        }
        follower.rung().await;
        assert_eq!(follower.take(), BTreeSet::new());
        let (channel, published) = follower.published().unwrap();
        assert_eq!((channel, numbers(&published)), (A, vec![1, 3]));
        assert!(follower.has_published());
        let (channel, published) = follower.published().unwrap();
        assert_eq!((channel, numbers(&published)), (B, vec![2]));
        assert!(!follower.has_published() && follower.published().is_none());
        assert!(!waiter.has_published());
    }

    #[test]
    fn the_oldest_publications_make_room() {
        let notifier = Arc::new(Notifier::default());
        let slow = notifier.follow([A].into());
        let left_out: u64 = (0..40).map(|n| notifier.publish(&publish(A, n))).sum();
        assert_eq!(left_out, 8);
        assert_eq!(numbers(&slow.published().unwrap().1), (8..40).collect::<Vec<_>>());
    }

    #[test]
    fn a_dropped_reader_leaves_nothing_behind() {
        let notifier = Arc::new(Notifier::default());
        drop(notifier.watch([A, B].into()));
        assert!(notifier.is_empty());
    }
}
