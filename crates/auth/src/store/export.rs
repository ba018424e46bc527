//! Reads all rows of one account, for its export.

use qpc_proto::{AccountId, DeviceId, PublicKey};
use qpc_storage::{Number, Tx, sql};

/// Generation and signed statement of every account key.
pub(crate) fn account_keys(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<(u32, Vec<u8>)>> {
    tx.prepare_cached(
        "SELECT generation, statement FROM account_keys WHERE account_id = ?1 ORDER BY generation",
    )?
    .query_map([account.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

/// Generation, version and signed bytes.
pub(crate) type SignedList = (u32, u64, Vec<u8>);

/// Every device list.
pub(crate) fn device_lists(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<SignedList>> {
    tx.prepare_cached(
        "SELECT generation, version, list FROM device_lists
         WHERE account_id = ?1 ORDER BY generation, version",
    )?
    .query_map([account.as_bytes()], |row| {
        Ok((row.get(0)?, row.get::<_, Number>(1)?.0, row.get(2)?))
    })?
    .collect()
}

/// Id, key, whether it is active, and the certificate by which it was renewed.
pub(crate) type ListedDevice = (DeviceId, PublicKey, bool, Option<Vec<u8>>);

/// Every device.
pub(crate) fn devices(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<ListedDevice>> {
    tx.prepare_cached(
        "SELECT device_id, key, status = 1, certificate FROM devices
         WHERE account_id = ?1 ORDER BY device_id",
    )?
    .query_map([account.as_bytes()], |row| {
        Ok((DeviceId(row.get(0)?), PublicKey(row.get(1)?), row.get(2)?, row.get(3)?))
    })?
    .collect()
}
