//! A device's certificate: the content of its MLS BasicCredential (RFC 9420 section 5.3). Says who
//! vouched for a device once; whether that still counts, the newest device list says.

use bytes::Bytes;
use qpc_proto::codec::{Reader, Writer};
use qpc_proto::limits::IDENTITY_BYTES_MAX;
use qpc_proto::message::DeviceRef;
use qpc_proto::{Malformed, Signature};

use crate::account::AccountKey;
use crate::device_list::{DeviceEntry, read_name, read_version};
use crate::error::CredentialError;
use crate::signature::{seal, split, verify};

const LABEL: &str = "qpc/v1 device certificate";

/// What an account key certifies of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateBody {
    /// Version of the device list that holds the entry.
    pub list_version: u64,
    /// The device.
    pub entry: DeviceEntry,
    /// The account's name: 1 to 128 bytes, no control characters.
    pub name: String,
}

/// A verified certificate: from [`Certificate::verify`], or read back from where only verified ones
/// are kept.
///
/// Signed bytes: label, account key statement (u32 length), list version u64, entry (56), name (u32
/// length, UTF-8), signature by the account key (64).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The account key, as its root states it.
    pub account_key: AccountKey,
    /// Version of the device list that held the entry.
    pub list_version: u64,
    /// The device.
    pub entry: DeviceEntry,
    /// The account's name when it was signed.
    pub name: String,
    bytes: Bytes,
}

impl Certificate {
    /// The signed certificate; `sign` signs with the account key that `account_key_statement` (from
    /// [`AccountKey::sign`]) names. [`Self::verify`] refuses what breaks the rules of the fields.
    pub fn sign(
        account_key_statement: &[u8],
        body: &CertificateBody,
        sign: impl FnOnce(&[u8]) -> Signature,
    ) -> Bytes {
        let head = Writer::with_label(LABEL).var(account_key_statement).u64(body.list_version);
        seal(body.entry.write(head).var(&body.name).finish(), sign)
    }

    /// Parses and verifies: the root signed the account key, the account key signed the device.
    ///
    /// # Errors
    /// [`CredentialError::Identity`] for anything else.
    pub fn verify(bytes: &[u8]) -> Result<Self, CredentialError> {
        let read = ReadCertificate::parse(bytes)?;
        read.body.entry.refuse_weak().map_err(|weak| CredentialError::Identity(weak.0))?;
        let account_key = AccountKey::verify(read.statement)?;
        verify(&account_key.key, read.tbs, &read.signature)
            .map_err(|_| CredentialError::Identity("certificate: wrong signature"))?;
        Ok(read.under(account_key))
    }

    /// Reads a certificate that was verified when it came in, as those of a group's leaves are.
    /// Checks its form and no signature: never for bytes from a peer.
    ///
    /// # Errors
    /// [`CredentialError::Identity`] when the bytes are damaged.
    pub fn read_verified(bytes: &[u8]) -> Result<Self, CredentialError> {
        let invalid = |malformed: Malformed| CredentialError::Identity(malformed.0);
        let (tbs, _) = split(bytes, IDENTITY_BYTES_MAX).map_err(invalid)?;
        let (statement, body) = decode(tbs).map_err(invalid)?;
        let (statement, _) = split(statement, IDENTITY_BYTES_MAX).map_err(invalid)?;
        Ok(Self {
            account_key: AccountKey::decode(statement).map_err(invalid)?,
            list_version: body.list_version,
            entry: body.entry,
            name: body.name,
            bytes: Bytes::copy_from_slice(bytes),
        })
    }

    /// The signed bytes, as they were verified.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Generation and version of the device list that this was certified with.
    pub fn list_number(&self) -> (u32, u64) {
        (self.account_key.generation, self.list_version)
    }

    /// The certified device and its account.
    pub fn device(&self) -> DeviceRef {
        DeviceRef { account: self.account_key.account(), device: self.entry.device }
    }
}

/// A certificate of which nothing but the form was checked.
pub(crate) struct ReadCertificate<'a> {
    bytes: &'a [u8],
    /// What the account key signed.
    pub(crate) tbs: &'a [u8],
    pub(crate) signature: Signature,
    /// The signed statement of the account key.
    pub(crate) statement: &'a [u8],
    pub(crate) body: CertificateBody,
}

impl<'a> ReadCertificate<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, CredentialError> {
        let invalid = |malformed: Malformed| CredentialError::Identity(malformed.0);
        let (tbs, signature) = split(bytes, IDENTITY_BYTES_MAX).map_err(invalid)?;
        let (statement, body) = decode(tbs).map_err(invalid)?;
        Ok(Self { bytes, tbs, signature, statement, body })
    }

    /// The certificate, once its signatures are checked or where nobody gets it before.
    pub(crate) fn under(self, account_key: AccountKey) -> Certificate {
        Certificate {
            account_key,
            list_version: self.body.list_version,
            entry: self.body.entry,
            name: self.body.name,
            bytes: Bytes::copy_from_slice(self.bytes),
        }
    }
}

fn decode(tbs: &[u8]) -> Result<(&[u8], CertificateBody), Malformed> {
    let mut r = Reader::new(tbs);
    r.label(LABEL)?;
    let statement = r.var(IDENTITY_BYTES_MAX)?;
    let body = CertificateBody {
        list_version: read_version(&mut r)?,
        entry: DeviceEntry::read(&mut r)?,
        name: read_name(&mut r)?,
    };
    r.finish()?;
    Ok((statement, body))
}
