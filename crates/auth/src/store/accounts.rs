//! Rows of accounts, their signed objects and their devices.

use bytes::Bytes;
use qpc_credential::DeviceList;
use qpc_proto::message::{DeviceRef, Identity, Register};
use qpc_proto::{AccountId, DeviceId, PublicKey};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

const ACTIVE: i64 = 1;
const REVOKED: i64 = 2;

/// An account and its first device.
pub(crate) struct NewAccount<'a> {
    pub(crate) device: DeviceRef,
    pub(crate) device_key: PublicKey,
    pub(crate) root: PublicKey,
    pub(crate) name: &'a str,
    pub(crate) created_at_ms: u64,
}

/// A device as login needs it.
pub(crate) struct DeviceRow {
    pub(crate) key: PublicKey,
    pub(crate) active: bool,
}

/// Whether the device id, the device key or the root is in use.
pub(crate) fn knows(tx: &Tx<'_>, new: &NewAccount<'_>) -> sql::Result<bool> {
    tx.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM devices WHERE device_id = ?1)
             OR EXISTS (SELECT 1 FROM devices WHERE key = ?2)
             OR EXISTS (SELECT 1 FROM accounts WHERE account_id = ?3)
             OR EXISTS (SELECT 1 FROM accounts WHERE root = ?4)",
    )?
    .query_row(
        (
            new.device.device.as_bytes(),
            new.device_key.as_bytes(),
            new.device.account.as_bytes(),
            new.root.as_bytes(),
        ),
        |row| row.get(0),
    )
}

pub(crate) fn insert(tx: &Tx<'_>, new: &NewAccount<'_>) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO accounts (account_id, root, name, created_at_ms) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((
        new.device.account.as_bytes(),
        new.root.as_bytes(),
        new.name,
        Number(new.created_at_ms),
    ))?;
    tx.prepare_cached(
        "INSERT INTO devices (device_id, account_id, key, status) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((
        new.device.device.as_bytes(),
        new.device.account.as_bytes(),
        new.device_key.as_bytes(),
        ACTIVE,
    ))
    .map(drop)
}

/// Keeps the account key statement and device list of a registration as they were signed.
pub(crate) fn insert_signed(
    tx: &Tx<'_>,
    list: &DeviceList,
    register: &Register,
) -> sql::Result<()> {
    let account = list.account.as_bytes();
    tx.prepare_cached(
        "INSERT INTO account_keys (account_id, generation, statement) VALUES (?1, ?2, ?3)",
    )?
    .execute((account, list.generation, register.account_key.as_ref()))?;
    tx.prepare_cached(
        "INSERT INTO device_lists (account_id, generation, version, list) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((account, list.generation, Number(list.version), register.device_list.as_ref()))
    .map(drop)
}

pub(crate) fn by_name(tx: &Tx<'_>, name: &str) -> sql::Result<Option<AccountId>> {
    tx.prepare_cached("SELECT account_id FROM accounts WHERE name = ?1")?
        .query_row([name], |row| row.get(0).map(AccountId))
        .optional()
}

/// The newest account key and the newest list: by generation, then by version.
pub(crate) fn identity(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Option<Identity>> {
    tx.prepare_cached(
        "SELECT k.statement, l.list
         FROM device_lists l JOIN account_keys k USING (account_id, generation)
         WHERE l.account_id = ?1 ORDER BY l.generation DESC, l.version DESC LIMIT 1",
    )?
    .query_row([account.as_bytes()], |row| {
        Ok(Identity {
            account: *account,
            account_key: Bytes::from(row.get::<_, Vec<u8>>(0)?),
            device_list: Bytes::from(row.get::<_, Vec<u8>>(1)?),
        })
    })
    .optional()
}

pub(crate) fn device(tx: &Tx<'_>, device: &DeviceRef) -> sql::Result<Option<DeviceRow>> {
    tx.prepare_cached("SELECT key, status FROM devices WHERE device_id = ?1 AND account_id = ?2")?
        .query_row((device.device.as_bytes(), device.account.as_bytes()), |row| {
            Ok(DeviceRow { key: PublicKey(row.get(0)?), active: row.get::<_, i64>(1)? == ACTIVE })
        })
        .optional()
}

pub(crate) fn active_devices(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<DeviceId>> {
    tx.prepare_cached(
        "SELECT device_id FROM devices WHERE account_id = ?1 AND status = ?2 ORDER BY device_id",
    )?
    .query_map((account.as_bytes(), ACTIVE), |row| row.get(0).map(DeviceId))?
    .collect()
}

/// Marks a device revoked; whether the account has it.
pub(crate) fn revoke(tx: &Tx<'_>, device: &DeviceRef) -> sql::Result<bool> {
    tx.prepare_cached("UPDATE devices SET status = ?3 WHERE device_id = ?1 AND account_id = ?2")?
        .execute((device.device.as_bytes(), device.account.as_bytes(), REVOKED))
        .map(|changed| changed == 1)
}
