//! Bodies of requests to the Authentication Service. Encoding and decoding only.

use bytes::Bytes;
use prost::Message as _;

use super::convert::{account_id, device_id, raw};
use super::request::parse;
use super::{
    DeviceRef, LinkDevice, LinkRelay, LinkSide, Login, Method, ProofOfWork, Recover,
    RecoverPublish, Register, RenewDevices, Request,
};
use crate::error::{Malformed, UNSUPPORTED_VALUE};
use crate::ids::{Digest, PublicKey, Signature, Token};
use crate::{limits, wire};

/// The body of a request to the Authentication Service; empty for others.
pub(super) fn encode(request: &Request) -> Vec<u8> {
    match request {
        Request::Register(register) => register_to_wire(register).encode_to_vec(),
        Request::Login(login) => login_to_wire(login).encode_to_vec(),
        Request::Refresh(token) => {
            wire::RefreshRequest { refresh_token: raw(token.as_bytes()) }.encode_to_vec()
        }
        Request::Lookup(name) => wire::LookupRequest { name: name.clone() }.encode_to_vec(),
        Request::DeviceList(id) => wire::DeviceListRequest { account_id: raw(id) }.encode_to_vec(),
        Request::LinkRelay(relay) => relay_to_wire(relay).encode_to_vec(),
        Request::LinkDevice(link) => wire::LinkDeviceRequest {
            device_list: link.device_list.clone(),
            rendezvous: raw(link.rendezvous),
            answer: link.answer.clone(),
        }
        .encode_to_vec(),
        Request::RevokeDevice(list) => {
            wire::RevokeDeviceRequest { device_list: list.clone() }.encode_to_vec()
        }
        Request::RenewDevices(renew) => wire::RenewDevicesRequest {
            device_list: renew.device_list.clone(),
            certificates: renew.certificates.clone(),
        }
        .encode_to_vec(),
        Request::Recover(recover) => recover_to_wire(recover).encode_to_vec(),
        Request::DeleteAccount(list) => {
            wire::DeleteAccountRequest { device_list: list.clone() }.encode_to_vec()
        }
        // These say all by their method; others are not of this service.
        Request::ServerInfo
        | Request::Logout
        | Request::ExportAccount
        | Request::CancelDeletion
        | Request::UploadKeyPackages(_)
        | Request::ClaimKeyPackages(_)
        | Request::KeyPackageStatus
        | Request::CreateChannel(_)
        | Request::ListChannels
        | Request::Enqueue(_)
        | Request::Commit(_)
        | Request::Statement(_)
        | Request::Publish(_)
        | Request::Fetch(_)
        | Request::FetchWait(_)
        | Request::Subscribe(_)
        | Request::Ack(_) => Vec::new(),
    }
}

/// Parses the body of a request to the Authentication Service.
///
/// # Errors
/// [`Malformed`] for anything that the contract does not allow, and for another service's method.
pub(super) fn decode(method: Method, body: Bytes) -> Result<Request, Malformed> {
    match method {
        Method::ServerInfo => parse::<wire::ServerInfoRequest>(body).map(|_| Request::ServerInfo),
        Method::Register => register_from_wire(parse(body)?).map(Request::Register),
        Method::Login => login_from_wire(&parse(body)?).map(Request::Login),
        Method::Refresh => {
            let token = parse::<wire::RefreshRequest>(body)?.refresh_token;
            Token::try_from(token.as_ref()).map(Request::Refresh)
        }
        Method::Logout => parse::<wire::LogoutRequest>(body).map(|_| Request::Logout),
        Method::Lookup => name(parse::<wire::LookupRequest>(body)?.name).map(Request::Lookup),
        Method::DeviceList => {
            account_id(&parse::<wire::DeviceListRequest>(body)?.account_id).map(Request::DeviceList)
        }
        Method::LinkRelay => relay_from_wire(parse(body)?).map(Request::LinkRelay),
        Method::LinkDevice => link_from_wire(parse(body)?).map(Request::LinkDevice),
        Method::RevokeDevice => {
            signed(parse::<wire::RevokeDeviceRequest>(body)?.device_list).map(Request::RevokeDevice)
        }
        Method::RenewDevices => renew_from_wire(parse(body)?).map(Request::RenewDevices),
        Method::Recover => recover_from_wire(parse(body)?).map(Request::Recover),
        Method::ExportAccount => {
            parse::<wire::ExportAccountRequest>(body).map(|_| Request::ExportAccount)
        }
        Method::DeleteAccount => signed(parse::<wire::DeleteAccountRequest>(body)?.device_list)
            .map(Request::DeleteAccount),
        Method::CancelDeletion => {
            parse::<wire::CancelDeletionRequest>(body).map(|_| Request::CancelDeletion)
        }
        Method::UploadKeyPackages
        | Method::ClaimKeyPackages
        | Method::KeyPackageStatus
        | Method::CreateChannel
        | Method::ListChannels
        | Method::Enqueue
        | Method::Commit
        | Method::Statement
        | Method::Publish
        | Method::Fetch
        | Method::FetchWait
        | Method::Subscribe
        | Method::Ack => Err(Malformed("a method of another service")),
    }
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
        proof_of_work: register.proof_of_work.map(raw).unwrap_or_default(),
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
        proof_of_work: nonce(&wire.proof_of_work)?,
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

fn nonce(bytes: &Bytes) -> Result<Option<[u8; 8]>, Malformed> {
    match bytes.as_ref() {
        [] => Ok(None),
        bytes => bytes.try_into().map(Some).map_err(|_| Malformed("a nonce has 8 bytes")),
    }
}

fn relay_to_wire(relay: &LinkRelay) -> wire::LinkRelayRequest {
    wire::LinkRelayRequest {
        rendezvous: raw(relay.rendezvous),
        side: match relay.side {
            LinkSide::New => wire::LinkSide::New,
            LinkSide::Old => wire::LinkSide::Old,
        }
        .into(),
        offer: relay.offer.clone(),
    }
}

fn relay_from_wire(wire: wire::LinkRelayRequest) -> Result<LinkRelay, Malformed> {
    let side = match wire::LinkSide::try_from(wire.side) {
        Ok(wire::LinkSide::New) => LinkSide::New,
        Ok(wire::LinkSide::Old) => LinkSide::Old,
        Ok(wire::LinkSide::Unspecified) | Err(_) => return Err(Malformed(UNSUPPORTED_VALUE)),
    };
    let offers = !wire.offer.is_empty();
    if wire.offer.len() > limits::LINK_OFFER_BYTES_MAX || (offers && side == LinkSide::Old) {
        return Err(Malformed("only a new device makes an offer, of at most 1,024 bytes"));
    }
    let rendezvous = Digest::try_from(wire.rendezvous.as_ref())?;
    Ok(LinkRelay { rendezvous, side, offer: wire.offer })
}

fn link_from_wire(wire: wire::LinkDeviceRequest) -> Result<LinkDevice, Malformed> {
    if wire.answer.is_empty() || wire.answer.len() > limits::LINK_ANSWER_BYTES_MAX {
        return Err(Malformed("the answer has 1 to 8,192 bytes"));
    }
    Ok(LinkDevice {
        device_list: signed(wire.device_list)?,
        rendezvous: Digest::try_from(wire.rendezvous.as_ref())?,
        answer: wire.answer,
    })
}

fn renew_from_wire(wire: wire::RenewDevicesRequest) -> Result<RenewDevices, Malformed> {
    if !(1..=limits::DEVICES_PER_ACCOUNT_MAX).contains(&wire.certificates.len()) {
        return Err(Malformed("a renewal has 1 to 10 certificates"));
    }
    Ok(RenewDevices {
        device_list: signed(wire.device_list)?,
        certificates: wire.certificates.into_iter().map(signed).collect::<Result<_, _>>()?,
    })
}

fn recover_to_wire(recover: &Recover) -> wire::RecoverRequest {
    let mut wire = wire::RecoverRequest {
        root: raw(recover.root),
        device_id: raw(recover.device),
        root_proof: raw(recover.root_proof),
        ..wire::RecoverRequest::default()
    };
    if let Some(publish) = &recover.publish {
        wire.account_key = publish.account_key.clone();
        wire.device_list = publish.device_list.clone();
        wire.proof = raw(publish.proof);
    }
    wire
}

fn recover_from_wire(wire: wire::RecoverRequest) -> Result<Recover, Malformed> {
    let asks = wire.account_key.is_empty() && wire.device_list.is_empty() && wire.proof.is_empty();
    let publish = match asks {
        true => None,
        false => Some(RecoverPublish {
            account_key: signed(wire.account_key)?,
            device_list: signed(wire.device_list)?,
            proof: Signature::try_from(wire.proof.as_ref())?,
        }),
    };
    Ok(Recover {
        root: PublicKey::try_from(wire.root.as_ref())?,
        device: device_id(&wire.device_id)?,
        root_proof: Signature::try_from(wire.root_proof.as_ref())?,
        publish,
    })
}

impl ProofOfWork {
    pub(crate) fn to_wire(self) -> wire::ProofOfWork {
        wire::ProofOfWork { seed: raw(self.seed), bits: self.bits.into() }
    }

    /// More bits than any server may ask for are refused: the client would never end.
    pub(crate) fn from_wire(wire: &wire::ProofOfWork) -> Result<Self, Malformed> {
        let bits = u8::try_from(wire.bits).ok().filter(|b| *b <= limits::PROOF_OF_WORK_BITS_MAX);
        Ok(Self {
            seed: wire.seed.as_ref().try_into().map_err(|_| Malformed("a seed has 32 bytes"))?,
            bits: bits.ok_or(Malformed("a proof of work asks for too much"))?,
        })
    }
}
