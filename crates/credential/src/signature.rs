//! Ed25519 verification (RFC 8032), strict: no weak key, no small-order point. Never signs.

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::DeviceRef;
use qpc_proto::{Malformed, PublicKey, Signature};

use crate::error::CredentialError;

/// Checks a signature over `message`.
///
/// # Errors
/// [`CredentialError::Signature`] when it does not verify, or the key is weak or no curve point.
pub fn verify(
    key: &PublicKey,
    message: &[u8],
    signature: &Signature,
) -> Result<(), CredentialError> {
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    VerifyingKey::from_bytes(key.as_bytes())
        .and_then(|key| key.verify_strict(message, &signature))
        .map_err(|_| CredentialError::Signature)
}

/// Checks a device's proof over this connection's channel binding.
///
/// # Errors
/// [`CredentialError::Proof`] when it does not verify for exactly this connection, device and
/// purpose.
pub fn verify_binding(
    key: &PublicKey,
    binding: &ChannelBinding,
    (device, purpose): (&DeviceRef, Purpose),
    proof: &Signature,
) -> Result<(), CredentialError> {
    verify(key, &binding.to_be_signed(device, purpose), proof).map_err(|_| CredentialError::Proof)
}

/// Refuses a key under which signatures prove nothing.
pub(crate) fn refuse_weak(key: &PublicKey) -> Result<(), Malformed> {
    match VerifyingKey::from_bytes(key.as_bytes()) {
        Ok(key) if !key.is_weak() => Ok(()),
        Ok(_) | Err(_) => Err(Malformed("weak key")),
    }
}

/// Appends the signature over `tbs` to it.
pub(crate) fn seal(mut tbs: Vec<u8>, sign: impl FnOnce(&[u8]) -> Signature) -> Bytes {
    let signature = sign(&tbs);
    tbs.extend_from_slice(signature.as_bytes());
    tbs.into()
}

/// Splits a signed object of at most `max` bytes into what was signed and the signature.
pub(crate) fn split(bytes: &[u8], max: usize) -> Result<(&[u8], Signature), Malformed> {
    if bytes.len() > max {
        return Err(Malformed("too long"));
    }
    let tbs = bytes.len().checked_sub(Signature::LEN);
    let (tbs, signature) =
        tbs.and_then(|at| bytes.split_at_checked(at)).ok_or(Malformed("too short"))?;
    Ok((tbs, Signature::try_from(signature)?))
}
