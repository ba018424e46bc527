//! Signatures that the library was told are good before anybody checked them. Whoever listens with
//! this keeps nothing of what the library made, and lets nothing out, until all are checked.

use std::sync::{Mutex, PoisonError};

use openmls_traits::types::{CryptoError, SignatureScheme};
use qpc_credential::Signatures;
use qpc_proto::{PublicKey, Signature};

use super::listening::Ear;

/// Listens to one join.
#[derive(Default)]
pub(crate) struct PutOff(Mutex<Signatures>);

impl PutOff {
    /// What is still to be checked.
    pub(crate) fn signatures(self) -> Signatures {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear for PutOff {
    fn takes_over(
        &self,
        alg: SignatureScheme,
        data: &[u8],
        (key, signature): (&[u8], &[u8]),
    ) -> Option<Result<(), CryptoError>> {
        if alg != SignatureScheme::ED25519 {
            return None;
        }
        // Of another length: the real one has an error for it.
        let (key, signature) =
            (PublicKey::try_from(key).ok()?, Signature::try_from(signature).ok()?);
        let mut signatures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let put_off = signatures.put_off(&key, data, &signature);
        Some(put_off.map_err(|_| CryptoError::InvalidSignature))
    }
}
