//! Which KeyPackages a directory takes and an adder uses (RFC 9420 section 10.1, and our policy).
//!
//! Signatures and MLS rules are judged by OpenMLS. Its check of the Lifetime reads the system
//! clock; being its last one, its verdict is left aside and ours with `now_ms` takes its place.
//! OpenMLS' crypto provider also seeds a generator from the system, which verification never uses.

mod outline;

use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{KeyPackageIn, KeyPackageVerifyError, ProtocolVersion};
use openmls_rust_crypto::RustCrypto;
use qpc_proto::chain::sha256;
use qpc_proto::limits::KEY_PACKAGE_BYTES_MAX;
use qpc_proto::message::DeviceRef;
use qpc_proto::{Digest, Malformed};

use crate::certificate::Certificate;
use crate::error::CredentialError;
use crate::hpke_key::takes_secrets;
use crate::lifetime;
use crate::tls::to_vector;
use outline::Outline;

/// A KeyPackage that was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmittedKeyPackage {
    /// The certified device that it adds, and its account.
    pub device: DeviceRef,
    /// Its KeyPackageRef (RFC 9420 section 5.2).
    pub reference: Digest,
    /// Whether it carries the last_resort extension (draft-ietf-mls-extensions).
    pub last_resort: bool,
    /// When it was issued by its maker's clock, Unix milliseconds.
    pub issued_at_ms: u64,
    /// The device's certificate.
    pub certificate: Certificate,
}

/// Judges a TLS-serialized KeyPackage (not wrapped in an `MLSMessage`) at `now_ms`, Unix
/// milliseconds. Whose it must be, and which device list counts, is the caller's to compare.
///
/// # Errors
/// [`CredentialError::UnsupportedCiphersuite`], [`CredentialError::Identity`] (its certificate),
/// [`CredentialError::CredentialMismatch`], [`CredentialError::DeviceExpired`],
/// [`CredentialError::Lifetime`], and [`CredentialError::KeyPackage`] for all else.
pub fn admit_key_package(bytes: &[u8], now_ms: u64) -> Result<AdmittedKeyPackage, CredentialError> {
    if bytes.len() > KEY_PACKAGE_BYTES_MAX {
        return Err(CredentialError::KeyPackage("too long"));
    }
    let outline = Outline::read(bytes)?;
    let issued_at_ms = lifetime::judge(outline.lifetime, outline.last_resort, now_ms)?;
    let certificate = Certificate::verify(outline.identity)?;
    if outline.signature_key != certificate.entry.key.as_bytes() {
        return Err(CredentialError::CredentialMismatch);
    }
    if certificate.entry.not_after_ms <= now_ms {
        return Err(CredentialError::DeviceExpired);
    }
    if !outline.hpke_keys.into_iter().all(takes_secrets) {
        return Err(CredentialError::KeyPackage("a key that takes no secret"));
    }
    validate(bytes)?;
    Ok(AdmittedKeyPackage {
        device: certificate.device(),
        reference: key_package_ref(bytes)?,
        last_resort: outline.last_resort,
        issued_at_ms,
        certificate,
    })
}

/// The KeyPackageRef (RFC 9420 section 5.2) of TLS-serialized bytes, for the suites with SHA-256,
/// which are all of [`crate::SUITES`].
///
/// # Errors
/// [`CredentialError::KeyPackage`] from 2^30 bytes on.
pub fn key_package_ref(bytes: &[u8]) -> Result<Digest, CredentialError> {
    let input = to_vector(b"MLS 1.0 KeyPackage Reference")
        .and_then(|label| to_vector(bytes).map(|value| [label, value].concat()))
        .map_err(invalid)?;
    Ok(sha256(&input))
}

fn invalid(malformed: Malformed) -> CredentialError {
    CredentialError::KeyPackage(malformed.0)
}

/// Signatures of leaf and package, init key against encryption key, extensions: by OpenMLS.
fn validate(bytes: &[u8]) -> Result<(), CredentialError> {
    let package = KeyPackageIn::tls_deserialize_exact(bytes)
        .map_err(|_| CredentialError::KeyPackage("not understood"))?;
    match package.validate(&RustCrypto::default(), ProtocolVersion::Mls10) {
        Ok(_) | Err(KeyPackageVerifyError::LifetimeError(_)) => Ok(()),
        Err(KeyPackageVerifyError::InitKeyEqualsEncryptionKey) => {
            Err(CredentialError::KeyPackage("init key and encryption key are the same"))
        }
        Err(_) => Err(CredentialError::KeyPackage("signature or extension")),
    }
}
