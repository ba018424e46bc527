//! What an operator sees and does: accounts, sessions, invites. Never shows a secret or its hash,
//! but for the few digits that name an invite.

use qpc_proto::AccountId;
use qpc_proto::message::DeviceRef;
use qpc_storage::Tx;

use super::{AccountSummary, Auth, InviteSummary, SessionSummary, Standing};
use crate::store::{accounts, invites, sessions};
use crate::{AuthError, normalise};

impl Auth {
    /// Accounts in order of name, at most `limit`, from behind the name `after`.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn list_accounts(
        &self,
        tx: &Tx<'_>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AccountSummary>, AuthError> {
        Ok(accounts::list(tx, after.unwrap_or_default(), limit)?)
    }

    /// Suspends an account or lets it go on. Returns the devices to be cut off: all active ones of
    /// a suspended account, none of one that goes on.
    ///
    /// # Errors
    /// [`AuthError::NameInvalid`], [`AuthError::AccountNotFound`], [`AuthError::Store`].
    pub fn set_suspended(
        &self,
        tx: &Tx<'_>,
        name: &str,
        suspended: bool,
    ) -> Result<Vec<DeviceRef>, AuthError> {
        let account = named(tx, name)?;
        if !suspended {
            accounts::set_standing(tx, &account, Standing::Active)?;
            return Ok(Vec::new());
        }
        accounts::set_standing(tx, &account, Standing::Suspended)?;
        let devices = accounts::active_devices(tx, &account)?;
        Ok(devices.into_iter().map(|device| DeviceRef { account, device }).collect())
    }

    /// The sessions of an account's devices, by device and age.
    ///
    /// # Errors
    /// [`AuthError::NameInvalid`], [`AuthError::AccountNotFound`], [`AuthError::Store`].
    pub fn sessions(&self, tx: &Tx<'_>, name: &str) -> Result<Vec<SessionSummary>, AuthError> {
        Ok(sessions::list(tx, &named(tx, name)?)?)
    }

    /// Ends all sessions of an account; its devices log in again with their keys. Returns the
    /// devices that had one, to be cut off.
    ///
    /// # Errors
    /// [`AuthError::NameInvalid`], [`AuthError::AccountNotFound`], [`AuthError::Store`].
    pub fn end_sessions(&self, tx: &Tx<'_>, name: &str) -> Result<Vec<DeviceRef>, AuthError> {
        let account = named(tx, name)?;
        let devices = sessions::end_all(tx, &account)?;
        Ok(devices.into_iter().map(|device| DeviceRef { account, device }).collect())
    }

    /// Invites that are still good, the first to end first; at most 1,000.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn list_invites(&self, tx: &Tx<'_>, now_ms: u64) -> Result<Vec<InviteSummary>, AuthError> {
        Ok(invites::list(tx, now_ms)?)
    }

    /// Takes back the invite of an id from [`Self::list_invites`]; whether there was one.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn revoke_invite(&self, tx: &Tx<'_>, id: &str) -> Result<bool, AuthError> {
        Ok(invites::revoke(tx, id)?)
    }
}

/// The account of a name, suspended or not.
fn named(tx: &Tx<'_>, name: &str) -> Result<AccountId, AuthError> {
    let account = accounts::by_name(tx, &normalise(name)?)?.ok_or(AuthError::AccountNotFound)?;
    match accounts::standing(tx, &account)? {
        Some(Standing::Active | Standing::Suspended) => Ok(account),
        Some(Standing::Ended) | None => Err(AuthError::AccountNotFound),
    }
}
