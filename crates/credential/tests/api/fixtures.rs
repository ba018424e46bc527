//! Keys from seeds, an account with one device, and the KeyPackages it makes.

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use openmls::prelude::{tls_codec::Serialize as _, *};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::signatures::{Signer, SignerError};
use qpc_credential::{AccountKey, CertificateBody, DeviceEntry, DeviceList, lifetime};
use qpc_proto::message::{DeviceRef, Identity};
use qpc_proto::{AccountId, DeviceId, PublicKey, Signature};

/// In 2001: far from the system clock, which must never decide.
pub(crate) const NOW_MS: u64 = 1_000_000_000_000;
pub(crate) const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

pub(crate) struct Key(SigningKey);

impl Key {
    pub(crate) fn of(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub(crate) fn sign(&self, tbs: &[u8]) -> Signature {
        Signature(self.0.sign(tbs).to_bytes())
    }
}

impl Signer for Key {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// An account with one device.
pub(crate) struct Account {
    pub(crate) root: Key,
    pub(crate) primary: Key,
    pub(crate) device_key: Key,
    pub(crate) entry: DeviceEntry,
}

impl Account {
    /// Seeds `first` to `first + 2` are root, account key and device key.
    pub(crate) fn of(first: u8) -> Self {
        let device_key = Key::of(first + 2);
        Self {
            root: Key::of(first),
            primary: Key::of(first + 1),
            entry: DeviceEntry {
                device: DeviceId([first; 16]),
                key: device_key.public(),
                not_after_ms: NOW_MS + 1,
            },
            device_key,
        }
    }

    pub(crate) fn account_key(&self) -> AccountKey {
        AccountKey { root: self.root.public(), generation: 1, key: self.primary.public() }
    }

    pub(crate) fn id(&self) -> AccountId {
        self.account_key().account()
    }

    pub(crate) fn device(&self) -> DeviceRef {
        DeviceRef { account: self.id(), device: self.entry.device }
    }

    pub(crate) fn statement(&self) -> Bytes {
        self.account_key().sign(|tbs| self.root.sign(tbs))
    }

    pub(crate) fn list(&self) -> DeviceList {
        DeviceList {
            account: self.id(),
            generation: 1,
            version: 1,
            name: "ada".to_owned(),
            devices: vec![self.entry],
        }
    }

    pub(crate) fn signed_list(&self, list: &DeviceList) -> Bytes {
        list.sign(|tbs| self.primary.sign(tbs))
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            account: self.id(),
            account_key: self.statement(),
            device_list: self.signed_list(&self.list()),
        }
    }

    pub(crate) fn body(&self) -> CertificateBody {
        CertificateBody { list_version: 1, entry: self.entry, name: "ada".to_owned() }
    }

    pub(crate) fn certificate(&self) -> Bytes {
        qpc_credential::Certificate::sign(&self.statement(), &self.body(), |tbs| {
            self.primary.sign(tbs)
        })
    }

    pub(crate) fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.certificate().to_vec()).into(),
            signature_key: self.entry.key.as_bytes().as_slice().into(),
        }
    }

    /// A KeyPackage issued at [`NOW_MS`].
    pub(crate) fn key_package(&self) -> Vec<u8> {
        self.build(package_at(NOW_MS), self.credential())
    }

    pub(crate) fn build(
        &self,
        builder: KeyPackageBuilder,
        credential: CredentialWithKey,
    ) -> Vec<u8> {
        build(builder, SUITE, &self.device_key, credential)
    }
}

/// A builder with the Lifetime of policy.
pub(crate) fn package_at(now_ms: u64) -> KeyPackageBuilder {
    let (not_before, not_after) = lifetime::issued_at(now_ms);
    KeyPackage::builder().key_package_lifetime(Lifetime::init(not_before, not_after))
}

pub(crate) fn build(
    builder: KeyPackageBuilder,
    suite: Ciphersuite,
    signer: &Key,
    credential: CredentialWithKey,
) -> Vec<u8> {
    let provider = OpenMlsRustCrypto::default();
    let bundle = builder.build(suite, &provider, signer, credential).unwrap();
    bundle.key_package().tls_serialize_detached().unwrap()
}

/// The bytes with one bit of one byte flipped.
pub(crate) fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut other = bytes.to_vec();
    other[at] ^= 1 << (at % 8);
    other
}
