//! Signatures that are checked together, many times cheaper than one by one, and the certificates
//! of a whole group, of which nobody gets one before all are checked. Accepts what ZIP 215 does
//! under keys that are not weak: all that a strict check accepts, and a little that only the holder
//! of a private key can make. Never decides what others decide, too, by strict checks.

use std::collections::BTreeMap;

use ed25519_zebra::batch::Verifier;
use qpc_proto::{PublicKey, Signature};
use rand_core::{CryptoRng, RngCore};

use crate::account::AccountKey;
use crate::certificate::{Certificate, ReadCertificate};
use crate::error::CredentialError;
use crate::signature::refuse_weak_bytes;

/// Ed25519 signatures whose check is put off.
///
/// Whether one is accepted does not depend on what else is among them: the point equation is
/// multiplied by the cofactor (RFC 8032 section 5.1.7), alone as in a batch (ZIP 215).
#[derive(Default)]
pub struct Signatures(Verifier);

impl std::fmt::Debug for Signatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signatures(..)")
    }
}

impl Signatures {
    /// Puts off the check of a signature over `message`.
    ///
    /// # Errors
    /// [`CredentialError::Signature`] when the key is weak or not in reduced form: nothing that is
    /// put off would show it.
    pub fn put_off(
        &mut self,
        key: &PublicKey,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), CredentialError> {
        refuse_weak_bytes(key).map_err(|_| CredentialError::Signature)?;
        let signature = ed25519_zebra::Signature::from_bytes(signature.as_bytes());
        self.0.queue(((*key.as_bytes()).into(), signature, message));
        Ok(())
    }

    /// Checks them all. Nobody who signed may foresee `rng`.
    ///
    /// # Errors
    /// [`CredentialError::Signature`] when one of them does not verify: never which.
    pub fn verify(self, rng: &mut (impl RngCore + CryptoRng)) -> Result<(), CredentialError> {
        self.0.verify(rng).map_err(|_| CredentialError::Signature)
    }
}

/// Certificates that were read and are not yet verified. A statement of an account key that several
/// of them hold is checked once.
#[derive(Debug, Default)]
pub struct Certificates {
    signatures: Signatures,
    /// By all their bytes.
    account_keys: BTreeMap<Box<[u8]>, AccountKey>,
    read: Vec<Certificate>,
}

impl Certificates {
    /// None yet; `signatures` are checked with theirs.
    pub fn with(signatures: Signatures) -> Self {
        Self { signatures, ..Self::default() }
    }

    /// Reads one and puts its signatures off. That the device's key is a curve point at all, a
    /// signature by it has to show.
    ///
    /// # Errors
    /// [`CredentialError::Identity`] for what [`Certificate::verify`] refuses for its form or a
    /// weak key.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), CredentialError> {
        let read = ReadCertificate::parse(bytes)?;
        refuse_weak_bytes(&read.body.entry.key)
            .map_err(|_| CredentialError::Identity("certificate: weak key"))?;
        let account_key = match self.account_keys.get(read.statement) {
            Some(known) => *known,
            None => {
                let stated = AccountKey::put_off(read.statement, &mut self.signatures)?;
                self.account_keys.insert(read.statement.into(), stated);
                stated
            }
        };
        self.signatures
            .put_off(&account_key.key, read.tbs, &read.signature)
            .map_err(|_| CredentialError::Identity("certificate: weak key"))?;
        self.read.push(read.under(account_key));
        Ok(())
    }

    /// Checks everything that was put off and gives the certificates out, in the order in which
    /// they came. Nobody who signed may foresee `rng`.
    ///
    /// # Errors
    /// [`CredentialError::Signature`] when one signature does not verify: never which.
    pub fn verify(
        self,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Vec<Certificate>, CredentialError> {
        self.signatures.verify(rng)?;
        Ok(self.read)
    }
}
