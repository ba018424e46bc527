//! Signed statements in a channel's log: what a device says there, or an account's newest device
//! list, for server and members to act on. Never decides whether a statement is allowed or still
//! standing.

use bytes::Bytes;
use qpc_proto::codec::{Reader, Writer};
use qpc_proto::limits::{IDENTITY_BYTES_MAX, STATEMENT_BYTES_MAX};
use qpc_proto::message::Identity;
use qpc_proto::{AccountId, ChannelId, Malformed, Signature};

use crate::certificate::Certificate;
use crate::error::CredentialError;
use crate::identity::PublicIdentity;
use crate::signature::{seal, split, verify};

const LABEL: &str = "qpc/v1 statement";
const DEVICES_LABEL: &str = "qpc/v1 devices statement";

/// Anything that may stand in a log as a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// What a member's device says in this channel.
    Said(Statement),
    /// An account's device list, of use in every channel: devices that it took off are to be
    /// removed ([`crate::DeviceList::revokes`]).
    Devices(PublicIdentity),
}

impl Posted {
    /// Parses and verifies either kind; what a device says must be for this channel.
    ///
    /// # Errors
    /// [`CredentialError::Statement`] for anything else.
    pub fn verify(bytes: &[u8], channel: &ChannelId) -> Result<Self, CredentialError> {
        match Self::verify_signed(bytes)? {
            Self::Said(said) if said.channel != *channel => {
                Err(CredentialError::Statement("for another channel"))
            }
            posted @ (Self::Said(_) | Self::Devices(_)) => Ok(posted),
        }
    }

    /// Parses and verifies either kind, whatever channel it is for: the caller compares that.
    ///
    /// # Errors
    /// [`CredentialError::Statement`] for anything else.
    pub fn verify_signed(bytes: &[u8]) -> Result<Self, CredentialError> {
        match Reader::new(bytes).label(DEVICES_LABEL) {
            Ok(()) => devices(bytes).map(Self::Devices),
            Err(_) => Statement::verify(bytes).map(Self::Said),
        }
    }
}

/// The statement of an account's device list: label, account id (16), account key statement (u32
/// length), device list (u32 length). Both objects are signed; the whole needs no signature.
pub fn devices_statement(identity: &Identity) -> Bytes {
    Writer::with_label(DEVICES_LABEL)
        .fixed(identity.account)
        .var(&identity.account_key)
        .var(&identity.device_list)
        .finish()
        .into()
}

fn devices(bytes: &[u8]) -> Result<PublicIdentity, CredentialError> {
    let invalid = |malformed: Malformed| CredentialError::Statement(malformed.0);
    let mut r = Reader::new(bytes);
    let read = |r: &mut Reader<'_>| -> Result<Identity, Malformed> {
        r.label(DEVICES_LABEL)?;
        Ok(Identity {
            account: AccountId(r.array()?),
            account_key: Bytes::copy_from_slice(r.var(IDENTITY_BYTES_MAX)?),
            device_list: Bytes::copy_from_slice(r.var(IDENTITY_BYTES_MAX)?),
        })
    };
    let identity = read(&mut r).map_err(invalid)?;
    r.finish().map_err(invalid)?;
    PublicIdentity::verify(&identity)
        .map_err(|_| CredentialError::Statement("the device list does not verify"))
}

/// What a statement says. Its encoding begins with a kind byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementBody {
    /// Kind 1: the signer's account leaves the channel.
    Leave,
}

impl StatementBody {
    fn write(self, writer: Writer) -> Writer {
        match self {
            Self::Leave => writer.u8(1),
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            1 => Ok(Self::Leave),
            _ => Err(Malformed("unknown kind of statement")),
        }
    }
}

/// A statement of a device.
///
/// Signed bytes: label, channel (16), issue time u64, the signer's certificate (u32 length), kind
/// u8 and what the kind adds, signature by the certified device key (64).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The channel it is for; it says nothing anywhere else.
    pub channel: ChannelId,
    /// The signer.
    pub certificate: Certificate,
    /// The signer's clock, Unix milliseconds.
    pub issued_at_ms: u64,
    /// What it says.
    pub body: StatementBody,
}

impl Statement {
    /// The signed statement; `sign` signs with the device key of `self.certificate`.
    pub fn sign(&self, sign: impl FnOnce(&[u8]) -> Signature) -> Bytes {
        let head = Writer::with_label(LABEL)
            .fixed(self.channel)
            .u64(self.issued_at_ms)
            .var(self.certificate.as_bytes());
        seal(self.body.write(head).finish(), sign)
    }

    /// Parses and verifies a signed statement and its signer's certificate.
    ///
    /// # Errors
    /// [`CredentialError::Statement`] for anything else, a wrong certificate included.
    pub fn verify(bytes: &[u8]) -> Result<Self, CredentialError> {
        let invalid = |malformed: Malformed| CredentialError::Statement(malformed.0);
        let (tbs, signature) = split(bytes, STATEMENT_BYTES_MAX).map_err(invalid)?;
        let mut r = Reader::new(tbs);
        let (channel, issued_at_ms, certificate, body) = read(&mut r).map_err(invalid)?;
        r.finish().map_err(invalid)?;
        let certificate = Certificate::verify(certificate)
            .map_err(|_| CredentialError::Statement("the signer's certificate"))?;
        verify(&certificate.entry.key, tbs, &signature)
            .map_err(|_| CredentialError::Statement("wrong signature"))?;
        Ok(Self { channel, certificate, issued_at_ms, body })
    }
}

type Fields<'a> = (ChannelId, u64, &'a [u8], StatementBody);

fn read<'a>(r: &mut Reader<'a>) -> Result<Fields<'a>, Malformed> {
    r.label(LABEL)?;
    Ok((ChannelId(r.array()?), r.u64()?, r.var(IDENTITY_BYTES_MAX)?, StatementBody::read(r)?))
}
