//! Which rows of the floor's table belong to which channel, and who follows it. In memory alone:
//! the floor is never started twice on one database.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Outbox;

/// Messages that a follower is given from the database at once: as in the server that ships.
const PAGE_MAX: usize = 512;

/// All channels.
#[derive(Default)]
pub(super) struct Logs(Mutex<BTreeMap<u32, Log>>);

#[derive(Default)]
struct Log {
    /// Numbers of its rows, in order.
    rows: Vec<i64>,
    followers: Vec<Outbox>,
    /// Messages that its reader has.
    acked: u64,
}

impl Logs {
    /// Notes a message that is stored; returns who follows its channel, but for those that have
    /// hung up.
    pub(super) fn append(&self, channel: u32, row: i64) -> Vec<Outbox> {
        let mut all = self.all();
        let log = all.entry(channel).or_default();
        log.rows.push(row);
        log.followers.retain(|follower| !follower.is_closed());
        log.followers.clone()
    }

    /// The rows of the next page, of which message `from` is the first. When there are none,
    /// `outbox` follows the channel: nothing falls between the two.
    pub(super) fn next(&self, (channel, from): (u32, usize), outbox: &Outbox) -> Vec<i64> {
        let mut all = self.all();
        let log = all.entry(channel).or_default();
        let rows: Vec<i64> = log.rows.iter().skip(from).take(PAGE_MAX).copied().collect();
        if rows.is_empty() {
            log.followers.push(outbox.clone());
        }
        rows
    }

    /// Notes that a channel's reader has all messages before `next`.
    pub(super) fn ack(&self, channel: u32, next: u64) {
        let mut all = self.all();
        let log = all.entry(channel).or_default();
        log.acked = log.acked.max(next);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u32, Log>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_read_all_follows() {
        let logs = Logs::default();
        let (outbox, _frames) = tokio::sync::mpsc::channel(1);
        let rows = i64::try_from(PAGE_MAX).unwrap() + 1;
        for row in 0..rows {
            assert!(logs.append(7, row).is_empty());
        }
        assert_eq!(logs.next((7, 0), &outbox).len(), PAGE_MAX);
        assert!(logs.append(7, rows).is_empty(), "it still reads");
        assert_eq!(logs.next((7, PAGE_MAX), &outbox), [rows - 1, rows]);
        assert!(logs.next((7, PAGE_MAX + 2), &outbox).is_empty());
        assert_eq!(logs.append(7, rows + 1).len(), 1);
        assert!(logs.append(8, rows + 2).is_empty(), "another channel");
        let (second, frames) = tokio::sync::mpsc::channel(1);
        assert!(logs.next((7, PAGE_MAX + 3), &second).is_empty());
        assert_eq!(logs.append(7, rows + 3).len(), 2);
        drop(frames);
        assert_eq!(logs.append(7, rows + 4).len(), 1, "one has hung up");
    }
}
