//! Every request in one enum, so that routing is exhaustive. Encoding and decoding only.

use bytes::Bytes;
use prost::Message as _;

use super::convert::{account_id, channel_id, device_id, raw, required};
use super::{
    ChannelKind, CommitBundle, CommitRequest, CreateChannel, Cursor, DeviceRef, Enqueue, Fetch,
    Login, Method, NewEntry, Register, Statement, UploadKeyPackages, fields,
};
use crate::error::Malformed;
use crate::ids::{AccountId, Signature, Token};
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
    /// Adds KeyPackages of this device.
    UploadKeyPackages(UploadKeyPackages),
    /// Takes a KeyPackage of every device of an account.
    ClaimKeyPackages(AccountId),
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
    /// Reads a page.
    Fetch(Fetch),
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
            Self::UploadKeyPackages(_) => Method::UploadKeyPackages,
            Self::ClaimKeyPackages(_) => Method::ClaimKeyPackages,
            Self::KeyPackageStatus => Method::KeyPackageStatus,
            Self::CreateChannel(_) => Method::CreateChannel,
            Self::ListChannels => Method::ListChannels,
            Self::Enqueue(_) => Method::Enqueue,
            Self::Commit(_) => Method::Commit,
            Self::Statement(_) => Method::Statement,
            Self::Fetch(_) => Method::Fetch,
            Self::Subscribe(_) => Method::Subscribe,
            Self::Ack(_) => Method::Ack,
        }
    }

    /// The protobuf body.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::ServerInfo => wire::ServerInfoRequest {}.encode_to_vec(),
            Self::Register(register) => register_to_wire(register).encode_to_vec(),
            Self::Login(login) => login_to_wire(login).encode_to_vec(),
            Self::Refresh(token) => {
                wire::RefreshRequest { refresh_token: raw(token.as_bytes()) }.encode_to_vec()
            }
            Self::Logout => wire::LogoutRequest {}.encode_to_vec(),
            Self::Lookup(name) => wire::LookupRequest { name: name.clone() }.encode_to_vec(),
            Self::DeviceList(id) => wire::DeviceListRequest { account_id: raw(id) }.encode_to_vec(),
            Self::UploadKeyPackages(upload) => wire::UploadKeyPackagesRequest {
                key_packages: upload.key_packages.clone(),
                last_resort: upload.last_resort.clone(),
            }
            .encode_to_vec(),
            Self::ClaimKeyPackages(id) => {
                wire::ClaimKeyPackagesRequest { account_id: raw(id) }.encode_to_vec()
            }
            Self::KeyPackageStatus => wire::KeyPackageStatusRequest {}.encode_to_vec(),
            Self::ListChannels => wire::ListChannelsRequest {}.encode_to_vec(),
            Self::CreateChannel(_)
            | Self::Enqueue(_)
            | Self::Commit(_)
            | Self::Statement(_)
            | Self::Fetch(_)
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
            Self::Fetch(fetch) => wire::FetchRequest {
                channel_id: raw(fetch.channel),
                after_seq: fetch.after_seq,
                bytes_max: fetch.bytes_max,
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
            Method::ServerInfo => parse::<wire::ServerInfoRequest>(body).map(|_| Self::ServerInfo),
            Method::Register => register_from_wire(parse(body)?).map(Self::Register),
            Method::Login => login_from_wire(&parse(body)?).map(Self::Login),
            Method::Refresh => {
                let token = parse::<wire::RefreshRequest>(body)?.refresh_token;
                Token::try_from(token.as_ref()).map(Self::Refresh)
            }
            Method::Logout => parse::<wire::LogoutRequest>(body).map(|_| Self::Logout),
            Method::Lookup => name(parse::<wire::LookupRequest>(body)?.name).map(Self::Lookup),
            Method::DeviceList => account_id(&parse::<wire::DeviceListRequest>(body)?.account_id)
                .map(Self::DeviceList),
            Method::UploadKeyPackages => upload(parse(body)?).map(Self::UploadKeyPackages),
            Method::ClaimKeyPackages => {
                account_id(&parse::<wire::ClaimKeyPackagesRequest>(body)?.account_id)
                    .map(Self::ClaimKeyPackages)
            }
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
            Method::Fetch => fetch(&parse(body)?).map(Self::Fetch),
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

fn name(name: String) -> Result<String, Malformed> {
    // Four bytes hold any character; the service counts characters after normalising.
    if name.len() > limits::NAME_CHARS_MAX.saturating_mul(4) {
        return Err(Malformed("the name is too long"));
    }
    Ok(name)
}

fn signed(bytes: Bytes) -> Result<Bytes, Malformed> {
    if bytes.len() > limits::IDENTITY_BYTES_MAX {
        return Err(Malformed("a signed identity object is too long"));
    }
    Ok(bytes)
}

fn register_to_wire(register: &Register) -> wire::RegisterRequest {
    wire::RegisterRequest {
        name: register.name.clone(),
        account_key: register.account_key.clone(),
        device_list: register.device_list.clone(),
        device_id: raw(register.device),
        proof: raw(register.proof),
        invite: register.invite.clone(),
    }
}

fn register_from_wire(wire: wire::RegisterRequest) -> Result<Register, Malformed> {
    if !wire.invite.is_empty() && wire.invite.len() != limits::INVITE_BYTES {
        return Err(Malformed("the invite has a wrong length"));
    }
    Ok(Register {
        name: name(wire.name)?,
        account_key: signed(wire.account_key)?,
        device_list: signed(wire.device_list)?,
        device: device_id(&wire.device_id)?,
        proof: Signature::try_from(wire.proof.as_ref())?,
        invite: wire.invite,
    })
}

fn login_to_wire(login: &Login) -> wire::LoginRequest {
    wire::LoginRequest {
        account_id: raw(login.device.account),
        device_id: raw(login.device.device),
        proof: raw(login.proof),
    }
}

fn login_from_wire(wire: &wire::LoginRequest) -> Result<Login, Malformed> {
    let device =
        DeviceRef { account: account_id(&wire.account_id)?, device: device_id(&wire.device_id)? };
    Ok(Login { device, proof: Signature::try_from(wire.proof.as_ref())? })
}

fn upload(wire: wire::UploadKeyPackagesRequest) -> Result<UploadKeyPackages, Malformed> {
    let oversized = |kp: &Bytes| kp.len() > limits::KEY_PACKAGE_BYTES_MAX;
    if wire.key_packages.iter().chain(&wire.last_resort).any(oversized) {
        return Err(Malformed("a KeyPackage is too long"));
    }
    Ok(UploadKeyPackages { key_packages: wire.key_packages, last_resort: wire.last_resort })
}

fn create_channel(wire: wire::CreateChannelRequest) -> Result<CreateChannel, Malformed> {
    Ok(CreateChannel {
        channel: channel_id(&wire.channel_id)?,
        kind: ChannelKind::from_wire(wire.kind)?,
        bundle: CommitBundle::from_wire(required(wire.bundle)?)?,
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
