//! The server's own tables: the incarnation, and answers kept for repeated request ids.
//!
//! All SQL of this crate is here. Decides nothing: callers say what a found answer means.

use qpc_proto::{DeviceId, Digest, Incarnation, RequestId};
use qpc_storage::sql::{self, OptionalExtension as _, params};
use qpc_storage::{Migration, Schema, Tx};

const MIGRATIONS: &[Migration] =
    &[Migration { name: "server", sql: include_str!("../migrations/0001_server.sql") }];

/// The tables of this crate.
pub(crate) fn schema() -> Schema {
    Schema { name: "server", migrations: MIGRATIONS, oldest_reader: 1 }
}

/// Names one change: who asked, under which id, for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerKey {
    /// The calling device, or the one that registers or recovers.
    pub(crate) scope: DeviceId,
    pub(crate) request_id: RequestId,
    /// SHA-256 over method and body.
    pub(crate) digest: Digest,
}

/// What is known of a request id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// Nothing.
    None,
    /// The same request was answered with this body.
    Same(Vec<u8>),
    /// Another request has the id.
    Other,
}

/// Looks a request id up.
pub(crate) fn find_answer(tx: &Tx<'_>, key: &AnswerKey) -> sql::Result<Earlier> {
    let row = tx
        .prepare_cached("SELECT digest, body FROM answers WHERE scope = ?1 AND request_id = ?2")?
        .query_row(params![key.scope.as_bytes(), key.request_id.as_bytes()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
        .optional()?;
    Ok(match row {
        None => Earlier::None,
        Some((digest, body)) if digest == key.digest.as_bytes() => Earlier::Same(body),
        Some(_) => Earlier::Other,
    })
}

/// Forgets the answer to a request id if it was given before `before_ms`.
pub(crate) fn forget_answer(tx: &Tx<'_>, key: &AnswerKey, before_ms: u64) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM answers WHERE scope = ?1 AND request_id = ?2 AND at_ms < ?3")?
        .execute(params![key.scope.as_bytes(), key.request_id.as_bytes(), signed(before_ms)])
        .map(drop)
}

/// Keeps the answer to a change, in the transaction that made the change.
pub(crate) fn keep_answer(
    tx: &Tx<'_>,
    key: &AnswerKey,
    body: &[u8],
    now_ms: u64,
) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO answers (scope, request_id, digest, body, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        key.scope.as_bytes(),
        key.request_id.as_bytes(),
        key.digest.as_bytes(),
        body,
        signed(now_ms),
    ])
    .map(drop)
}

/// Forgets at most `limit` answers given before `before_ms`; returns how many.
pub(crate) fn sweep_answers(tx: &Tx<'_>, before_ms: u64, limit: u32) -> sql::Result<usize> {
    tx.prepare_cached(
        "DELETE FROM answers WHERE id IN \
         (SELECT id FROM answers WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)",
    )?
    .execute(params![signed(before_ms), limit])
}

/// How many answers are kept for devices.
pub(crate) fn answers_of(tx: &Tx<'_>, devices: &[DeviceId]) -> sql::Result<u64> {
    devices.iter().try_fold(0_u64, |sum, device| {
        let count: u64 = tx
            .prepare_cached("SELECT COUNT(*) FROM answers WHERE scope = ?1")?
            .query_row(params![device.as_bytes()], |row| row.get(0))?;
        Ok(sum.saturating_add(count))
    })
}

/// Forgets all answers to devices.
pub(crate) fn erase_answers(tx: &Tx<'_>, devices: &[DeviceId]) -> sql::Result<()> {
    devices.iter().try_for_each(|device| {
        tx.prepare_cached("DELETE FROM answers WHERE scope = ?1")?
            .execute(params![device.as_bytes()])
            .map(drop)
    })
}

/// This life of the database, if one was written.
pub(crate) fn incarnation(tx: &Tx<'_>) -> sql::Result<Option<Incarnation>> {
    tx.prepare_cached("SELECT value FROM server_meta WHERE name = 'incarnation'")?
        .query_row([], |row| row.get(0).map(Incarnation))
        .optional()
}

/// Begins this life of the database.
pub(crate) fn set_incarnation(tx: &Tx<'_>, incarnation: &Incarnation) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO server_meta (name, value) VALUES ('incarnation', ?1)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?
    .execute(params![incarnation.as_bytes()])
    .map(drop)
}

/// The last line of the audit log that was on disk, as far as it was written down.
pub(crate) fn audit_head(tx: &Tx<'_>) -> sql::Result<Option<Vec<u8>>> {
    tx.prepare_cached("SELECT value FROM server_meta WHERE name = 'audit_head'")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// Writes down the last line of the audit log that is on disk.
pub(crate) fn set_audit_head(tx: &Tx<'_>, head: &[u8]) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO server_meta (name, value) VALUES ('audit_head', ?1) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value != excluded.value",
    )?
    .execute(params![head])
    .map(drop)
}

/// SQLite's integers are signed; times beyond them are beyond the year 292 million.
fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_storage::{Durability, Key, Options, Store};

    /// Each table, and what becomes of an account's rows in it when the account is exported and
    /// erased.
    const COVERED: &[(&str, &str)] = &[
        ("answers", "exported as a count by `answers_of`, erased by `erase_answers`"),
        ("server_meta", "about the server alone"),
    ];

    #[test]
    fn every_table_is_accounted_for_in_export_and_erasure() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Key::from_bytes([1; 32]), vec![schema()])
            .with_durability(Durability::Process);
        let store = Store::open(&dir.path().join("server.db"), &options).unwrap();
        let list = |tx: &Tx<'_>| -> sql::Result<Vec<String>> {
            tx.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")?
                .query_map([], |row| row.get(0))?
                .collect()
        };
        let mut own = store.reader().unwrap().read(list).unwrap();
        own.retain(|table| !matches!(table.as_str(), "server_migrations" | "storage_meta"));
        let covered: Vec<_> = COVERED.iter().map(|(table, _)| (*table).to_owned()).collect();
        assert_eq!(own, covered);
    }
}
