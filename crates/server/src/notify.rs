//! Wakes readers of logs that have grown.
//!
//! A reader registers before its first read and a wake-up leaves a mark, so none is lost between a
//! read and the wait that follows it. Never reads a log itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qpc_proto::ChannelId;
use tokio::sync::Notify;

/// All waiting readers by channel.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    channels: HashMap<ChannelId, BTreeMap<u64, Arc<Bell>>>,
}

#[derive(Debug, Default)]
struct Bell {
    grown: Mutex<BTreeSet<ChannelId>>,
    rung: Notify,
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
        let bell = Arc::new(Bell::default());
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

    /// Tells the readers of these channels that there is more, after it is on disk.
    pub(crate) fn wake(&self, channels: &[ChannelId]) {
        if channels.is_empty() {
            return;
        }
        let waiting = locked(&self.waiting);
        for channel in channels {
            for bell in waiting.channels.get(channel).into_iter().flat_map(BTreeMap::values) {
                locked(&bell.grown).insert(*channel);
                bell.rung.notify_one();
            }
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        locked(&self.waiting).channels.is_empty()
    }
}

impl Watch {
    /// The channels that have grown since the last call.
    pub(crate) fn take(&self) -> BTreeSet<ChannelId> {
        std::mem::take(&mut *locked(&self.bell.grown))
    }

    /// Waits until a channel has grown since the last [`Watch::take`], or, rarely, for nothing.
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
        notifier.wake(&[B, A]);
        watch.rung().await;
        assert_eq!(watch.take(), [A].into());
        assert_eq!(watch.take(), BTreeSet::new());
    }

    #[test]
    fn a_dropped_reader_leaves_nothing_behind() {
        let notifier = Arc::new(Notifier::default());
        drop(notifier.watch([A, B].into()));
        assert!(notifier.is_empty());
    }
}
