//! The thread that owns the core. Work comes as closures over a bounded channel; after each, what
//! became due is put where the connection's task takes it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use qpc_proto::message::Cursor;
use rand_core::OsRng;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

use super::connection::stopped;
use crate::clock::now_ms;
use crate::core::{Core, Output};
use crate::error::ClientError;
use crate::machine::{Input, Machine, Outgoing, Step};
use crate::view::Event;

/// Closures waiting for the core.
const TASKS_MAX: usize = 256;
/// Events that a slow screen may be behind.
const EVENTS_MAX: usize = 4_096;
/// MLS work needs a deep stack: musl's default is too small.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Gives what is to leave, and whether others who wait for a state should look again.
type Task = Box<dyn FnOnce(&mut Core) -> (Output, bool) + Send>;

/// What committed steps want sent. Bounded by the machine: each piece of work once, one
/// subscription.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    inner: Mutex<(Vec<Outgoing>, Option<Vec<Cursor>>)>,
    added: Notify,
}

impl Effects {
    fn put(&self, requests: Vec<Outgoing>, subscribe: Option<Vec<Cursor>>) {
        if requests.is_empty() && subscribe.is_none() {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.extend(requests);
        if subscribe.is_some() {
            inner.1 = subscribe;
        }
        self.added.notify_one();
    }

    /// Takes all there is.
    pub(crate) fn take(&self) -> (Vec<Outgoing>, Option<Vec<Cursor>>) {
        std::mem::take(&mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something was put since the last wait.
    pub(crate) async fn wait(&self) {
        self.added.notified().await;
    }
}

/// A handle on the core's thread.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    tasks: mpsc::Sender<Task>,
    events: broadcast::Sender<Event>,
    changed: watch::Receiver<u64>,
    effects: Arc<Effects>,
}

impl Host {
    /// Starts the thread. It ends, and closes the database, when the last handle is gone. It must
    /// be joined before the process exits: libraries in C clean up then what it may still use.
    pub(crate) fn spawn(core: Core) -> Result<(Self, JoinHandle<()>), ClientError> {
        let (tasks, queue) = mpsc::channel(TASKS_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let (change, changed) = watch::channel(0);
        let effects = Arc::new(Effects::default());
        let host = Self { tasks, events: events.clone(), changed, effects: effects.clone() };
        let thread = std::thread::Builder::new()
            .name("qpc-client".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || serve(core, queue, (&events, &change, &effects)))?;
        Ok((host, thread))
    }

    /// Events from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// What committed steps want sent.
    pub(crate) fn effects(&self) -> Arc<Effects> {
        self.effects.clone()
    }

    /// Runs `work` in one transaction of the core.
    ///
    /// # Errors
    /// What `work` returned, the database, or [`ClientError::Closed`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, ClientError> {
        self.submit(true, work).await
    }

    /// `changes` is false for questions: they must not wake those who ask after every change.
    async fn submit<T: Send + 'static>(
        &self,
        changes: bool,
        work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let (send, receive) = oneshot::channel();
        let task: Task = Box::new(move |core| {
            let (value, output) = match core.with((now_ms(), &mut OsRng), work) {
                Ok((value, output)) => (Ok(value), output),
                Err(error) => (Err(error), Output::default()),
            };
            // The asker may have given up waiting.
            drop(send.send(value));
            (output, changes)
        });
        self.tasks.send(task).await.map_err(|_| ClientError::Closed)?;
        receive.await.map_err(|_| ClientError::Closed)?
    }

    /// One input of the machine.
    pub(crate) async fn step(&self, input: Input) -> Result<(), ClientError> {
        self.run(move |machine, step| machine.handle(step, input)).await
    }

    /// Asks again after every step until `query` has an answer.
    ///
    /// # Errors
    /// What `query` returned, [`ClientError::Closed`], or why this device is out: then there will
    /// be none.
    pub(crate) async fn wait_for<T: Send + 'static>(
        &self,
        query: impl Fn(&mut Machine, &mut Step<'_>) -> Result<Option<T>, ClientError>
        + Clone
        + Send
        + 'static,
    ) -> Result<T, ClientError> {
        let mut changed = self.changed.clone();
        loop {
            changed.mark_unchanged();
            let query = query.clone();
            let answered = self.submit(false, move |machine, step| match query(machine, step)? {
                Some(value) => Ok(Some(value)),
                None => machine.stopped_by().map_or(Ok(None), |code| Err(stopped(code))),
            });
            if let Some(value) = answered.await? {
                return Ok(value);
            }
            changed.changed().await.map_err(|_| ClientError::Closed)?;
        }
    }
}

fn serve(
    mut core: Core,
    mut queue: mpsc::Receiver<Task>,
    (events, change, effects): (&broadcast::Sender<Event>, &watch::Sender<u64>, &Effects),
) {
    while let Some(task) = queue.blocking_recv() {
        let (output, changes) = task(&mut core);
        for event in output.events {
            // Without a screen nobody listens.
            drop(events.send(event));
        }
        effects.put(output.requests, output.subscribe);
        if changes {
            change.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
    if let Err(error) = core.close() {
        tracing::error!(%error, "the database was not closed in order");
    }
}
