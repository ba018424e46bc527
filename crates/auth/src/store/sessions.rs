//! Rows of sessions and their tokens, by the hash of each.

use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, Digest};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

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

/// A token with its session and device.
pub(crate) struct TokenRow {
    pub(crate) hash: Digest,
    pub(crate) session: i64,
    pub(crate) device: DeviceRef,
    pub(crate) active: bool,
    pub(crate) expires_at_ms: u64,
    /// Refresh tokens only.
    pub(crate) used_at_ms: Option<u64>,
}

pub(crate) fn begin(tx: &Tx<'_>, device: &DeviceId, expires_at_ms: u64) -> sql::Result<i64> {
    tx.prepare_cached("INSERT INTO sessions (device_id, expires_at_ms) VALUES (?1, ?2)")?
        .insert((device.as_bytes(), Number(expires_at_ms)))
}

/// Ends all but the newest sessions of a device.
pub(crate) fn keep_newest(tx: &Tx<'_>, device: &DeviceId, count: u32) -> sql::Result<()> {
    tx.prepare_cached(
        "DELETE FROM sessions WHERE session IN (SELECT session FROM sessions
         WHERE device_id = ?1 ORDER BY session DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute((device.as_bytes(), count))
    .map(drop)
}

pub(crate) fn extend(tx: &Tx<'_>, session: i64, expires_at_ms: u64) -> sql::Result<()> {
    tx.prepare_cached("UPDATE sessions SET expires_at_ms = ?2 WHERE session = ?1")?
        .execute((session, Number(expires_at_ms)))
        .map(drop)
}

/// Ends a session with all its tokens.
pub(crate) fn end(tx: &Tx<'_>, session: i64) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM sessions WHERE session = ?1")?.execute([session]).map(drop)
}

pub(crate) fn insert_tokens(tx: &Tx<'_>, session: i64, new: &NewTokens) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO access_tokens (hash, session, expires_at_ms) VALUES (?1, ?2, ?3)",
    )?
    .execute((new.access.as_bytes(), session, Number(new.expiry.access_ms)))?;
    tx.prepare_cached(
        "INSERT INTO refresh_tokens (hash, session, expires_at_ms) VALUES (?1, ?2, ?3)",
    )?
    .execute((new.refresh.as_bytes(), session, Number(new.expiry.refresh_ms)))
    .map(drop)
}

pub(crate) fn access_token(tx: &Tx<'_>, hash: &Digest) -> sql::Result<Option<TokenRow>> {
    tx.prepare_cached(
        "SELECT t.hash, t.session, d.account_id, d.device_id, d.status = 1, t.expires_at_ms, NULL
         FROM access_tokens t JOIN sessions s USING (session) JOIN devices d USING (device_id)
         WHERE t.hash = ?1",
    )?
    .query_row([hash.as_bytes()], token_row)
    .optional()
}

pub(crate) fn refresh_token(tx: &Tx<'_>, hash: &Digest) -> sql::Result<Option<TokenRow>> {
    tx.prepare_cached(
        "SELECT t.hash, t.session, d.account_id, d.device_id, d.status = 1, t.expires_at_ms,
                t.used_at_ms
         FROM refresh_tokens t JOIN sessions s USING (session) JOIN devices d USING (device_id)
         WHERE t.hash = ?1",
    )?
    .query_row([hash.as_bytes()], token_row)
    .optional()
}

pub(crate) fn mark_used(tx: &Tx<'_>, hash: &Digest, now_ms: u64) -> sql::Result<()> {
    tx.prepare_cached("UPDATE refresh_tokens SET used_at_ms = ?2 WHERE hash = ?1")?
        .execute((hash.as_bytes(), Number(now_ms)))
        .map(drop)
}

fn token_row(row: &sql::Row<'_>) -> sql::Result<TokenRow> {
    Ok(TokenRow {
        hash: Digest(row.get(0)?),
        session: row.get(1)?,
        device: DeviceRef { account: AccountId(row.get(2)?), device: DeviceId(row.get(3)?) },
        active: row.get(4)?,
        expires_at_ms: row.get::<_, Number>(5)?.0,
        used_at_ms: row.get::<_, Option<Number>>(6)?.map(|at| at.0),
    })
}
