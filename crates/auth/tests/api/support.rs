//! A service with its database in a temporary folder, and accounts that sign.

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_auth::{Auth, AuthError, Call, Config, PowSecret, Published};
use qpc_credential::{AccountKey, DeviceEntry, DeviceList};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::{
    DeviceRef, LinkDevice, LinkRelay, LinkSide, Login, LoginAnswer, Recover, RecoverPublish,
    Register, RegistrationMode,
};
use qpc_proto::{AccountId, DeviceId, Digest, Incarnation, PublicKey, Signature};
use qpc_storage::{Durability, Job, Key, Options, Outcome, Reader, Store, Tx};
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
        // No proof of work, unless a test asks for it.
        let config = Config { registration, pow_bits: 0, ..Config::default() };
        let (incarnation, pow_secret) = (Incarnation([4; 16]), PowSecret::new([6; 32]));
        Self {
            auth: Auth { incarnation, config, pow_secret },
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
        let job = |tx: &Tx<'_>| {
            let call = Call { tx, binding: &BINDING, bound, now_ms };
            run(auth, &call, rng)
        };
        match self.store.transact(job).unwrap() {
            Outcome::Done(value) => Ok(value),
            Outcome::Refused(error) => Err(error),
            Outcome::Panicked => panic!("the service panicked"),
        }
    }

    /// Registrations that one group commit carries, as if they had arrived at once.
    pub(crate) fn race(&mut self, registers: &[&Register]) -> Vec<Result<AccountId, AuthError>> {
        let auth = &self.auth;
        let job = |register: &&Register| -> Job<'_, AccountId, AuthError> {
            let register = (*register).clone();
            Box::new(move |tx| {
                let call = Call { tx, binding: &BINDING, bound: None, now_ms: NOW };
                auth.register(&call, &register)
            })
        };
        let outcomes = self.store.apply(registers.iter().map(job).collect()).unwrap();
        let outcomes = outcomes.into_iter().map(|outcome| match outcome {
            Outcome::Done(account) => Ok(account),
            Outcome::Refused(error) => Err(error),
            Outcome::Panicked => panic!("the service panicked"),
        });
        outcomes.collect()
    }

    pub(crate) fn reader(&self) -> Reader {
        self.store.reader().unwrap()
    }

    /// A call as a device of an account.
    pub(crate) fn as_device<T>(
        &mut self,
        device: DeviceRef,
        run: impl FnOnce(&Auth, &Call<'_>) -> Result<T, AuthError>,
    ) -> Result<T, AuthError> {
        self.at(NOW, Some(device), |auth, call, _| run(auth, call))
    }

    /// Links a device by a code of its own, with a list of this version.
    pub(crate) fn link(
        &mut self,
        person: &Person,
        version: u64,
        devices: &[&Device],
    ) -> Result<Published, AuthError> {
        let rendezvous = Digest([u8::try_from(version).unwrap(); 32]);
        let offer = Bytes::from_static(b"offer");
        let relay = LinkRelay { rendezvous, side: LinkSide::New, offer };
        let offered = self.at(NOW, None, |auth, call, _| auth.relay(call, &relay));
        // A test may link twice with one version; the second uses the first one's code in vain.
        let _used = offered.is_err();
        let device_list = person.next_list(version, devices);
        let link = LinkDevice { device_list, rendezvous, answer: Bytes::from_static(b"answer") };
        self.as_device(person.device_ref(), |auth, call| auth.link_device(call, &link))
    }

    pub(crate) fn revoke(
        &mut self,
        person: &Person,
        version: u64,
        devices: &[&Device],
    ) -> Result<Published, AuthError> {
        let list = person.next_list(version, devices);
        self.as_device(person.device_ref(), |auth, call| auth.revoke_devices(call, &list))
    }

    /// Ends an account as its owner asked at [`NOW`], and erases it.
    pub(crate) fn delete(&mut self, person: &Person, version: u64) {
        let list = person.next_list(version, &[]);
        let device = person.device_ref();
        let at_ms =
            self.as_device(device, |auth, call| auth.request_deletion(call, &list)).unwrap();
        let ended = self.at(at_ms, None, |auth, call, _| auth.next_deletion(call.tx, at_ms));
        ended.unwrap().unwrap();
        self.erase_all();
    }

    /// Carries erasures on until there is none; how many calls that took.
    pub(crate) fn erase_all(&mut self) -> u32 {
        let mut calls = 0;
        while let Some(account) =
            self.at(NOW, None, |auth, call, _| auth.next_erasure(call.tx)).unwrap()
        {
            self.at(NOW, None, |auth, call, _| auth.erase(call.tx, &account)).unwrap();
            calls += 1;
        }
        calls
    }

    pub(crate) fn register(&mut self, register: &Register) -> Result<AccountId, AuthError> {
        self.at(NOW, None, |auth, call, _| auth.register(call, register))
    }

    pub(crate) fn login(&mut self, login: &Login, now_ms: u64) -> Result<LoginAnswer, AuthError> {
        self.at(now_ms, None, |auth, call, rng| auth.login(call, login, rng))
    }
}

/// A device whose key follows from one number.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) key: SigningKey,
    pub(crate) not_after_ms: u64,
}

impl Device {
    pub(crate) fn new(number: u8) -> Self {
        let key = SigningKey::from_bytes(&[number ^ 0x80; 32]);
        Self { id: DeviceId([number; 16]), key, not_after_ms: NOW + 1 }
    }

    pub(crate) fn of(&self, person: &Person) -> DeviceRef {
        DeviceRef { account: person.device_ref().account, device: self.id }
    }

    pub(crate) fn login(&self, person: &Person) -> Login {
        let device = self.of(person);
        let proof = sign(&self.key, &BINDING.to_be_signed(&device, Purpose::Login));
        Login { device, proof }
    }

    pub(crate) fn entry(&self) -> DeviceEntry {
        let (device, key) = (self.id, public(&self.key));
        DeviceEntry { device, key, not_after_ms: self.not_after_ms }
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

    /// A signed list of this version with these devices alone.
    pub(crate) fn next_list(&self, version: u64, devices: &[&Device]) -> Bytes {
        let mut entries: Vec<_> = devices.iter().map(|device| device.entry()).collect();
        entries.sort_by_key(|entry| entry.device);
        self.sign_list(&DeviceList { version, devices: entries, ..self.list() })
    }

    /// The device that registers.
    pub(crate) fn first(&self) -> Device {
        let (key, not_after_ms) = (self.device_key.clone(), self.not_after_ms);
        Device { id: self.device, key, not_after_ms }
    }

    pub(crate) fn account_key(&self) -> Bytes {
        let account_key = AccountKey {
            root: public(&self.root),
            generation: self.generation,
            key: public(&self.account_key),
        };
        account_key.sign(|tbs| sign(&self.root, tbs))
    }

    /// The question of who holds the phrase and makes `device` the recovering one.
    pub(crate) fn ask(&self, device: &Device) -> Recover {
        let signed = BINDING.to_be_signed(&device.of(self), Purpose::Recover);
        Recover {
            root: public(&self.root),
            device: device.id,
            root_proof: sign(&self.root, &signed),
            publish: None,
        }
    }

    /// A recovery in this generation of the account key, with these devices alone.
    pub(crate) fn recovery(&self, device: &Device, devices: &[&Device]) -> Recover {
        let signed = BINDING.to_be_signed(&device.of(self), Purpose::Recover);
        let publish = RecoverPublish {
            account_key: self.account_key(),
            device_list: self.next_list(1, devices),
            proof: sign(&device.key, &signed),
        };
        Recover { publish: Some(publish), ..self.ask(device) }
    }

    /// The same account in the next generation of its key.
    pub(crate) fn next_generation(&self) -> Self {
        let number = self.device.0[0];
        let mut next = Self::new(number, &self.name);
        next.generation = self.generation + 1;
        let seed = [number ^ 0x20 ^ u8::try_from(next.generation).unwrap(); 32];
        next.account_key = SigningKey::from_bytes(&seed);
        next
    }

    pub(crate) fn registration(&self) -> Register {
        Register {
            name: self.name.clone(),
            account_key: self.account_key(),
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
