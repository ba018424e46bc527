//! Rows that belong to an account, for its export and its erasure.

use qpc_proto::message::{DeviceRef, EntryKind};
use qpc_proto::{AccountId, ChannelId, DeviceId};
use qpc_storage::{Number, Tx, sql};

use super::channels::{self, Channel, channel_columns};
use super::column::{decoded, number};
use super::entries::entry_id;
use super::standing;

/// A device's place in a channel, its inbox included.
pub(crate) struct Place {
    pub(crate) channel: Channel,
    pub(crate) device: DeviceRef,
}

/// The first places of an account's devices, at most `limit`.
pub(crate) fn places(tx: &Tx<'_>, account: &AccountId, limit: u32) -> sql::Result<Vec<Place>> {
    tx.prepare_cached(concat!(
        "SELECT ",
        channel_columns!(),
        ", m.device_id FROM members m JOIN channels c USING (no)
         WHERE m.account_id = ?1 ORDER BY m.no, m.device_id LIMIT ?2"
    ))?
    .query_map((account.as_bytes(), limit), |row| {
        let device = DeviceRef { account: *account, device: DeviceId(row.get(channels::COLUMNS)?) };
        Ok(Place { channel: channels::channel(row)?, device })
    })?
    .collect()
}

/// Rows of `log` that device `?2` has posted to channel `?1`.
macro_rules! posted {
    () => {
        "SELECT id FROM accepted_ids WHERE no = ?1 AND sender = ?2
         UNION ALL SELECT id FROM log NOT INDEXED
             WHERE id > (SELECT id FROM accepted_upto) AND no = ?1 AND sender = ?2"
    };
}

/// Sequence numbers of the entries that a device has posted, as far as their ids are remembered.
pub(crate) fn posted_by(tx: &Tx<'_>, no: i64, device: &DeviceId) -> sql::Result<Vec<u64>> {
    tx.prepare_cached(concat!("SELECT seq FROM log WHERE id IN (", posted!(), ") ORDER BY seq"))?
        .query_map((no, device.as_bytes()), |row| Ok(row.get::<_, Number>(0)?.0))?
        .collect()
}

/// Sequence numbers of an account's Commits in a channel.
pub(crate) fn commits_of(tx: &Tx<'_>, no: i64, account: &AccountId) -> sql::Result<Vec<u64>> {
    tx.prepare_cached(
        "SELECT id & 4294967295 FROM commits WHERE id BETWEEN ?1 AND ?2 AND committer = ?3
         ORDER BY id",
    )?
    .query_map((entry_id(no, 0), entry_id(no, u64::MAX), account.as_bytes()), |row| {
        Ok(row.get::<_, Number>(0)?.0)
    })?
    .collect()
}

/// An entry of an inbox.
pub(crate) struct Delivered {
    pub(crate) seq: u64,
    pub(crate) kind: EntryKind,
    pub(crate) accepted_at_ms: u64,
    pub(crate) payload: Vec<u8>,
}

/// What is in an inbox.
pub(crate) fn inbox(tx: &Tx<'_>, no: i64) -> sql::Result<Vec<Delivered>> {
    tx.prepare_cached(
        "SELECT l.seq, l.kind, l.accepted_at_ms, p.payload
         FROM log l JOIN payloads p ON p.id = l.id WHERE l.no = ?1 ORDER BY l.seq",
    )?
    .query_map([no], |row| {
        let kind = EntryKind::from_code(row.get(1)?);
        Ok(Delivered {
            seq: row.get::<_, Number>(0)?.0,
            kind: decoded(1, kind.ok_or(qpc_proto::Malformed("kind of an entry")))?,
            accepted_at_ms: row.get::<_, Number>(2)?.0,
            payload: row.get(3)?,
        })
    })?
    .collect()
}

/// What the directory holds of a device.
pub(crate) struct Packages {
    pub(crate) device: DeviceId,
    /// Still to be claimed.
    pub(crate) waiting: u64,
    /// Remembered by reference alone.
    pub(crate) spent: u64,
    pub(crate) last_upload_ms: Option<u64>,
}

/// What the directory holds of an account's devices.
pub(crate) fn packages(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<Packages>> {
    tx.prepare_cached(
        "SELECT device_id, count(key_package), count(*) - count(key_package), max(uploaded_at_ms)
         FROM key_packages WHERE account_id = ?1 GROUP BY device_id ORDER BY device_id",
    )?
    .query_map([account.as_bytes()], |row| {
        Ok(Packages {
            device: DeviceId(row.get(0)?),
            waiting: row.get::<_, Number>(1)?.0,
            spent: row.get::<_, Number>(2)?.0,
            last_upload_ms: number(row, 3)?,
        })
    })?
    .collect()
}

/// An account's direct channels, each with the other account.
pub(crate) fn pairs(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<(ChannelId, AccountId)>> {
    tx.prepare_cached(
        "SELECT c.channel_id, p.hi FROM direct_pairs p JOIN channels c USING (no) WHERE p.lo = ?1
         UNION ALL
         SELECT c.channel_id, p.lo FROM direct_pairs p JOIN channels c USING (no) WHERE p.hi = ?1",
    )?
    .query_map([account.as_bytes()], |row| Ok((ChannelId(row.get(0)?), AccountId(row.get(1)?))))?
    .collect()
}

/// Frees an account's pairs.
pub(crate) fn delete_pairs(tx: &Tx<'_>, account: &AccountId) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM direct_pairs WHERE lo = ?1 OR hi = ?1")?
        .execute([account.as_bytes()])
        .map(drop)
}

/// Deletes at most `limit` rows of an account's KeyPackages; returns how many.
pub(crate) fn delete_packages(tx: &Tx<'_>, account: &AccountId, limit: u32) -> sql::Result<usize> {
    tx.prepare_cached(
        "DELETE FROM key_packages WHERE no IN
             (SELECT no FROM key_packages WHERE account_id = ?1 LIMIT ?2)",
    )?
    .execute((account.as_bytes(), limit))
}

/// Forgets of at most `limit` entries in a channel that a device posted them; returns of how many.
pub(crate) fn delete_ids(tx: &Tx<'_>, place: &Place, limit: u32) -> sql::Result<usize> {
    tx.prepare_cached(concat!(
        "UPDATE log SET sender = NULL, digest = NULL WHERE id IN (",
        posted!(),
        " LIMIT ?3)"
    ))?
    .execute((place.channel.no, place.device.device.as_bytes(), limit))
}

/// Takes a device's place away, with what its account has said and done in the channel. Zeros stand
/// for the account as the committer of its Commits: they only ever count as somebody else's.
pub(crate) fn delete_place(tx: &Tx<'_>, place: &Place) -> sql::Result<()> {
    let (no, account) = (place.channel.no, place.device.account.as_bytes());
    tx.prepare_cached("DELETE FROM leaves WHERE no = ?1 AND account_id = ?2")?
        .execute((no, account))?;
    tx.prepare_cached(
        "UPDATE commits SET committer = zeroblob(16)
         WHERE id BETWEEN ?1 AND ?2 AND committer = ?3",
    )?
    .execute((entry_id(no, 0), entry_id(no, u64::MAX), account))?;
    standing::forget_device(tx, no, &place.device.device)?;
    tx.prepare_cached("DELETE FROM members WHERE no = ?1 AND device_id = ?2")?
        .execute((no, place.device.device.as_bytes()))
        .map(drop)
}

/// Whether nobody but this device is or was in its channel.
pub(crate) fn is_last(tx: &Tx<'_>, place: &Place) -> sql::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM members WHERE no = ?1 AND device_id != ?2")?
        .exists((place.channel.no, place.device.device.as_bytes()))
        .map(|others| !others)
}

/// Deletes an emptied channel that nobody is in, with the id that made it.
pub(crate) fn delete_channel(tx: &Tx<'_>, no: i64) -> sql::Result<()> {
    let ids = (entry_id(no, 0), entry_id(no, u64::MAX));
    tx.prepare_cached("DELETE FROM log WHERE no = ?1")?.execute([no])?;
    tx.prepare_cached("DELETE FROM commits WHERE id BETWEEN ?1 AND ?2")?.execute(ids)?;
    tx.prepare_cached("DELETE FROM rosters WHERE id BETWEEN ?1 AND ?2")?.execute(ids)?;
    standing::forget_channel(tx, no)?;
    tx.prepare_cached("DELETE FROM leaves WHERE no = ?1")?.execute([no])?;
    tx.prepare_cached("DELETE FROM direct_pairs WHERE no = ?1")?.execute([no])?;
    tx.prepare_cached("DELETE FROM posted_lists WHERE no = ?1")?.execute([no])?;
    tx.prepare_cached("DELETE FROM channels WHERE no = ?1")?.execute([no]).map(drop)
}
