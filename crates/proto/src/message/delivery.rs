//! Messages of the Delivery Service. Payloads stay opaque bytes.

use bytes::Bytes;

use super::Identity;
use crate::error::ErrorBody;
use crate::ids::{AccountId, ChannelId, DeviceId, Digest, Incarnation, MessageId};

/// What kind of log a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChannelKind {
    /// Exactly two accounts; one live channel a pair.
    Direct,
    /// Any accounts.
    Group,
    /// One device's inbox, made by the server alone.
    Inbox,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// An MLS application message.
    Application,
    /// An MLS Commit.
    Commit,
    /// A signed statement that the server can read.
    Statement,
    /// In an inbox: a pointer to a channel that the device was added to.
    Welcome,
    /// In an inbox: what happened to the account.
    Notice,
}

impl EntryKind {
    /// The number in hashes and in storage.
    pub fn code(self) -> u8 {
        match self {
            Self::Application => 1,
            Self::Commit => 2,
            Self::Statement => 3,
            Self::Welcome => 4,
            Self::Notice => 5,
        }
    }

    /// The kind of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Application),
            2 => Some(Self::Commit),
            3 => Some(Self::Statement),
            4 => Some(Self::Welcome),
            5 => Some(Self::Notice),
            _ => None,
        }
    }
}

/// An entry's place in the log, on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Sequence number, from 1, gapless.
    pub seq: u64,
    /// The hash chain's head after the entry.
    pub head: Digest,
    /// Server time of acceptance, Unix milliseconds.
    pub accepted_at_ms: u64,
    /// The same id and bytes came before: this is the first answer.
    pub duplicate: bool,
}

/// KeyPackages of the calling device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadKeyPackages {
    /// MLS KeyPackages, single use.
    pub key_packages: Vec<Bytes>,
    /// Replaces the earlier last resort.
    pub last_resort: Option<Bytes>,
}

/// Takes a KeyPackage of each device of an account, or of some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimKeyPackages {
    /// The account.
    pub account: AccountId,
    /// Only of these; empty: of all but the calling device.
    pub devices: Vec<DeviceId>,
}

/// One claimed KeyPackage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedKeyPackage {
    /// Whose it is.
    pub device: DeviceId,
    /// MLS KeyPackage.
    pub key_package: Bytes,
    /// Whether it was the last resort.
    pub last_resort: bool,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// One for every device that had one.
    pub claimed: Vec<ClaimedKeyPackage>,
    /// Devices that had none.
    pub missing: Vec<DeviceId>,
    /// The newest identity, to check the packages against.
    pub identity: Identity,
}

/// How the calling device's KeyPackages stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPackageStatus {
    /// Single-use ones left.
    pub available: u32,
    /// A last resort is there.
    pub has_last_resort: bool,
    /// It was handed out since its upload.
    pub last_resort_used: bool,
}

/// A Commit and all that wins or loses with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitBundle {
    /// Idempotence key.
    pub message_id: MessageId,
    /// The last Commit in the log that the sender had read.
    pub after_commit: u64,
    /// MLS PrivateMessage, content type commit.
    pub payload: Bytes,
    /// [`crate::roster::RosterChange`] in canonical bytes.
    pub roster_change: Bytes,
    /// One Welcome for all added devices.
    pub welcome: Option<Bytes>,
    /// The statements relied on.
    pub statements: Vec<Bytes>,
}

/// A new channel and its first Commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateChannel {
    /// Client-made, random.
    pub channel: ChannelId,
    /// Direct or group.
    pub kind: ChannelKind,
    /// Entry 1.
    pub bundle: CommitBundle,
    /// How long entries are kept, milliseconds; 0: as long as the server keeps them.
    pub retention_ms: u64,
    /// A signed Reset statement of the channel that this one takes the place of.
    pub reset: Option<Bytes>,
}

/// A Commit for a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    /// The channel.
    pub channel: ChannelId,
    /// The Commit.
    pub bundle: CommitBundle,
}

/// One channel as the calling device may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelState {
    /// The channel.
    pub channel: ChannelId,
    /// Its kind.
    pub kind: ChannelKind,
    /// The last sequence number that the device may read.
    pub head_seq: u64,
    /// The first that it may read.
    pub join_seq: u64,
    /// The highest it has acknowledged.
    pub acked_seq: u64,
    /// Where it was removed.
    pub removal_seq: Option<u64>,
    /// The message id last accepted from it.
    pub last_message_id: Option<MessageId>,
    /// How long entries are kept now, milliseconds.
    pub retention_ms: u64,
    /// The Commit that added it last: what a rejoin names. 1 in an inbox.
    pub added_seq: u64,
    /// What the hash chain runs in: an earlier life's in a channel of before a restore.
    pub incarnation: Incarnation,
    /// The channel that took its place.
    pub successor: Option<ChannelId>,
}

/// A new application entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Idempotence key.
    pub message_id: MessageId,
    /// The last Commit in the log that the sender had read.
    pub after_commit: u64,
    /// MLS PrivateMessage, content type application.
    pub payload: Bytes,
}

/// A batch of entries for one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueue {
    /// The channel.
    pub channel: ChannelId,
    /// 1 to [`crate::limits::ENQUEUE_ENTRIES_MAX`].
    pub entries: Vec<NewEntry>,
}

/// What became of a batch: its longest good prefix is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueueAnswer {
    /// One for each entry of the prefix.
    pub accepted: Vec<Accepted>,
    /// Why the next one was refused; those behind it were not tried.
    pub refusal: Option<ErrorBody>,
}

/// A statement for a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The channel.
    pub channel: ChannelId,
    /// Signed bytes.
    pub statement: Bytes,
}

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Sequence number.
    pub seq: u64,
    /// Kind.
    pub kind: EntryKind,
    /// The last Commit its sender had read.
    pub after_commit: u64,
    /// Server time of acceptance, Unix milliseconds.
    pub accepted_at_ms: u64,
    /// Client-made id.
    pub message_id: MessageId,
    /// Opaque but for statements and pointers.
    pub payload: Bytes,
    /// Commits: the declared change in canonical bytes.
    pub roster_change: Bytes,
    /// Commits: the statements relied on.
    pub statements: Vec<Bytes>,
    /// Commits: SHA-256 of the Welcome; zeros without one.
    pub welcome_hash: Digest,
    /// The hash chain's head after this entry.
    pub head: Digest,
    /// Inbox: the Welcome that the pointer names.
    pub welcome: Option<Bytes>,
}

/// Reads a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetch {
    /// The channel.
    pub channel: ChannelId,
    /// Entries behind this one.
    pub after_seq: u64,
    /// At most this many payload bytes; 0 for the server's limit.
    pub bytes_max: u64,
}

/// Reads a page, and waits for its first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchWait {
    /// What is read.
    pub fetch: Fetch,
    /// Milliseconds, at most [`crate::limits::WAIT_MS_MAX`]; 0: does not wait.
    pub wait_ms: u64,
}

/// Bytes for whoever follows a channel now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The channel.
    pub channel: ChannelId,
    /// Opaque, 1 to [`crate::limits::PUBLISH_BYTES_MAX`] bytes.
    pub payload: Bytes,
}

/// A page of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The channel.
    pub channel: ChannelId,
    /// In order, gapless.
    pub entries: Vec<Entry>,
    /// The last sequence number that the device may read now.
    pub head_seq: u64,
    /// Subscriptions: what was published to those who follow the channel, oldest first.
    pub published: Vec<Bytes>,
}

/// A place in a channel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The channel.
    pub channel: ChannelId,
    /// Read up to and including this.
    pub seq: u64,
}

/// The inbox channel of a device: the first 16 bytes of SHA-256 over a label and the device id.
pub fn inbox_channel(device: &DeviceId) -> ChannelId {
    let bytes = crate::codec::Writer::with_label("qpc/v1 inbox").fixed(device).finish();
    ChannelId(crate::chain::sha256(&bytes).short())
}

/// What an inbox entry of kind Welcome says: canonical bytes, covered by the inbox's hash chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WelcomePointer {
    /// The channel joined.
    pub channel: ChannelId,
    /// Direct or group.
    pub kind: ChannelKind,
    /// Sequence number of the Commit that added the device.
    pub join_seq: u64,
    /// The hash chain's head after that Commit.
    pub head: Digest,
    /// SHA-256 of the Welcome.
    pub welcome_hash: Digest,
    /// The account whose device posted the Commit, as the server knows it.
    pub inviter: AccountId,
}

impl WelcomePointer {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        crate::codec::Writer::with_label("qpc/v1 welcome pointer")
            .fixed(self.channel)
            .u8(match self.kind {
                ChannelKind::Direct => 1,
                ChannelKind::Group => 2,
                ChannelKind::Inbox => 3,
            })
            .u64(self.join_seq)
            .fixed(self.head)
            .fixed(self.welcome_hash)
            .fixed(self.inviter)
            .finish()
    }

    /// Parses canonical bytes.
    ///
    /// # Errors
    /// [`crate::Malformed`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, crate::Malformed> {
        let mut r = crate::codec::Reader::new(bytes);
        r.label("qpc/v1 welcome pointer")?;
        let pointer = Self {
            channel: ChannelId(r.array()?),
            kind: match r.u8()? {
                1 => ChannelKind::Direct,
                2 => ChannelKind::Group,
                _ => return Err(crate::Malformed("unknown channel kind")),
            },
            join_seq: r.u64()?,
            head: Digest(r.array()?),
            welcome_hash: Digest(r.array()?),
            inviter: AccountId(r.array()?),
        };
        r.finish()?;
        Ok(pointer)
    }
}
