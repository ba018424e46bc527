//! What a Delivery Service may read of an MLS message (RFC 9420 sections 6 and 12.4.3.1): the
//! header and authenticated data of a PrivateMessage, the recipients of a Welcome.
//!
//! Parses by itself, because OpenMLS would copy payloads of megabytes to show four fields; tests
//! hold the two readings together. Never decrypts, and never keeps state of a group.

use qpc_proto::aad::Aad;
use qpc_proto::codec::Reader;
use qpc_proto::{Digest, Malformed};

use crate::SUITES;
use crate::error::CredentialError;
use crate::tls::{u16, vector};

/// `ProtocolVersion` mls10.
pub(crate) const MLS10: u16 = 1;
/// `WireFormat` values.
const PRIVATE_MESSAGE: u16 = 2;
const WELCOME: u16 = 3;

/// What a PrivateMessage says that it holds. Standalone proposals have no place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlsContent {
    /// An application message.
    Application,
    /// A Commit.
    Commit,
}

/// The readable part of a PrivateMessage. Members verify it; to a server it is a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MlsHeader {
    /// The MLS group.
    pub group_id: [u8; 32],
    /// The epoch it was sealed in.
    pub epoch: u64,
    /// What it holds.
    pub content: MlsContent,
    /// The authenticated data; it binds a roster change exactly when it is of a Commit.
    pub aad: Aad,
}

/// Reads the header of an `MLSMessage` that holds a PrivateMessage.
///
/// # Errors
/// [`CredentialError::InvalidMlsType`] for any other or malformed message, a proposal, or a group
/// id of other than 32 bytes; [`CredentialError::AadMismatch`] when the authenticated data is
/// malformed or belongs to the other content.
pub fn mls_header(payload: &[u8]) -> Result<MlsHeader, CredentialError> {
    let message = private_message(payload).map_err(|_| CredentialError::InvalidMlsType)?;
    let content = match message.content_type {
        1 => MlsContent::Application,
        3 => MlsContent::Commit,
        _ => return Err(CredentialError::InvalidMlsType),
    };
    let group_id = message.group_id.try_into().map_err(|_| CredentialError::InvalidMlsType)?;
    let aad = Aad::decode(message.authenticated_data).map_err(|_| CredentialError::AadMismatch)?;
    if aad.commit.is_some() != (content == MlsContent::Commit) {
        return Err(CredentialError::AadMismatch);
    }
    Ok(MlsHeader { group_id, epoch: message.epoch, content, aad })
}

/// The KeyPackageRefs (RFC 9420 section 5.2) of the recipients of an `MLSMessage` that holds a
/// Welcome, in its order.
///
/// # Errors
/// [`CredentialError::InvalidMlsType`] for any other or malformed message;
/// [`CredentialError::UnsupportedCiphersuite`] for a suite outside [`SUITES`].
pub fn welcome_references(welcome: &[u8]) -> Result<Vec<Digest>, CredentialError> {
    let (suite, references) =
        welcome_fields(welcome).map_err(|_| CredentialError::InvalidMlsType)?;
    if !SUITES.contains(&suite) {
        return Err(CredentialError::UnsupportedCiphersuite);
    }
    references
        .into_iter()
        .map(|reference| Digest::try_from(reference).map_err(|_| CredentialError::InvalidMlsType))
        .collect()
}

struct PrivateMessage<'a> {
    group_id: &'a [u8],
    epoch: u64,
    content_type: u8,
    authenticated_data: &'a [u8],
}

fn message(bytes: &[u8], wire_format: u16) -> Result<Reader<'_>, Malformed> {
    let mut r = Reader::new(bytes);
    let is = (u16(&mut r)?, u16(&mut r)?) == (MLS10, wire_format);
    is.then_some(r).ok_or(Malformed("other MLS message"))
}

fn private_message(bytes: &[u8]) -> Result<PrivateMessage<'_>, Malformed> {
    let mut r = message(bytes, PRIVATE_MESSAGE)?;
    let message = PrivateMessage {
        group_id: vector(&mut r)?,
        epoch: r.u64()?,
        content_type: r.u8()?,
        authenticated_data: vector(&mut r)?,
    };
    let _encrypted_sender_data = vector(&mut r)?;
    let _ciphertext = vector(&mut r)?;
    r.finish()?;
    Ok(message)
}

fn welcome_fields(bytes: &[u8]) -> Result<(u16, Vec<&[u8]>), Malformed> {
    let mut r = message(bytes, WELCOME)?;
    let suite = u16(&mut r)?;
    let mut secrets = Reader::new(vector(&mut r)?);
    let mut references = Vec::new();
    while secrets.remaining() > 0 {
        references.push(vector(&mut secrets)?);
        let _kem_output = vector(&mut secrets)?;
        let _ciphertext = vector(&mut secrets)?;
    }
    let _encrypted_group_info = vector(&mut r)?;
    r.finish()?;
    Ok((suite, references))
}
