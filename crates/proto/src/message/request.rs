//! Every request in one enum, so that routing is exhaustive. Encoding and decoding only.

use bytes::Bytes;
use prost::Message as _;

use super::convert::{account_id, channel_id, device_id, raw, required};
use super::{
    ChannelKind, ClaimKeyPackages, CommitBundle, CommitRequest, CreateChannel, Cursor, Enqueue,
    Fetch, FetchWait, LinkDevice, LinkRelay, Login, Method, NewEntry, Publish, Recover, Register,
    RenewDevices, Statement, UploadKeyPackages, account, fields,
};
use crate::error::Malformed;
use crate::ids::{AccountId, Token};
use crate::{limits, wire};

/// A validated request.
#[derive(Debug, Clone)]
pub enum Request {
    /// What this server is and speaks.
    ServerInfo,
    /// Creates an account with its first device.
    Register(Register),
    /// Binds this connection to a device.
    Login(Login),
    /// Trades a refresh token for new tokens.
    Refresh(Token),
    /// Ends this login.
    Logout,
    /// Finds an account by name.
    Lookup(String),
    /// The newest device list of an account.
    DeviceList(AccountId),
    /// Passes sealed bytes between a new device and one that links it.
    LinkRelay(LinkRelay),
    /// Publishes a device list with one device more.
    LinkDevice(LinkDevice),
    /// Publishes this device list, with devices less.
    RevokeDevice(Bytes),
    /// Publishes a device list with later ends.
    RenewDevices(RenewDevices),
    /// Begins a new generation of the account key.
    Recover(Recover),
    /// All that the server holds about the account.
    ExportAccount,
    /// Ends the account after a grace, by this list without any device.
    DeleteAccount(Bytes),
    /// Takes a deletion back.
    CancelDeletion,
    /// Adds KeyPackages of this device.
    UploadKeyPackages(UploadKeyPackages),
    /// Takes a KeyPackage of each device of an account, or of some.
    ClaimKeyPackages(ClaimKeyPackages),
    /// How many KeyPackages are left.
    KeyPackageStatus,
    /// Creates a channel with its first Commit.
    CreateChannel(CreateChannel),
    /// The channels that this device may read.
    ListChannels,
    /// Appends application entries.
    Enqueue(Enqueue),
    /// Appends a Commit.
    Commit(CommitRequest),
    /// Appends a signed statement.
    Statement(Statement),
    /// Hands bytes to whoever follows a channel now.
    Publish(Publish),
    /// Reads a page.
    Fetch(Fetch),
    /// Reads a page, and waits for it if there is nothing yet.
    FetchWait(FetchWait),
    /// Follows logs.
    Subscribe(Vec<Cursor>),
    /// Notes how far this device has read.
    Ack(Vec<Cursor>),
}

impl Request {
    /// Its method.
    pub fn method(&self) -> Method {
        match self {
            Self::ServerInfo => Method::ServerInfo,
            Self::Register(_) => Method::Register,
            Self::Login(_) => Method::Login,
            Self::Refresh(_) => Method::Refresh,
            Self::Logout => Method::Logout,
            Self::Lookup(_) => Method::Lookup,
            Self::DeviceList(_) => Method::DeviceList,
            Self::LinkRelay(_) => Method::LinkRelay,
            Self::LinkDevice(_) => Method::LinkDevice,
            Self::RevokeDevice(_) => Method::RevokeDevice,
            Self::RenewDevices(_) => Method::RenewDevices,
            Self::Recover(_) => Method::Recover,
            Self::ExportAccount => Method::ExportAccount,
            Self::DeleteAccount(_) => Method::DeleteAccount,
            Self::CancelDeletion => Method::CancelDeletion,
            Self::UploadKeyPackages(_) => Method::UploadKeyPackages,
            Self::ClaimKeyPackages(_) => Method::ClaimKeyPackages,
            Self::KeyPackageStatus => Method::KeyPackageStatus,
            Self::CreateChannel(_) => Method::CreateChannel,
            Self::ListChannels => Method::ListChannels,
            Self::Enqueue(_) => Method::Enqueue,
            Self::Commit(_) => Method::Commit,
            Self::Statement(_) => Method::Statement,
            Self::Publish(_) => Method::Publish,
            Self::Fetch(_) => Method::Fetch,
            Self::FetchWait(_) => Method::FetchWait,
            Self::Subscribe(_) => Method::Subscribe,
            Self::Ack(_) => Method::Ack,
        }
    }

    /// The protobuf body.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::ServerInfo
            | Self::Register(_)
            | Self::Login(_)
            | Self::Refresh(_)
            | Self::Logout
            | Self::Lookup(_)
            | Self::DeviceList(_)
            | Self::LinkRelay(_)
            | Self::LinkDevice(_)
            | Self::RevokeDevice(_)
            | Self::RenewDevices(_)
            | Self::Recover(_)
            | Self::ExportAccount
            | Self::DeleteAccount(_)
            | Self::CancelDeletion => account::encode(self),
            Self::UploadKeyPackages(upload) => wire::UploadKeyPackagesRequest {
                key_packages: upload.key_packages.clone(),
                last_resort: upload.last_resort.clone(),
            }
            .encode_to_vec(),
            Self::ClaimKeyPackages(claim) => wire::ClaimKeyPackagesRequest {
                account_id: raw(claim.account),
                device_ids: claim.devices.iter().map(raw).collect(),
            }
            .encode_to_vec(),
            Self::KeyPackageStatus => wire::KeyPackageStatusRequest {}.encode_to_vec(),
            Self::ListChannels => wire::ListChannelsRequest {}.encode_to_vec(),
            Self::CreateChannel(_)
            | Self::Enqueue(_)
            | Self::Commit(_)
            | Self::Statement(_)
            | Self::Publish(_)
            | Self::Fetch(_)
            | Self::FetchWait(_)
            | Self::Subscribe(_)
            | Self::Ack(_) => self.encode_log(),
        }
        .into()
    }

    /// The body of a request about logs; empty for others.
    fn encode_log(&self) -> Vec<u8> {
        match self {
            Self::CreateChannel(create) => wire::CreateChannelRequest {
                channel_id: raw(create.channel),
                kind: create.kind.to_wire(),
                bundle: Some(create.bundle.to_wire()),
                retention_ms: (create.retention_ms != 0).then_some(create.retention_ms),
                reset: create.reset.clone(),
            }
            .encode_to_vec(),
            Self::Enqueue(enqueue) => wire::EnqueueRequest {
                channel_id: raw(enqueue.channel),
                entries: enqueue.entries.iter().map(NewEntry::to_wire).collect(),
            }
            .encode_to_vec(),
            Self::Commit(commit) => wire::CommitRequest {
                channel_id: raw(commit.channel),
                bundle: Some(commit.bundle.to_wire()),
            }
            .encode_to_vec(),
            Self::Statement(statement) => wire::StatementRequest {
                channel_id: raw(statement.channel),
                statement: statement.statement.clone(),
            }
            .encode_to_vec(),
            Self::Publish(publish) => wire::PublishRequest {
                channel_id: raw(publish.channel),
                payload: publish.payload.clone(),
            }
            .encode_to_vec(),
            Self::Fetch(fetch) => wire::FetchRequest {
                channel_id: raw(fetch.channel),
                after_seq: fetch.after_seq,
                bytes_max: fetch.bytes_max,
            }
            .encode_to_vec(),
            Self::FetchWait(wait) => wire::FetchWaitRequest {
                channel_id: raw(wait.fetch.channel),
                after_seq: wait.fetch.after_seq,
                bytes_max: wait.fetch.bytes_max,
                wait_ms: wait.wait_ms,
            }
            .encode_to_vec(),
            Self::Subscribe(cursors) => {
                wire::SubscribeRequest { cursors: to_cursors(cursors) }.encode_to_vec()
            }
            Self::Ack(cursors) => wire::AckRequest { cursors: to_cursors(cursors) }.encode_to_vec(),
            Self::ServerInfo
            | Self::Register(_)
            | Self::Login(_)
            | Self::Refresh(_)
            | Self::Logout
            | Self::Lookup(_)
            | Self::DeviceList(_)
            | Self::LinkRelay(_)
            | Self::LinkDevice(_)
            | Self::RevokeDevice(_)
            | Self::RenewDevices(_)
            | Self::Recover(_)
            | Self::ExportAccount
            | Self::DeleteAccount(_)
            | Self::CancelDeletion
            | Self::UploadKeyPackages(_)
            | Self::ClaimKeyPackages(_)
            | Self::KeyPackageStatus
            | Self::ListChannels => Vec::new(),
        }
    }

    /// Parses a body.
    ///
    /// # Errors
    /// [`Malformed`] for anything the contract does not allow.
    pub fn decode(method: Method, body: Bytes) -> Result<Self, Malformed> {
        fields::check(&body, limits::REQUEST_FIELDS_MAX, bundle_path(method))?;
        match method {
            Method::ServerInfo
            | Method::Register
            | Method::Login
            | Method::Refresh
            | Method::Logout
            | Method::Lookup
            | Method::DeviceList
            | Method::LinkRelay
            | Method::LinkDevice
            | Method::RevokeDevice
            | Method::RenewDevices
            | Method::Recover
            | Method::ExportAccount
            | Method::DeleteAccount
            | Method::CancelDeletion => account::decode(method, body),
            Method::UploadKeyPackages => upload(parse(body)?).map(Self::UploadKeyPackages),
            Method::ClaimKeyPackages => claim(&parse(body)?).map(Self::ClaimKeyPackages),
            Method::KeyPackageStatus => {
                parse::<wire::KeyPackageStatusRequest>(body).map(|_| Self::KeyPackageStatus)
            }
            Method::ListChannels => {
                parse::<wire::ListChannelsRequest>(body).map(|_| Self::ListChannels)
            }
            Method::CreateChannel => create_channel(parse(body)?).map(Self::CreateChannel),
            Method::Enqueue => enqueue(parse(body)?).map(Self::Enqueue),
            Method::Commit => commit(parse(body)?).map(Self::Commit),
            Method::Statement => statement(parse(body)?).map(Self::Statement),
            Method::Publish => publish(parse(body)?).map(Self::Publish),
            Method::Fetch => fetch(&parse(body)?).map(Self::Fetch),
            Method::FetchWait => fetch_wait(&parse(body)?).map(Self::FetchWait),
            Method::Subscribe => {
                from_cursors(parse::<wire::SubscribeRequest>(body)?.cursors).map(Self::Subscribe)
            }
            Method::Ack => from_cursors(parse::<wire::AckRequest>(body)?.cursors).map(Self::Ack),
        }
    }
}

/// Where a request has a Commit bundle, whose statements repeat.
fn bundle_path(method: Method) -> &'static [u32] {
    if method == Method::CreateChannel {
        &[3]
    } else if method == Method::Commit {
        &[2]
    } else {
        &[]
    }
}

/// Protobuf bytes of a known message.
pub(super) fn parse<M: prost::Message + Default>(body: Bytes) -> Result<M, Malformed> {
    M::decode(body).map_err(|_| Malformed("the body is not the method's protobuf message"))
}

fn upload(wire: wire::UploadKeyPackagesRequest) -> Result<UploadKeyPackages, Malformed> {
    let oversized = |kp: &Bytes| kp.len() > limits::KEY_PACKAGE_BYTES_MAX;
    if wire.key_packages.iter().chain(&wire.last_resort).any(oversized) {
        return Err(Malformed("a KeyPackage is too long"));
    }
    Ok(UploadKeyPackages { key_packages: wire.key_packages, last_resort: wire.last_resort })
}

fn claim(wire: &wire::ClaimKeyPackagesRequest) -> Result<ClaimKeyPackages, Malformed> {
    if wire.device_ids.len() > limits::DEVICES_PER_ACCOUNT_MAX {
        return Err(Malformed("an account has at most 10 devices"));
    }
    Ok(ClaimKeyPackages {
        account: account_id(&wire.account_id)?,
        devices: wire.device_ids.iter().map(device_id).collect::<Result<_, _>>()?,
    })
}

fn create_channel(wire: wire::CreateChannelRequest) -> Result<CreateChannel, Malformed> {
    Ok(CreateChannel {
        channel: channel_id(&wire.channel_id)?,
        kind: ChannelKind::from_wire(wire.kind)?,
        bundle: CommitBundle::from_wire(required(wire.bundle)?)?,
        retention_ms: wire.retention_ms.unwrap_or_default(),
        reset: wire.reset,
    })
}

fn enqueue(wire: wire::EnqueueRequest) -> Result<Enqueue, Malformed> {
    if !(1..=limits::ENQUEUE_ENTRIES_MAX).contains(&wire.entries.len()) {
        return Err(Malformed("an Enqueue has 1 to 256 entries"));
    }
    Ok(Enqueue {
        channel: channel_id(&wire.channel_id)?,
        entries: wire.entries.into_iter().map(NewEntry::from_wire).collect::<Result<_, _>>()?,
    })
}

fn commit(wire: wire::CommitRequest) -> Result<CommitRequest, Malformed> {
    Ok(CommitRequest {
        channel: channel_id(&wire.channel_id)?,
        bundle: CommitBundle::from_wire(required(wire.bundle)?)?,
    })
}

fn statement(wire: wire::StatementRequest) -> Result<Statement, Malformed> {
    if wire.statement.len() > limits::STATEMENT_BYTES_MAX {
        return Err(Malformed("the statement is too long"));
    }
    Ok(Statement { channel: channel_id(&wire.channel_id)?, statement: wire.statement })
}

fn publish(wire: wire::PublishRequest) -> Result<Publish, Malformed> {
    if !(1..=limits::PUBLISH_BYTES_MAX).contains(&wire.payload.len()) {
        return Err(Malformed("a Publish has 1 to 4,096 bytes"));
    }
    Ok(Publish { channel: channel_id(&wire.channel_id)?, payload: wire.payload })
}

fn fetch_wait(wire: &wire::FetchWaitRequest) -> Result<FetchWait, Malformed> {
    if wire.wait_ms > limits::WAIT_MS_MAX {
        return Err(Malformed("a FetchWait waits at most 60,000 ms"));
    }
    let (after_seq, bytes_max) = (wire.after_seq, wire.bytes_max);
    let fetch = Fetch { channel: channel_id(&wire.channel_id)?, after_seq, bytes_max };
    Ok(FetchWait { fetch, wait_ms: wire.wait_ms })
}

fn fetch(wire: &wire::FetchRequest) -> Result<Fetch, Malformed> {
    Ok(Fetch {
        channel: channel_id(&wire.channel_id)?,
        after_seq: wire.after_seq,
        bytes_max: wire.bytes_max,
    })
}

fn to_cursors(cursors: &[Cursor]) -> Vec<wire::Cursor> {
    cursors.iter().map(|cursor| cursor.to_wire()).collect()
}

fn from_cursors(cursors: Vec<wire::Cursor>) -> Result<Vec<Cursor>, Malformed> {
    if cursors.len() > limits::CURSORS_MAX {
        return Err(Malformed("too many cursors"));
    }
    cursors.into_iter().map(Cursor::from_wire).collect()
}
