//! Rows of accounts, their signed objects and their devices.

use bytes::Bytes;
use qpc_credential::{AccountKey, DeviceList};
use qpc_proto::chain::sha256;
use qpc_proto::message::{DeviceRef, Identity};
use qpc_proto::{AccountId, DeviceId, PublicKey};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

const ACTIVE: i64 = 1;
const REVOKED: i64 = 2;

/// Where an account is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Like most, also while a deletion can be taken back.
    Active,
    /// The operator lets nobody in or at it.
    Suspended,
    /// Deleted; rows may be left.
    Ended,
}

impl Standing {
    fn number(self) -> i64 {
        match self {
            Self::Active => 1,
            Self::Suspended => 2,
            Self::Ended => 3,
        }
    }

    /// An unknown number lets nobody in.
    fn of(number: i64) -> Self {
        match number {
            1 => Self::Active,
            3 => Self::Ended,
            _ => Self::Suspended,
        }
    }
}

/// What a device that has proved itself may hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceStanding {
    Active,
    Revoked,
    Suspended,
}

impl DeviceStanding {
    /// From the two columns.
    pub(crate) fn of(device: i64, account: i64) -> Self {
        match (device, Standing::of(account)) {
            (ACTIVE, Standing::Active) => Self::Active,
            (ACTIVE, Standing::Suspended) => Self::Suspended,
            _ => Self::Revoked,
        }
    }
}

/// An account and its first device.
pub(crate) struct NewAccount<'a> {
    pub(crate) device: DeviceRef,
    pub(crate) device_key: PublicKey,
    pub(crate) root: PublicKey,
    pub(crate) name: &'a str,
    pub(crate) skeleton: &'a str,
    pub(crate) created_at_ms: u64,
}

/// An account without what it signed.
pub(crate) struct AccountRow {
    pub(crate) root: PublicKey,
    pub(crate) name: String,
    pub(crate) skeleton: String,
    pub(crate) standing: Standing,
    pub(crate) created_at_ms: u64,
}

/// An account as its operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSummary {
    /// The account.
    pub account: AccountId,
    /// Its name, normalised.
    pub name: String,
    /// Where it is in its life.
    pub standing: Standing,
    /// Unix milliseconds.
    pub created_at_ms: u64,
    /// Devices that are not revoked.
    pub devices: u64,
    /// When it will be deleted, Unix milliseconds.
    pub delete_at_ms: Option<u64>,
}

/// A device as login needs it.
pub(crate) struct DeviceRow {
    pub(crate) key: PublicKey,
    pub(crate) standing: DeviceStanding,
}

/// Whether the device id, the device key or the root is in use or was in use.
pub(crate) fn knows(tx: &Tx<'_>, new: &NewAccount<'_>) -> sql::Result<bool> {
    let root: bool = tx
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM accounts WHERE account_id = ?1)
                 OR EXISTS (SELECT 1 FROM accounts WHERE root = ?2)
                 OR EXISTS (SELECT 1 FROM spent WHERE hash = ?3)",
        )?
        .query_row(
            (
                new.device.account.as_bytes(),
                new.root.as_bytes(),
                sha256(new.root.as_bytes()).as_bytes(),
            ),
            |row| row.get(0),
        )?;
    Ok(root || knows_device(tx, &new.device.device, &new.device_key)?)
}

/// Whether a device id or a device key is in use or was in use, by whatever account.
pub(crate) fn knows_device(tx: &Tx<'_>, device: &DeviceId, key: &PublicKey) -> sql::Result<bool> {
    tx.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM devices WHERE device_id = ?1)
             OR EXISTS (SELECT 1 FROM devices WHERE key = ?2)
             OR EXISTS (SELECT 1 FROM spent WHERE hash IN (?3, ?4))",
    )?
    .query_row(
        (
            device.as_bytes(),
            key.as_bytes(),
            sha256(device.as_bytes()).as_bytes(),
            sha256(key.as_bytes()).as_bytes(),
        ),
        |row| row.get(0),
    )
}

/// Whether an account has a name that looks so.
pub(crate) fn looks_taken(tx: &Tx<'_>, skeleton: &str) -> sql::Result<bool> {
    tx.prepare_cached("SELECT EXISTS (SELECT 1 FROM accounts WHERE skeleton = ?1)")?
        .query_row([skeleton], |row| row.get(0))
}

/// Accounts created at or after a time.
pub(crate) fn created_since(tx: &Tx<'_>, since_ms: u64) -> sql::Result<u64> {
    tx.prepare_cached("SELECT COUNT(*) FROM accounts WHERE created_at_ms >= ?1")?
        .query_row([Number(since_ms)], |row| row.get::<_, Number>(0).map(|count| count.0))
}

pub(crate) fn insert(tx: &Tx<'_>, new: &NewAccount<'_>) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO accounts (account_id, root, name, skeleton, created_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((
        new.device.account.as_bytes(),
        new.root.as_bytes(),
        new.name,
        new.skeleton,
        Number(new.created_at_ms),
    ))?;
    insert_device(tx, &new.device, &new.device_key)
}

pub(crate) fn insert_device(tx: &Tx<'_>, device: &DeviceRef, key: &PublicKey) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO devices (device_id, account_id, key, status) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((device.device.as_bytes(), device.account.as_bytes(), key.as_bytes(), ACTIVE))
    .map(drop)
}

/// Keeps an account key statement as it was signed.
pub(crate) fn insert_account_key(tx: &Tx<'_>, key: &AccountKey, signed: &[u8]) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO account_keys (account_id, generation, statement) VALUES (?1, ?2, ?3)",
    )?
    .execute((key.account().as_bytes(), key.generation, signed))
    .map(drop)
}

/// Keeps a device list as it was signed.
pub(crate) fn insert_list(tx: &Tx<'_>, list: &DeviceList, signed: &[u8]) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO device_lists (account_id, generation, version, list) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((list.account.as_bytes(), list.generation, Number(list.version), signed))
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
    tx.prepare_cached(
        "SELECT d.key, d.status, a.status FROM devices d JOIN accounts a USING (account_id)
         WHERE d.device_id = ?1 AND account_id = ?2",
    )?
    .query_row((device.device.as_bytes(), device.account.as_bytes()), |row| {
        let standing = DeviceStanding::of(row.get(1)?, row.get(2)?);
        Ok(DeviceRow { key: PublicKey(row.get(0)?), standing })
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

/// All devices, revoked ones too.
pub(crate) fn all_devices(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<DeviceId>> {
    tx.prepare_cached("SELECT device_id FROM devices WHERE account_id = ?1 ORDER BY device_id")?
        .query_map([account.as_bytes()], |row| row.get(0).map(DeviceId))?
        .collect()
}

/// Marks a device revoked.
pub(crate) fn revoke(tx: &Tx<'_>, device: &DeviceRef) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE devices SET status = ?3, certificate = NULL
         WHERE device_id = ?1 AND account_id = ?2",
    )?
    .execute((device.device.as_bytes(), device.account.as_bytes(), REVOKED))
    .map(drop)
}

/// Keeps a device's newest certificate in place of any before it.
pub(crate) fn set_certificate(
    tx: &Tx<'_>,
    device: &DeviceRef,
    certificate: &[u8],
) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE devices SET certificate = ?3 WHERE device_id = ?1 AND account_id = ?2",
    )?
    .execute((device.device.as_bytes(), device.account.as_bytes(), certificate))
    .map(drop)
}

/// A device's newest certificate, if it was renewed.
pub(crate) fn certificate(tx: &Tx<'_>, device: &DeviceRef) -> sql::Result<Option<Bytes>> {
    let held: Option<Option<Vec<u8>>> = tx
        .prepare_cached("SELECT certificate FROM devices WHERE device_id = ?1 AND account_id = ?2")?
        .query_row((device.device.as_bytes(), device.account.as_bytes()), |row| row.get(0))
        .optional()?;
    Ok(held.flatten().map(Bytes::from))
}

pub(crate) fn standing(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Option<Standing>> {
    tx.prepare_cached("SELECT status FROM accounts WHERE account_id = ?1")?
        .query_row([account.as_bytes()], |row| row.get(0).map(Standing::of))
        .optional()
}

pub(crate) fn set_standing(
    tx: &Tx<'_>,
    account: &AccountId,
    standing: Standing,
) -> sql::Result<()> {
    tx.prepare_cached("UPDATE accounts SET status = ?2 WHERE account_id = ?1")?
        .execute((account.as_bytes(), standing.number()))
        .map(drop)
}

/// One of the ended accounts.
pub(crate) fn ended(tx: &Tx<'_>) -> sql::Result<Option<AccountId>> {
    tx.prepare_cached("SELECT account_id FROM accounts WHERE status = 3 LIMIT 1")?
        .query_row([], |row| row.get(0).map(AccountId))
        .optional()
}

pub(crate) fn row(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Option<AccountRow>> {
    tx.prepare_cached(
        "SELECT root, name, skeleton, status, created_at_ms FROM accounts WHERE account_id = ?1",
    )?
    .query_row([account.as_bytes()], |row| {
        Ok(AccountRow {
            root: PublicKey(row.get(0)?),
            name: row.get(1)?,
            skeleton: row.get(2)?,
            standing: row.get(3).map(Standing::of)?,
            created_at_ms: row.get::<_, Number>(4)?.0,
        })
    })
    .optional()
}

/// Accounts by name, from behind one.
pub(crate) fn list(tx: &Tx<'_>, after: &str, limit: u32) -> sql::Result<Vec<AccountSummary>> {
    tx.prepare_cached(
        "SELECT account_id, name, a.status, created_at_ms, delete_at_ms,
                (SELECT COUNT(*) FROM devices d
                 WHERE d.account_id = a.account_id AND d.status = 1)
         FROM accounts a LEFT JOIN deletions USING (account_id)
         WHERE name > ?1 ORDER BY name LIMIT ?2",
    )?
    .query_map((after, limit), |row| {
        Ok(AccountSummary {
            account: AccountId(row.get(0)?),
            name: row.get(1)?,
            standing: row.get(2).map(Standing::of)?,
            created_at_ms: row.get::<_, Number>(3)?.0,
            delete_at_ms: row.get::<_, Option<Number>>(4)?.map(|at| at.0),
            devices: row.get::<_, Number>(5)?.0,
        })
    })?
    .collect()
}
