//! What the primary device signs about the account's devices: the next list with one more, with
//! fewer, or with none. Decides from what the server shows as the newest list; sends nothing.

use bytes::Bytes;
use qpc_credential::{DeviceEntry, PublicIdentity};
use qpc_proto::message::Identity;

use crate::error::ClientError;
use crate::keys::NextList;
use crate::link::{Answer, LinkCode, OfferedDevice, answer};
use crate::machine::{Machine, Step};
use crate::phrase::Phrase;
use crate::view;

impl Machine {
    /// The devices of the own account, by the newest list that is known here.
    pub fn list_devices(&self) -> Vec<view::Device> {
        let own = self.profile.identity.device.device;
        let primary = self.is_primary();
        let shown = |entry: &DeviceEntry| {
            let this = entry.device == own;
            view::Device {
                device: entry.device.to_string(),
                this,
                primary: (this || primary).then_some(this && primary),
                not_after_ms: entry.not_after_ms,
            }
        };
        self.own_identity().list.devices.iter().map(shown).collect()
    }

    /// Signs the list that holds an offered device, and the answer for that device. `newest` is the
    /// own identity as the server has just shown it.
    ///
    /// # Errors
    /// [`ClientError::NotPrimary`] without the account key; [`ClientError::Alarm`] for a newest
    /// identity that cannot be; [`ClientError::Usage`] for a device that is there already.
    pub fn link_answer(
        &mut self,
        step: &mut Step<'_>,
        newest: &Identity,
        (code, offered): (&LinkCode, &OfferedDevice),
    ) -> Result<Answer, ClientError> {
        let newest = self.newest(step, newest)?;
        if newest.list.get(&offered.device).is_some() {
            return Err(ClientError::Usage("this device is linked already".to_owned()));
        }
        let version = step.db.take_list_version(newest.list.version)?;
        let signed = (&newest, version);
        answer(&self.profile.keys, signed, (code, offered), (step.now_ms, &mut *step.rng))
    }

    /// Signs the list without some devices, named by the beginnings of their ids.
    ///
    /// # Errors
    /// As [`Machine::link_answer`]; [`ClientError::NotFound`] or [`ClientError::Usage`] for a
    /// beginning that names none, several or this device.
    pub fn revocation(
        &mut self,
        step: &mut Step<'_>,
        newest: &Identity,
        prefixes: &[String],
    ) -> Result<Bytes, ClientError> {
        let newest = self.newest(step, newest)?;
        let own = self.profile.identity.device.device;
        let mut devices = newest.list.devices.clone();
        for prefix in prefixes {
            let gone = pick(&newest.list.devices, prefix)?.device;
            if gone == own {
                return Err(ClientError::Usage(
                    "this device cannot revoke itself: to end its use here, `qpc logout --wipe`; \
                     if it is lost, recover with the phrase on another one"
                        .to_owned(),
                ));
            }
            devices.retain(|entry| entry.device != gone);
        }
        self.sign_next(step, &newest, devices)
    }

    /// Signs the list without any device, which ends the account.
    ///
    /// # Errors
    /// As [`Machine::link_answer`].
    pub fn deletion(
        &mut self,
        step: &mut Step<'_>,
        newest: &Identity,
    ) -> Result<Bytes, ClientError> {
        let newest = self.newest(step, newest)?;
        self.sign_next(step, &newest, Vec::new())
    }

    /// Keeps a list that this device signed and the server has taken.
    ///
    /// # Errors
    /// As [`Machine::take_identity`].
    pub fn published(&mut self, step: &mut Step<'_>, list: &Bytes) -> Result<(), ClientError> {
        let known = self.own_identity().to_message();
        self.take_identity(step, &Identity { device_list: list.clone(), ..known })
    }

    /// The recovery phrase, as long as it was not shown.
    pub fn phrase(&self) -> Option<Phrase> {
        self.profile.keys.root.as_ref().map(Phrase::of)
    }

    /// Deletes the root here: from now on only the phrase has it.
    ///
    /// # Errors
    /// The database.
    pub fn forget_root(&mut self, step: &Step<'_>) -> Result<(), ClientError> {
        step.db.forget_root()?;
        self.profile.keys.root = None;
        Ok(())
    }

    /// The newest own identity, which this device's account key may follow.
    fn newest(
        &mut self,
        step: &mut Step<'_>,
        shown: &Identity,
    ) -> Result<PublicIdentity, ClientError> {
        self.take_identity(step, shown)?;
        self.put_off_renewal(step);
        // Whoever has the phrase may have begun another generation.
        self.is_primary().then(|| self.own_identity().clone()).ok_or(ClientError::NotPrimary)
    }

    fn sign_next(
        &self,
        step: &Step<'_>,
        newest: &PublicIdentity,
        devices: Vec<DeviceEntry>,
    ) -> Result<Bytes, ClientError> {
        let list = &newest.list;
        let version = step.db.take_list_version(list.version)?;
        let next = NextList { name: &list.name, generation: list.generation, version, devices };
        self.profile.keys.sign_list(list.account, next).ok_or(ClientError::NotPrimary)
    }
}

/// The one device whose id begins so.
pub(crate) fn pick(devices: &[DeviceEntry], prefix: &str) -> Result<DeviceEntry, ClientError> {
    let wanted = prefix.trim().to_ascii_lowercase();
    let mut found = devices.iter().filter(|entry| entry.device.to_string().starts_with(&wanted));
    match (wanted.is_empty(), found.next(), found.next()) {
        (false, Some(entry), None) => Ok(*entry),
        (false, Some(_), Some(_)) => {
            Err(ClientError::Usage(format!("{prefix} names several devices: give more digits")))
        }
        _ => Err(ClientError::NotFound(format!("no device {prefix}: see `qpc devices`"))),
    }
}

#[cfg(test)]
mod tests {
    use qpc_credential::{AccountKey, DeviceList};
    use rand_core::OsRng;
    use tempfile::TempDir;

    use super::*;
    use crate::core::Core;
    use crate::home::{Home, Protection};
    use crate::link::Offer;
    use crate::machine::Pool;
    use crate::register::Account;

    const NOW: u64 = 1_800_000_000_000;

    fn primary() -> (TempDir, Core) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Home::new(dir.path().join("h")).open_new(&Protection::KeyFile).unwrap();
        let account =
            Account::prepare(&mut store, ("alice", "qpc://h:1/#00"), (NOW, &mut OsRng)).unwrap();
        account.registered(&mut store).unwrap();
        (dir, Core::open(store, Pool::default()).unwrap())
    }

    fn run<T>(
        core: &mut Core,
        work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send,
    ) -> Result<T, ClientError> {
        core.with((NOW, &mut OsRng), work).map(|(value, _)| value)
    }

    fn newest(core: &Core) -> Identity {
        core.machine().own_identity().to_message()
    }

    fn list(core: &Core, bytes: &[u8]) -> DeviceList {
        let key: AccountKey = core.machine().own_identity().account_key;
        DeviceList::verify(bytes, &key).unwrap()
    }

    /// Links a device and keeps the list as published.
    fn link(core: &mut Core) -> OfferedDevice {
        let (code, offer) = (LinkCode::generate(&mut OsRng), Offer::new(&mut OsRng));
        let (offered, shown) = (offer.offered(), newest(core));
        let link = (&code, &offered);
        let answer = run(core, |machine, step| machine.link_answer(step, &shown, link)).unwrap();
        run(core, |machine, step| machine.published(step, &answer.device_list)).unwrap();
        offered
    }

    #[test]
    fn lists_follow_each_other_and_no_number_is_used_twice() {
        let (_dir, mut core) = primary();
        let offered = link(&mut core);
        assert_eq!(core.machine().list_devices().len(), 2);
        let shown = newest(&core);
        // A deletion that is taken back has used its number up.
        let deletion = run(&mut core, |machine, step| machine.deletion(step, &shown)).unwrap();
        let deletion = list(&core, &deletion);
        assert_eq!((deletion.version, deletion.devices.len()), (3, 0));
        let prefix = [offered.device.to_string()];
        let revoked =
            run(&mut core, |machine, step| machine.revocation(step, &shown, &prefix)).unwrap();
        let next = list(&core, &revoked);
        assert_eq!((next.version, next.devices.len()), (4, 1));
        assert!(next.get(&offered.device).is_none());
        run(&mut core, |machine, step| machine.published(step, &revoked)).unwrap();
        assert_eq!(core.machine().list_devices().len(), 1);
    }

    #[test]
    fn what_cannot_be_revoked_is_said() {
        let (_dir, mut core) = primary();
        link(&mut core);
        let shown = newest(&core);
        let own = core.machine().profile.identity.device.device.to_string();
        let mut refused = |prefix: &str| {
            let prefixes = [prefix.to_owned()];
            let revoked =
                run(&mut core, |machine, step| machine.revocation(step, &shown, &prefixes));
            revoked.unwrap_err().code()
        };
        assert_eq!(refused(&own), "USAGE");
        assert_eq!(refused(""), "NOT_FOUND");
        assert_eq!(refused("zz"), "NOT_FOUND");
    }

    #[test]
    fn an_old_list_of_the_server_is_never_signed_on() {
        let (_dir, mut core) = primary();
        let old = newest(&core);
        link(&mut core);
        let refused = run(&mut core, |machine, step| machine.deletion(step, &old)).unwrap_err();
        assert_eq!(refused.code(), "ALARM");
    }

    #[test]
    fn the_phrase_is_there_until_it_is_forgotten() {
        let (_dir, mut core) = primary();
        let phrase = core.machine().phrase().unwrap();
        run(&mut core, |machine, step| machine.forget_root(step)).unwrap();
        assert!(core.machine().phrase().is_none());
        let mut core = Core::open(core.into_store(), Pool::default()).unwrap();
        assert!(core.machine().phrase().is_none());
        assert_eq!(phrase.words().split(' ').count(), 24);
        assert!(core.machine().is_primary(), "the account key stays");
        link(&mut core);
    }
}
