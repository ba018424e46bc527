//! The entry of the Authentication Service. Checks and decides; all SQL is in the store.

mod registration;
mod session;

use qpc_credential::CredentialError;
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::{DeviceRef, Identity, RegistrationMode};
use qpc_proto::{AccountId, DeviceId, Incarnation, PublicKey, Signature};
use qpc_storage::Tx;

pub use session::Refreshed;

use crate::store::accounts;
use crate::{AuthError, normalise, store};

/// How accounts come in and how long secrets live. All times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How new accounts come in.
    pub registration: RegistrationMode,
    /// Lifetime of an access token.
    pub access_ttl_ms: u64,
    /// Lifetime of a refresh token.
    pub refresh_ttl_ms: u64,
    /// How long a used refresh token still answers, for a reply that was lost.
    pub refresh_grace_ms: u64,
    /// Lifetime of an invite.
    pub invite_ttl_ms: u64,
}

impl Default for Config {
    /// Invites only; 15 min, 60 d, 15 s and 7 d.
    fn default() -> Self {
        const MINUTE: u64 = 60 * 1_000;
        const DAY: u64 = 24 * 60 * MINUTE;
        Self {
            registration: RegistrationMode::Invite,
            access_ttl_ms: 15 * MINUTE,
            refresh_ttl_ms: 60 * DAY,
            refresh_grace_ms: 15 * 1_000,
            invite_ttl_ms: 7 * DAY,
        }
    }
}

/// The Authentication Service of one server database.
#[derive(Debug, Clone)]
pub struct Auth {
    /// This life of the database; goes out with tokens.
    pub incarnation: Incarnation,
    /// Policy.
    pub config: Config,
}

/// What one request comes with.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The caller's transaction; an `Err` must roll back what was written in it.
    pub tx: &'a Tx<'a>,
    /// The connection as this end knows it.
    pub binding: &'a ChannelBinding,
    /// The device that logged in on this connection, if one did.
    pub bound: Option<DeviceRef>,
    /// Unix milliseconds.
    pub now_ms: u64,
}

impl Auth {
    /// Finds an account by name, in any form that normalises to it.
    ///
    /// # Errors
    /// [`AuthError::NameInvalid`], [`AuthError::AccountNotFound`], [`AuthError::Store`].
    pub fn lookup(&self, tx: &Tx<'_>, name: &str) -> Result<Identity, AuthError> {
        let account = accounts::by_name(tx, &normalise(name)?)?;
        self.identity(tx, &account.ok_or(AuthError::AccountNotFound)?)
    }

    /// The newest identity of an account, as its owner signed it.
    ///
    /// # Errors
    /// [`AuthError::AccountNotFound`], [`AuthError::Store`].
    pub fn identity(&self, tx: &Tx<'_>, account: &AccountId) -> Result<Identity, AuthError> {
        accounts::identity(tx, account)?.ok_or(AuthError::AccountNotFound)
    }

    /// The devices of an account that are in its newest list and not revoked, ascending; none for
    /// an unknown account.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn active_devices(
        &self,
        tx: &Tx<'_>,
        account: &AccountId,
    ) -> Result<Vec<DeviceId>, AuthError> {
        Ok(accounts::active_devices(tx, account)?)
    }

    /// Marks a device revoked: from this transaction on its tokens, refreshes and logins are
    /// answered with [`AuthError::DeviceRevoked`]. Its sessions stay, so that they can be. What
    /// else a revocation means (statements, open streams) the server adds in the same transaction.
    ///
    /// # Errors
    /// [`AuthError::AccountNotFound`] when the account has no such device, [`AuthError::Store`].
    pub fn revoke_device(&self, tx: &Tx<'_>, device: &DeviceRef) -> Result<(), AuthError> {
        accounts::revoke(tx, device)?.then_some(()).ok_or(AuthError::AccountNotFound)
    }

    /// Deletes what has expired, at most `limit` rows of each kind; returns how many went. Expired
    /// access tokens stay one more day, so that their owner hears `TOKEN_EXPIRED`.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn sweep_expired(&self, tx: &Tx<'_>, now_ms: u64, limit: u32) -> Result<usize, AuthError> {
        Ok(store::sweep(tx, now_ms, limit)?)
    }
}

/// Checks a device's proof over the connection; a wrong one is told as nothing but unauthenticated.
fn check_proof(
    binding: &ChannelBinding,
    key: &PublicKey,
    signed: (&DeviceRef, Purpose),
    proof: &Signature,
) -> Result<(), AuthError> {
    qpc_credential::verify_binding(key, binding, signed, proof)
        .map_err(|_: CredentialError| AuthError::Unauthenticated)
}
