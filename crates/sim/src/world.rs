//! A world of one server and some clients, joined by connections that lose, repeat and delay.
//!
//! Every message between them is a frame of the real protocol. A connection keeps order and breaks
//! as a whole, as QUIC's streams do; a request may arrive twice, as a retry would.

mod client;
mod devices;
mod faults;
mod homes;
mod link;
mod raw;
mod readers;
mod resumed;
mod tampered;

pub(crate) use client::{Link, Moment, SimClient};
pub(crate) use link::Fate;
pub use raw::Raw;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use qpc_client::machine::Input;
use qpc_client::view::{Channel, ChannelStatus};
use qpc_proto::ChannelId;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use tempfile::TempDir;

use crate::model::Model;
use crate::scenario::Intruder;
use crate::server::SimServer;
use crate::tamper::Tamper;
use crate::trace::Trace;

/// Rewrites what a client is about to be given: a server that lies. The number is the client's.
pub type Liar = Box<dyn FnMut(usize, &mut Input) + Send>;

/// A leaf's Lifetime begins a day before it is made, and OpenMLS reads this machine's clock.
const LATEST_MS: u64 = 20 * 3_600_000;
/// Rounds of peace before a world must have settled.
const ROUNDS_MAX: usize = 4_000;
/// Rounds of silence, each longer than nothing and all together longer than any pause of a client.
const IDLE_ROUNDS: usize = 40;
/// In peace a connection is opened anew before its token ends.
const CONNECTION_MS: u64 = 600_000;

/// Everything that a seed decides about.
pub struct World {
    pub(crate) rng: ChaCha8Rng,
    /// Unix milliseconds of everybody's clock.
    pub now_ms: u64,
    /// Until then OpenMLS takes what is made in this world.
    pub(crate) latest_ms: u64,
    pub(crate) server: SimServer,
    pub(crate) clients: Vec<SimClient>,
    /// The lying server, if it lies.
    pub liar: Option<Liar>,
    /// The lying server of one channel, if it has one.
    pub(crate) tamper: Option<Tamper>,
    /// What the server has said; none once it lives another life.
    pub(crate) model: Option<Model>,
    /// The hostile member, if there is one.
    pub(crate) intruder: Option<Intruder>,
    /// Nobody has a reason to be taken in again.
    pub(crate) calm: bool,
    /// How often devices came or went, and at the last backup.
    pub(crate) devices_changed: u64,
    backed_up: Option<u64>,
    /// The number of the operation under way: who is away or stalled is so up to one.
    pub(crate) operation: u32,
    /// What happened.
    pub trace: Trace,
    /// Texts written, with their writer and channel.
    pub(crate) written: BTreeMap<String, (usize, ChannelId)>,
    dir: TempDir,
}

/// The simulated clock starts at this machine's, because OpenMLS compares lifetimes with that.
#[expect(clippy::disallowed_methods, reason = "once per world; only differences matter after that")]
fn wall_clock_ms() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}

impl World {
    /// A server and `clients` registered clients, all offline.
    ///
    /// # Errors
    /// When a database cannot be opened or a registration fails.
    pub fn new(seed: u64, clients: usize) -> Result<Self> {
        Self::earlier((seed, clients), 0)
    }

    /// The same, so long before this machine's time, that as much may pass.
    ///
    /// # Errors
    /// When a database cannot be opened or a registration fails.
    pub(crate) fn earlier((seed, clients): (u64, usize), earlier_ms: u64) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let server = SimServer::start(dir.path().join("server.db"), &mut rng)?;
        let model = Some(Model::new(server.incarnation()?));
        let mut world = Self {
            rng,
            now_ms: wall_clock_ms().saturating_sub(earlier_ms),
            latest_ms: wall_clock_ms().saturating_add(LATEST_MS),
            server,
            clients: Vec::new(),
            liar: None,
            tamper: None,
            model,
            intruder: None,
            calm: true,
            devices_changed: 0,
            backed_up: None,
            operation: 0,
            trace: Trace::default(),
            written: BTreeMap::new(),
            dir,
        };
        for index in 0..clients {
            let path = world.dir.path().join(format!("client{index}.db"));
            world.register((&format!("user{index}"), path))?;
        }
        Ok(world)
    }

    /// A random number below `bound` (0 for 0).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        let value = self.rng.next_u64().checked_rem(bound).unwrap_or(0);
        usize::try_from(value).unwrap_or(0)
    }

    /// True `percent` times of a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn client(&mut self, index: usize) -> Result<&mut SimClient> {
        self.clients.get_mut(index).context("no such client")
    }

    /// The server's database.
    pub(crate) fn server_path(&self) -> PathBuf {
        self.dir.path().join("server.db")
    }

    /// This life of the server's database: what its hash chains are bound to.
    ///
    /// # Errors
    /// When the server is down.
    pub fn incarnation(&self) -> Result<qpc_proto::Incarnation> {
        self.server.incarnation()
    }

    /// Opens the server's database again, as after a crash; every connection is lost.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub fn restart_server(&mut self) -> Result<()> {
        for index in 0..self.clients.len() {
            self.disconnect(index)?;
        }
        self.server.restart(&mut self.rng)
    }

    /// Starts the server again with less room in each channel; every connection is lost.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub fn limit_channels(&mut self, bytes: u64) -> Result<()> {
        self.server.channel_bytes_max = Some(bytes);
        self.restart_server()
    }

    /// Backs the server up; every connection is lost.
    ///
    /// # Errors
    /// When the database cannot be copied or opened.
    pub fn back_up_server(&mut self) -> Result<()> {
        for index in 0..self.clients.len() {
            self.disconnect(index)?;
        }
        self.backed_up = Some(self.devices_changed);
        self.server.back_up(&mut self.rng)
    }

    /// Puts the server's backup back; every connection is lost.
    ///
    /// # Errors
    /// When there is no backup, or it cannot be opened.
    pub fn restore_server(&mut self) -> Result<()> {
        for index in 0..self.clients.len() {
            self.disconnect(index)?;
        }
        self.model = None;
        self.server.restore(&mut self.rng)
    }

    /// Whether there is a backup of the server with all devices that there are: others would be
    /// strangers to it.
    pub(crate) fn can_restore_server(&self) -> bool {
        self.backed_up == Some(self.devices_changed)
    }

    /// Whether no client repairs a channel since the server was put back last.
    pub(crate) fn is_over_its_restore(&mut self) -> Result<bool> {
        if self.model.is_some() {
            return Ok(true);
        }
        for index in 0..self.clients.len() {
            let client = self.client(index)?;
            if client.core.is_none() || client.is_stopped() {
                continue;
            }
            let all = self.user(index, |m, s| m.channels(s))?;
            let repairs = |of: &Channel| {
                matches!(of.status, ChannelStatus::NeedsRepair | ChannelStatus::Creating)
            };
            if all.iter().any(repairs) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets up to `most_ms` (a random time, at least one millisecond) pass for everybody.
    ///
    /// # Errors
    /// What a client's step returned.
    pub fn tick(&mut self, most_ms: usize) -> Result<()> {
        let passed = u64::try_from(self.below(most_ms).saturating_add(1)).unwrap_or(1);
        self.now_ms = self.now_ms.saturating_add(passed);
        let (now_ms, rng) = (self.now_ms, &mut self.rng);
        for client in self.clients.iter_mut().filter(|client| client.core.is_some()) {
            let ended = |link: &mut Link| std::mem::take(&mut link.follows_anew);
            if client.link.as_mut().is_some_and(ended) {
                client.with((now_ms, rng), |machine, _| {
                    machine.resubscribe();
                    Ok(())
                })?;
            }
            client.step((now_ms, rng), Input::Tick)?;
        }
        // A step may have asked to follow other logs: the server begins with what is there.
        (0..self.clients.len()).try_for_each(|index| self.push(index))
    }

    /// Peace: everybody connected, nothing lost, until nothing is on its way and nothing waits.
    ///
    /// # Errors
    /// When it does not come to rest, or a step failed.
    pub fn settle(&mut self) -> Result<()> {
        let all: Vec<usize> = (0..self.clients.len()).collect();
        self.settle_among(&all)
    }

    /// Peace among some; the others are as they were, without time passing them by on a connection.
    ///
    /// # Errors
    /// When it does not come to rest, or a step failed.
    pub fn settle_among(&mut self, some: &[usize]) -> Result<()> {
        let mut idle = 0_usize;
        for _ in 0..ROUNDS_MAX {
            if self.exchange(some)? {
                idle = 0;
                continue;
            }
            idle = idle.saturating_add(1);
            if idle > IDLE_ROUNDS {
                return Ok(());
            }
            self.tick(4_000)?;
        }
        anyhow::bail!("the world does not settle")
    }

    /// Peace for a number of rounds: what is under a lie need not come to rest.
    ///
    /// # Errors
    /// When a step failed.
    pub fn rounds(&mut self, count: usize) -> Result<()> {
        let all: Vec<usize> = (0..self.clients.len()).collect();
        self.rounds_among(&all, count)
    }

    /// The same among some; the others stay as they were.
    ///
    /// # Errors
    /// When a step failed.
    pub fn rounds_among(&mut self, some: &[usize], count: usize) -> Result<()> {
        for _ in 0..count {
            self.exchange(some)?;
            self.tick(1_000)?;
        }
        Ok(())
    }

    /// Connects who is offline and delivers what is on its way. False when nothing was.
    fn exchange(&mut self, some: &[usize]) -> Result<bool> {
        let mut moved = false;
        let now_ms = self.now_ms;
        for index in some.iter().copied() {
            let old = |link: &Link| now_ms.saturating_sub(link.opened_at_ms) > CONNECTION_MS;
            if self.client(index)?.link.as_ref().is_some_and(old) {
                self.disconnect(index)?;
            }
            if self.client(index)?.link.is_none() && !self.client(index)?.is_stopped() {
                self.connect(index)?;
            }
            while self.deliver_down(index)? {
                moved = true;
            }
        }
        while self.deliver_up(8, Fate::Answered)? {
            moved = true;
        }
        Ok(moved)
    }
}
