//! MLS messages made by hand (RFC 9420 sections 6.3, 10 and 12.4.3.1), and a device that signs.

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_credential::{
    AccountKey, Certificate, CertificateBody, DeviceEntry, DeviceList, Statement, StatementBody,
};
use qpc_proto::aad::Aad;
use qpc_proto::message::{DeviceRef, Identity};
use qpc_proto::{ChannelId, DeviceId, Digest, PublicKey, Signature};

/// A device whose keys follow from its account's number and its own.
#[derive(Clone)]
pub(crate) struct Device {
    account: u16,
    number: u16,
    ends_ms: u64,
}

impl Device {
    pub(crate) fn new(account: u8, number: u8) -> Self {
        Self { account: account.into(), number: number.into(), ends_ms: u64::MAX }
    }

    /// The only device of an account; more of them than [`Device::new`] can tell apart.
    pub(crate) fn lone(number: u16) -> Self {
        Self { account: number, number, ends_ms: u64::MAX }
    }

    /// The same under a certificate with an end.
    pub(crate) fn ending(&self, ends_ms: u64) -> Self {
        Self { ends_ms, ..self.clone() }
    }

    fn root(&self) -> SigningKey {
        SigningKey::from_bytes(&seed(self.account, 0))
    }

    fn account_key(&self) -> SigningKey {
        SigningKey::from_bytes(&seed(self.account, 0x80))
    }

    fn key(&self) -> SigningKey {
        SigningKey::from_bytes(&seed(self.number, 0xc0))
    }

    pub(crate) fn id(&self) -> DeviceRef {
        DeviceRef {
            account: qpc_credential::account_id(&public(&self.root())),
            device: DeviceId(seed(self.number, 0)),
        }
    }

    fn entry(&self) -> DeviceEntry {
        DeviceEntry {
            device: self.id().device,
            key: public(&self.key()),
            not_after_ms: self.ends_ms,
        }
    }

    fn account_key_statement(&self) -> Bytes {
        let account_key = AccountKey {
            root: public(&self.root()),
            generation: 1,
            key: public(&self.account_key()),
        };
        account_key.sign(|tbs| sign(&self.root(), tbs))
    }

    fn certificate(&self) -> Bytes {
        let body =
            CertificateBody { list_version: 1, entry: self.entry(), name: "name".to_owned() };
        let statement = self.account_key_statement();
        Certificate::sign(&statement, &body, |tbs| sign(&self.account_key(), tbs))
    }

    /// The statement of a list of the account's devices.
    pub(crate) fn list(&self, version: u64, devices: &[&Self]) -> Bytes {
        let account = self.id().account;
        let mut entries: Vec<_> = devices.iter().map(|device| device.entry()).collect();
        entries.sort_by_key(|entry| entry.device);
        let list = DeviceList {
            account,
            generation: 1,
            version,
            name: "name".to_owned(),
            devices: entries,
        };
        qpc_credential::devices_statement(&Identity {
            account,
            account_key: self.account_key_statement(),
            device_list: list.sign(|tbs| sign(&self.account_key(), tbs)),
        })
    }

    pub(crate) fn leave(&self, channel: ChannelId) -> Bytes {
        self.state(channel, StatementBody::Leave)
    }

    /// A signed statement of this device.
    pub(crate) fn state(&self, channel: ChannelId, body: StatementBody) -> Bytes {
        let statement = Statement {
            channel,
            certificate: Certificate::verify(&self.certificate()).unwrap(),
            issued_at_ms: 1,
            body,
        };
        statement.sign(|tbs| sign(&self.key(), tbs))
    }

    /// A KeyPackage; `seed` makes it one of its own.
    pub(crate) fn key_package(&self, seed: u8, last_resort: bool, now_ms: u64) -> Bytes {
        self.key_package_of(&hpke_key(seed), (seed, last_resort), now_ms)
    }

    /// One whose init key is the encryption key of its leaf, which RFC 9420 section 10.1 forbids.
    pub(crate) fn key_package_of_one_key(&self, seed: u8, now_ms: u64) -> Bytes {
        self.key_package_of(&hpke_key(seed ^ 0xff), (seed, false), now_ms)
    }

    fn key_package_of(
        &self,
        init_key: &[u8],
        (seed, last_resort): (u8, bool),
        now_ms: u64,
    ) -> Bytes {
        let (not_before, not_after) = qpc_credential::lifetime::issued_at(now_ms);
        let lifetime = [not_before.to_be_bytes(), not_after.to_be_bytes()].concat();
        let leaf = [
            v(&hpke_key(seed ^ 0xff)),
            v(&public(&self.key()).0),
            vec![0, 1],
            v(&self.certificate()),
            v(&[0, 1]),
            v(&[0, 1]),
            v(&[0, 10]),
            v(&[]),
            v(&[0, 1]),
            vec![1],
            lifetime,
            v(&[]),
        ]
        .concat();
        let leaf = [leaf.clone(), v(&self.sign_labelled("LeafNodeTBS", &leaf))].concat();
        let extensions: &[u8] = if last_resort { &[0, 10, 0] } else { &[] };
        let package = [vec![0, 1, 0, 1], v(init_key), leaf, v(extensions)].concat();
        let signature = v(&self.sign_labelled("KeyPackageTBS", &package));
        [package, signature].concat().into()
    }

    /// `SignWithLabel` (RFC 9420 section 5.1.2).
    fn sign_labelled(&self, label: &str, content: &[u8]) -> [u8; 64] {
        let label = format!("MLS 1.0 {label}");
        sign(&self.key(), &[v(label.as_bytes()), v(content)].concat()).0
    }
}

/// A key that takes secrets, whatever the seed.
fn hpke_key(seed: u8) -> [u8; 32] {
    let mut key = [seed; 32];
    key[0] = 9;
    key
}

/// Bytes that follow from a number and what they are for.
fn seed<const N: usize>(number: u16, purpose: u8) -> [u8; N] {
    let [high, low] = number.to_be_bytes();
    let mut bytes = [low ^ purpose; N];
    bytes[0] ^= high;
    bytes
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature(key.sign(bytes).to_bytes())
}

/// A variable-size vector (RFC 9420 section 2.1.2).
fn v(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap();
    let prefix = match len {
        0..0x40 => vec![u8::try_from(len).unwrap()],
        0x40..0x4000 => (0x4000 | u16::try_from(len).unwrap()).to_be_bytes().to_vec(),
        _ => (0x8000_0000 | len).to_be_bytes().to_vec(),
    };
    [prefix, bytes.to_vec()].concat()
}

pub(crate) const APPLICATION: u8 = 1;
pub(crate) const PROPOSAL: u8 = 2;
pub(crate) const COMMIT: u8 = 3;

/// A PrivateMessage of some content type.
pub(crate) fn private_message(content_type: u8, aad: &Aad, ciphertext: &[u8]) -> Bytes {
    [
        vec![0, 1, 0, 2],
        v(&[7; 32]),
        vec![0; 8],
        vec![content_type],
        v(&aad.encode()),
        v(&[8; 28]),
        v(ciphertext),
    ]
    .concat()
    .into()
}

/// A Welcome for the holders of some KeyPackages.
pub(crate) fn welcome(key_packages: &[Bytes]) -> Bytes {
    let reference = |kp: &Bytes| qpc_credential::key_package_ref(kp).unwrap();
    let references: Vec<_> = key_packages.iter().map(reference).collect();
    welcome_for(&references)
}

pub(crate) fn welcome_for(references: &[Digest]) -> Bytes {
    welcome_of(references, 100)
}

/// The same with so many bytes of encrypted GroupInfo.
pub(crate) fn welcome_of(references: &[Digest], group_info: usize) -> Bytes {
    let secret = |digest: &Digest| [v(&digest.0), v(&[1; 32]), v(&[2; 48])].concat();
    let secrets: Vec<u8> = references.iter().flat_map(secret).collect();
    [vec![0, 1, 0, 3, 0, 1], v(&secrets), v(&vec![3; group_info])].concat().into()
}
