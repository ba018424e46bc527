//! Which devices an account has: the next signed list, and the next generation of the account key.
//!
//! Decides what follows the newest list. What a change means for channels and connections is not
//! known here: the caller carries it out in the same transaction.

use bytes::Bytes;
use qpc_credential::{AccountKey, DeviceEntry, DeviceList, PublicIdentity, account_id};
use qpc_proto::binding::Purpose;
use qpc_proto::message::{DeviceRef, Identity, LinkDevice, Recover, RecoverPublish};
use qpc_proto::{AccountId, DeviceId};
use qpc_storage::Tx;

use super::{Auth, Call, check_proof, check_standing, contradiction};
use crate::AuthError;
use crate::store::accounts::{self, Standing};
use crate::store::{deletions, links};

/// What a published device list changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The newest identity.
    pub identity: Identity,
    /// Devices that came in; empty when the list was the newest already.
    pub added: Vec<DeviceId>,
    /// Devices that it took off, which the Delivery Service has yet to revoke.
    pub revoked: Vec<DeviceRef>,
}

impl Auth {
    /// Publishes the next list of the caller's account, with one device more, and leaves the answer
    /// where the linking code leads. The newest list again changes nothing.
    ///
    /// # Errors
    /// [`AuthError::LinkCodeInvalid`]; [`AuthError::DeviceListStale`]; [`AuthError::DuplicateKey`];
    /// [`AuthError::IdentityMismatch`]; [`AuthError::Identity`], also for an eleventh device;
    /// [`AuthError::DeletionPending`]; [`AuthError::Unauthenticated`] without a bound device,
    /// [`AuthError::DeviceRevoked`], [`AuthError::AccountSuspended`]; [`AuthError::Store`].
    pub fn link_device(&self, call: &Call<'_>, link: &LinkDevice) -> Result<Published, AuthError> {
        let newest = newest_of_caller(call)?;
        if link.device_list == newest.list_bytes {
            return Ok(unchanged(&newest));
        }
        let list = next_list(call.tx, &newest, &link.device_list)?;
        let change = Change::between(&newest.list, &list)?;
        if change.added.len() != 1 || !change.gone.is_empty() {
            return Err(contradiction("a link adds one device and takes none off"));
        }
        check_added(call, &change.added)?;
        if !links::answer(call.tx, link, call.now_ms)? {
            return Err(AuthError::LinkCodeInvalid);
        }
        let signed = Identity { device_list: link.device_list.clone(), ..newest.to_message() };
        publish(call.tx, (&list, signed), &change)
    }

    /// Publishes the next list of the caller's account, with devices less: from this transaction on
    /// their tokens, refreshes and logins are answered with [`AuthError::DeviceRevoked`]. Their
    /// sessions stay, so that they can be. The newest list again changes nothing.
    ///
    /// # Errors
    /// As [`Self::link_device`], without the code.
    pub fn revoke_devices(&self, call: &Call<'_>, list: &[u8]) -> Result<Published, AuthError> {
        let newest = newest_of_caller(call)?;
        if newest.list_bytes == list {
            return Ok(unchanged(&newest));
        }
        let next = next_list(call.tx, &newest, list)?;
        let change = Change::between(&newest.list, &next)?;
        if !change.added.is_empty() || change.gone.is_empty() {
            return Err(contradiction("a revocation takes devices off and adds none"));
        }
        if next.devices.is_empty() {
            return Err(contradiction("a list without devices ends the account: delete it"));
        }
        let device_list = Bytes::copy_from_slice(list);
        let signed = Identity { device_list, ..newest.to_message() };
        publish(call.tx, (&next, signed), &change)
    }

    /// Answers who holds an account's root: with the newest identity, or by publishing the next
    /// generation of the account key with its first list. That list holds the recovering device and
    /// any that stay as they are; all others are revoked. A pending deletion is void with it.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`] for a wrong proof of root or device;
    /// [`AuthError::AccountNotFound`], [`AuthError::AccountSuspended`] only to who holds the root;
    /// [`AuthError::DeviceListStale`] when the generation exists; [`AuthError::DuplicateKey`];
    /// [`AuthError::IdentityMismatch`]; [`AuthError::Identity`]; [`AuthError::Store`].
    pub fn recover(
        &self,
        call: &Call<'_>,
        recover: &Recover,
    ) -> Result<(Identity, Option<Published>), AuthError> {
        let device = DeviceRef { account: account_id(&recover.root), device: recover.device };
        let signed = (&device, Purpose::Recover);
        check_proof(call.binding, &recover.root, signed, &recover.root_proof)?;
        let newest = newest_of_root(call.tx, &device.account)?;
        if newest.account_key.root != recover.root {
            return Err(AuthError::Unauthenticated);
        }
        let Some(publish) = recover.publish.as_ref().filter(|p| !is_newest(p, &newest)) else {
            return Ok((newest.to_message(), None));
        };
        let published = next_generation(call, (&newest, &device), publish)?;
        Ok((published.identity.clone(), Some(published)))
    }
}

/// Entries that one list has and the one before it has not, and the other way round.
struct Change {
    added: Vec<DeviceEntry>,
    gone: Vec<DeviceId>,
}

impl Change {
    /// A device that stays keeps its key and its end.
    fn between(old: &DeviceList, new: &DeviceList) -> Result<Self, AuthError> {
        let mut added = Vec::new();
        for entry in &new.devices {
            match old.get(&entry.device) {
                None => added.push(*entry),
                Some(held) if held.key != entry.key => return Err(AuthError::IdentityMismatch),
                Some(held) if held != entry => {
                    return Err(contradiction("a device that stays keeps its entry"));
                }
                Some(_) => {}
            }
        }
        let devices = old.devices.iter().map(|entry| entry.device);
        let gone = devices.filter(|device| new.get(device).is_none()).collect();
        Ok(Self { added, gone })
    }
}

/// The newest identity of the account whose device is bound.
pub(super) fn newest_of_caller(call: &Call<'_>) -> Result<PublicIdentity, AuthError> {
    let device = call.bound.ok_or(AuthError::Unauthenticated)?;
    let row = accounts::device(call.tx, &device)?.ok_or(AuthError::Unauthenticated)?;
    check_standing(row.standing)?;
    newest(call.tx, &device.account)
}

fn newest_of_root(tx: &Tx<'_>, account: &AccountId) -> Result<PublicIdentity, AuthError> {
    match accounts::standing(tx, account)? {
        Some(Standing::Active) => newest(tx, account),
        Some(Standing::Suspended) => Err(AuthError::AccountSuspended),
        Some(Standing::Ended) | None => Err(AuthError::AccountNotFound),
    }
}

pub(super) fn newest(tx: &Tx<'_>, account: &AccountId) -> Result<PublicIdentity, AuthError> {
    let identity = accounts::identity(tx, account)?.ok_or(AuthError::AccountNotFound)?;
    Ok(PublicIdentity::verify(&identity)?)
}

/// Verifies a list as one that may follow the newest of its generation.
pub(super) fn next_list(
    tx: &Tx<'_>,
    newest: &PublicIdentity,
    bytes: &[u8],
) -> Result<DeviceList, AuthError> {
    let list = DeviceList::verify(bytes, &newest.account_key)?;
    if list.name != newest.list.name {
        return Err(contradiction("the device list names another account name"));
    }
    let deletion = deletions::of(tx, &list.account)?;
    if deletion.as_ref().is_some_and(|deletion| deletion.delete_at_ms.is_some()) {
        return Err(AuthError::DeletionPending);
    }
    // A deletion's list was signed and perhaps seen: another one of its number would be a fork.
    let spent = deletion.filter(|deletion| deletion.generation == list.generation);
    let above = spent.map_or(0, |deletion| deletion.version).max(newest.list.version);
    (list.version > above).then_some(list).ok_or(AuthError::DeviceListStale)
}

fn next_generation(
    call: &Call<'_>,
    (newest, recovering): (&PublicIdentity, &DeviceRef),
    publish: &RecoverPublish,
) -> Result<Published, AuthError> {
    let key = AccountKey::verify(&publish.account_key)?;
    check_generation(&newest.account_key, &key)?;
    let list = DeviceList::verify(&publish.device_list, &key)?;
    if list.version != 1 || list.name != newest.list.name {
        return Err(contradiction("a recovery's list is version 1 under the account's name"));
    }
    let entry = list.get(&recovering.device);
    let entry = entry.ok_or(contradiction("the list lacks the recovering device"))?;
    check_proof(call.binding, &entry.key, (recovering, Purpose::Recover), &publish.proof)?;
    let change = Change::between(&newest.list, &list)?;
    if change.added.iter().any(|added| added.device != recovering.device) {
        return Err(contradiction("a recovery adds no device but the recovering one"));
    }
    check_added(call, &change.added)?;
    deletions::remove(call.tx, &list.account)?;
    accounts::insert_account_key(call.tx, &key, &publish.account_key)?;
    let signed = Identity {
        account: list.account,
        account_key: publish.account_key.clone(),
        device_list: publish.device_list.clone(),
    };
    self::publish(call.tx, (&list, signed), &change)
}

fn check_generation(newest: &AccountKey, next: &AccountKey) -> Result<(), AuthError> {
    if next.root != newest.root {
        return Err(contradiction("the account key is of another root"));
    }
    if next.generation <= newest.generation {
        return Err(AuthError::DeviceListStale);
    }
    if Some(next.generation) != newest.generation.checked_add(1) {
        return Err(contradiction("a recovery is the generation after the newest"));
    }
    // Whoever has the key that is superseded could go on signing lists with it.
    if next.key == newest.key {
        return Err(contradiction("a generation has a key of its own"));
    }
    Ok(())
}

fn check_added(call: &Call<'_>, added: &[DeviceEntry]) -> Result<(), AuthError> {
    for entry in added {
        if entry.not_after_ms <= call.now_ms {
            return Err(contradiction("the device's entry has ended"));
        }
        if accounts::knows_device(call.tx, &entry.device, &entry.key)? {
            return Err(AuthError::DuplicateKey);
        }
    }
    Ok(())
}

fn publish(
    tx: &Tx<'_>,
    (list, identity): (&DeviceList, Identity),
    change: &Change,
) -> Result<Published, AuthError> {
    let account = list.account;
    accounts::insert_list(tx, list, &identity.device_list)?;
    for entry in &change.added {
        let device = DeviceRef { account, device: entry.device };
        accounts::insert_device(tx, &device, &entry.key)?;
    }
    let of_account = |device: &DeviceId| DeviceRef { account, device: *device };
    let revoked: Vec<_> = change.gone.iter().map(of_account).collect();
    for device in &revoked {
        accounts::revoke(tx, device)?;
    }
    let added = change.added.iter().map(|entry| entry.device).collect();
    Ok(Published { identity, added, revoked })
}

fn is_newest(publish: &RecoverPublish, newest: &PublicIdentity) -> bool {
    publish.account_key == newest.account_key_bytes && publish.device_list == newest.list_bytes
}

fn unchanged(newest: &PublicIdentity) -> Published {
    Published { identity: newest.to_message(), added: Vec::new(), revoked: Vec::new() }
}
