//! Rows of revoked devices, and of the device lists that the server itself put into logs.

use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, MessageId};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

/// Notes that a device was revoked.
pub(crate) fn insert(tx: &Tx<'_>, device: &DeviceRef) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO revoked (device_id, account_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?
    .execute((device.device.as_bytes(), device.account.as_bytes()))
    .map(drop)
}

/// Whether a device was revoked, of an erased account too.
pub(crate) fn contains(tx: &Tx<'_>, device: &DeviceId) -> sql::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM revoked WHERE device_id = ?1")?.exists([device.as_bytes()])
}

/// The revoked devices of an account, ascending.
pub(crate) fn of_account(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<DeviceId>> {
    tx.prepare_cached("SELECT device_id FROM revoked WHERE account_id = ?1 ORDER BY device_id")?
        .query_map([account.as_bytes()], |row| row.get(0).map(DeviceId))?
        .collect()
}

/// Leaves nothing of an account but the bare ids of its revoked devices.
pub(crate) fn forget_account(tx: &Tx<'_>, account: &AccountId) -> sql::Result<()> {
    tx.prepare_cached("UPDATE revoked SET account_id = NULL WHERE account_id = ?1")?
        .execute([account.as_bytes()])
        .map(drop)
}

/// The message id of the list that was put into a channel last for an account.
pub(crate) fn posted(tx: &Tx<'_>, no: i64, account: &AccountId) -> sql::Result<Option<MessageId>> {
    tx.prepare_cached("SELECT message_id FROM posted_lists WHERE no = ?1 AND account_id = ?2")?
        .query_row((no, account.as_bytes()), |row| row.get(0).map(MessageId))
        .optional()
}

/// Notes that an account's list stands in a log at `seq`; it takes the place of an older one.
pub(crate) fn put_posted(
    tx: &Tx<'_>,
    no: i64,
    account: &AccountId,
    (seq, message_id): (u64, MessageId),
) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO posted_lists (no, account_id, seq, message_id) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (no, account_id)
         DO UPDATE SET seq = excluded.seq, message_id = excluded.message_id",
    )?
    .execute((no, account.as_bytes(), Number(seq), message_id.as_bytes()))
    .map(drop)
}

/// Each account's list in a log, with its sequence number.
pub(crate) fn lists(tx: &Tx<'_>, no: i64) -> sql::Result<Vec<(AccountId, u64)>> {
    tx.prepare_cached("SELECT account_id, seq FROM posted_lists WHERE no = ?1 ORDER BY account_id")?
        .query_map([no], |row| Ok((AccountId(row.get(0)?), row.get::<_, Number>(1)?.0)))?
        .collect()
}

/// Forgets where an account's list stands in a log.
pub(crate) fn drop_posted(tx: &Tx<'_>, no: i64, account: &AccountId) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM posted_lists WHERE no = ?1 AND account_id = ?2")?
        .execute((no, account.as_bytes()))
        .map(drop)
}
