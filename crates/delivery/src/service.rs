//! The entry of the Delivery Service: a module for each group of methods. All SQL is in the store.

mod commit;
mod erasure;
mod expiry;
mod export;
mod inbox;
mod key_packages;
mod read;
mod removal;
mod revocation;
mod write;
mod writing;

use qpc_proto::message::DeviceRef;
use qpc_proto::{ChannelId, Incarnation};
use qpc_storage::Tx;

/// How long things are kept or served. All times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long entries are kept, and how long a removal waits for another account to build on it.
    pub retention_ms: u64,
    /// How long a KeyPackage is served after its upload.
    pub key_package_ttl_ms: u64,
    /// How long a last resort is served after its upload.
    pub last_resort_ttl_ms: u64,
}

impl Default for Config {
    /// 7 d, 24 h and 30 d.
    fn default() -> Self {
        const DAY: u64 = 24 * 3_600 * 1_000;
        Self { retention_ms: 7 * DAY, key_package_ttl_ms: DAY, last_resort_ttl_ms: 30 * DAY }
    }
}

/// The Delivery Service of one server database.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// This life of the database; every hash chain begins with it.
    pub incarnation: Incarnation,
    /// Policy.
    pub config: Config,
}

/// What one authorized request comes with.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The caller's transaction; an `Err` must roll back what was written in it.
    pub tx: &'a Tx<'a>,
    /// The device that asks, as its token says.
    pub caller: DeviceRef,
    /// Unix milliseconds.
    pub now_ms: u64,
}

impl<'a> Call<'a> {
    /// Where and when it writes.
    fn at(&self) -> (&'a Tx<'a>, u64) {
        (self.tx, self.now_ms)
    }
}

/// An answer, and whom to wake once it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// The answer.
    pub answer: T,
    /// Channels whose logs have grown, inboxes included; none for a duplicate.
    pub wakes: Vec<ChannelId>,
}

impl<T> Written<T> {
    /// An answer that wakes nobody.
    fn silent(answer: T) -> Self {
        Self { answer, wakes: Vec::new() }
    }
}
