//! The fields of a KeyPackage that policy needs (RFC 9420 sections 7.2 and 10), without a copy.
//!
//! Accepts nothing that OpenMLS would read otherwise; the cheap refusals fall here, before any
//! signature is checked. Verifies none itself.

use openmls::grease::is_grease_value;
use qpc_proto::Malformed;
use qpc_proto::codec::Reader;

use super::invalid;
use crate::SUITES;
use crate::error::CredentialError;
use crate::mls_message::MLS10;
use crate::tls::{u16, u16_vector, vector};

/// `CredentialType` basic.
const BASIC: u16 = 1;
/// `LeafNodeSource` key_package.
const KEY_PACKAGE: u8 = 1;
/// `ExtensionType` last_resort.
const LAST_RESORT: u16 = 10;

/// What policy judges of a KeyPackage.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    /// The HPKE keys of the package and of its leaf.
    pub(super) hpke_keys: [&'a [u8]; 2],
    /// The leaf's Ed25519 key.
    pub(super) signature_key: &'a [u8],
    /// The content of its BasicCredential.
    pub(super) identity: &'a [u8],
    /// `not_before` and `not_after`, Unix seconds.
    pub(super) lifetime: (u64, u64),
    /// Whether it carries the last_resort extension.
    pub(super) last_resort: bool,
}

impl<'a> Outline<'a> {
    /// Reads a whole KeyPackage.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, CredentialError> {
        let mut r = Reader::new(bytes);
        let suite = allowed_suite(&mut r)?;
        let init_key = vector(&mut r).map_err(invalid)?;
        let encryption_key = vector(&mut r).map_err(invalid)?;
        let signature_key = vector(&mut r).map_err(invalid)?;
        if u16(&mut r).map_err(invalid)? != BASIC {
            return Err(CredentialError::UnsupportedCiphersuite);
        }
        let identity = vector(&mut r).map_err(invalid)?;
        let listed = check_capabilities(&mut r, suite).map_err(invalid)?;
        let (lifetime, last_resort) = read_rest(r, &listed).map_err(invalid)?;
        let hpke_keys = [init_key, encryption_key];
        Ok(Self { hpke_keys, signature_key, identity, lifetime, last_resort })
    }
}

fn allowed_suite(r: &mut Reader<'_>) -> Result<u16, CredentialError> {
    let version = u16(r).map_err(invalid)?;
    let suite = u16(r).map_err(invalid)?;
    (version == MLS10 && SUITES.contains(&suite))
        .then_some(suite)
        .ok_or(CredentialError::UnsupportedCiphersuite)
}

/// A leaf must list what it uses (RFC 9420 section 7.3); nobody could add it otherwise. Returns the
/// extensions that it lists; what else it lists is ignored, GREASE above all.
fn check_capabilities(r: &mut Reader<'_>, suite: u16) -> Result<Vec<u16>, Malformed> {
    let versions = u16_vector(r)?;
    let suites = u16_vector(r)?;
    let extensions = u16_vector(r)?;
    let _proposals = u16_vector(r)?;
    let credentials = u16_vector(r)?;
    (versions.contains(&MLS10) && suites.contains(&suite) && credentials.contains(&BASIC))
        .then_some(extensions)
        .ok_or(Malformed("capabilities without what the leaf uses"))
}

/// From the leaf's source to the end: Lifetime, and whether it is a last resort.
fn read_rest(mut r: Reader<'_>, listed: &[u16]) -> Result<((u64, u64), bool), Malformed> {
    if r.u8()? != KEY_PACKAGE {
        return Err(Malformed("leaf of another source"));
    }
    let lifetime = (r.u64()?, r.u64()?);
    if read_extensions(&mut r, listed)?.contains(&LAST_RESORT) {
        return Err(Malformed("last_resort in a leaf"));
    }
    let _leaf_signature = vector(&mut r)?;
    let last_resort = read_extensions(&mut r, listed)?.contains(&LAST_RESORT);
    let _signature = vector(&mut r)?;
    r.finish()?;
    Ok((lifetime, last_resort))
}

/// The types of an extension list. Those of RFC 9420 itself (1 to 5) are refused: no client of ours
/// sets one here, and an application id would be a mark to follow. Unknown types stay opaque, if
/// the leaf lists them. GREASE stands in that list alone: of an extension OpenMLS takes it for
/// unlisted, so that no member could add the leaf.
fn read_extensions(r: &mut Reader<'_>, listed: &[u16]) -> Result<Vec<u16>, Malformed> {
    let mut list = Reader::new(vector(r)?);
    let mut types = Vec::new();
    while list.remaining() > 0 {
        let extension = u16(&mut list)?;
        let data = vector(&mut list)?;
        let refused = match extension {
            1..=5 => true,
            LAST_RESORT => !data.is_empty() || !listed.contains(&extension),
            _ => is_grease_value(extension) || !listed.contains(&extension),
        };
        if refused || types.contains(&extension) {
            return Err(Malformed("extension that has no place here"));
        }
        types.push(extension);
    }
    Ok(types)
}
