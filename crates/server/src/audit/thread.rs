//! The thread that writes the audit log: gathers what waits, chains it, appends it, and syncs once
//! a second.
//!
//! What the disk refuses is counted and told by a line as soon as one can be written.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::event::AuditEvent;
use super::files::Files;
use super::line::{self, Entry, Head};
use super::{Keeping, Shared};

/// Lines that one write has at most.
const BATCH_MAX: usize = 256;
/// A line is on disk at most this much later, plus what the disk takes.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Lines gather for this long once one has come: a thread woken for each costs every login a switch
/// of threads.
const GATHER: Duration = Duration::from_millis(20);
/// After this time another file is begun, so that retention can delete by the day.
const FILE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// What the thread is told.
pub(super) enum Order {
    Write(Entry),
    /// Sync, then answer.
    Flush(SyncSender<()>),
    /// Write what waits, sync, and end.
    Stop,
}

pub(super) struct Journal {
    pub(super) files: Files,
    pub(super) head: Head,
    pub(super) keeping: Keeping,
    pub(super) shared: Arc<Shared>,
}

impl Journal {
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let mut due = instant() + SYNC_EVERY;
        loop {
            let order = match orders.recv_timeout(due.saturating_duration_since(instant())) {
                Ok(order) => {
                    if matches!(order, Order::Write(_)) {
                        std::thread::sleep(GATHER);
                    }
                    Some(order)
                }
                Err(RecvTimeoutError::Timeout) => None,
                // Nobody is left who could record.
                Err(RecvTimeoutError::Disconnected) => Some(Order::Stop),
            };
            let (batch, end) = gather(order, orders);
            self.write(batch);
            if instant() >= due || end.is_some() {
                self.settle();
                due = instant() + SYNC_EVERY;
            }
            match end {
                Some(Order::Stop) => return,
                // Nobody may be left to hear it.
                Some(Order::Flush(done)) => drop(done.send(())),
                Some(Order::Write(_)) | None => {}
            }
        }
    }

    /// Tells what could not be told before, deletes what is old, and syncs.
    fn settle(&mut self) {
        let left_out = self.shared.sampler().take_left_out();
        let left_out = left_out.into_iter().map(|event| self.own(event)).collect();
        self.write(left_out);
        let lost = self.shared.lost.swap(0, Ordering::AcqRel);
        if lost > 0 && !self.try_write(&[self.own(AuditEvent::Lost { lines: lost })]) {
            self.shared.lost.fetch_add(lost, Ordering::AcqRel);
        }
        self.expire();
        self.sync();
    }

    /// Writes entries, or counts them.
    fn write(&mut self, batch: Vec<Entry>) {
        if !batch.is_empty() && !self.try_write(&batch) {
            self.shared.lose(batch.len());
        }
    }

    fn try_write(&mut self, batch: &[Entry]) -> bool {
        let day_ago = self.shared.now_ms().saturating_sub(FILE_MS_MAX);
        if self.files.is_done(self.keeping.file_bytes, day_ago)
            && let Err(error) = self.files.begin()
        {
            tracing::warn!(%error, "the audit log cannot begin another file");
        }
        let (mut lines, mut head) = (Vec::new(), self.head);
        for entry in batch {
            match line::write(&mut lines, head, entry) {
                Ok(next) => head = next,
                Err(error) => {
                    tracing::error!(%error, "an event is no audit line; report this as a bug");
                    return false;
                }
            }
        }
        match self.files.append(&lines) {
            Ok(()) => self.head = head,
            Err(error) => tracing::error!(%error, "the audit log cannot be written"),
        }
        self.head == head
    }

    /// Deletes files that are older than the log is kept, each after a line that says so.
    fn expire(&mut self) {
        let before_ms = self.shared.now_ms().saturating_sub(self.keeping.keep_ms);
        while let Some((file, last)) = self.files.oldest_expired(before_ms) {
            let event = AuditEvent::Expired { file, last_seq: last.seq, last_hash: last.hash };
            if !self.try_write(&[self.own(event)]) {
                return;
            }
            self.sync();
            if let Err(error) = self.files.delete_oldest() {
                tracing::warn!(%error, "an old file of the audit log cannot be deleted");
            }
        }
    }

    fn sync(&mut self) {
        let mut durable = self.shared.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if *durable == self.head {
            return;
        }
        match self.files.sync() {
            Ok(()) => *durable = self.head,
            Err(error) => tracing::error!(%error, "the audit log cannot be synced"),
        }
    }

    fn own(&self, event: AuditEvent) -> Entry {
        Entry { at_ms: self.shared.now_ms(), event, network: None }
    }
}

/// What waits besides `first`, up to a batch or an order that ends one.
fn gather(first: Option<Order>, orders: &Receiver<Order>) -> (Vec<Entry>, Option<Order>) {
    let mut batch = Vec::new();
    let mut next = first;
    while let Some(order) = next {
        match order {
            Order::Write(entry) => batch.push(entry),
            end @ (Order::Flush(_) | Order::Stop) => return (batch, Some(end)),
        }
        next = (batch.len() < BATCH_MAX).then(|| orders.try_recv().ok()).flatten();
    }
    (batch, None)
}

fn instant() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "paces the disk alone; no line and no decision depends on it"
    )]
    Instant::now()
}
