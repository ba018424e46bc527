//! Rows of the KeyPackage directory. A package that is given away leaves a tombstone.

use bytes::Bytes;
use qpc_credential::AdmittedKeyPackage;
use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, Digest};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

/// Whose package a reference is or was that is good in a channel.
pub(crate) fn owner(
    tx: &Tx<'_>,
    reference: &Digest,
    channel: i64,
) -> sql::Result<Option<DeviceRef>> {
    tx.prepare_cached(
        "SELECT account_id, device_id FROM key_packages
         WHERE reference = ?1 AND coalesce(only_in, ?2) = ?2",
    )?
    .query_row((reference.as_bytes(), channel), |row| {
        Ok(DeviceRef { account: AccountId(row.get(0)?), device: DeviceId(row.get(1)?) })
    })
    .optional()
}

/// Notes a package that is never served, and is good in one channel; false when its reference was
/// here before.
pub(crate) fn insert_only_in(
    tx: &Tx<'_>,
    admitted: &AdmittedKeyPackage,
    (channel, now_ms): (i64, u64),
) -> sql::Result<bool> {
    tx.prepare_cached(
        "INSERT INTO key_packages (reference, device_id, account_id, last_resort, uploaded_at_ms,
             used, only_in) VALUES (?1, ?2, ?3, 0, ?4, 0, ?5) ON CONFLICT DO NOTHING",
    )?
    .execute((
        admitted.reference.as_bytes(),
        admitted.device.device.as_bytes(),
        admitted.device.account.as_bytes(),
        Number(now_ms),
        channel,
    ))
    .map(|inserted| inserted == 1)
}

/// Puts a package in; false when its reference was here before.
pub(crate) fn insert(
    tx: &Tx<'_>,
    admitted: &AdmittedKeyPackage,
    key_package: &[u8],
    now_ms: u64,
) -> sql::Result<bool> {
    tx.prepare_cached(
        "INSERT INTO key_packages (reference, device_id, account_id, last_resort, uploaded_at_ms,
             used, key_package) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6) ON CONFLICT DO NOTHING",
    )?
    .execute((
        admitted.reference.as_bytes(),
        admitted.device.device.as_bytes(),
        admitted.device.account.as_bytes(),
        admitted.last_resort,
        Number(now_ms),
        key_package,
    ))
    .map(|inserted| inserted == 1)
}

/// Which packages of a device are meant: of one kind, uploaded after some time.
#[derive(Clone, Copy)]
pub(crate) struct Pool<'a> {
    pub(crate) device: &'a DeviceRef,
    pub(crate) last_resort: bool,
    /// Unix milliseconds; older ones, and those of this very time, are no longer served.
    pub(crate) uploaded_after_ms: u64,
}

impl Pool<'_> {
    fn params(&self) -> (&[u8; 16], &[u8; 16], bool, Number) {
        (
            self.device.device.as_bytes(),
            self.device.account.as_bytes(),
            self.last_resort,
            Number(self.uploaded_after_ms),
        )
    }

    /// How many there are, and whether one of them was handed out.
    pub(crate) fn count(&self, tx: &Tx<'_>) -> sql::Result<(u32, bool)> {
        tx.prepare_cached(
            "SELECT count(*), coalesce(max(used), 0) FROM key_packages
             WHERE device_id = ?1 AND account_id = ?2 AND last_resort = ?3 AND uploaded_at_ms > ?4
             AND key_package IS NOT NULL",
        )?
        .query_row(self.params(), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// The oldest of them: its row and bytes.
    pub(crate) fn oldest(&self, tx: &Tx<'_>) -> sql::Result<Option<(i64, Bytes)>> {
        tx.prepare_cached(
            "SELECT no, key_package FROM key_packages
             WHERE device_id = ?1 AND account_id = ?2 AND last_resort = ?3 AND uploaded_at_ms > ?4
             AND key_package IS NOT NULL ORDER BY no LIMIT 1",
        )?
        .query_row(self.params(), |row| Ok((row.get(0)?, Bytes::from(row.get::<_, Vec<u8>>(1)?))))
        .optional()
    }

    /// Makes tombstones of all others of the kind.
    pub(crate) fn bury_older(&self, tx: &Tx<'_>) -> sql::Result<()> {
        tx.prepare_cached(
            "UPDATE key_packages SET key_package = NULL
             WHERE device_id = ?1 AND account_id = ?2 AND last_resort = ?3 AND uploaded_at_ms <= ?4
             AND key_package IS NOT NULL",
        )?
        .execute(self.params())
        .map(drop)
    }
}

/// Deletes the oldest `limit` rows as far as they were uploaded up to some time; returns how many.
pub(crate) fn sweep(tx: &Tx<'_>, uploaded_until_ms: u64, limit: u32) -> sql::Result<usize> {
    tx.prepare_cached(
        "DELETE FROM key_packages WHERE uploaded_at_ms <= ?1
         AND no IN (SELECT no FROM key_packages ORDER BY no LIMIT ?2)",
    )?
    .execute((Number(uploaded_until_ms), limit))
}

/// Makes a tombstone of a package.
pub(crate) fn bury(tx: &Tx<'_>, no: i64) -> sql::Result<()> {
    tx.prepare_cached("UPDATE key_packages SET key_package = NULL WHERE no = ?1")?
        .execute([no])
        .map(drop)
}

/// Makes a tombstone of a device's last resort, whatever its age.
pub(crate) fn bury_last_resort(tx: &Tx<'_>, device: &DeviceRef) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE key_packages SET key_package = NULL
         WHERE device_id = ?1 AND account_id = ?2 AND last_resort = 1 AND key_package IS NOT NULL",
    )?
    .execute((device.device.as_bytes(), device.account.as_bytes()))
    .map(drop)
}

/// Makes tombstones of all packages of a device.
pub(crate) fn bury_all(tx: &Tx<'_>, device: &DeviceRef) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE key_packages SET key_package = NULL
         WHERE device_id = ?1 AND account_id = ?2 AND key_package IS NOT NULL",
    )?
    .execute((device.device.as_bytes(), device.account.as_bytes()))
    .map(drop)
}

/// Notes that a last resort was handed out.
pub(crate) fn mark_used(tx: &Tx<'_>, no: i64) -> sql::Result<()> {
    tx.prepare_cached("UPDATE key_packages SET used = 1 WHERE no = ?1")?.execute([no]).map(drop)
}

/// Makes tombstones of all packages of all devices; returns of how many.
pub(crate) fn bury_every(tx: &Tx<'_>) -> sql::Result<usize> {
    tx.prepare_cached("UPDATE key_packages SET key_package = NULL WHERE key_package IS NOT NULL")?
        .execute([])
}
