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

/// The y of the points of small order (`EIGHT_TORSION` of curve25519-dalek), little-endian.
const SMALL_ORDER: [&[u8; 32]; 5] = [
    &[0; 32],
    b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\
      \xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
    b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\
      \x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
    LARGEST_Y,
];

/// p - 1, which is -1: above it no y is reduced.
const LARGEST_Y: &[u8; 32] = b"\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
    \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f";

/// Refuses the bytes of a weak key, and all whose y is not reduced: no key that was made from a
/// seed has such. Unlike [`refuse_weak`] it computes no point, and passes what is none.
pub(crate) fn refuse_weak_bytes(key: &PublicKey) -> Result<(), Malformed> {
    let mut y = *key.as_bytes();
    // The sign of x.
    y[31] &= 0x7f;
    let unreduced = y.iter().rev().gt(LARGEST_Y.iter().rev());
    match unreduced || SMALL_ORDER.contains(&&y) {
        true => Err(Malformed("weak key")),
        false => Ok(()),
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
