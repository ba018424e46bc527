//! The server of a simulated world: the real node over a real database file, restarted by reopening
//! it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use qpc_proto::message::{Method, Request};
use qpc_proto::{ChannelId, Malformed};
use qpc_server::{Call, Node, Outputs, Policy, schemas};
use qpc_storage::{Durability, Key, Options, Reader, Store};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// A server process.
pub(crate) struct SimServer {
    path: PathBuf,
    running: Option<(Store, Node)>,
    /// How far the time that it counts is off the world's, in milliseconds.
    skew_ms: i64,
    /// The same of its machine's clock: a running server follows no step of that (see
    /// `clock.rs` of `qpc-server`), so it counts from the next start on.
    pub(crate) wall_skew_ms: i64,
    /// How many bytes a channel holds, if not as many as by default.
    pub(crate) channel_bytes_max: Option<u64>,
    /// Channels in which something was acknowledged since it started or swept last.
    acked: BTreeSet<ChannelId>,
}

fn decoded(call: &Call) -> std::result::Result<Request, Malformed> {
    let method = Method::from_u16(call.frame.method).ok_or(Malformed("a method"))?;
    Request::decode(method, call.frame.body.clone())
}

fn policy(channel_bytes_max: Option<u64>) -> Policy {
    let mut policy = Policy::default();
    if let Some(bytes) = channel_bytes_max {
        policy.delivery.channel_bytes_max = bytes;
    }
    policy.auth.registration = qpc_proto::message::RegistrationMode::Open;
    policy.auth.pow_bits = 0;
    // OpenMLS allows no leaf of a later day than this machine's.
    policy.auth.deletion_grace_ms = 600_000;
    policy
}

impl SimServer {
    pub(crate) fn start(path: PathBuf, rng: &mut ChaCha8Rng) -> Result<Self> {
        let (skew_ms, wall_skew_ms, channel_bytes_max) = (0, 0, None);
        let acked = BTreeSet::new();
        let mut server =
            Self { path, running: None, skew_ms, wall_skew_ms, channel_bytes_max, acked };
        server.restart(rng)?;
        Ok(server)
    }

    /// Drops everything in memory and opens the file again.
    pub(crate) fn restart(&mut self, rng: &mut ChaCha8Rng) -> Result<()> {
        self.running = None;
        self.acked.clear();
        self.skew_ms = self.wall_skew_ms;
        let options =
            Options::new(Key::from_bytes([7; 32]), schemas()).with_durability(Durability::Process);
        let mut store = Store::open(&self.path, &options)?;
        let node = Node::open(&mut store, policy(self.channel_bytes_max), rng)?;
        self.running = Some((store, node));
        Ok(())
    }

    /// Copies the file, as a backup would.
    pub(crate) fn back_up(&mut self, rng: &mut ChaCha8Rng) -> Result<()> {
        self.running = None;
        std::fs::copy(&self.path, self.path.with_extension("copy"))?;
        self.restart(rng)
    }

    /// Puts the copy back: another life of the database begins.
    pub(crate) fn restore(&mut self, rng: &mut ChaCha8Rng) -> Result<()> {
        self.running = None;
        std::fs::copy(self.path.with_extension("copy"), &self.path)?;
        let options =
            Options::new(Key::from_bytes([7; 32]), schemas()).with_durability(Durability::Process);
        let mut store = Store::open(&self.path, &options)?;
        let node = Node::restored(&mut store, policy(self.channel_bytes_max), rng)?;
        self.running = Some((store, node));
        Ok(())
    }

    /// Whether its clock is or will be off the world's.
    pub(crate) fn is_off(&self) -> bool {
        self.skew_ms != 0 || self.wall_skew_ms != 0
    }

    /// One group commit.
    pub(crate) fn apply(
        &mut self,
        mut calls: Vec<Call>,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Outputs>> {
        for call in &mut calls {
            call.now_ms = call.now_ms.saturating_add_signed(self.skew_ms);
        }
        let (store, node) = self.running.as_mut().context("the server is down")?;
        for call in &calls {
            if let Ok(Request::Ack(cursors)) = decoded(call) {
                self.acked.extend(cursors.iter().map(|cursor| cursor.channel));
            }
        }
        Ok(node.apply(store, calls, rng)?)
    }

    /// Ends what is due, and what all have read; returns the logs that have grown.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Result<Vec<ChannelId>> {
        let now_ms = now_ms.saturating_add_signed(self.skew_ms);
        let (store, node) = self.running.as_mut().context("the server is down")?;
        // Drawn from only when a sweep is refused.
        let mut rng = ChaCha8Rng::from_seed([0; 32]);
        let mut wakes = Vec::new();
        loop {
            let acked: Vec<_> = std::mem::take(&mut self.acked).into_iter().collect();
            let (outputs, more) = node.sweep_once(store, (now_ms, &mut rng), &acked)?;
            wakes.extend(outputs.wakes);
            if !more {
                return Ok(wakes);
            }
        }
    }

    /// A further connection to the database, to read.
    pub(crate) fn reader(&self) -> Result<Reader> {
        let (store, _) = self.running.as_ref().context("the server is down")?;
        Ok(store.reader()?)
    }

    /// This life of the database.
    pub(crate) fn incarnation(&self) -> Result<qpc_proto::Incarnation> {
        let (_, node) = self.running.as_ref().context("the server is down")?;
        Ok(node.incarnation())
    }
}
