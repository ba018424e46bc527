//! A running server: its node, writer, readers and sessions, and how they start and stop.
//!
//! Never touches the file system; `data_dir` and the commands do.

mod tend;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use qpc_proto::frame::Frame;
use qpc_proto::limits::INVITE_BYTES;
use qpc_proto::{ErrorBody, ErrorCode};
use qpc_storage::Store;
use qpc_transport::{Connection, Incoming, Listener};
use rand_core::OsRng;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::acks::{self, Acks};
use crate::audit::{self, Audit, AuditEvent};
use crate::bound::BoundConnections;
use crate::clock::Clock;
use crate::error::ServerError;
use crate::limits::{self, AddressLists, Asking, Connections, Entry, Limiters, Rates, Ticks};
use crate::metrics::{Metrics, Readings};
use crate::node::{Node, Outputs, Policy, Refused, Task, Work};
use crate::notify::Notifier;
use crate::reader::Readers;
use crate::redelivery::Redeliveries;
use crate::refusal::Refusal;
use crate::sample::Sampler;
use crate::session::{self, Waits};
use crate::writer::{Disk, Health, Thread, Told, Writer};

/// Time between two sweeps of what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Named limits of a server's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a connection may be without a device and without a granted request.
    pub auth_timeout: Duration,
    /// How long a frame may take from its first byte to its last.
    pub frame_timeout: Duration,
    /// How long a resting subscription goes without a check of its token.
    pub recheck: Duration,
    /// How long requests in flight may take when the server stops.
    pub grace: Duration,
    /// Connections open at one time.
    pub connections_max: usize,
    /// The same from one IPv4 address or IPv6 /64.
    pub connections_per_network_max: usize,
    /// How much one address, account or device may ask for.
    pub rates: Rates,
    /// Database readers beside the writer.
    pub readers: usize,
}

impl Default for Limits {
    /// 5 s, 15 s, 5 s, 10 s, 10,000, 64, the rates of `docs/operate/limits.md`, and 2.
    fn default() -> Self {
        Self {
            auth_timeout: Duration::from_secs(5),
            frame_timeout: Duration::from_secs(15),
            recheck: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            connections_max: 10_000,
            connections_per_network_max: 64,
            rates: Rates::default(),
            readers: 2,
        }
    }
}

/// What a server is started with.
#[derive(Clone)]
pub struct Settings {
    /// What the operator decides about the services.
    pub policy: Policy,
    /// Named limits of the sessions.
    pub limits: Limits,
    /// Unix milliseconds.
    pub clock: Clock,
    /// How often that clock had to follow a step of the system's.
    pub clock_jumps: Clock,
    /// Where it is told who changed what; ended by [`Server::stop`].
    pub audit: Audit,
    /// Which addresses may connect.
    pub addresses: AddressLists,
    /// Counts the log lines that the log of this process leaves out.
    pub sampler: Sampler,
}

impl Settings {
    /// Settings without an audit log, for every address, with a sampler of their own.
    pub fn new(policy: Policy, limits: Limits, clock: Clock) -> Self {
        Self {
            policy,
            limits,
            audit: Audit::default(),
            addresses: AddressLists::default(),
            sampler: Sampler::new(Arc::clone(&clock)),
            clock,
            clock_jumps: Arc::new(|| 0),
        }
    }
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) node: Arc<Node>,
    pub(crate) writer: Writer,
    pub(crate) readers: Arc<Readers>,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) waits: Arc<Waits>,
    pub(crate) acks: Acks,
    pub(crate) redeliveries: Redeliveries,
    pub(crate) bound: Arc<BoundConnections>,
    pub(crate) limits: Limits,
    pub(crate) audit: Audit,
    pub(crate) metrics: Metrics,
    limiters: Limiters,
    connections: Arc<Connections>,
    sampler: Sampler,
    clock: Clock,
    clock_jumps: Clock,
    disk: Arc<Disk>,
    stopping: watch::Sender<bool>,
    /// A sweep left work for another.
    sweep_on: Arc<Notify>,
}

impl Shared {
    pub(crate) fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The refusal, when it is one too many.
    pub(crate) fn count(&self, asking: &Asking<'_>) -> Result<(), Refusal> {
        self.limiters.check(asking).map_err(|(limiter, wait_ms)| {
            self.metrics.limited(limiter);
            let event = AuditEvent::LimitHit { limit: limiter.as_str() };
            self.audit.record(event, Some(asking.address));
            limits::refusal(wait_ms).into()
        })
    }

    /// Ends when the server begins to stop.
    pub(crate) async fn stopping(&self) {
        // The sender lives as long as `self`, so this ends by the value alone.
        drop(self.stopping.subscribe().wait_for(|stopping| *stopping).await);
    }
}

/// A running server. [`Server::stop`] ends it in order; dropping it only ends its thread.
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    thread: Thread,
}

impl Server {
    /// Starts the writer and the readers over a store that was opened with
    /// [`crate::node::schemas`].
    ///
    /// # Errors
    /// [`ServerError::Storage`] when the database fails, [`ServerError::System`] when no thread can
    /// be started.
    pub fn start(mut store: Store, settings: Settings) -> Result<Self, ServerError> {
        let node = Arc::new(Node::open(&mut store, settings.policy, &mut OsRng)?);
        let readers = Readers::open(&store, settings.limits.readers)?;
        let audit = settings.audit;
        audit.record(AuditEvent::Started { version: env!("CARGO_PKG_VERSION") }, None);
        let told = Told { audit: audit.clone(), ..Told::default() };
        let (writer, thread) = Writer::start(store, Arc::clone(&node), told.clone())?;
        let shared = Arc::new(Shared {
            node,
            writer,
            readers,
            notifier: told.notifier,
            waits: Arc::default(),
            acks: Acks::default(),
            redeliveries: Redeliveries::default(),
            bound: told.bound,
            limits: settings.limits,
            audit,
            metrics: Metrics::new(),
            limiters: Limiters::new(
                &settings.limits.rates,
                &Ticks::new(Arc::clone(&settings.clock)),
            ),
            connections: Arc::new(Connections::new(
                settings.limits.connections_max,
                settings.limits.connections_per_network_max,
                settings.addresses,
            )),
            sampler: settings.sampler,
            clock: settings.clock,
            clock_jumps: settings.clock_jumps,
            disk: told.disk,
            stopping: watch::Sender::new(false),
            sweep_on: Arc::default(),
        });
        Ok(Self { shared, thread })
    }

    /// Serves one connection until it ends. The future owns all it needs; dropping it ends the
    /// connection's streams at once.
    pub fn attach(&self, connection: Connection) -> impl Future<Output = ()> + Send + 'static {
        session::run(Arc::clone(&self.shared), connection)
    }

    /// Accepts connections until `until` ends or the writer fails, then lets what is in flight
    /// finish.
    pub async fn serve(&self, listener: &Listener, until: impl Future<Output = ()>) {
        let mut sessions = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let acks = self.keep_acks();
        tokio::pin!(until, acks);
        let failed = self.writer_ended();
        tokio::pin!(failed);
        loop {
            tokio::select! {
                incoming = listener.accept() => match incoming {
                    Some(incoming) => self.admit(incoming, &mut sessions),
                    None => break,
                },
                Some(_) = sessions.join_next() => {}
                _ = sweep.tick() => {
                    self.shared.limiters.sweep();
                    self.shared.sampler.report();
                    self.sweep();
                }
                never = &mut acks => match never {},
                () = self.shared.sweep_on.notified() => self.sweep(),
                () = &mut until => break,
                () = &mut failed => {
                    tracing::error!("the writer has ended; stopping");
                    break;
                }
            }
        }
        self.drain(listener, sessions).await;
    }

    /// Makes a one-use invite; returns its code.
    ///
    /// # Errors
    /// The refusal when the database fails or the server is stopping.
    pub async fn create_invite(&self) -> Result<Zeroizing<[u8; INVITE_BYTES]>, ErrorBody> {
        let node = Arc::clone(&self.shared.node);
        let now_ms = self.shared.now_ms();
        let task: Task =
            Box::new(move |tx, mut rng| match node.create_invite(tx, now_ms, &mut rng) {
                Ok(code) => Ok(Outputs::reply(Bytes::copy_from_slice(code.as_ref()))),
                Err(error) => Err(Refused::new(error.into(), &mut rng)),
            });
        let answered = self.shared.writer.run(Work::Task(task)).await;
        let refused = |refusal: Refusal| refusal.into_body(&mut OsRng);
        match answered.map_err(refused)?.frame {
            Frame::Reply(code) => {
                let wrong = |_| refused(Refusal::internal("an invite has a wrong length"));
                code.as_ref().try_into().map(Zeroizing::new).map_err(wrong)
            }
            Frame::Error(code, body) => {
                let body = ErrorBody::decode(code, &body);
                Err(body.unwrap_or_else(|malformed| refused(malformed.into())))
            }
            Frame::Request(_) | Frame::Item(_) | Frame::End => {
                Err(refused(Refusal::internal("a task answered with another frame")))
            }
        }
    }

    /// What the server has counted since its start, in Prometheus' text format. For operators
    /// alone: no request of a client gets it.
    pub fn metrics(&self) -> String {
        let shared = &self.shared;
        let keys: Vec<_> = shared.limiters.remembered().collect();
        shared.metrics.render(&Readings {
            open: shared.connections.open(),
            keys: &keys,
            pages: shared.disk.pages(),
            clock_jumps: (shared.clock_jumps)(),
            log_lines: shared.sampler.left_out(),
            audit_lines: shared.audit.lost(),
        })
    }

    /// Tells every session that the server stops: subscriptions end with `SHUTTING_DOWN`, requests
    /// in flight are answered, nothing new is taken.
    pub fn begin_stop(&self) {
        self.shared.stopping.send_replace(true);
    }

    /// Ends the writer after what is queued, and closes the database. Call it when the sessions
    /// have ended; those that have not get no more answers.
    ///
    /// # Errors
    /// [`ServerError::Storage`] when the database failed now or had failed before.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.begin_stop();
        self.shared.readers.close();
        // Behind all that is queued, so that its events come before the last.
        drop(self.shared.writer.run(audit::note(&self.shared.audit)).await);
        let audit = self.shared.audit.clone();
        audit.record(AuditEvent::Stopped, None);
        drop(tokio::task::spawn_blocking(move || audit.stop()).await);
        acks::write_all(&self.shared).await;
        // The files end with a line that the database knows. If it fails, stopping tells why.
        drop(self.shared.writer.run(audit::note(&self.shared.audit)).await);
        self.thread.stop(&self.shared.writer).await
    }

    async fn writer_ended(&self) {
        let mut health = self.thread.health.clone();
        // An error means that the thread is gone, too.
        drop(health.wait_for(|health| *health == Health::Ended).await);
    }

    fn admit(&self, incoming: Incoming, sessions: &mut JoinSet<()>) {
        let address = incoming.remote_address().ip();
        let place = match self.shared.connections.enter(address, incoming.is_validated()) {
            Entry::Admitted(place) => place,
            Entry::Validate => {
                // It comes back as another client.
                drop(incoming.retry());
                return;
            }
            Entry::Refused(cause) => {
                tracing::warn!(cause = cause.as_str(), "refusing a connection");
                self.shared.metrics.refused(cause);
                incoming.refuse();
                return;
            }
        };
        let shared = Arc::clone(&self.shared);
        sessions.spawn(async move {
            // Boxed, so that no connection holds room for its handshake.
            match Box::pin(incoming.establish()).await {
                Ok(connection) => session::run(shared, connection).await,
                Err(error) => {
                    shared.metrics.handshake_failed((&error).into());
                    tracing::debug!(%error, "a handshake failed");
                }
            }
            drop(place);
        });
    }

    async fn drain(&self, listener: &Listener, mut sessions: JoinSet<()>) {
        self.begin_stop();
        self.shared.sampler.report();
        let all = async { while sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(self.shared.limits.grace, all).await.is_err() {
            tracing::warn!(
                open = sessions.len(),
                "closing connections that did not finish in time"
            );
        }
        sessions.shutdown().await;
        listener.close(u32::from(ErrorCode::ShuttingDown.as_u16()), "the server is stopping");
        let idle = tokio::time::timeout(self.shared.limits.grace, listener.wait_idle());
        if idle.await.is_err() {
            tracing::debug!("some clients did not confirm the close");
        }
    }
}
