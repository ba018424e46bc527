//! The private keys that a device holds, and the objects they sign.
//!
//! All stay in the encrypted database; nothing here is ever logged.

use ed25519_dalek::{Signer as _, SigningKey};
use qpc_credential::{
    AccountKey, Certificate, CertificateBody, DeviceEntry, DeviceList, account_id,
};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::DeviceRef;
use qpc_proto::{DeviceId, PublicKey, Signature};
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

fn seed(rng: &mut (impl RngCore + CryptoRng)) -> Seed {
    let mut seed = Zeroizing::new([0; 32]);
    rng.fill_bytes(seed.as_mut());
    seed
}

impl Keys {
    /// Fresh keys.
    pub(crate) fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        Self { root: Some(seed(rng)), account: Some(seed(rng)), device: seed(rng) }
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
        let (root_seed, account_seed) = (self.root.as_ref()?, self.account.as_ref()?);
        let root = public(root_seed);
        let account = account_id(&root);
        let account_key =
            AccountKey { root, generation: 1, key: public(account_seed) }.sign(signer(root_seed));
        let entry = DeviceEntry {
            device,
            key: public(&self.device),
            not_after_ms: now_ms.saturating_add(DEVICE_LIFETIME_MS),
        };
        let list = DeviceList {
            account,
            generation: 1,
            version: 1,
            name: name.to_owned(),
            devices: vec![entry],
        };
        let device_list = list.sign(signer(account_seed));
        let body = CertificateBody { list_version: 1, entry, name: name.to_owned() };
        let certificate = Certificate::sign(&account_key, &body, signer(account_seed));
        Some(NewIdentity {
            device: DeviceRef { account, device },
            root,
            account_key: account_key.to_vec(),
            device_list: device_list.to_vec(),
            certificate: certificate.to_vec(),
        })
    }

    /// The device's proof for one connection and purpose.
    pub(crate) fn prove(
        &self,
        binding: &ChannelBinding,
        device: &DeviceRef,
        purpose: Purpose,
    ) -> Signature {
        signer(&self.device)(&binding.to_be_signed(device, purpose))
    }

    /// Signs a statement of this device.
    pub(crate) fn sign_statement(&self) -> impl Fn(&[u8]) -> Signature {
        signer(&self.device)
    }
}
