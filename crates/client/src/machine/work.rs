//! What goes into the machine and what it wants sent. Plain data.

use qpc_proto::message::{LoginAnswer, Page, Request, Response};
use qpc_proto::{AccountId, ChannelId, ErrorBody, RequestId};

/// KeyPackages kept at the server, and the number below which more are made.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// Made up to this many.
    pub full: u32,
    /// When fewer are left.
    pub refill: u32,
}

impl Default for Pool {
    fn default() -> Self {
        Self { full: 100, refill: 50 }
    }
}

/// A piece of work that needs one request at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Which channels there are.
    ListChannels,
    /// How many KeyPackages are left.
    KeyPackageStatus,
    /// Upload KeyPackages.
    Upload,
    /// The newest device list of the own account.
    OwnDevices,
    /// Publish later ends of the account's devices.
    Renew,
    /// The newest device list of a contact, of which somebody spoke.
    Devices(AccountId),
    /// Find an account by name.
    Lookup(String),
    /// Claim KeyPackages of an account for an intent.
    Claim(u64, AccountId),
    /// Read a channel's log on.
    Fetch(ChannelId),
    /// Send the sealed Commit of a channel.
    Commit(ChannelId),
    /// Send sealed messages of a channel.
    Outbox(ChannelId),
    /// Post the statement of an intent.
    Statement(u64),
    /// Say how far this device has read.
    Ack,
}

/// A request to send, now that its cause is on disk.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// What it is for; its answer comes back with it.
    pub work: Work,
    /// The same for every retry; zero for reads.
    pub request_id: RequestId,
    /// The request.
    pub request: Request,
}

/// Why a request has no answer.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The server refused.
    Refused(ErrorBody),
    /// The connection went away: whether it was done is not known.
    Lost,
}

/// What happens to the client.
#[derive(Debug)]
pub enum Input {
    /// A connection is open and logged in.
    Online(LoginAnswer),
    /// The connection is gone.
    Offline(String),
    /// A request was answered.
    Answer(Work, Result<Response, Failure>),
    /// A page of a followed log.
    Page(Page),
    /// Time passes.
    Tick,
    /// The user wants an account looked up.
    Lookup(String),
}
