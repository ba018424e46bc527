//! The end of an account: asked for with a signed empty device list, taken back within the grace,
//! published after it, and last its rows erased. Each step is one transaction and leaves a state
//! that the next goes on from.

use qpc_credential::DeviceList;
use qpc_proto::AccountId;
use qpc_proto::message::{DeviceRef, Identity};
use qpc_storage::Tx;

use super::devices::{newest, newest_of_caller, next_list};
use super::{Auth, Call, Published, contradiction};
use crate::AuthError;
use crate::store::accounts::{self, Standing};
use crate::store::deletions::{self, Deletion};
use crate::store::erasure;

/// Tokens of each kind that one call erases at most, so that it never holds up a group commit.
const ERASE_ROWS_MAX: u32 = 512;

impl Auth {
    /// Keeps the next list of the caller's account, which has no device, until the grace ends; says
    /// when that is, Unix milliseconds. Asked again, it says the same: the first list stands.
    ///
    /// # Errors
    /// [`AuthError::DeviceListStale`], [`AuthError::Identity`]; [`AuthError::Unauthenticated`],
    /// [`AuthError::DeviceRevoked`], [`AuthError::AccountSuspended`]; [`AuthError::Store`].
    pub fn request_deletion(&self, call: &Call<'_>, list: &[u8]) -> Result<u64, AuthError> {
        let newest = newest_of_caller(call)?;
        let pending = deletions::of(call.tx, &newest.account())?;
        if let Some(at_ms) = pending.and_then(|pending| pending.delete_at_ms) {
            empty(DeviceList::verify(list, &newest.account_key)?)?;
            return Ok(at_ms);
        }
        let next = empty(next_list(call.tx, &newest, list)?)?;
        let at_ms = call.now_ms.saturating_add(self.config.deletion_grace_ms);
        let deletion = Deletion {
            generation: next.generation,
            version: next.version,
            list: list.to_vec().into(),
            delete_at_ms: Some(at_ms),
        };
        deletions::put(call.tx, &next.account, &deletion)?;
        Ok(at_ms)
    }

    /// Takes the deletion of the caller's account back; whether there was one. Any of its devices
    /// may. The version of the list that asked for it stays used.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`], [`AuthError::DeviceRevoked`],
    /// [`AuthError::AccountSuspended`]; [`AuthError::Store`].
    pub fn cancel_deletion(&self, call: &Call<'_>) -> Result<bool, AuthError> {
        let newest = newest_of_caller(call)?;
        Ok(deletions::take_back(call.tx, &newest.account())?)
    }

    /// Publishes the empty list of one account whose grace has ended: all its devices are revoked,
    /// and the account is unknown to everybody. `None` when there is none. A suspended account ends
    /// too: its owner's wish is not the operator's to hold up.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn next_deletion(&self, tx: &Tx<'_>, now_ms: u64) -> Result<Option<Published>, AuthError> {
        let Some((account, deletion)) = deletions::due(tx, now_ms)? else {
            return Ok(None);
        };
        let account_key = newest(tx, &account)?.account_key_bytes;
        let identity = Identity { account, account_key, device_list: deletion.list.clone() };
        deletions::publish(tx, &account, &deletion)?;
        let devices = accounts::active_devices(tx, &account)?;
        let of_account = |device| DeviceRef { account, device };
        let revoked: Vec<_> = devices.into_iter().map(of_account).collect();
        for device in &revoked {
            accounts::revoke(tx, device)?;
        }
        accounts::set_standing(tx, &account, Standing::Ended)?;
        Ok(Some(Published { identity, added: Vec::new(), revoked }))
    }

    /// An account that has ended and still has rows.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn next_erasure(&self, tx: &Tx<'_>) -> Result<Option<AccountId>, AuthError> {
        Ok(accounts::ended(tx)?)
    }

    /// Erases rows of an ended account, some of them at a time: [`Self::next_erasure`] names it
    /// until the last is gone and its name is free. Of its root, device ids and device keys the
    /// hashes stay, tied to nothing: peers and logs still know these, and must never take another
    /// account's for them. Does nothing to any other account.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn erase(&self, tx: &Tx<'_>, account: &AccountId) -> Result<(), AuthError> {
        if accounts::standing(tx, account)? != Some(Standing::Ended) {
            return Ok(());
        }
        if !erasure::tokens(tx, account, ERASE_ROWS_MAX)? {
            erasure::account(tx, account)?;
        }
        Ok(())
    }
}

fn empty(list: DeviceList) -> Result<DeviceList, AuthError> {
    match list.devices.is_empty() {
        true => Ok(list),
        false => Err(contradiction("the list of a deletion has no device")),
    }
}
