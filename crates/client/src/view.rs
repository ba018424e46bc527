//! What a screen or a script is shown: plain data, serializable, free of secrets.
//!
//! Field names are a contract (`docs/use/json.md`). Ids are lower-case hexadecimal; times are Unix
//! milliseconds. Holds no logic.

use serde::Serialize;

/// This client.
#[derive(Debug, Clone, Serialize)]
pub struct Whoami {
    /// Registered name.
    pub name: String,
    /// Account id.
    pub account: String,
    /// Device id.
    pub device: String,
    /// `qpc://HOST:PORT/#FINGERPRINT`.
    pub server: String,
    /// Public root key, which safety numbers compare.
    pub root: String,
    /// Whether the account key is here: this device links and revokes others.
    pub primary: bool,
    /// Why nothing is sent or read any more: `DEVICE_REVOKED` or `ACCOUNT_SUSPENDED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// One device of the own account.
#[derive(Debug, Clone, Serialize)]
pub struct Device {
    /// Device id.
    pub device: String,
    /// Whether it is this one.
    pub this: bool,
    /// Whether it holds the account key; only the primary device knows of the others.
    pub primary: Option<bool>,
    /// Unix milliseconds from which it may not join anything more.
    pub not_after_ms: u64,
}

/// Somebody this client has met.
#[derive(Debug, Clone, Serialize)]
pub struct Contact {
    /// Name at the server.
    pub name: String,
    /// Account id.
    pub account: String,
    /// Whether the user compared the safety number.
    pub verified: bool,
    /// Whether the name was another account's before, and the user has not accepted this one.
    pub held: bool,
}

/// A safety number to compare by voice or in person.
#[derive(Debug, Clone, Serialize)]
pub struct SafetyNumber {
    /// The contact.
    pub name: String,
    /// 12 groups of 5 digits.
    pub safety_number: String,
    /// Whether it was marked as compared.
    pub verified: bool,
}

/// How a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelStatus {
    /// Being created; the server has not confirmed yet.
    Creating,
    /// In step.
    Active,
    /// Joined, but nobody besides the inviter has built on it yet.
    Unconfirmed,
    /// A leave was asked for and waits for a member's Commit.
    Leaving,
    /// This device left or was removed; history stays readable.
    Left,
    /// Reading stopped at an entry that may still succeed; see `reason`.
    Held,
    /// Off the chain of Commits, or restored from a copy: nothing is sent; see `reason`.
    NeedsRepair,
    /// The server showed a log that contradicts its own hash chain or a member's view.
    Alarm,
    /// Creating it failed; see `reason`.
    Failed,
    /// This device asked the members to take it in again; nothing is sent until they do.
    Rejoining,
    /// The channel ended and goes on as another; see `reason`.
    Closed,
}

/// One channel.
#[derive(Debug, Clone, Serialize)]
pub struct Channel {
    /// Channel id.
    pub channel: String,
    /// `direct` or `group`.
    pub kind: String,
    /// A group's title, or the peer's name.
    pub title: String,
    /// What a group is about; empty when nobody said.
    pub description: String,
    /// This account's role, `admin` or `member`; none before the channel is created.
    pub role: Option<String>,
    /// How it stands.
    pub status: ChannelStatus,
    /// Why, where the status needs it said.
    pub reason: Option<String>,
    /// Number of the last entry read.
    pub cursor: u64,
    /// MLS epoch.
    pub epoch: u64,
    /// Number of the last Commit applied.
    pub base_commit: u64,
    /// Messages waiting to be accepted by the server.
    pub outbox: u64,
    /// How long the server says it keeps entries, in milliseconds; none before it has said so.
    pub retention_ms: Option<u64>,
}

/// One member account of a channel.
#[derive(Debug, Clone, Serialize)]
pub struct Member {
    /// Name at the server.
    pub name: String,
    /// Account id.
    pub account: String,
    /// `admin` or `member`.
    pub role: String,
    /// Device ids in the group.
    pub devices: Vec<String>,
    /// Those of them of which nothing was heard for 90 days: they may be lost.
    pub silent: Vec<String>,
    /// Whether it is this account.
    pub me: bool,
}

/// State of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Own: written, not sealed yet.
    Waiting,
    /// Own: sealed and on its way.
    Sealed,
    /// Own: in the log, on the server's disk.
    Accepted,
    /// Own: refused for good; see `reason`.
    Refused,
    /// Own: taken back before it was sealed.
    Cancelled,
    /// Somebody's, decrypted.
    Received,
    /// An entry that could not be read; see `reason`.
    Unreadable,
    /// A notice of membership or of keys.
    Notice,
}

/// One line of a channel's history.
#[derive(Debug, Clone, Serialize)]
pub struct Message {
    /// Local number, ascending in the order of display.
    pub id: u64,
    /// Channel id.
    pub channel: String,
    /// Title of the channel at display.
    pub title: String,
    /// Sequence number in the log, once known.
    pub seq: Option<u64>,
    /// Sender's name.
    pub sender: String,
    /// Whether this account sent it.
    pub own: bool,
    /// What it says; control characters are as they came, the screen must escape them.
    pub text: String,
    /// State.
    pub state: MessageState,
    /// Unreadable: the stable cause, one of [`LossCode`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why, where the state needs it said.
    pub reason: Option<String>,
    /// When the sender's clock said it was written.
    pub sent_at_ms: u64,
    /// When the server accepted it.
    pub accepted_at_ms: Option<u64>,
    /// What the user should know before this is sent: keys that changed since the last message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Why something in a log was lost for this device. The name is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossCode {
    /// The server kept it no longer than its retention.
    Expired,
    /// It was sealed on another branch of the group.
    OtherBranch,
    /// A Commit whose keys were not made for this device.
    Unjudged,
    /// No key of this device's epoch opens it.
    Undecryptable,
    /// Its sender made it wrong.
    Malformed,
    /// A Commit that every member skips.
    Void,
    /// A newer program may read it.
    Unsupported,
    /// This program failed on it again and again.
    Crashed,
    /// Anything else; see the reason.
    Unreadable,
}

impl LossCode {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Expired,
        Self::OtherBranch,
        Self::Unjudged,
        Self::Undecryptable,
        Self::Malformed,
        Self::Void,
        Self::Unsupported,
        Self::Crashed,
        Self::Unreadable,
    ];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "EXPIRED",
            Self::OtherBranch => "OTHER_BRANCH",
            Self::Unjudged => "UNJUDGED",
            Self::Undecryptable => "UNDECRYPTABLE",
            Self::Malformed => "MALFORMED",
            Self::Void => "VOID",
            Self::Unsupported => "UNSUPPORTED",
            Self::Crashed => "CRASHED",
            Self::Unreadable => "UNREADABLE",
        }
    }
}

/// Entries in a row that this device never read, or could not.
#[derive(Debug, Clone, Serialize)]
pub struct Loss {
    /// Channel id.
    pub channel: String,
    /// Title of the channel at display; `inbox` for invitations and notices.
    pub title: String,
    /// Number of the first.
    pub seq: u64,
    /// How many.
    pub count: u64,
    /// One of [`LossCode`].
    pub code: String,
    /// The cause in words.
    pub reason: String,
    /// When the server accepted it, or when this device learned that it had expired.
    pub at_ms: u64,
    /// How often it was read again in vain.
    pub retried: u64,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// In order.
    Ok,
    /// It could not be checked now.
    Unchecked,
    /// Worth a look.
    Warning,
    /// Something does not work until somebody acts.
    Problem,
}

/// Something that a check of this client found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Stable name, `docs/use/doctor.md`.
    pub code: String,
    /// Channel id, if it concerns one.
    pub channel: Option<String>,
    /// What was found.
    pub text: String,
    /// What to do.
    pub fix: Option<String>,
}

impl Finding {
    fn new(severity: Severity, code: &str, text: String) -> Self {
        Self { severity, code: code.to_owned(), channel: None, text, fix: None }
    }

    pub(crate) fn ok(code: &str, text: String) -> Self {
        Self::new(Severity::Ok, code, text)
    }

    pub(crate) fn unchecked(code: &str, text: &str) -> Self {
        Self::new(Severity::Unchecked, code, text.to_owned())
    }

    pub(crate) fn warning(code: &str, text: String) -> Self {
        Self::new(Severity::Warning, code, text)
    }

    pub(crate) fn problem(code: &str, text: String) -> Self {
        Self::new(Severity::Problem, code, text)
    }

    pub(crate) fn fix(self, fix: &str) -> Self {
        Self { fix: Some(fix.to_owned()), ..self }
    }

    pub(crate) fn channel(self, channel: String) -> Self {
        Self { channel: Some(channel), ..self }
    }
}

/// Something that happened to this account, as the server tells it: its word alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Local number, ascending.
    pub id: u64,
    /// `linked`, `revoked`, `refresh_reused`, `exported`, `deletion_requested`,
    /// `deletion_cancelled` or `recovered`.
    pub kind: String,
    /// The device that it happened to, or that did it.
    pub device: String,
    /// Server time, Unix milliseconds.
    pub at_ms: u64,
    /// What happened, and what to do if it was not you.
    pub text: String,
}

/// What happens while a client runs.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A message or notice was read (others') or written by another device of this account.
    Message(Message),
    /// An own message changed its state.
    Outbox(Message),
    /// A channel appeared or changed.
    Channel(Channel),
    /// The connection is open and this device logged in.
    Online,
    /// The connection is gone; it is tried again by itself.
    Offline {
        /// Why, and what to do if it needs doing.
        reason: String,
    },
    /// Everything the server had at login has been read.
    CaughtUp,
    /// Something that a person should look at: a lie of the server, a changed key.
    Alarm {
        /// Channel id, if it concerns one.
        channel: Option<String>,
        /// Sequence number, if it concerns one.
        seq: Option<u64>,
        /// What was seen.
        text: String,
    },
    /// Something happened to this account.
    Notice(Notice),
    /// This device is out: nothing is sent or read any more.
    Stopped {
        /// `DEVICE_REVOKED` or `ACCOUNT_SUSPENDED`.
        code: String,
        /// Why, and what to do.
        text: String,
    },
}
