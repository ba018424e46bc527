//! The handle that programs hold. Each call is a command or a query of the machine, or waits until
//! the machine's state answers it; nothing is kept here.

use std::sync::Arc;
use std::time::Duration;

use qpc_proto::{AccountId, ChannelId};
use qpc_transport::{ServerUrl, TransportError};
use tokio::sync::{Mutex, broadcast, watch};
use tokio::task::JoinHandle;

use crate::core::Core;
use crate::driver::{Driver, Host, Stop};
use crate::error::ClientError;
use crate::home::{Home, Unlock};
use crate::machine::{Input, Pool, Started, Target};
use crate::register::{Registration, register};
use crate::view;

/// How long closing waits for the database.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// How long a logout waits for the server.
const LOGOUT_WAIT: Duration = Duration::from_secs(10);

/// How long a registration waits until the server has this device's KeyPackages.
const REACHABLE_WAIT: Duration = Duration::from_secs(20);

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
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's reason; then nothing is left in the home.
    pub async fn register(home: &Home, registration: Registration) -> Result<Self, ClientError> {
        let store = register(home, &registration).await?;
        let client = Self::start(Core::open(store, Pool::default())?)?;
        let reachable =
            client.host.wait_for(|machine, step| Ok(machine.is_reachable(step)?.then_some(())));
        // The account is made whatever comes of this; the next start goes on with it.
        match tokio::time::timeout(REACHABLE_WAIT, reachable).await {
            Ok(result) => result?,
            Err(_) => tracing::warn!("no KeyPackages at the server yet: others can't add you"),
        }
        Ok(client)
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
        Self::start(Core::open(store, Pool::default())?)
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
        let driver = Driver { host: host.clone(), url, keys, device, stop: stopped };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(driver.run());
        #[expect(clippy::disallowed_methods, reason = "tracked: joined in `close`")]
        let driver = tokio::spawn(async move { while tasks.join_next().await.is_some() {} });
        let running = Arc::new(Mutex::new(Some(Running { driver, stop })));
        Ok(Self { host, running, thread: Arc::new(Mutex::new(Some(thread))) })
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

    /// All contacts.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn contacts(&self) -> Result<Vec<view::Contact>, ClientError> {
        self.host.run(|machine, step| machine.contacts(step)).await
    }

    /// The safety number with somebody, looked up at the server if unknown.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is nobody of that name.
    pub async fn safety_number(&self, name: &str) -> Result<view::SafetyNumber, ClientError> {
        let account = self.account(name).await?;
        self.host.run(move |machine, step| machine.safety_number(step, &account)).await
    }

    /// Marks a safety number as compared, or not.
    ///
    /// # Errors
    /// As [`Client::safety_number`].
    pub async fn mark_verified(
        &self,
        name: &str,
        verified: bool,
    ) -> Result<view::SafetyNumber, ClientError> {
        let account = self.account(name).await?;
        self.host
            .run(move |machine, step| {
                machine.set_verified(step, &account, verified)?;
                machine.safety_number(step, &account)
            })
            .await
    }

    /// The direct channel with somebody, created if there is none.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when it cannot be created.
    pub async fn dm(&self, name: &str) -> Result<view::Channel, ClientError> {
        let account = self.account(name).await?;
        let started = self.host.run(move |machine, step| machine.direct(step, &account)).await?;
        self.finish(started).await
    }

    /// Creates a group with this account alone.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when it cannot be created.
    pub async fn group_create(&self, title: &str) -> Result<view::Channel, ClientError> {
        let title = title.to_owned();
        let started =
            self.host.run(move |machine, step| machine.create_group_channel(step, &title)).await?;
        self.finish(started).await
    }

    /// Adds people to a group.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the reason.
    pub async fn group_add(
        &self,
        group: &str,
        names: &[String],
    ) -> Result<view::Channel, ClientError> {
        self.change(group, names, true).await
    }

    /// Removes people from a group.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the reason.
    pub async fn group_remove(
        &self,
        group: &str,
        names: &[String],
    ) -> Result<view::Channel, ClientError> {
        self.change(group, names, false).await
    }

    async fn change(
        &self,
        group: &str,
        names: &[String],
        add: bool,
    ) -> Result<view::Channel, ClientError> {
        let channel = self.channel_of(group).await?;
        let mut accounts = Vec::with_capacity(names.len());
        for name in names {
            accounts.push(self.account(name).await?);
        }
        let started = self
            .host
            .run(move |machine, step| machine.change_members(step, &channel, (add, &accounts)))
            .await?;
        self.finish(started).await
    }

    /// Asks to leave a group; any member's client does the rest.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the reason.
    pub async fn group_leave(&self, group: &str) -> Result<view::Channel, ClientError> {
        let channel = self.channel_of(group).await?;
        let started = self.host.run(move |machine, step| machine.leave(step, &channel)).await?;
        self.finish(started).await
    }

    /// All channels.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn channels(&self) -> Result<Vec<view::Channel>, ClientError> {
        self.host.run(|machine, step| machine.channels(step)).await
    }

    /// The members of a channel.
    ///
    /// # Errors
    /// [`ClientError::NotFound`].
    pub async fn members(&self, target: &str) -> Result<Vec<view::Member>, ClientError> {
        let channel = self.channel_of(target).await?;
        self.host.run(move |machine, step| machine.members(step, &channel)).await
    }

    /// Writes a message into the outbox: durable when this returns, sent when the server is there.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for a text that cannot be sent.
    pub async fn queue(&self, target: &str, text: &str) -> Result<view::Message, ClientError> {
        let channel = self.channel_to_write(target).await?;
        let text = text.to_owned();
        self.host.run(move |machine, step| machine.queue(step, &channel, &text)).await
    }

    /// Resolves when every own message is accepted or refused.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn settled(&self) -> Result<(), ClientError> {
        self.host.wait_for(|machine, step| Ok((machine.outbox_len(step)? == 0).then_some(()))).await
    }

    /// The last messages of a channel, oldest first.
    ///
    /// # Errors
    /// [`ClientError::NotFound`].
    pub async fn history(
        &self,
        target: &str,
        limit: u64,
    ) -> Result<Vec<view::Message>, ClientError> {
        let channel = self.channel_of(target).await?;
        self.host.run(move |machine, step| machine.history(step, (&channel, limit))).await
    }

    /// Messages not yet marked as seen, oldest first, of all channels.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn unseen(&self, limit: u64) -> Result<Vec<view::Message>, ClientError> {
        self.host.run(move |machine, step| machine.unseen(step, limit)).await
    }

    /// Marks messages up to a number as seen: [`Client::unseen`] gives each once.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn mark_seen(&self, up_to_id: u64) -> Result<(), ClientError> {
        self.host.run(move |machine, step| machine.mark_seen(step, up_to_id)).await
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

    async fn finish(&self, started: Started) -> Result<view::Channel, ClientError> {
        self.host.wait_for(move |machine, step| machine.outcome(step, &started)).await
    }

    /// The account of a name: a contact, or looked up.
    async fn account(&self, name: &str) -> Result<AccountId, ClientError> {
        let name = name.trim().to_lowercase();
        let known = name.clone();
        if let Some(account) =
            self.host.run(move |machine, step| machine.contact(step, &known)).await?
        {
            return Ok(account);
        }
        if name == self.whoami().await?.name {
            return Err(ClientError::Usage("that is you".into()));
        }
        self.host.step(Input::Lookup(name.clone())).await?;
        self.host.wait_for(move |machine, step| machine.looked_up(step, &name)).await
    }

    async fn resolve(&self, target: &str) -> Result<Target, ClientError> {
        let target = target.to_owned();
        self.host.run(move |machine, step| machine.resolve(step, &target)).await
    }

    /// A channel that is there.
    async fn channel_of(&self, target: &str) -> Result<ChannelId, ClientError> {
        match self.resolve(target).await? {
            Target::Channel(channel) => Ok(channel),
            Target::Contact(_) | Target::Unknown => Err(ClientError::NotFound(format!(
                "no channel {target}: see `qpc channels`, or open one with `qpc dm NAME`"
            ))),
        }
    }

    /// A channel to write to; the direct channel with a person is created.
    async fn channel_to_write(&self, target: &str) -> Result<ChannelId, ClientError> {
        let account = match self.resolve(target).await? {
            Target::Channel(channel) => return Ok(channel),
            Target::Contact(account) => account,
            Target::Unknown => self.account(target).await?,
        };
        let started = self.host.run(move |machine, step| machine.direct(step, &account)).await?;
        Ok(started.channel)
    }
}

impl From<qpc_transport::UrlFault> for ClientError {
    fn from(fault: qpc_transport::UrlFault) -> Self {
        Self::Network(TransportError::Url(fault))
    }
}
