//! Sessions: a login by device key, tokens that rotate, and what ends them (RFC 9700 section 4.14).
//!
//! A token counts only on a connection bound to its device. Only its SHA-256 is stored.

use qpc_proto::binding::Purpose;
use qpc_proto::chain::sha256;
use qpc_proto::message::{DeviceRef, Login, LoginAnswer};
use qpc_proto::{DeviceId, Digest, PublicKey, Token};
use rand_core::{CryptoRng, RngCore};
use subtle::ConstantTimeEq as _;

use super::{Auth, Call, check_proof, check_standing};
use crate::AuthError;
use crate::store::accounts;
use crate::store::sessions::{self, Expiry, Kind, NewTokens, SessionRef, TokenRow};

/// Sessions of one device at a time; an older one ends when another begins.
const SESSIONS_PER_DEVICE_MAX: u32 = 8;

/// How long an expired access token is told from an unknown one, at least, while its session
/// lasts.
const EXPIRED_KEPT_MS: u64 = 24 * 3_600 * 1_000;

/// Access tokens of one session that are kept: more than a day has at the usual lifetime. Each
/// login and refresh looks through all, so whoever refreshes all the time must not gather more.
const ACCESS_TOKENS_MAX: u32 = 128;

/// The Ed25519 base point: a sound key of no device. An unknown device's proof is checked against
/// it, so that it takes the same time as a wrong one.
const NOBODY: PublicKey = {
    let mut bytes = [0x66; 32];
    bytes[0] = 0x58;
    PublicKey(bytes)
};

/// What became of a refresh. Not an error, because the revocation of a family must be committed.
#[derive(Debug)]
#[must_use]
pub enum Refreshed {
    /// Fresh tokens of the same session.
    Tokens(LoginAnswer),
    /// The token had been used before, so somebody beside this device has it: its whole session
    /// has ended. To be answered like [`AuthError::Unauthenticated`], after the commit.
    Reused(DeviceRef),
}

/// What an access token gives, as long as nothing else is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The device that it stands for.
    pub device: DeviceRef,
    /// When it ends, Unix milliseconds.
    pub expires_at_ms: u64,
}

impl Grant {
    /// Whether it still holds at `now_ms`.
    ///
    /// # Errors
    /// [`AuthError::TokenExpired`].
    pub fn check(&self, now_ms: u64) -> Result<(), AuthError> {
        (now_ms < self.expires_at_ms).then_some(()).ok_or(AuthError::TokenExpired)
    }
}

impl Auth {
    /// Binds a connection to a device and begins a session.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`] alike for an unknown account or device and a wrong proof;
    /// [`AuthError::DeviceRevoked`] and [`AuthError::AccountSuspended`] only to who holds the
    /// device's key; [`AuthError::Store`].
    pub fn login(
        &self,
        call: &Call<'_>,
        login: &Login,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<LoginAnswer, AuthError> {
        let known = accounts::device(call.tx, &login.device)?;
        let key = known.as_ref().map_or(&NOBODY, |device| &device.key);
        let signed = (&login.device, Purpose::Login);
        check_proof(call.binding, key, signed, &login.proof)?;
        let device = known.ok_or(AuthError::Unauthenticated)?;
        check_standing(device.standing)?;
        self.begin(call, &login.device.device, rng)
    }

    /// Trades a refresh token for new tokens of the same session. A used one answers again within
    /// the grace, for a reply that was lost; after it, the whole session ends: commit that.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`] for a token that is unknown, expired or not of the bound
    /// device; [`AuthError::DeviceRevoked`]; [`AuthError::AccountSuspended`]; [`AuthError::Store`].
    pub fn refresh(
        &self,
        call: &Call<'_>,
        token: &Token,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Refreshed, AuthError> {
        let hash = sha256(token.as_bytes());
        let row = of_bound_device(call, (Kind::Refresh, &hash))?;
        if row.expires_at_ms <= call.now_ms {
            return Err(AuthError::Unauthenticated);
        }
        match row.used_at_ms {
            None => sessions::mark_used(call.tx, &row, call.now_ms)?,
            Some(at) if call.now_ms.saturating_sub(at) <= self.config.refresh_grace_ms => {}
            Some(_) => {
                sessions::end(call.tx, &row.session_ref())?;
                return Ok(Refreshed::Reused(row.device));
            }
        }
        let long_ago = call.now_ms.saturating_sub(EXPIRED_KEPT_MS);
        sessions::prune(call.tx, &row.session_ref(), (long_ago, ACCESS_TOKENS_MAX))?;
        self.issue(call, &row.session_ref(), rng).map(Refreshed::Tokens)
    }

    /// Ends the session of an access token, expired or not.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`] for a token that is unknown or not of the bound device,
    /// [`AuthError::DeviceRevoked`], [`AuthError::AccountSuspended`], [`AuthError::Store`].
    pub fn logout(&self, call: &Call<'_>, token: &Token) -> Result<(), AuthError> {
        let hash = sha256(token.as_bytes());
        let row = of_bound_device(call, (Kind::Access, &hash))?;
        Ok(sessions::end(call.tx, &row.session_ref())?)
    }

    /// The device that an access token stands for on this connection. Reads only.
    ///
    /// # Errors
    /// [`AuthError::Unauthenticated`] alike for no token, a wrong one and one of another device;
    /// [`AuthError::DeviceRevoked`]; [`AuthError::AccountSuspended`]; [`AuthError::TokenExpired`];
    /// [`AuthError::Store`].
    pub fn authorize(&self, call: &Call<'_>, token: &Token) -> Result<DeviceRef, AuthError> {
        self.grant(call, token).map(|grant| grant.device)
    }

    /// As [`Self::authorize`], with the time at which it ends.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub fn grant(&self, call: &Call<'_>, token: &Token) -> Result<Grant, AuthError> {
        let hash = sha256(token.as_bytes());
        let row = of_bound_device(call, (Kind::Access, &hash))?;
        let grant = Grant { device: row.device, expires_at_ms: row.expires_at_ms };
        grant.check(call.now_ms).map(|()| grant)
    }

    fn expiry(&self, now_ms: u64) -> Expiry {
        Expiry {
            access_ms: now_ms.saturating_add(self.config.access_ttl_ms),
            refresh_ms: now_ms.saturating_add(self.config.refresh_ttl_ms),
        }
    }

    /// Begins a session, and ends the oldest if the device has too many.
    fn begin(
        &self,
        call: &Call<'_>,
        device: &DeviceId,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<LoginAnswer, AuthError> {
        let before = sessions::newest(call.tx, device, SESSIONS_PER_DEVICE_MAX)?;
        let after = before.first().map_or(0, |newest| newest.saturating_add(1));
        let full = before.len() >= usize::try_from(SESSIONS_PER_DEVICE_MAX).unwrap_or(usize::MAX);
        if let Some(oldest) = before.last().filter(|_| full) {
            sessions::end_up_to(call.tx, &(*device, *oldest))?;
        }
        self.issue(call, &(*device, call.now_ms.max(after)), rng)
    }

    fn issue(
        &self,
        call: &Call<'_>,
        session: &SessionRef,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<LoginAnswer, AuthError> {
        let (access, refresh) = (random_token(rng), random_token(rng));
        let expiry = self.expiry(call.now_ms);
        let hashes = NewTokens {
            access: sha256(access.as_bytes()),
            refresh: sha256(refresh.as_bytes()),
            expiry,
        };
        sessions::insert_tokens(call.tx, session, &hashes)?;
        Ok(LoginAnswer {
            access_token: access,
            access_expires_at_ms: expiry.access_ms,
            refresh_token: refresh,
            refresh_expires_at_ms: expiry.refresh_ms,
            now_ms: call.now_ms,
            incarnation: self.incarnation,
        })
    }
}

fn random_token(rng: &mut (impl RngCore + CryptoRng)) -> Token {
    let mut token = Token::NONE;
    rng.fill_bytes(&mut token.0);
    token
}

/// The token, if it is one of the connection's device, and the device counts.
fn of_bound_device(call: &Call<'_>, (kind, hash): (Kind, &Digest)) -> Result<TokenRow, AuthError> {
    let bound = call.bound.ok_or(AuthError::Unauthenticated)?;
    let row = sessions::token(call.tx, &bound.device, (kind, hash))?
        .filter(|row| row.hash.as_bytes().ct_eq(hash.as_bytes()).into())
        .filter(|row| row.device == bound)
        .ok_or(AuthError::Unauthenticated)?;
    check_standing(row.standing)?;
    Ok(row)
}
