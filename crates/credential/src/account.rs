//! The root's statement of its current account key. Never sees either private key.

use bytes::Bytes;
use qpc_proto::chain::sha256;
use qpc_proto::codec::{Reader, Writer};
use qpc_proto::limits::IDENTITY_BYTES_MAX;
use qpc_proto::{AccountId, Malformed, PublicKey, Signature};

use crate::batch::Signatures;
use crate::error::CredentialError;
use crate::signature::{refuse_weak, seal, split, verify};

const LABEL: &str = "qpc/v1 account key";

/// The account of a root key: the first 16 bytes of SHA-256 over the label "qpc/v1 account id" and
/// the key. Two accounts are compared by root wherever it matters; the id only names one.
pub fn account_id(root: &PublicKey) -> AccountId {
    let hash = sha256(&Writer::with_label("qpc/v1 account id").fixed(root).finish());
    AccountId(hash.short())
}

/// An account key as its root states it.
///
/// Signed bytes: label, root (32), generation u32, key (32), signature by the root (64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountKey {
    /// The root key, kept offline by its owner.
    pub root: PublicKey,
    /// From 1; a higher one supersedes all before it.
    pub generation: u32,
    /// Signs device lists and certificates.
    pub key: PublicKey,
}

impl AccountKey {
    /// The signed statement; `sign` signs with the root key. The fields are taken as they are:
    /// [`Self::verify`] refuses generation 0 and weak keys.
    pub fn sign(&self, sign: impl FnOnce(&[u8]) -> Signature) -> Bytes {
        let tbs = Writer::with_label(LABEL).fixed(self.root).u32(self.generation).fixed(self.key);
        seal(tbs.finish(), sign)
    }

    /// Parses and verifies a signed statement.
    ///
    /// # Errors
    /// [`CredentialError::Identity`] for anything but a statement that its root signed.
    pub fn verify(bytes: &[u8]) -> Result<Self, CredentialError> {
        let (statement, tbs, signature) = Self::parse(bytes)?;
        refuse_weak(&statement.key).map_err(|weak| CredentialError::Identity(weak.0))?;
        verify(&statement.root, tbs, &signature)
            .map_err(|_| CredentialError::Identity("account key: wrong signature"))?;
        Ok(statement)
    }

    /// As [`Self::verify`], but the root's signature is put off, and what is wrong with the key is
    /// left to whoever puts off a signature by it.
    pub(crate) fn put_off(
        bytes: &[u8],
        signatures: &mut Signatures,
    ) -> Result<Self, CredentialError> {
        let (statement, tbs, signature) = Self::parse(bytes)?;
        signatures
            .put_off(&statement.root, tbs, &signature)
            .map_err(|_| CredentialError::Identity("account key: weak key"))?;
        Ok(statement)
    }

    /// What it states, what the root signed, and the signature.
    fn parse(bytes: &[u8]) -> Result<(Self, &[u8], Signature), CredentialError> {
        let invalid = |malformed: Malformed| CredentialError::Identity(malformed.0);
        let (tbs, signature) = split(bytes, IDENTITY_BYTES_MAX).map_err(invalid)?;
        let statement = Self::decode(tbs).map_err(invalid)?;
        Ok((statement, tbs, signature))
    }

    /// The account of the root.
    pub fn account(&self) -> AccountId {
        account_id(&self.root)
    }

    /// Checks the form alone.
    pub(crate) fn decode(tbs: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(tbs);
        r.label(LABEL)?;
        let statement =
            Self { root: PublicKey(r.array()?), generation: r.u32()?, key: PublicKey(r.array()?) };
        r.finish()?;
        if statement.generation == 0 {
            return Err(Malformed("account key: generation 0"));
        }
        Ok(statement)
    }
}
