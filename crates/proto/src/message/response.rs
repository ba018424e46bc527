//! Every response in one enum. Encoding and decoding only.

use bytes::Bytes;
use prost::Message as _;

use super::convert::{account_id, device_id, raw, required};
use super::request::parse;
use super::{
    Accepted, ChannelState, ClaimedKeyPackage, Claims, Devices, EnqueueAnswer, Identity,
    KeyPackageStatus, LoginAnswer, Method, Page, ProofOfWork, RegistrationMode, Relayed,
    ServerInfo, fields,
};
use crate::error::{ErrorBody, Malformed, UNSUPPORTED_VALUE};
use crate::ids::{AccountId, Incarnation, Token};
use crate::{limits, wire};

/// A validated response.
#[derive(Debug, Clone)]
pub enum Response {
    /// To `ServerInfo`.
    ServerInfo(ServerInfo),
    /// To `Register`.
    Registered(AccountId),
    /// To `Login` and `Refresh`.
    Tokens(LoginAnswer),
    /// To `Lookup` and `Recover`.
    Identity(Identity),
    /// To `DeviceList`.
    Devices(Devices),
    /// To `UploadKeyPackages`: single-use packages now there.
    Uploaded(u32),
    /// To `ClaimKeyPackages`.
    Claims(Claims),
    /// To `KeyPackageStatus`.
    KeyPackageStatus(KeyPackageStatus),
    /// To `CreateChannel`, `Commit` and `Statement`.
    Accepted(Accepted),
    /// To `ListChannels`.
    Channels(Vec<ChannelState>),
    /// To `Enqueue`.
    Enqueued(EnqueueAnswer),
    /// To `Fetch` and `FetchWait`, and each item of `Subscribe`.
    Page(Page),
    /// To `LinkRelay`.
    Relayed(Relayed),
    /// To `ExportAccount`: a JSON object.
    Exported(Bytes),
    /// To `DeleteAccount`: when the account is erased, Unix milliseconds.
    DeleteAt(u64),
    /// To `Logout`, `LinkDevice`, `RevokeDevice`, `RenewDevices`, `CancelDeletion`, `Publish` and
    /// `Ack`.
    Done,
}

impl Response {
    /// The protobuf body; which message it is follows from the request.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::ServerInfo(info) => server_info_to_wire(info).encode_to_vec(),
            Self::Registered(id) => wire::RegisterResponse { account_id: raw(id) }.encode_to_vec(),
            Self::Tokens(tokens) => tokens_to_wire(tokens).encode_to_vec(),
            Self::Identity(identity) => {
                wire::LookupResponse { identity: Some(identity.to_wire()) }.encode_to_vec()
            }
            Self::Devices(devices) => wire::DeviceListResponse {
                identity: Some(devices.identity.to_wire()),
                certificate: devices.certificate.clone(),
            }
            .encode_to_vec(),
            Self::Uploaded(available) => {
                wire::UploadKeyPackagesResponse { available: *available }.encode_to_vec()
            }
            Self::Claims(claims) => claims_to_wire(claims).encode_to_vec(),
            Self::KeyPackageStatus(status) => wire::KeyPackageStatusResponse {
                available: status.available,
                has_last_resort: status.has_last_resort,
                last_resort_used: status.last_resort_used,
            }
            .encode_to_vec(),
            Self::Accepted(accepted) => {
                wire::CommitResponse { accepted: Some(accepted.to_wire()) }.encode_to_vec()
            }
            Self::Channels(channels) => wire::ListChannelsResponse {
                channels: channels.iter().map(ChannelState::to_wire).collect(),
            }
            .encode_to_vec(),
            Self::Enqueued(answer) => enqueued_to_wire(answer).encode_to_vec(),
            Self::Page(page) => page.to_wire().encode_to_vec(),
            Self::Relayed(relayed) => wire::LinkRelayResponse {
                sealed: relayed.sealed.clone(),
                expires_at_ms: relayed.expires_at_ms,
            }
            .encode_to_vec(),
            Self::Exported(json) => {
                wire::ExportAccountResponse { json: json.clone() }.encode_to_vec()
            }
            Self::DeleteAt(at) => wire::DeleteAccountResponse { delete_at_ms: *at }.encode_to_vec(),
            Self::Done => wire::AckResponse {}.encode_to_vec(),
        }
        .into()
    }

    /// Parses the body of a reply (or item) to `method`.
    ///
    /// # Errors
    /// [`Malformed`] for anything the contract does not allow.
    pub fn decode(method: Method, body: Bytes) -> Result<Self, Malformed> {
        fields::check(&body, limits::RESPONSE_FIELDS_MAX, entries_path(method))?;
        match method {
            Method::ServerInfo => server_info_from_wire(parse(body)?).map(Self::ServerInfo),
            Method::Register => {
                account_id(&parse::<wire::RegisterResponse>(body)?.account_id).map(Self::Registered)
            }
            Method::Login | Method::Refresh => tokens_from_wire(&parse(body)?).map(Self::Tokens),
            Method::Lookup | Method::Recover => {
                let identity = required(parse::<wire::LookupResponse>(body)?.identity)?;
                Identity::from_wire(identity).map(Self::Identity)
            }
            Method::DeviceList => devices_from_wire(parse(body)?).map(Self::Devices),
            Method::UploadKeyPackages => {
                Ok(Self::Uploaded(parse::<wire::UploadKeyPackagesResponse>(body)?.available))
            }
            Method::ClaimKeyPackages => claims_from_wire(parse(body)?).map(Self::Claims),
            Method::KeyPackageStatus => {
                let wire = parse::<wire::KeyPackageStatusResponse>(body)?;
                Ok(Self::KeyPackageStatus(KeyPackageStatus {
                    available: wire.available,
                    has_last_resort: wire.has_last_resort,
                    last_resort_used: wire.last_resort_used,
                }))
            }
            Method::CreateChannel | Method::Commit | Method::Statement => {
                let accepted = required(parse::<wire::CommitResponse>(body)?.accepted)?;
                Accepted::from_wire(accepted).map(Self::Accepted)
            }
            Method::ListChannels => parse::<wire::ListChannelsResponse>(body)?
                .channels
                .into_iter()
                .map(ChannelState::from_wire)
                .collect::<Result<_, _>>()
                .map(Self::Channels),
            Method::Enqueue => enqueued_from_wire(parse(body)?).map(Self::Enqueued),
            Method::Fetch | Method::FetchWait | Method::Subscribe => {
                Page::from_wire(parse(body)?).map(Self::Page)
            }
            Method::LinkRelay => {
                let wire = parse::<wire::LinkRelayResponse>(body)?;
                Ok(Self::Relayed(Relayed {
                    sealed: wire.sealed,
                    expires_at_ms: wire.expires_at_ms,
                }))
            }
            Method::ExportAccount => {
                Ok(Self::Exported(parse::<wire::ExportAccountResponse>(body)?.json))
            }
            Method::DeleteAccount => {
                Ok(Self::DeleteAt(parse::<wire::DeleteAccountResponse>(body)?.delete_at_ms))
            }
            Method::Logout
            | Method::LinkDevice
            | Method::RevokeDevice
            | Method::RenewDevices
            | Method::CancelDeletion
            | Method::Publish
            | Method::Ack => parse::<wire::AckResponse>(body).map(|_| Self::Done),
        }
    }
}

/// Where a response has a page's entries, whose statements repeat.
fn entries_path(method: Method) -> &'static [u32] {
    let pages = [Method::Fetch, Method::FetchWait, Method::Subscribe];
    if pages.contains(&method) { &[2] } else { &[] }
}

impl RegistrationMode {
    fn to_wire(self) -> i32 {
        match self {
            Self::Invite => wire::RegistrationMode::Invite,
            Self::Open => wire::RegistrationMode::Open,
            Self::Closed => wire::RegistrationMode::Closed,
        }
        .into()
    }

    fn from_wire(mode: i32) -> Result<Self, Malformed> {
        match wire::RegistrationMode::try_from(mode) {
            Ok(wire::RegistrationMode::Invite) => Ok(Self::Invite),
            Ok(wire::RegistrationMode::Open) => Ok(Self::Open),
            Ok(wire::RegistrationMode::Closed) => Ok(Self::Closed),
            Ok(wire::RegistrationMode::Unspecified) | Err(_) => Err(Malformed(UNSUPPORTED_VALUE)),
        }
    }
}

fn server_info_to_wire(info: &ServerInfo) -> wire::ServerInfoResponse {
    let (min, max) = info.versions;
    wire::ServerInfoResponse {
        versions: Some(wire::VersionRange { min: min.into(), max: max.into() }),
        incarnation: raw(info.incarnation),
        now_ms: info.now_ms,
        registration: info.registration.to_wire(),
        payload_bytes_max: info.payload_bytes_max,
        frame_bytes_max: info.frame_bytes_max,
        retention_ms: info.retention_ms,
        proof_of_work: info.proof_of_work.map(ProofOfWork::to_wire),
    }
}

fn server_info_from_wire(wire: wire::ServerInfoResponse) -> Result<ServerInfo, Malformed> {
    let versions = required(wire.versions)?;
    let version = |v: u32| u8::try_from(v).map_err(|_| Malformed("VersionRange"));
    Ok(ServerInfo {
        versions: (version(versions.min)?, version(versions.max)?),
        incarnation: Incarnation::try_from(wire.incarnation.as_ref())?,
        now_ms: wire.now_ms,
        registration: RegistrationMode::from_wire(wire.registration)?,
        payload_bytes_max: wire.payload_bytes_max,
        frame_bytes_max: wire.frame_bytes_max,
        retention_ms: wire.retention_ms,
        proof_of_work: wire.proof_of_work.as_ref().map(ProofOfWork::from_wire).transpose()?,
    })
}

fn devices_from_wire(wire: wire::DeviceListResponse) -> Result<Devices, Malformed> {
    if wire.certificate.len() > limits::IDENTITY_BYTES_MAX {
        return Err(Malformed("a certificate is too long"));
    }
    let identity = Identity::from_wire(required(wire.identity)?)?;
    Ok(Devices { identity, certificate: wire.certificate })
}

fn tokens_to_wire(tokens: &LoginAnswer) -> wire::LoginResponse {
    wire::LoginResponse {
        access_token: raw(tokens.access_token.as_bytes()),
        access_expires_at_ms: tokens.access_expires_at_ms,
        refresh_token: raw(tokens.refresh_token.as_bytes()),
        refresh_expires_at_ms: tokens.refresh_expires_at_ms,
        now_ms: tokens.now_ms,
        incarnation: raw(tokens.incarnation),
    }
}

fn tokens_from_wire(wire: &wire::LoginResponse) -> Result<LoginAnswer, Malformed> {
    Ok(LoginAnswer {
        access_token: Token::try_from(wire.access_token.as_ref())?,
        access_expires_at_ms: wire.access_expires_at_ms,
        refresh_token: Token::try_from(wire.refresh_token.as_ref())?,
        refresh_expires_at_ms: wire.refresh_expires_at_ms,
        now_ms: wire.now_ms,
        incarnation: Incarnation::try_from(wire.incarnation.as_ref())?,
    })
}

fn claims_to_wire(claims: &Claims) -> wire::ClaimKeyPackagesResponse {
    let claimed = claims.claimed.iter().map(|kp| wire::ClaimedKeyPackage {
        device_id: raw(kp.device),
        key_package: kp.key_package.clone(),
        last_resort: kp.last_resort,
    });
    wire::ClaimKeyPackagesResponse {
        claimed: claimed.collect(),
        missing: claims.missing.iter().map(raw).collect(),
        identity: Some(claims.identity.to_wire()),
    }
}

fn claims_from_wire(wire: wire::ClaimKeyPackagesResponse) -> Result<Claims, Malformed> {
    let claimed = wire.claimed.into_iter().map(|kp| {
        Ok(ClaimedKeyPackage {
            device: device_id(&kp.device_id)?,
            key_package: kp.key_package,
            last_resort: kp.last_resort,
        })
    });
    Ok(Claims {
        claimed: claimed.collect::<Result<_, _>>()?,
        missing: wire.missing.iter().map(device_id).collect::<Result<_, _>>()?,
        identity: Identity::from_wire(required(wire.identity)?)?,
    })
}

fn enqueued_to_wire(answer: &EnqueueAnswer) -> wire::EnqueueResponse {
    wire::EnqueueResponse {
        accepted: answer.accepted.iter().copied().map(Accepted::to_wire).collect(),
        refusal: answer.refusal.as_ref().map(|body| wire::Refusal {
            code: u32::from(body.code.as_u16()),
            error: Some(body.to_wire()),
        }),
    }
}

fn enqueued_from_wire(wire: wire::EnqueueResponse) -> Result<EnqueueAnswer, Malformed> {
    let refusal = wire.refusal.map(|refusal| {
        let code = u16::try_from(refusal.code).unwrap_or(u16::MAX);
        ErrorBody::from_wire(code, required(refusal.error)?)
    });
    Ok(EnqueueAnswer {
        accepted: wire.accepted.into_iter().map(Accepted::from_wire).collect::<Result<_, _>>()?,
        refusal: refusal.transpose()?,
    })
}
