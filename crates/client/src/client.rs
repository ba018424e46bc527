//! The handle that programs hold. Each call is a command or a query of the machine, or waits until
//! the machine's state answers it; nothing is kept here.

mod account;
mod channels;
mod doctor;

use std::sync::Arc;
use std::time::Duration;

use qpc_storage::Store;
use qpc_transport::{ServerUrl, TransportError};
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use crate::core::Core;
use crate::driver::{Ask, Driver, Host, Stop};
use crate::error::ClientError;
use crate::home::{Home, Unlock};
use crate::machine::Pool;
use crate::register::{Progress, Registration, register};
use crate::view;

/// How long closing waits for the database.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How long a logout waits for the server.
const LOGOUT_WAIT: Duration = Duration::from_secs(10);

/// How long a registration waits until the server has this device's KeyPackages.
const REACHABLE_WAIT: Duration = Duration::from_secs(20);

/// Questions of commands that wait for a connection.
const ASKS_MAX: usize = 16;

/// Events from the moment of asking on.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<view::Event>);

impl EventStream {
    /// The next event; `None` when the client is closed. A reader thousands of events behind misses
    /// the oldest: what it must not miss, it reads with [`Client::unseen`].
    pub async fn next(&mut self) -> Option<view::Event> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// A running client. Clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct Client {
    host: Host,
    asks: mpsc::Sender<Ask>,
    running: Arc<Mutex<Option<Running>>>,
    thread: Arc<Mutex<Option<CoreThread>>>,
}

type CoreThread = std::thread::JoinHandle<()>;

#[derive(Debug)]
struct Running {
    driver: JoinHandle<()>,
    stop: watch::Sender<Stop>,
}

impl Client {
    /// Makes an account at a server, starts its client and waits a while until others can add it.
    /// `tell` hears what takes its time.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's reason; then nothing is left in the home.
    pub async fn register(
        home: &Home,
        registration: Registration,
        tell: impl FnMut(Progress),
    ) -> Result<Self, ClientError> {
        let client = Self::of_store(register(home, &registration, tell).await?)?;
        client.reachable().await?;
        Ok(client)
    }

    /// The client of a store that was just made.
    pub(crate) fn of_store(store: Store) -> Result<Self, ClientError> {
        Self::start(Core::open(store, Pool::default())?)
    }

    /// Waits a while until others can add this device.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn reachable(&self) -> Result<(), ClientError> {
        let reachable =
            self.host.wait_for(|machine, step| Ok(machine.is_reachable(step)?.then_some(())));
        // The device is there whatever comes of this; the next start goes on with it.
        match tokio::time::timeout(REACHABLE_WAIT, reachable).await {
            Ok(result) => result,
            Err(_) => {
                tracing::warn!("no KeyPackages at the server yet: others can't add you");
                Ok(())
            }
        }
    }

    /// Starts the client of a home. Needs no server: it connects, and connects again, by itself.
    ///
    /// # Errors
    /// [`ClientError::NoAccount`], [`ClientError::Key`], or a locked database.
    pub async fn open(home: &Home, unlock: Unlock) -> Result<Self, ClientError> {
        if !home.exists() {
            return Err(ClientError::NoAccount);
        }
        let home = home.clone();
        // Argon2id takes its time by design.
        let store = tokio::task::spawn_blocking(move || home.open(&unlock))
            .await
            .map_err(|_| ClientError::Internal("opening the home"))??;
        Self::of_store(store)
    }

    fn start(core: Core) -> Result<Self, ClientError> {
        let profile = &core.machine().profile;
        if !profile.registered {
            return Err(ClientError::NoAccount);
        }
        let url: ServerUrl = profile.server.parse()?;
        let (keys, device) = (profile.keys.clone(), profile.identity.device);
        let (host, thread) = Host::spawn(core)?;
        let (stop, stopped) = watch::channel(Stop::No);
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let driver = Driver { host: host.clone(), url, keys, device, asks: asked, stop: stopped };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(driver.run());
        #[expect(clippy::disallowed_methods, reason = "tracked: joined in `close`")]
        let driver = tokio::spawn(async move { while tasks.join_next().await.is_some() {} });
        let running = Arc::new(Mutex::new(Some(Running { driver, stop })));
        Ok(Self { host, asks, running, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Events from now on.
    pub fn events(&self) -> EventStream {
        EventStream(self.host.subscribe())
    }

    /// This client.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn whoami(&self) -> Result<view::Whoami, ClientError> {
        self.host.run(|machine, _| Ok(machine.whoami())).await
    }

    /// Resolves when a connection is open and everything the server had has been read.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn caught_up(&self) -> Result<(), ClientError> {
        self.host.wait_for(|machine, _| Ok(machine.is_caught_up().then_some(()))).await
    }

    /// Ends this login's tokens at the server and the connection; everything here stays.
    ///
    /// # Errors
    /// [`ClientError::Network`] when the server cannot be reached: then they end by themselves.
    pub async fn logout(&self) -> Result<(), ClientError> {
        let online = tokio::time::timeout(LOGOUT_WAIT, self.caught_up()).await;
        let reached = online.map_err(|_| ClientError::Network(TransportError::Timeout));
        self.stop(Stop::Logout).await;
        reached?
    }

    /// Stops the connection and closes the database.
    ///
    /// # Errors
    /// None so far; the database reports its own in the log.
    pub async fn close(self) -> Result<(), ClientError> {
        self.stop(Stop::Close).await;
        let thread = self.thread.lock().await.take();
        drop(self);
        if let Some(thread) = thread {
            // Other handles keep the thread alive; then it ends with them.
            let joined = tokio::task::spawn_blocking(move || thread.join());
            drop(tokio::time::timeout(CLOSE_WAIT, joined).await);
        }
        Ok(())
    }

    async fn stop(&self, how: Stop) {
        let running = self.running.lock().await.take();
        if let Some(running) = running {
            running.stop.send_replace(how);
            running.driver.await.unwrap_or_default();
        }
    }
}

impl From<qpc_transport::UrlFault> for ClientError {
    fn from(fault: qpc_transport::UrlFault) -> Self {
        Self::Network(TransportError::Url(fault))
    }
}
