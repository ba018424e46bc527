//! What the audit log tells: one variant an event, none with a secret, a token or a message.
//!
//! Only account names of an operator's own actions stand here as text; all else is ids and codes.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, Digest};
use serde::ser::{SerializeStruct as _, Serializer};

/// One event. Its JSON has the variant's name as `event`, the fields beside it, and ids in
/// lower-case hexadecimal; a device stands as `account` and `device`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// The server began to serve. Without a `stopped` before it, it had been killed.
    Started {
        /// Of the program.
        version: &'static str,
    },
    /// The server stopped in order.
    Stopped,
    /// An account was registered, with its first device.
    Registered {
        /// That device.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
    },
    /// A device proved its key and was given tokens.
    LoggedIn {
        /// Which.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
    },
    /// Tokens were issued for a refresh token.
    Refreshed {
        /// To whom.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
    },
    /// A refresh token was used again after its grace; its session has ended.
    RefreshReused {
        /// Whose token it was.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
    },
    /// A device ended its session.
    LoggedOut {
        /// Which.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
    },
    /// Someone failed to show who they are. Sampled.
    AuthFailed {
        /// Name of the method.
        method: &'static str,
        /// Name of the error code.
        code: &'static str,
        /// The device that they said they are, proven or not.
        #[serde(flatten, serialize_with = "by_if_any")]
        device: Option<DeviceRef>,
    },
    /// A limit refused something. Sampled.
    LimitHit {
        /// Name of the limit.
        limit: &'static str,
    },
    /// A device was linked to its account.
    DeviceLinked {
        /// By which.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
        /// The linked one.
        #[serde(serialize_with = "text")]
        linked: DeviceId,
    },
    /// A device was revoked.
    DeviceRevoked {
        /// By which.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
        /// The revoked one.
        #[serde(serialize_with = "text")]
        revoked: DeviceId,
    },
    /// Devices of an account were given a later end.
    DevicesRenewed {
        /// By which.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
        /// How many; none when the list was the newest already.
        count: usize,
    },
    /// An account was recovered with its phrase.
    Recovered {
        /// The device that did it, the account's only one unless others were kept.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
    },
    /// KeyPackages were uploaded.
    KeyPackagesUploaded {
        /// By which device.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
        /// How many.
        count: usize,
    },
    /// An account's data was exported.
    Exported {
        /// To which device.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
    },
    /// An account's deletion was asked for.
    DeletionRequested {
        /// By which device.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
        /// When the grace ends, Unix milliseconds.
        delete_at_ms: u64,
    },
    /// An account's deletion was taken back.
    DeletionCancelled {
        /// By which device.
        #[serde(flatten, serialize_with = "by")]
        device: DeviceRef,
    },
    /// The grace of a deletion has ended, and with it the account.
    AccountDeleted {
        /// Which.
        #[serde(serialize_with = "text")]
        account: AccountId,
    },
    /// The last row of a deleted account is gone.
    AccountErased {
        /// Which.
        #[serde(serialize_with = "text")]
        account: AccountId,
    },
    /// An operator changed something.
    Admin {
        /// What they did.
        action: AdminAction,
        /// The account's name or the invite's id.
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        /// The operator's user id on this machine; none where the system does not tell.
        #[serde(skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
    /// Events that there was no room for: the queue was full or the disk refused.
    Lost {
        /// How many.
        lines: u64,
    },
    /// Events that sampling left out.
    LeftOut {
        /// Name of the event.
        of: &'static str,
        /// How many.
        lines: u64,
    },
    /// Lines that the database knows were gone or different when the server started.
    Altered {
        /// The first of them.
        from_seq: u64,
        /// The last of them.
        to_seq: u64,
    },
    /// The last line was torn, as a crash leaves it, and was moved aside.
    Torn {
        /// Number of the file.
        file: u64,
        /// How many bytes were moved.
        bytes: u64,
    },
    /// A file was older than the log is kept, and is deleted.
    Expired {
        /// Number of the file.
        file: u64,
        /// Sequence number of its last line.
        last_seq: u64,
        /// SHA-256 of its last line.
        #[serde(serialize_with = "text")]
        last_hash: Digest,
    },
}

/// What an operator can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminAction {
    /// Made an invite.
    Invite,
    /// Took an invite back.
    RevokeInvite,
    /// Suspended an account.
    Suspend,
    /// Ended a suspension.
    Resume,
    /// Ended an account's sessions.
    EndSessions,
}

/// The network that an event came from: an address without its host part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// The /24 of an IPv4 address (mapped ones too), the /64 of an IPv6 address.
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let prefix = if address.is_ipv4() { 24 } else { 64 };
        // No prefix here is longer than its address.
        Self(IpNet::new(address, prefix).map_or_else(|_| address.into(), |net| net.trunc()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn by<S: Serializer>(device: &DeviceRef, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct("DeviceRef", 2)?;
    fields.serialize_field("account", &device.account.to_string())?;
    fields.serialize_field("device", &device.device.to_string())?;
    fields.end()
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn by_if_any<S: Serializer>(device: &Option<DeviceRef>, serializer: S) -> Result<S::Ok, S::Error> {
    match device {
        Some(known) => by(known, serializer),
        None => serializer.serialize_struct("DeviceRef", 0)?.end(),
    }
}
