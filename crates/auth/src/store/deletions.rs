//! Rows of deletions: the empty device list that each account signed for its end.

use bytes::Bytes;
use qpc_proto::AccountId;
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

/// An empty device list that has not been published.
pub(crate) struct Deletion {
    pub(crate) generation: u32,
    pub(crate) version: u64,
    pub(crate) list: Bytes,
    /// `None` once taken back.
    pub(crate) delete_at_ms: Option<u64>,
}

pub(crate) fn of(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Option<Deletion>> {
    tx.prepare_cached(
        "SELECT generation, version, list, delete_at_ms FROM deletions WHERE account_id = ?1",
    )?
    .query_row([account.as_bytes()], deletion)
    .optional()
}

/// The one whose grace ended first, if any has.
pub(crate) fn due(tx: &Tx<'_>, now_ms: u64) -> sql::Result<Option<(AccountId, Deletion)>> {
    tx.prepare_cached(
        "SELECT generation, version, list, delete_at_ms, account_id FROM deletions
         WHERE delete_at_ms <= ?1 ORDER BY delete_at_ms LIMIT 1",
    )?
    .query_row([Number(now_ms)], |row| Ok((AccountId(row.get(4)?), deletion(row)?)))
    .optional()
}

pub(crate) fn put(tx: &Tx<'_>, account: &AccountId, new: &Deletion) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO deletions (account_id, generation, version, list, delete_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((
        account.as_bytes(),
        new.generation,
        Number(new.version),
        new.list.as_ref(),
        new.delete_at_ms.map(Number),
    ))
    .map(drop)
}

/// Takes a pending one back; whether there was one.
pub(crate) fn take_back(tx: &Tx<'_>, account: &AccountId) -> sql::Result<bool> {
    tx.prepare_cached(
        "UPDATE deletions SET delete_at_ms = NULL
         WHERE account_id = ?1 AND delete_at_ms IS NOT NULL",
    )?
    .execute([account.as_bytes()])
    .map(|changed| changed == 1)
}

/// Makes the list the newest of its account.
pub(crate) fn publish(tx: &Tx<'_>, account: &AccountId, due: &Deletion) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO device_lists (account_id, generation, version, list) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((account.as_bytes(), due.generation, Number(due.version), due.list.as_ref()))?;
    remove(tx, account)
}

pub(crate) fn remove(tx: &Tx<'_>, account: &AccountId) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM deletions WHERE account_id = ?1")?
        .execute([account.as_bytes()])
        .map(drop)
}

fn deletion(row: &sql::Row<'_>) -> sql::Result<Deletion> {
    Ok(Deletion {
        generation: row.get(0)?,
        version: row.get::<_, Number>(1)?.0,
        list: Bytes::from(row.get::<_, Vec<u8>>(2)?),
        delete_at_ms: row.get::<_, Option<Number>>(3)?.map(|at| at.0),
    })
}
