//! Signed statements in a channel's log: what a device says there, or an account's newest device
//! list, for server and members to act on. Never decides whether a statement is allowed or still
//! standing.

use bytes::Bytes;
use qpc_proto::codec::{Reader, Writer};
use qpc_proto::limits::{IDENTITY_BYTES_MAX, KEY_PACKAGE_BYTES_MAX, STATEMENT_BYTES_MAX};
use qpc_proto::message::Identity;
use qpc_proto::{AccountId, ChannelId, Digest, Incarnation, Malformed, Signature};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementBody {
    /// Kind 1: the signer's account leaves the channel.
    Leave,
    /// Kind 2: the signer's device lost its place; any member may take it out and in again by one
    /// Commit that carries this.
    Rejoin(Rejoin),
    /// Kind 3: what the signer's device made of a Commit that others may see otherwise.
    Verdict(Said),
    /// Kind 4: the channel ends here and goes on as another, 16 bytes.
    Reset(ChannelId),
}

/// How a device comes back: incarnation (16), join u64, base u64, reason u8, KeyPackage (u32
/// length). It counts once: while that join is the device's latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejoin {
    /// The server's incarnation that the numbers are of.
    pub incarnation: Incarnation,
    /// The Commit that added the device last.
    pub join_seq: u64,
    /// The last Commit that it applied; 0 if it knows none.
    pub base_commit: u64,
    /// Why.
    pub reason: RejoinReason,
    /// TLS-serialized KeyPackage, for this alone: never uploaded.
    pub key_package: Bytes,
}

/// Why a device can't go on from where it is. The number travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejoinReason {
    /// 1: what it had not read has expired.
    Expired,
    /// 2: its state is an older copy, whose ratchets were used already.
    Copy,
    /// 3: it is on the losing side of a split.
    Branch,
    /// 4: its group state is damaged or gone.
    Damaged,
}

/// A verdict on a Commit: its number u64, SHA-256 of its payload (32), u8 1 for applied, 0 for
/// unjudged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// The Commit's sequence number.
    pub commit_seq: u64,
    /// SHA-256 of its payload.
    pub commit: Digest,
    /// Whether the signer applied it; else it could not judge it.
    pub applied: bool,
}

impl RejoinReason {
    /// The number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Expired => 1,
            Self::Copy => 2,
            Self::Branch => 3,
            Self::Damaged => 4,
        }
    }

    /// The reason of a number.
    ///
    /// # Errors
    /// [`Malformed`] for an unknown one.
    pub fn from_code(code: u8) -> Result<Self, Malformed> {
        match code {
            1 => Ok(Self::Expired),
            2 => Ok(Self::Copy),
            3 => Ok(Self::Branch),
            4 => Ok(Self::Damaged),
            _ => Err(Malformed("unknown reason to rejoin")),
        }
    }
}

impl StatementBody {
    fn write(&self, writer: Writer) -> Writer {
        match self {
            Self::Leave => writer.u8(1),
            Self::Rejoin(rejoin) => writer
                .u8(2)
                .fixed(rejoin.incarnation)
                .u64(rejoin.join_seq)
                .u64(rejoin.base_commit)
                .u8(rejoin.reason.code())
                .var(&rejoin.key_package),
            Self::Verdict(said) => {
                writer.u8(3).u64(said.commit_seq).fixed(said.commit).u8(u8::from(said.applied))
            }
            Self::Reset(successor) => writer.u8(4).fixed(successor),
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            1 => Ok(Self::Leave),
            2 => Ok(Self::Rejoin(Rejoin {
                incarnation: Incarnation(r.array()?),
                join_seq: r.u64()?,
                base_commit: r.u64()?,
                reason: RejoinReason::from_code(r.u8()?)?,
                key_package: Bytes::copy_from_slice(r.var(KEY_PACKAGE_BYTES_MAX)?),
            })),
            3 => Ok(Self::Verdict(Said {
                commit_seq: r.u64()?,
                commit: Digest(r.array()?),
                applied: match r.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed("unknown verdict")),
                },
            })),
            4 => Ok(Self::Reset(ChannelId(r.array()?))),
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
