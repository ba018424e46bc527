//! The entry of the Delivery Service: a module for each group of methods. All SQL is in the store.

mod commit;
mod config;
mod erasure;
mod expiry;
mod export;
mod ids;
mod inbox;
mod key_packages;
mod life;
mod pacing;
mod posts;
mod quota;
mod read;
mod removal;
mod reset;
mod revocation;
mod said;
mod standing;
mod write;
mod writing;

use qpc_proto::message::{DeviceRef, Entry, inbox_channel};
use qpc_proto::{ChannelId, Incarnation};
use qpc_storage::Tx;

use crate::store::RecentIds;

pub use config::{Config, Pacing};
pub use expiry::Room;
pub use posts::Posts;

/// The Delivery Service of one server database.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// This life of the database; every hash chain begins with it.
    pub incarnation: Incarnation,
    /// Policy.
    pub config: Config,
    /// Message ids that were accepted last.
    pub recent: RecentIds,
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

    /// Whether a channel id is that of the caller's inbox.
    fn means_its_inbox(&self, channel: &ChannelId) -> bool {
        *channel == inbox_channel(&self.caller.device)
    }
}

/// An answer, and whom to wake once it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// The answer.
    pub answer: T,
    /// Channels whose logs have grown, inboxes included; none for a duplicate.
    pub wakes: Vec<ChannelId>,
    /// What the one channel in `wakes` has grown by, as its readers get it. Empty when they must
    /// look for themselves: something else was written, or somebody's rights have changed.
    pub posted: Vec<Entry>,
}

impl<T> Written<T> {
    /// An answer that wakes nobody.
    fn silent(answer: T) -> Self {
        Self::waking(answer, Vec::new())
    }

    /// An answer whose readers look for themselves.
    fn waking(answer: T, wakes: Vec<ChannelId>) -> Self {
        Self { answer, wakes, posted: Vec::new() }
    }
}
