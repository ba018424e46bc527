//! A service with its database in a temporary folder, and accounts that sign.

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_auth::{Auth, AuthError, Call, Config};
use qpc_credential::{AccountKey, DeviceEntry, DeviceList};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::{DeviceRef, Login, LoginAnswer, Register, RegistrationMode};
use qpc_proto::{AccountId, DeviceId, Incarnation, PublicKey, Signature};
use qpc_storage::{Durability, Key, Options, Outcome, Store};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// 2027-01-15.
pub(crate) const NOW: u64 = 1_800_000_000_000;
pub(crate) const BINDING: ChannelBinding =
    ChannelBinding { exporter: [1; 32], fingerprint: [2; 32] };

pub(crate) struct World {
    pub(crate) auth: Auth,
    pub(crate) rng: ChaCha20Rng,
    store: Store,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(registration: RegistrationMode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::from_bytes([3; 32]);
        let options = Options::new(key, vec![qpc_auth::schema()]);
        let options = options.with_durability(Durability::Process);
        let store = Store::open(&dir.path().join("auth.db"), &options).unwrap();
        let config = Config { registration, ..Config::default() };
        let incarnation = Incarnation([4; 16]);
        Self {
            auth: Auth { incarnation, config },
            rng: ChaCha20Rng::seed_from_u64(5),
            store,
            _dir: dir,
        }
    }

    /// One call in a transaction of its own, on a connection bound to `bound`.
    pub(crate) fn at<T>(
        &mut self,
        now_ms: u64,
        bound: Option<DeviceRef>,
        run: impl FnOnce(&Auth, &Call<'_>, &mut ChaCha20Rng) -> Result<T, AuthError>,
    ) -> Result<T, AuthError> {
        let (auth, rng) = (&self.auth, &mut self.rng);
        let job = |tx: &qpc_storage::Tx<'_>| {
            let call = Call { tx, binding: &BINDING, bound, now_ms };
            run(auth, &call, rng)
        };
        match self.store.transact(job).unwrap() {
            Outcome::Done(value) => Ok(value),
            Outcome::Refused(error) => Err(error),
            Outcome::Panicked => panic!("the service panicked"),
        }
    }

    pub(crate) fn register(&mut self, register: &Register) -> Result<AccountId, AuthError> {
        self.at(NOW, None, |auth, call, _| auth.register(call, register))
    }

    pub(crate) fn login(&mut self, login: &Login, now_ms: u64) -> Result<LoginAnswer, AuthError> {
        self.at(now_ms, None, |auth, call, rng| auth.login(call, login, rng))
    }
}

/// An account whose keys all follow from one number.
pub(crate) struct Person {
    pub(crate) root: SigningKey,
    pub(crate) account_key: SigningKey,
    pub(crate) device_key: SigningKey,
    pub(crate) device: DeviceId,
    pub(crate) name: String,
    pub(crate) generation: u32,
    pub(crate) version: u64,
    pub(crate) not_after_ms: u64,
}

impl Person {
    pub(crate) fn new(number: u8, name: &str) -> Self {
        Self {
            root: SigningKey::from_bytes(&[number; 32]),
            account_key: SigningKey::from_bytes(&[number ^ 0x40; 32]),
            device_key: SigningKey::from_bytes(&[number ^ 0x80; 32]),
            device: DeviceId([number; 16]),
            name: name.to_owned(),
            generation: 1,
            version: 1,
            not_after_ms: NOW + 1,
        }
    }

    pub(crate) fn device_ref(&self) -> DeviceRef {
        DeviceRef { account: qpc_credential::account_id(&public(&self.root)), device: self.device }
    }

    pub(crate) fn list(&self) -> DeviceList {
        DeviceList {
            account: self.device_ref().account,
            generation: self.generation,
            version: self.version,
            name: self.name.clone(),
            devices: vec![DeviceEntry {
                device: self.device,
                key: public(&self.device_key),
                not_after_ms: self.not_after_ms,
            }],
        }
    }

    pub(crate) fn sign_list(&self, list: &DeviceList) -> Bytes {
        list.sign(|tbs| sign(&self.account_key, tbs))
    }

    pub(crate) fn registration(&self) -> Register {
        let account_key = AccountKey {
            root: public(&self.root),
            generation: self.generation,
            key: public(&self.account_key),
        };
        Register {
            name: self.name.clone(),
            account_key: account_key.sign(|tbs| sign(&self.root, tbs)),
            device_list: self.sign_list(&self.list()),
            device: self.device,
            proof: self.prove(&BINDING, Purpose::Register),
            invite: Bytes::new(),
            proof_of_work: None,
        }
    }

    pub(crate) fn login(&self) -> Login {
        Login { device: self.device_ref(), proof: self.prove(&BINDING, Purpose::Login) }
    }

    /// A login proof as some device.
    pub(crate) fn prove_as(&self, device: &DeviceRef) -> Signature {
        let signed = BINDING.to_be_signed(device, Purpose::Login);
        sign(&self.device_key, &signed)
    }

    pub(crate) fn prove(&self, binding: &ChannelBinding, purpose: Purpose) -> Signature {
        sign(&self.device_key, &binding.to_be_signed(&self.device_ref(), purpose))
    }
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

pub(crate) fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature(key.sign(bytes).to_bytes())
}
