//! Rows of tokens, by device, session and hash. A session is what its tokens say of it.

use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, Digest};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

use super::accounts::DeviceStanding;

/// When fresh tokens end, Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expiry {
    pub(crate) access_ms: u64,
    pub(crate) refresh_ms: u64,
}

/// Hashes of fresh tokens.
pub(crate) struct NewTokens {
    pub(crate) access: Digest,
    pub(crate) refresh: Digest,
    pub(crate) expiry: Expiry,
}

/// What a token is for; its number stands in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Access = 1,
    Refresh = 2,
}

/// A session of a device.
pub(crate) type SessionRef = (DeviceId, u64);

/// A token with its session and device.
pub(crate) struct TokenRow {
    pub(crate) hash: Digest,
    pub(crate) session: u64,
    pub(crate) device: DeviceRef,
    pub(crate) standing: DeviceStanding,
    pub(crate) expires_at_ms: u64,
    /// Refresh tokens only.
    pub(crate) used_at_ms: Option<u64>,
}

impl TokenRow {
    pub(crate) fn session_ref(&self) -> SessionRef {
        (self.device.device, self.session)
    }
}

/// A session as its account's owner and the operator see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSummary {
    /// Whose it is.
    pub device: DeviceId,
    /// Unix milliseconds.
    pub began_at_ms: Option<u64>,
    /// When the last of its refresh tokens expires, Unix milliseconds.
    pub expires_at_ms: u64,
    /// Access tokens kept of it, expired ones included.
    pub access_tokens: u64,
    /// Refresh tokens kept of it, used ones included.
    pub refresh_tokens: u64,
}

/// At most `count` sessions of a device, the newest first.
pub(crate) fn newest(tx: &Tx<'_>, device: &DeviceId, count: u32) -> sql::Result<Vec<u64>> {
    // Access tokens are few; refresh tokens are kept for as long as they last.
    tx.prepare_cached(
        "SELECT DISTINCT session FROM tokens WHERE device_id = ?1 AND kind = 1
         ORDER BY session DESC LIMIT ?2",
    )?
    .query_map((device.as_bytes(), count), |row| row.get::<_, Number>(0).map(|number| number.0))?
    .collect()
}

/// All sessions of an account.
pub(crate) fn list(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<SessionSummary>> {
    tx.prepare_cached(
        "SELECT device_id, session, max(expires_at_ms) FILTER (WHERE kind = 2),
                count(*) FILTER (WHERE kind = 1), count(*) FILTER (WHERE kind = 2)
         FROM devices JOIN tokens USING (device_id)
         WHERE account_id = ?1 GROUP BY device_id, session ORDER BY device_id, session",
    )?
    .query_map([account.as_bytes()], |row| {
        let number = |at| row.get::<_, Number>(at).map(|number| number.0);
        Ok(SessionSummary {
            device: DeviceId(row.get(0)?),
            began_at_ms: Some(number(1)?),
            expires_at_ms: number(2)?,
            access_tokens: number(3)?,
            refresh_tokens: number(4)?,
        })
    })?
    .collect()
}

/// Ends all sessions of an account; the devices that had one.
pub(crate) fn end_all(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<DeviceId>> {
    let devices = tx
        .prepare_cached(
            "SELECT DISTINCT device_id FROM devices JOIN tokens USING (device_id)
             WHERE account_id = ?1 ORDER BY device_id",
        )?
        .query_map([account.as_bytes()], |row| row.get(0).map(DeviceId))?
        .collect::<sql::Result<_>>()?;
    tx.prepare_cached(
        "DELETE FROM tokens
         WHERE device_id IN (SELECT device_id FROM devices WHERE account_id = ?1)",
    )?
    .execute([account.as_bytes()])?;
    Ok(devices)
}

/// Ends a session of a device and all older ones.
pub(crate) fn end_up_to(tx: &Tx<'_>, (device, session): &SessionRef) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM tokens WHERE device_id = ?1 AND session <= ?2")?
        .execute((device.as_bytes(), Number(*session)))
        .map(drop)
}

/// Ends a session with all its tokens.
pub(crate) fn end(tx: &Tx<'_>, (device, session): &SessionRef) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM tokens WHERE device_id = ?1 AND session = ?2")?
        .execute((device.as_bytes(), Number(*session)))
        .map(drop)
}

/// Forgets the access tokens of a session that ended at `before_ms` or earlier, and all but the
/// `count` that end last.
pub(crate) fn prune(
    tx: &Tx<'_>,
    (device, session): &SessionRef,
    (before_ms, count): (u64, u32),
) -> sql::Result<()> {
    tx.prepare_cached(
        "DELETE FROM tokens
         WHERE device_id = ?1 AND kind = 1 AND session = ?2 AND (expires_at_ms <= ?3
             OR hash NOT IN (SELECT hash FROM tokens
                 WHERE device_id = ?1 AND kind = 1 AND session = ?2
                 ORDER BY expires_at_ms DESC LIMIT ?4))",
    )?
    .execute((device.as_bytes(), Number(*session), Number(before_ms), count))
    .map(drop)
}

pub(crate) fn insert_tokens(
    tx: &Tx<'_>,
    (device, session): &SessionRef,
    new: &NewTokens,
) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO tokens (device_id, kind, hash, session, expires_at_ms)
         VALUES (?1, 1, ?3, ?2, ?4), (?1, 2, ?5, ?2, ?6)",
    )?
    .execute((
        device.as_bytes(),
        Number(*session),
        new.access.as_bytes(),
        Number(new.expiry.access_ms),
        new.refresh.as_bytes(),
        Number(new.expiry.refresh_ms),
    ))
    .map(drop)
}

/// A token of a device.
pub(crate) fn token(
    tx: &Tx<'_>,
    device: &DeviceId,
    (kind, hash): (Kind, &Digest),
) -> sql::Result<Option<TokenRow>> {
    tx.prepare_cached(
        "SELECT t.hash, t.session, account_id, d.device_id, d.status, a.status, t.expires_at_ms,
                t.used_at_ms
         FROM tokens t JOIN devices d USING (device_id) JOIN accounts a USING (account_id)
         WHERE t.device_id = ?1 AND t.kind = ?2 AND t.hash = ?3",
    )?
    .query_row((device.as_bytes(), kind as u8, hash.as_bytes()), token_row)
    .optional()
}

/// Marks a refresh token as used.
pub(crate) fn mark_used(tx: &Tx<'_>, row: &TokenRow, now_ms: u64) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE tokens SET used_at_ms = ?3
         WHERE device_id = ?1 AND kind = 2 AND hash = ?2",
    )?
    .execute((row.device.device.as_bytes(), row.hash.as_bytes(), Number(now_ms)))
    .map(drop)
}

fn token_row(row: &sql::Row<'_>) -> sql::Result<TokenRow> {
    Ok(TokenRow {
        hash: Digest(row.get(0)?),
        session: row.get::<_, Number>(1)?.0,
        device: DeviceRef { account: AccountId(row.get(2)?), device: DeviceId(row.get(3)?) },
        standing: DeviceStanding::of(row.get(4)?, row.get(5)?),
        expires_at_ms: row.get::<_, Number>(6)?.0,
        used_at_ms: row.get::<_, Option<Number>>(7)?.map(|at| at.0),
    })
}
