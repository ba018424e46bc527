//! The private keys of an account's first device, and the objects they sign.
//!
//! Root and account seed stay in the encrypted database; nothing here is ever logged or shown.

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

/// Keys of the primary device.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) root: Seed,
    pub(crate) account: Seed,
    pub(crate) device: Seed,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(redacted)")
    }
}

/// The signed objects of a new account.
#[derive(Debug, Clone)]
pub(crate) struct NewIdentity {
    pub(crate) device: DeviceRef,
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
        Self { root: seed(rng), account: seed(rng), device: seed(rng) }
    }

    /// The device's signing key.
    pub(crate) fn device_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.device)
    }

    /// Signs the first generation, the first list and this device's certificate.
    pub(crate) fn identity(&self, name: &str, device: DeviceId, now_ms: u64) -> NewIdentity {
        let root = public(&self.root);
        let account = account_id(&root);
        let account_key =
            AccountKey { root, generation: 1, key: public(&self.account) }.sign(signer(&self.root));
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
        let device_list = list.sign(signer(&self.account));
        let body = CertificateBody { list_version: 1, entry, name: name.to_owned() };
        let certificate = Certificate::sign(&account_key, &body, signer(&self.account));
        NewIdentity {
            device: DeviceRef { account, device },
            account_key: account_key.to_vec(),
            device_list: device_list.to_vec(),
            certificate: certificate.to_vec(),
        }
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
