//! A world of one server and some clients, joined by connections that lose, repeat and delay.
//!
//! Every message between them is a frame of the real protocol. A connection keeps order and breaks
//! as a whole, as QUIC's streams do; a request may arrive twice, as a retry would.

mod client;
mod link;

pub(crate) use client::SimClient;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use qpc_proto::ChannelId;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use tempfile::TempDir;

use crate::server::SimServer;
use crate::trace::Trace;

/// Everything that a seed decides about.
pub struct World {
    pub(crate) rng: ChaCha8Rng,
    pub(crate) now_ms: u64,
    pub(crate) server: SimServer,
    pub(crate) clients: Vec<SimClient>,
    /// What happened.
    pub trace: Trace,
    /// Texts written, with their writer and channel.
    pub(crate) written: BTreeMap<String, (usize, ChannelId)>,
    _dir: TempDir,
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
        let dir = tempfile::tempdir()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let server = SimServer::start(dir.path().join("server.db"), &mut rng)?;
        let mut world = Self {
            rng,
            now_ms: wall_clock_ms(),
            server,
            clients: Vec::new(),
            trace: Trace::default(),
            written: BTreeMap::new(),
            _dir: dir,
        };
        for index in 0..clients {
            let path = world._dir.path().join(format!("client{index}.db"));
            world.register(index, path)?;
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
}
