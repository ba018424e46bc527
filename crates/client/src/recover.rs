//! Getting an account back with its recovery phrase: a next generation of the account key, whose
//! list holds this device and those that are to stay. Keys are on disk before the server hears of
//! them. Never stores the root.

use qpc_credential::{DeviceEntry, PublicIdentity, account_id};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::{DeviceRef, Identity, Recover, RecoverPublish, Request};
use qpc_proto::{DeviceId, RequestId};
use qpc_storage::{Outcome, Store};
use rand_core::{CryptoRng, RngCore};

use crate::core::done;
use crate::devices::pick;
use crate::error::ClientError;
use crate::keys::{Keys, NewIdentity, NextList, entry, prove, public};
use crate::machine::{Db, Profile};
use crate::phrase::Phrase;

/// What became of a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The account's name.
    pub name: String,
    /// The generation of the account key that begins.
    pub generation: u32,
    /// Devices that stay, besides this one.
    pub kept: Vec<DeviceId>,
    /// Devices that are revoked.
    pub revoked: Vec<DeviceId>,
}

/// A recovery that is going on.
pub struct Recovery {
    phrase: Phrase,
    keys: Keys,
    device: DeviceRef,
    request: RequestId,
    server: String,
    /// Made by an earlier attempt, whose answer may have been lost.
    prepared: Option<NewIdentity>,
}

impl std::fmt::Debug for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovery").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Recovery {
    /// Begins, or takes an earlier attempt with the same phrase up again.
    ///
    /// # Errors
    /// [`ClientError::AccountExists`] or [`ClientError::Usage`] when the database has another
    /// account.
    pub fn begin<R: RngCore + CryptoRng + Send>(
        store: &mut Store,
        (server, phrase): (&str, Phrase),
        rng: &mut R,
    ) -> Result<Self, ClientError> {
        let account = account_id(&public(phrase.root()));
        let outcome: Outcome<_, ClientError> = store.transact(|tx| match Db(tx).profile()? {
            None => Ok(None),
            Some(profile) if profile.registered => Err(ClientError::AccountExists),
            Some(profile)
                if profile.keys.root.is_none() && profile.identity.device.account == account =>
            {
                Ok(Some(profile))
            }
            Some(profile) => Err(ClientError::Usage(format!(
                "something else was begun here, for {}: delete it with `qpc logout --wipe`",
                profile.name
            ))),
        })?;
        if let Some(profile) = done(outcome)? {
            return Ok(Self {
                phrase,
                keys: profile.keys,
                device: profile.identity.device,
                request: profile.register_request,
                server: server.to_owned(),
                prepared: Some(profile.identity),
            });
        }
        let (mut device, mut request) = ([0; 16], [0; 16]);
        let keys = Keys::recovered(rng);
        rng.fill_bytes(&mut device);
        rng.fill_bytes(&mut request);
        Ok(Self {
            phrase,
            keys,
            device: DeviceRef { account, device: DeviceId(device) },
            request: RequestId(request),
            server: server.to_owned(),
            prepared: None,
        })
    }

    /// Whether an identity is on disk that the server may have taken: its keys must not be lost.
    pub fn is_prepared(&self) -> bool {
        self.prepared.is_some()
    }

    /// Asks for the newest identity of the account.
    pub fn question(&self, binding: &ChannelBinding) -> Request {
        Request::Recover(self.recover(binding, None))
    }

    /// Signs the next generation after `newest`, keeps it, and gives the request that publishes it
    /// with its id; no request when `newest` is what an earlier attempt published.
    ///
    /// # Errors
    /// [`ClientError::Alarm`] for an identity that cannot be this account's, or whose generation is
    /// the last; [`ClientError::NotFound`] for a device to keep that is not in it.
    pub fn publish(
        &mut self,
        store: &mut Store,
        (newest, keep): (&Identity, &[String]),
        (binding, now_ms): (&ChannelBinding, u64),
    ) -> Result<(Recovered, Option<(RequestId, Request)>), ClientError> {
        let alarm = |text: &str| ClientError::Alarm(text.to_owned());
        let shown = PublicIdentity::verify(newest)
            .map_err(|_| alarm("the account's newest identity does not verify"))?;
        if shown.account_key.root != public(self.phrase.root()) {
            return Err(alarm("it answered with another account"));
        }
        if self.prepared.as_ref().is_some_and(|own| shown.list_bytes == own.device_list) {
            return Ok((self.outcome(&shown, &shown), None));
        }
        let kept: Vec<DeviceEntry> = keep
            .iter()
            .map(|prefix| pick(&shown.list.devices, prefix))
            .collect::<Result<_, _>>()?;
        let generation = shown
            .account_key
            .generation
            .checked_add(1)
            .ok_or_else(|| alarm("no generation is left"))?;
        let identity = self.sign(&shown, (generation, kept), now_ms)?;
        self.keep(store, (&shown.list.name, &identity))?;
        let published = RecoverPublish {
            account_key: identity.account_key.clone().into(),
            device_list: identity.device_list.clone().into(),
            proof: self.keys.prove(binding, &self.device, Purpose::Recover),
        };
        let verified = PublicIdentity::verify(&Identity {
            account: self.device.account,
            account_key: published.account_key.clone(),
            device_list: published.device_list.clone(),
        })
        .map_err(|_| ClientError::Internal("the list just signed does not verify"))?;
        let request = Request::Recover(self.recover(binding, Some(published)));
        Ok((self.outcome(&shown, &verified), Some((self.request, request))))
    }

    /// Notes that the server took it: the database is that of the primary device now.
    ///
    /// # Errors
    /// The database.
    pub fn finish(&self, store: &mut Store) -> Result<(), ClientError> {
        done(store.transact(|tx| Ok(Db(tx).set_registered()?))?)
    }

    fn recover(&self, binding: &ChannelBinding, publish: Option<RecoverPublish>) -> Recover {
        let root = public(self.phrase.root());
        let purpose = (&self.device, Purpose::Recover);
        let root_proof = prove(self.phrase.root(), binding, purpose);
        Recover { root, device: self.device.device, root_proof, publish }
    }

    fn sign(
        &self,
        shown: &PublicIdentity,
        (generation, mut devices): (u32, Vec<DeviceEntry>),
        now_ms: u64,
    ) -> Result<NewIdentity, ClientError> {
        devices.retain(|kept| kept.device != self.device.device);
        devices.push(entry(self.device.device, public(&self.keys.device), now_ms));
        devices.sort_unstable_by_key(|entry| entry.device);
        devices.dedup_by_key(|entry| entry.device);
        let next = NextList { name: &shown.list.name, generation, version: 1, devices };
        self.keys
            .generation(self.phrase.root(), self.device.device, next)
            .ok_or(ClientError::Internal("a recovery without an account key"))
    }

    fn keep(
        &mut self,
        store: &mut Store,
        (name, identity): (&str, &NewIdentity),
    ) -> Result<(), ClientError> {
        let profile = Profile {
            name: name.to_owned(),
            server: self.server.clone(),
            keys: self.keys.clone(),
            identity: identity.clone(),
            register_request: self.request,
            registered: false,
            incarnation: None,
        };
        let outcome: Outcome<(), ClientError> = store.transact(|tx| {
            let db = Db(tx);
            match db.profile()? {
                None => db.insert_profile(&profile)?,
                Some(_) => {
                    db.replace_identity(&profile.identity)?;
                    db.set_server(&profile.server)?;
                }
            }
            Ok(())
        })?;
        self.prepared = Some(identity.clone());
        done(outcome)
    }

    fn outcome(&self, before: &PublicIdentity, after: &PublicIdentity) -> Recovered {
        let own = self.device.device;
        let (kept, revoked) = before
            .list
            .devices
            .iter()
            .map(|entry| entry.device)
            .filter(|device| *device != own)
            .partition(|device| after.list.get(device).is_some());
        Recovered {
            name: after.list.name.clone(),
            generation: after.account_key.generation,
            kept,
            revoked,
        }
    }
}

#[cfg(test)]
mod tests {
    use qpc_credential::verify_binding;
    use rand_core::OsRng;
    use tempfile::TempDir;

    use super::*;
    use crate::home::{Home, Protection};
    use crate::keys::seed;
    use crate::machine::{Machine, Pool};

    const NOW: u64 = 1_800_000_000_000;
    const URL: &str = "qpc://h:1/#00";
    const BINDING: ChannelBinding = ChannelBinding { exporter: [1; 32], fingerprint: [2; 32] };

    /// An account with three devices whose primary one is lost: its phrase and newest identity.
    fn lost() -> (Phrase, Identity) {
        let keys = Keys::generate(&mut OsRng);
        let root = keys.root.as_ref().unwrap();
        let device = |number| entry(DeviceId([number; 16]), public(&seed(&mut OsRng)), NOW);
        let own = entry(DeviceId([1; 16]), public(&keys.device), NOW);
        let devices = vec![own, device(2), device(3)];
        let next = NextList { name: "alice", generation: 4, version: 9, devices };
        let identity = keys.generation(root, own.device, next).unwrap();
        let newest = Identity {
            account: identity.device.account,
            account_key: identity.account_key.into(),
            device_list: identity.device_list.into(),
        };
        (Phrase::of(root), newest)
    }

    fn store() -> (TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Home::new(dir.path().join("h")).open_new(&Protection::KeyFile).unwrap();
        (dir, store)
    }

    fn begin(store: &mut Store, phrase: &Phrase) -> Result<Recovery, ClientError> {
        Recovery::begin(store, (URL, phrase.clone()), &mut OsRng)
    }

    fn published(request: Option<(RequestId, Request)>) -> RecoverPublish {
        match request {
            Some((_, Request::Recover(recover))) => recover.publish.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_next_generation_holds_this_device_and_those_that_stay() {
        let (phrase, newest) = lost();
        let (_dir, mut store) = store();
        let mut recovery = begin(&mut store, &phrase).unwrap();
        let Request::Recover(question) = recovery.question(&BINDING) else { panic!() };
        assert!(question.publish.is_none());
        let device = recovery.device;
        let purpose = (&device, Purpose::Recover);
        verify_binding(&question.root, &BINDING, purpose, &question.root_proof).unwrap();

        assert!(!recovery.is_prepared(), "nothing is lost with the home yet");
        let keep = ["0202".to_owned()];
        let (outcome, request) =
            recovery.publish(&mut store, (&newest, &keep), (&BINDING, NOW)).unwrap();
        assert!(recovery.is_prepared(), "the server may have these keys");
        assert_eq!((outcome.name.as_str(), outcome.generation), ("alice", 5));
        assert_eq!(outcome.kept, [DeviceId([2; 16])]);
        assert_eq!(outcome.revoked, [DeviceId([1; 16]), DeviceId([3; 16])]);
        let publish = published(request);
        let next = PublicIdentity::verify(&Identity {
            account: newest.account,
            account_key: publish.account_key.clone(),
            device_list: publish.device_list.clone(),
        })
        .unwrap();
        let old = PublicIdentity::verify(&newest).unwrap();
        assert_eq!((next.account_key.generation, next.list.version), (5, 1));
        assert_ne!(next.account_key.key, old.account_key.key);
        assert_eq!(next.list.devices.len(), 2);
        let kept = DeviceId([2; 16]);
        assert_eq!(next.list.get(&kept), old.list.get(&kept), "what stays keeps its entry");
        let own = next.list.get(&recovery.device.device).unwrap();
        verify_binding(&own.key, &BINDING, purpose, &publish.proof).unwrap();

        recovery.finish(&mut store).unwrap();
        let machine = done(store.transact(|tx| Machine::open(tx, Pool::default())).unwrap());
        let machine = machine.unwrap();
        assert!(machine.is_primary());
        assert!(machine.phrase().is_none(), "the root is never stored");
        assert_eq!(begin(&mut store, &phrase).unwrap_err().code(), "ACCOUNT_EXISTS");
    }

    #[test]
    fn a_lost_answer_is_seen_in_the_newest_identity() {
        let (phrase, newest) = lost();
        let (_dir, mut store) = store();
        let mut recovery = begin(&mut store, &phrase).unwrap();
        let first = recovery.publish(&mut store, (&newest, &[]), (&BINDING, NOW)).unwrap().1;
        let publish = published(first);
        // The program ends; another run has the same keys.
        let mut again = begin(&mut store, &phrase).unwrap();
        assert_eq!((again.device, again.request), (recovery.device, recovery.request));
        let shown = Identity {
            account: newest.account,
            account_key: publish.account_key,
            device_list: publish.device_list,
        };
        let (outcome, request) =
            again.publish(&mut store, (&shown, &[]), (&BINDING, NOW + 1)).unwrap();
        assert!(request.is_none(), "it is published already");
        assert_eq!(outcome.generation, 5);
        // Another phrase has nothing to do here.
        assert_eq!(begin(&mut store, &lost().0).unwrap_err().code(), "USAGE");
    }

    #[test]
    fn an_identity_of_another_root_and_devices_that_are_not_there_are_refused() {
        let (phrase, newest) = lost();
        let (_, other) = lost();
        let (_dir, mut store) = store();
        let mut recovery = begin(&mut store, &phrase).unwrap();
        let mut publish = |newest: &Identity, keep: &[&str]| {
            let keep: Vec<_> = keep.iter().map(ToString::to_string).collect();
            let refused = recovery.publish(&mut store, (newest, &keep), (&BINDING, NOW));
            refused.unwrap_err().code().to_owned()
        };
        assert_eq!(publish(&other, &[]), "ALARM");
        assert_eq!(publish(&newest, &["ffff"]), "NOT_FOUND");
        assert_eq!(publish(&newest, &["0"]), "USAGE");
        assert_eq!(publish(&newest, &[""]), "NOT_FOUND");
    }
}
