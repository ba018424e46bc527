//! The audit log: who changed what, in files whose lines are chained by their hashes.
//!
//! Holds no secret and no text of a person. Nobody waits for it, and what it could not write it
//! counts.

mod event;
mod files;
mod line;
mod sample;
mod thread;
mod verify;

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

pub use event::{AdminAction, AuditEvent, Network};
pub use line::Head;
pub use verify::{Break, Report, verify};

use bytes::Bytes;
use qpc_storage::{Outcome, StorageError, Store, sql};

use crate::clock::Clock;
use crate::error::ServerError;
use crate::node::{Outputs, Refused, Task, Work};
use crate::store;
use files::{Files, Found};
use line::Entry;
use sample::Sampler;
use thread::{Journal, Order};

/// Events that may wait for the thread; more are counted as lost.
pub const QUEUE_MAX: usize = 4_096;
const MIB: u64 = 1_024 * 1_024;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How large the files grow and how long they stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Bytes after which another file is begun.
    pub file_bytes: u64,
    /// A file whose lines are all older than this is deleted; milliseconds.
    pub keep_ms: u64,
}

impl Default for Keeping {
    /// 16 MiB and 90 days.
    fn default() -> Self {
        Self { file_bytes: 16 * MIB, keep_ms: 90 * DAY_MS }
    }
}

impl Keeping {
    /// Files of so many MiB, kept for so many days.
    pub fn of(file_mib: u64, days: u64) -> Self {
        Self { file_bytes: file_mib.saturating_mul(MIB), keep_ms: days.saturating_mul(DAY_MS) }
    }
}

/// Takes events; cheap to clone. The default takes none.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Inner>>);

struct Inner {
    orders: SyncSender<Order>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What both sides of the queue know.
struct Shared {
    clock: Clock,
    sampler: Mutex<Sampler>,
    /// Events lost and not yet told by a line.
    lost: AtomicU64,
    lost_ever: AtomicU64,
    /// The last line that is on disk.
    durable: Mutex<Head>,
}

impl Shared {
    fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, lines: usize) {
        let lines = u64::try_from(lines).unwrap_or(u64::MAX);
        self.lost.fetch_add(lines, Ordering::AcqRel);
        self.lost_ever.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Audit {
    /// Goes on with the log in `dir`, which is made if it is missing. `known` is the last line that
    /// the database knows: one that is gone or different is told by a line.
    ///
    /// # Errors
    /// [`ServerError::System`] when the files cannot be read or the thread not be started.
    pub fn start(
        dir: &Path,
        keeping: Keeping,
        known: Option<Head>,
        clock: Clock,
    ) -> Result<Self, ServerError> {
        let known = known.unwrap_or(Head::START);
        let opened = Files::open(dir, known);
        let found = opened
            .map_err(ServerError::system(format!("opening the audit log {}", dir.display())))?;
        let (head, events) = resume(&found, known);
        let shared = Arc::new(Shared {
            clock,
            sampler: Mutex::default(),
            lost: AtomicU64::new(0),
            lost_ever: AtomicU64::new(0),
            durable: Mutex::new(found.head),
        });
        let (orders, queue) = sync_channel(QUEUE_MAX);
        let journal = Journal { files: found.files, head, keeping, shared: Arc::clone(&shared) };
        let thread = Builder::new()
            .name("qpc-audit".to_owned())
            .spawn(move || journal.run(&queue))
            .map_err(ServerError::system("starting the audit log's thread"))?;
        let audit =
            Self(Some(Arc::new(Inner { orders, shared, thread: Mutex::new(Some(thread)) })));
        events.into_iter().for_each(|event| audit.record(event, None));
        Ok(audit)
    }

    /// A log that keeps nothing, for tests and simulations.
    pub fn disabled() -> Self {
        Self::default()
    }

    /// Queues an event whose cause is on disk, and the address that it came from. Never waits: what
    /// finds no room is counted, and a line will say how many.
    pub fn record(&self, event: AuditEvent, from: Option<IpAddr>) {
        let Some(inner) = &self.0 else {
            return;
        };
        let at_ms = inner.shared.now_ms();
        if !inner.shared.sampler().admits(&event, at_ms) {
            return;
        }
        let entry = Entry { at_ms, event, network: from.map(Network::of) };
        match inner.orders.try_send(Order::Write(entry)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => inner.shared.lose(1),
        }
    }

    /// The last line that is on disk; `None` for a disabled log.
    pub fn head(&self) -> Option<Head> {
        let durable = &self.0.as_ref()?.shared.durable;
        Some(*durable.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Events that were lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.shared.lost_ever.load(Ordering::Relaxed))
    }

    /// Waits until all that was recorded before is on disk. Blocks.
    pub fn flush(&self) {
        if let Some(inner) = &self.0 {
            let (done, wait) = sync_channel(1);
            let flushed = inner.orders.send(Order::Flush(done)).is_ok() && wait.recv().is_ok();
            if !flushed {
                tracing::debug!("the audit log has ended, with all that it had on disk");
            }
        }
    }

    /// Ends the thread when all is on disk; what is recorded later is lost. Blocks.
    pub fn stop(&self) {
        let Some(inner) = &self.0 else {
            return;
        };
        let thread = inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // An error means that the thread has ended by itself.
            drop(inner.orders.send(Order::Stop));
            if thread.join().is_err() {
                tracing::error!("the audit log's thread panicked");
            }
        }
    }
}

/// Work that writes the end of the log into the database, so that a cut can be told.
pub(crate) fn note(audit: &Audit) -> Work {
    let audit = audit.clone();
    let task: Task = Box::new(move |tx, mut rng| {
        let noted = audit.head().map_or(Ok(()), |head| store::set_audit_head(tx, &head.to_bytes()));
        match noted {
            Ok(()) => Ok(Outputs::reply(Bytes::new())),
            Err(error) => Err(Refused::new(error.into(), &mut rng)),
        }
    });
    Work::Task(task)
}

/// The last line of the log that the database of a stopped server knows.
///
/// # Errors
/// [`ServerError::Storage`] when it cannot be read.
pub fn known_head(store: &mut Store) -> Result<Option<Head>, ServerError> {
    match store.transact(store::audit_head).map_err(ServerError::from)? {
        Outcome::Done(bytes) => Ok(bytes.and_then(|bytes| Head::from_bytes(&bytes).ok())),
        Outcome::Refused(error) => Err(StorageError::from_sql(error).into()),
        // Nothing in the job can; the type does not know.
        Outcome::Panicked => Err(StorageError::from_sql(sql::Error::InvalidQuery).into()),
    }
}

/// Writes the end of a log that was stopped into the database of a stopped server.
///
/// # Errors
/// [`ServerError::Storage`] when it cannot be written.
pub(crate) fn keep_head(store: &mut Store, audit: &Audit) -> Result<(), ServerError> {
    let Some(head) = audit.head() else {
        return Ok(());
    };
    match store.transact(|tx| store::set_audit_head(tx, &head.to_bytes()))? {
        Outcome::Done(()) => Ok(()),
        Outcome::Refused(error) => Err(StorageError::from_sql(error).into()),
        Outcome::Panicked => Err(StorageError::from_sql(sql::Error::InvalidQuery).into()),
    }
}

/// Where the chain goes on, and what is to be said of its state. Never in place of a line that the
/// database knows: a cut shows for ever.
fn resume(found: &Found, known: Head) -> (Head, Vec<AuditEvent>) {
    let torn = found.torn.map(|torn| AuditEvent::Torn { file: torn.file, bytes: torn.bytes });
    let mut events: Vec<_> = torn.into_iter().collect();
    let mut head = found.head;
    if !found.knows {
        let from_seq = found.head.seq.saturating_add(1).min(known.seq);
        events.push(AuditEvent::Altered { from_seq, to_seq: known.seq });
        if head.seq <= known.seq {
            head = known;
        }
    }
    (head, events)
}
