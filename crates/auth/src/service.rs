//! The entry of the Authentication Service. Checks and decides; all SQL is in the store.

mod deletion;
mod devices;
mod export;
mod link;
mod operator;
mod registration;
mod renewal;
mod session;
mod work;

use qpc_credential::CredentialError;
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::{DeviceRef, Identity, RegistrationMode};
use qpc_proto::{AccountId, DeviceId, Incarnation, PublicKey, Signature};
use qpc_storage::Tx;

pub use devices::Published;
pub use session::{Grant, Refreshed};
pub use work::PowSecret;

pub use crate::store::accounts::{AccountSummary, Standing};
pub use crate::store::invites::InviteSummary;
pub use crate::store::sessions::SessionSummary;

use crate::store::accounts::{self, DeviceStanding};
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
    /// Leading zero bits that an open registration must prove at rest; 0 asks for no proof ever.
    pub pow_bits: u8,
    /// Accounts created within 10 minutes from which one bit more is asked for, and another with
    /// each doubling.
    pub pow_raise_above: u64,
    /// How long a deletion can be taken back.
    pub deletion_grace_ms: u64,
}

impl Default for Config {
    /// Invites only; 15 min, 60 d, 15 s and 7 d; 20 bits, raised from 30 accounts on; 30 d.
    fn default() -> Self {
        const MINUTE: u64 = 60 * 1_000;
        const DAY: u64 = 24 * 60 * MINUTE;
        Self {
            registration: RegistrationMode::Invite,
            access_ttl_ms: 15 * MINUTE,
            refresh_ttl_ms: 60 * DAY,
            refresh_grace_ms: 15 * 1_000,
            invite_ttl_ms: 7 * DAY,
            pow_bits: 20,
            pow_raise_above: 30,
            deletion_grace_ms: 30 * DAY,
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
    /// Seeds of the proof of work follow from it.
    pub pow_secret: PowSecret,
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
    /// [`AuthError::AccountNotFound`] alike for an unknown, a suspended and an ended account,
    /// [`AuthError::Store`].
    pub fn identity(&self, tx: &Tx<'_>, account: &AccountId) -> Result<Identity, AuthError> {
        if accounts::standing(tx, account)? != Some(Standing::Active) {
            return Err(AuthError::AccountNotFound);
        }
        accounts::identity(tx, account)?.ok_or(AuthError::AccountNotFound)
    }

    /// The devices of an account that are in its newest list and not revoked, ascending; none for
    /// an account that is unknown, suspended or ended.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn active_devices(
        &self,
        tx: &Tx<'_>,
        account: &AccountId,
    ) -> Result<Vec<DeviceId>, AuthError> {
        if accounts::standing(tx, account)? != Some(Standing::Active) {
            return Ok(Vec::new());
        }
        Ok(accounts::active_devices(tx, account)?)
    }

    /// Every device that an account ever had, ascending, whatever the account's standing; none once
    /// it is erased.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn all_devices(
        &self,
        tx: &Tx<'_>,
        account: &AccountId,
    ) -> Result<Vec<DeviceId>, AuthError> {
        Ok(accounts::all_devices(tx, account)?)
    }

    /// Deletes what has expired, at most `limit` rows of each kind; returns how many went. Access
    /// tokens go at their session's first refresh a day after their end, so that their owner hears
    /// `TOKEN_EXPIRED`, and with the session at the latest.
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

/// Whether a device that has proved itself may go on.
fn check_standing(standing: DeviceStanding) -> Result<(), AuthError> {
    match standing {
        DeviceStanding::Active => Ok(()),
        DeviceStanding::Revoked => Err(AuthError::DeviceRevoked),
        DeviceStanding::Suspended => Err(AuthError::AccountSuspended),
    }
}

fn contradiction(why: &'static str) -> AuthError {
    AuthError::Identity(CredentialError::Identity(why))
}
