//! The private keys that a device holds, and the objects they sign.
//!
//! All stay in the encrypted database; nothing here is ever logged.

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_credential::{
    AccountKey, Certificate, CertificateBody, DeviceEntry, DeviceList, account_id,
};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, PublicKey, Signature};
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroizing;

/// How long a device's entry in the list counts, in milliseconds: two years.
const DEVICE_LIFETIME_MS: u64 = 730 * 24 * 3_600_000;

/// A 32-byte Ed25519 secret (RFC 8032).
pub(crate) type Seed = Zeroizing<[u8; 32]>;

/// Keys of a device.
#[derive(Clone)]
pub(crate) struct Keys {
    /// Only until the recovery phrase was shown.
    pub(crate) root: Option<Seed>,
    /// On the primary device alone.
    pub(crate) account: Option<Seed>,
    pub(crate) device: Seed,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(redacted)")
    }
}

/// The signed objects of an account, as this device has them: the newest it knows.
#[derive(Debug, Clone)]
pub(crate) struct NewIdentity {
    pub(crate) device: DeviceRef,
    pub(crate) root: PublicKey,
    pub(crate) account_key: Vec<u8>,
    pub(crate) device_list: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
}

pub(crate) fn public(seed: &Seed) -> PublicKey {
    PublicKey(SigningKey::from_bytes(seed).verifying_key().to_bytes())
}

fn signer(seed: &Seed) -> impl Fn(&[u8]) -> Signature {
    let key = SigningKey::from_bytes(seed);
    move |bytes| Signature(key.sign(bytes).to_bytes())
}

/// The proof of any seed's holder for one connection.
pub(crate) fn prove(
    seed: &Seed,
    binding: &ChannelBinding,
    (device, purpose): (&DeviceRef, Purpose),
) -> Signature {
    signer(seed)(&binding.to_be_signed(device, purpose))
}

/// A device's entry in a list that is signed at `now_ms`.
pub(crate) fn entry(device: DeviceId, key: PublicKey, now_ms: u64) -> DeviceEntry {
    DeviceEntry { device, key, not_after_ms: now_ms.saturating_add(DEVICE_LIFETIME_MS) }
}

pub(crate) fn seed(rng: &mut (impl RngCore + CryptoRng)) -> Seed {
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(seed.as_mut());
    seed
}

/// A number of a list that the account key is to sign, and what goes into it.
pub(crate) struct NextList<'a> {
    pub(crate) name: &'a str,
    pub(crate) generation: u32,
    pub(crate) version: u64,
    pub(crate) devices: Vec<DeviceEntry>,
}

impl Keys {
    /// Fresh keys.
    pub(crate) fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        Self { root: Some(seed(rng)), account: Some(seed(rng)), device: seed(rng) }
    }

    /// Those of a device that another one linked.
    pub(crate) fn linked(device: Seed) -> Self {
        Self { root: None, account: None, device }
    }

    /// Fresh keys of a device that a recovery phrase makes the primary one.
    pub(crate) fn recovered(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        Self { root: None, account: Some(seed(rng)), device: seed(rng) }
    }

    /// The device's signing key.
    pub(crate) fn device_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.device)
    }

    /// Signs the first generation, the first list and this device's certificate; `None` without the
    /// root or the account key.
    pub(crate) fn identity(
        &self,
        name: &str,
        device: DeviceId,
        now_ms: u64,
    ) -> Option<NewIdentity> {
        let devices = vec![entry(device, public(&self.device), now_ms)];
        let first = NextList { name, generation: 1, version: 1, devices };
        self.generation(self.root.as_ref()?, device, first)
    }

    /// Signs a generation by its root, its list, and this device's certificate; `None` without the
    /// account key, or when the list does not hold the device.
    pub(crate) fn generation(
        &self,
        root_seed: &Seed,
        device: DeviceId,
        next: NextList<'_>,
    ) -> Option<NewIdentity> {
        let root = public(root_seed);
        let account = account_id(&root);
        let key = public(self.account.as_ref()?);
        let account_key =
            AccountKey { root, generation: next.generation, key }.sign(signer(root_seed));
        let entry = next.devices.iter().find(|entry| entry.device == device).copied()?;
        let body =
            CertificateBody { list_version: next.version, entry, name: next.name.to_owned() };
        let certificate = self.certify(&account_key, &body)?;
        let device_list = self.sign_list(account, next)?;
        Some(NewIdentity {
            device: DeviceRef { account, device },
            root,
            account_key: account_key.to_vec(),
            device_list: device_list.to_vec(),
            certificate: certificate.to_vec(),
        })
    }

    /// Signs a device list; `None` without the account key.
    pub(crate) fn sign_list(&self, account: AccountId, next: NextList<'_>) -> Option<Bytes> {
        let NextList { name, generation, version, mut devices } = next;
        devices.sort_unstable_by_key(|entry| entry.device);
        let list = DeviceList { account, generation, version, name: name.to_owned(), devices };
        self.account.as_ref().map(|account| list.sign(signer(account)))
    }

    /// Certifies a device; `None` without the account key.
    pub(crate) fn certify(&self, account_key: &[u8], body: &CertificateBody) -> Option<Bytes> {
        let account = self.account.as_ref()?;
        Some(Certificate::sign(account_key, body, signer(account)))
    }

    /// The device's proof for one connection and purpose.
    pub(crate) fn prove(
        &self,
        binding: &ChannelBinding,
        device: &DeviceRef,
        purpose: Purpose,
    ) -> Signature {
        prove(&self.device, binding, (device, purpose))
    }

    /// Signs a statement of this device.
    pub(crate) fn sign_statement(&self) -> impl Fn(&[u8]) -> Signature {
        signer(&self.device)
    }
}
