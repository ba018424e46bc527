//! The thread that owns the database: gathers waiting work and commits it in groups.
//!
//! Answers leave only after the commit is on disk. When storage fails for good it stops loudly:
//! nothing is retried on a file that may have lost a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use qpc_proto::{ErrorBody, ErrorCode};
use qpc_storage::{StorageError, Store};
use rand_core::OsRng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::audit::Audit;
use crate::bound::BoundConnections;
use crate::error::ServerError;
use crate::node::{Node, Outputs, Work};
use crate::notify::Notifier;
use crate::refusal::Refusal;

/// Groups of requests that came together that may wait for the writer.
const QUEUE_MAX: usize = 1_024;
/// A group commit takes groups until it has so many requests, or so many KiB of their bodies: these
/// bound how many entries it has, and how long those wait that come behind it.
const BATCH_MAX: usize = 512;
const BATCH_KIB_MAX: u32 = 1_024;
/// A batch of so many requests waits for more.
const LINGER_FROM: usize = 32;
/// One such wait, as long as each brings more, and how many there are at most: a commit is delayed
/// by a millisecond at most (and what the system's timer adds), under load alone.
const LINGER: Duration = Duration::from_micros(100);
const LINGERS_MAX: u32 = 10;
/// Free pages that go back to the file system in one step: about as many as a busy commit writes.
const RELEASED_AT_ONCE: u32 = 128;
/// Steps after one sweep, as long as nothing waits; at least one is done.
const RELEASES_MAX: u32 = 64;
/// KiB of request bodies that may wait for the writer, all connections together.
const QUEUE_KIB_MAX: u32 = 64 * 1_024;

/// Work that came together, with the way back for its answers.
struct Item {
    work: Vec<Work>,
    answers: oneshot::Sender<Vec<Outputs>>,
    /// Room in the queue, held until the answers are there.
    room: OwnedSemaphorePermit,
}

enum Order {
    Do(Box<Item>),
    /// Give free pages back.
    Release,
    Stop,
}

/// Hands work to the writer; cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Order>,
    room: Arc<Semaphore>,
}

/// How the thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Working,
    Ended,
}

/// The thread itself.
pub(crate) struct Thread {
    pub(crate) health: watch::Receiver<Health>,
    handle: JoinHandle<Result<(), StorageError>>,
}

impl Writer {
    /// Starts the thread, which owns `store` from here on.
    pub(crate) fn start(
        store: Store,
        node: Arc<Node>,
        told: Told,
    ) -> Result<(Self, Thread), ServerError> {
        let (queue, orders) = mpsc::channel(QUEUE_MAX);
        let (ended, health) = watch::channel(Health::Working);
        let shop = Shop { store, node, told };
        let handle = Builder::new()
            .name("qpc-writer".to_owned())
            .spawn(move || {
                let result = shop.run(orders);
                // Nobody may be left to hear it.
                ended.send_replace(Health::Ended);
                result
            })
            .map_err(ServerError::system("starting the writer's thread"))?;
        let room = Arc::new(Semaphore::new(usize::try_from(QUEUE_KIB_MAX).unwrap_or(1)));
        Ok((Self { queue, room }, Thread { health, handle }))
    }

    /// Queues work that goes into one commit, in its order, waiting for room. The answers come once
    /// its effect is on disk: as many, in the same order. None come if the writer has ended.
    pub(crate) async fn submit(&self, work: Vec<Work>) -> oneshot::Receiver<Vec<Outputs>> {
        let (answers, receiver) = oneshot::channel();
        if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(kib(&work)).await {
            let item = Box::new(Item { work, answers, room });
            // With what can't be queued goes the way back.
            drop(self.queue.send(Order::Do(item)).await);
        }
        receiver
    }

    /// Queues work whose answer nobody waits for, if there is room for it now. A full queue has
    /// more urgent work; the next offer comes.
    pub(crate) fn offer(&self, work: Work) {
        let (answers, _) = oneshot::channel();
        let work = vec![work];
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(kib(&work)) {
            drop(self.queue.try_send(Order::Do(Box::new(Item { work, answers, room }))));
        }
    }

    /// Has free pages given back to the file system, if there is room in the queue.
    pub(crate) fn release(&self) {
        // Without room there is more urgent work; the next sweep comes.
        drop(self.queue.try_send(Order::Release));
    }

    /// Whether there is room for work now that nobody waits for.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.capacity() > QUEUE_MAX / 2 && self.room.available_permits() > 0
    }

    /// Queues work and waits for its answer.
    pub(crate) async fn run(&self, work: Work) -> Result<Outputs, Refusal> {
        let answers = self.submit(vec![work]).await.await.map_err(|_| stopping())?;
        answers.into_iter().next().ok_or_else(stopping)
    }
}

impl Thread {
    /// Ends the thread after what is queued, and closes the database.
    pub(crate) async fn stop(self, writer: &Writer) -> Result<(), ServerError> {
        // An error means that the thread has ended by itself; joining tells why.
        drop(writer.queue.send(Order::Stop).await);
        let mut health = self.health;
        drop(health.wait_for(|health| *health == Health::Ended).await);
        Ok(self.handle.join().map_err(|_| ServerError::WriterPanicked)??)
    }
}

/// What an answer says that never came because the writer has ended.
pub(crate) fn stopping() -> Refusal {
    ErrorBody::new(ErrorCode::ShuttingDown, "the server is stopping; reconnect later").into()
}

/// The share of the queue's room that work takes.
fn kib(work: &[Work]) -> u32 {
    let of = |work: &Work| match work {
        Work::Call(call) => call.frame.body.len() / 1_024,
        Work::Task(_) => 0,
    };
    let kib = work.iter().map(|work| of(work).saturating_add(1)).fold(0, usize::saturating_add);
    u32::try_from(kib).unwrap_or(QUEUE_KIB_MAX).min(QUEUE_KIB_MAX)
}

/// Who hears of what was committed, before its answer leaves.
#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) bound: Arc<BoundConnections>,
    pub(crate) audit: Audit,
    pub(crate) disk: Arc<Disk>,
}

/// How the database's files stood after the last commit, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    log_pages: AtomicU64,
    blocked: AtomicBool,
    free_pages: AtomicU32,
}

/// How the database's files stand; pages have 4 KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pages {
    /// In the write-ahead log.
    pub(crate) log: u64,
    /// Whether a reader keeps that from being cut.
    pub(crate) log_blocked: bool,
    /// Left to be given back when some were last.
    pub(crate) free: u32,
}

impl Disk {
    fn note(&self, store: &Store) {
        let log = store.log();
        self.log_pages.store(log.log_pages, Ordering::Relaxed);
        self.blocked.store(log.blocked, Ordering::Relaxed);
    }

    pub(crate) fn pages(&self) -> Pages {
        Pages {
            log: self.log_pages.load(Ordering::Relaxed),
            log_blocked: self.blocked.load(Ordering::Relaxed),
            free: self.free_pages.load(Ordering::Relaxed),
        }
    }
}

/// What one group commit takes: all that waits. While many requests come at a time it lingers for
/// more, because the pages that a commit writes are shared by all in it; a lone request waits for
/// nothing.
struct Gathered {
    batch: Vec<Item>,
    /// In all of the batch.
    requests: usize,
    kib: u32,
    release: bool,
}

impl Gathered {
    fn new(first: Order, orders: &mut mpsc::Receiver<Order>) -> Self {
        let mut gathered = Self { batch: Vec::new(), requests: 0, kib: 0, release: false };
        gathered.add(first, orders);
        let mut lingers = 0;
        loop {
            let before = gathered.requests;
            gathered.drain(orders);
            let grown = gathered.requests > before;
            let alone = gathered.requests < LINGER_FROM;
            if lingers == LINGERS_MAX || alone || !grown || gathered.is_full() {
                return gathered;
            }
            lingers += 1;
            std::thread::sleep(LINGER);
        }
    }

    /// Takes what waits. Before it says that nothing does, it lets threads run that are ready to:
    /// on a busy machine these bring more work for the same commit, on an idle one there are none.
    fn drain(&mut self, orders: &mut mpsc::Receiver<Order>) {
        while !self.is_full() {
            let next = orders.try_recv().ok().or_else(|| {
                std::thread::yield_now();
                orders.try_recv().ok()
            });
            match next {
                Some(order) => self.add(order, orders),
                None => return,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.requests >= BATCH_MAX || self.kib >= BATCH_KIB_MAX
    }

    fn add(&mut self, order: Order, orders: &mut mpsc::Receiver<Order>) {
        match order {
            Order::Do(item) => {
                self.requests = self.requests.saturating_add(item.work.len());
                self.kib = self.kib.saturating_add(kib(&item.work));
                self.batch.push(*item);
            }
            Order::Release => self.release = true,
            // Nothing new comes in, and what waits is still done.
            Order::Stop => orders.close(),
        }
    }
}

struct Shop {
    store: Store,
    node: Arc<Node>,
    told: Told,
}

impl Shop {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Result<(), StorageError> {
        while let Some(first) = orders.blocking_recv() {
            let Gathered { batch, requests, release, .. } = Gathered::new(first, &mut orders);
            self.commit(batch, requests)?;
            if release {
                self.release(&orders)?;
            }
            self.told.disk.note(&self.store);
        }
        self.store.close()
    }

    /// Gives free pages back in small steps, until work waits.
    fn release(&mut self, orders: &mpsc::Receiver<Order>) -> Result<(), StorageError> {
        for _ in 0..RELEASES_MAX {
            match self.store.release_pages(RELEASED_AT_ONCE) {
                Ok(left) => {
                    self.told.disk.free_pages.store(left, Ordering::Relaxed);
                    if left == 0 {
                        break;
                    }
                }
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "free pages were not given back");
                    break;
                }
            }
            if !orders.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Commits a batch and answers it; fails only when storage has failed for good.
    fn commit(&mut self, batch: Vec<Item>, requests: usize) -> Result<(), StorageError> {
        let mut work = Vec::with_capacity(requests);
        let mut waiting = Vec::with_capacity(batch.len());
        for item in batch {
            waiting.push((item.answers, item.work.len(), item.room));
            work.extend(item.work);
        }
        let mut outputs = match self.node.commit(&mut self.store, work, &mut OsRng) {
            Ok(outputs) => outputs,
            Err(error) => {
                for (answers, count, _room) in waiting {
                    let refusal = |_| Outputs::refusal(Refusal::storage(&error), &mut OsRng);
                    // A stream that has gone needs no answer.
                    drop(answers.send((0..count).map(refusal).collect()));
                }
                return if error.is_fatal() { Err(error) } else { Ok(()) };
            }
        };
        let mut ended = Vec::new();
        for outputs in &mut outputs {
            for event in outputs.audit.drain(..) {
                self.told.audit.record(event, outputs.address);
            }
            ended.extend_from_slice(&outputs.ended);
        }
        let grown = outputs.iter_mut().map(|outputs| {
            let posted = std::mem::take(&mut outputs.posted);
            (outputs.wakes.as_slice(), posted)
        });
        self.told.notifier.grown(grown);
        // The last first: a stream waits for its first answers, and then finds all of them.
        for (answers, count, _room) in waiting.into_iter().rev() {
            let own = outputs.split_off(outputs.len().saturating_sub(count));
            drop(answers.send(own));
        }
        // The answers come first: one may be to one of those that are cut off.
        self.told.bound.cut_off(&ended);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use qpc_proto::binding::ChannelBinding;
    use qpc_proto::frame::{Frame, RequestFrame};
    use qpc_proto::{RequestId, Token};
    use qpc_storage::{Durability, Key, Options, sql};

    use crate::node::{Call, Peer, Policy, Refused, Task, schemas};

    fn started(dir: &tempfile::TempDir) -> (Writer, Thread) {
        let options = Options::new(Key::from_bytes([1; 32]), schemas());
        let options = options.with_durability(Durability::Process);
        let mut store = Store::open(&dir.path().join("server.db"), &options).unwrap();
        let node = Node::open(&mut store, Policy::default(), &mut OsRng).unwrap();
        Writer::start(store, Arc::new(node), Told::default()).unwrap()
    }

    fn good() -> Work {
        let task: Task = Box::new(|_, _| Ok(Outputs::reply(Bytes::from_static(b"good"))));
        Work::Task(task)
    }

    #[tokio::test]
    async fn case_047_a_panicking_request_costs_only_its_own_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, thread) = started(&dir);
        let bad: Task = Box::new(|_, _| panic!("on purpose"));
        let together = writer.submit(vec![good(), Work::Task(bad), good()]).await;
        let after = writer.run(good()).await.unwrap();
        let Ok([before, panicked, beside]) = <[_; 3]>::try_from(together.await.unwrap()) else {
            panic!("three answers")
        };
        for answer in [before, beside, after] {
            assert!(matches!(answer.frame, Frame::Reply(_)));
        }
        let Frame::Error(code, body) = panicked.frame else { panic!("an error frame") };
        let body = ErrorBody::decode(code, &body).unwrap();
        assert_eq!(body.code, ErrorCode::Internal);
        assert_ne!(body.correlation_id, [0; 16]);
        assert!(!body.message.contains("purpose"));
        thread.stop(&writer).await.unwrap();
    }

    fn order(work: Vec<Work>) -> Order {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Order::Do(Box::new(Item { work, answers: oneshot::channel().0, room }))
    }

    fn call(body_bytes: usize) -> Work {
        let binding = ChannelBinding { exporter: [1; 32], fingerprint: [2; 32] };
        let body = Bytes::from(vec![0; body_bytes]);
        let (token, request_id) = (Token::NONE, RequestId::ZERO);
        Work::Call(Call {
            frame: RequestFrame { method: 1, token, request_id, body },
            peer: Peer { binding, device: None, address: None },
            now_ms: 1,
        })
    }

    /// How many requests each commit takes of what waits.
    fn commits(orders: Vec<Order>) -> Vec<usize> {
        let (queue, mut waiting) = mpsc::channel(QUEUE_MAX);
        for order in orders {
            assert!(queue.try_send(order).is_ok());
        }
        let mut commits = Vec::new();
        while let Ok(first) = waiting.try_recv() {
            commits.push(Gathered::new(first, &mut waiting).requests);
        }
        commits
    }

    #[test]
    fn case_158_a_commit_takes_what_waits_up_to_its_bounds() {
        let lone = |work: fn() -> Work, count| (0..count).map(|_| order(vec![work()])).collect();
        assert_eq!(commits(lone(good, 3)), [3]);
        assert_eq!(commits(lone(good, 700)), [512, 188]);
        // What came together stays together.
        let together = (0..40).map(|_| order((0..16).map(|_| good()).collect())).collect();
        assert_eq!(commits(together), [512, 128]);
        // Bodies of messages of one KiB are no bound, large ones are.
        assert_eq!(commits(lone(|| call(1_280), 700)), [512, 188]);
        assert_eq!(commits(lone(|| call(40 * 1_024), 60)), [25, 25, 10]);
        assert_eq!(commits(lone(|| call(5 * 1_024 * 1_024), 2)), [1, 1]);
    }

    fn failing(code: i32) -> Work {
        let task: Task = Box::new(move |_, rng| {
            let error = sql::Error::SqliteFailure(sql::ffi::Error::new(code), None);
            Err(Refused::new(error.into(), &mut &mut *rng))
        });
        Work::Task(task)
    }

    fn code(outputs: &Outputs) -> Option<ErrorCode> {
        match &outputs.frame {
            Frame::Error(code, _) => ErrorCode::from_u16(*code),
            Frame::Request(_) | Frame::Reply(_) | Frame::Item(_) | Frame::End => None,
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_the_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, thread) = started(&dir);
        let full = writer.run(failing(sql::ffi::SQLITE_FULL)).await.unwrap();
        assert_eq!(code(&full), Some(ErrorCode::StoreFull));
        assert_eq!(code(&writer.run(good()).await.unwrap()), None);
        thread.stop(&writer).await.unwrap();
    }

    #[tokio::test]
    async fn case_167_a_failing_disk_ends_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, mut thread) = started(&dir);
        let failed = writer.run(failing(sql::ffi::SQLITE_IOERR_FSYNC)).await.unwrap();
        assert_eq!(code(&failed), Some(ErrorCode::Internal));
        let ended = thread.health.wait_for(|health| *health == Health::Ended);
        assert!(ended.await.is_ok());
        assert!(writer.run(good()).await.is_err());
        let stopped = thread.stop(&writer).await;
        assert!(matches!(stopped, Err(ServerError::Storage(error)) if error.is_fatal()));
    }

    #[tokio::test]
    async fn what_is_queued_before_a_stop_is_answered_and_nothing_after() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, thread) = started(&dir);
        let mut answers = Vec::new();
        for _ in 0..QUEUE_MAX / 2 {
            answers.push(writer.submit(vec![good()]).await);
        }
        thread.stop(&writer).await.unwrap();
        for answer in answers {
            assert!(matches!(answer.await.unwrap()[0].frame, Frame::Reply(_)));
        }
        assert!(writer.submit(vec![good()]).await.await.is_err());
    }
}
