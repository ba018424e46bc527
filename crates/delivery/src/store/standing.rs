//! Rows of rejoins and verdicts, and where the server showed a standing statement again.

use bytes::Bytes;
use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, Digest};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

/// A device's newest rejoin in a channel.
#[derive(Debug, Clone)]
pub(crate) struct Rejoin {
    pub(crate) device: DeviceRef,
    /// The join that it names.
    pub(crate) join_seq: u64,
    /// Of its KeyPackage.
    pub(crate) reference: Digest,
    pub(crate) accepted_at_ms: u64,
    /// Where it stands in the log, or was shown again last.
    pub(crate) seq: u64,
}

/// Notes a rejoin; it takes the place of an older one of the device.
pub(crate) fn put_rejoin(tx: &Tx<'_>, no: i64, rejoin: &Rejoin) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO rejoins
             (no, device_id, account_id, join_seq, reference, accepted_at_ms, seq)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        no,
        rejoin.device.device.as_bytes(),
        rejoin.device.account.as_bytes(),
        Number(rejoin.join_seq),
        rejoin.reference.as_bytes(),
        Number(rejoin.accepted_at_ms),
        Number(rejoin.seq),
    ))
    .map(drop)
}

/// Up to when a rejoin must have been accepted to be over, and a removal that nobody has built on
/// to be in effect: Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) rejoins_ms: u64,
    pub(crate) removals_ms: u64,
}

/// The rejoins of a channel that name their device's latest join, of devices that have their
/// rights and were not revoked, in the order of the devices.
pub(crate) fn rejoins(tx: &Tx<'_>, no: i64, ended: Ended) -> sql::Result<Vec<Rejoin>> {
    tx.prepare_cached(
        "SELECT r.account_id, r.device_id, r.join_seq, r.reference, r.accepted_at_ms, r.seq
         FROM rejoins r JOIN members m ON m.no = r.no AND m.device_id = r.device_id
         WHERE r.no = ?1 AND m.join_seq = r.join_seq AND r.accepted_at_ms > ?2
             AND (m.removal_seq IS NULL OR (m.removal_confirmed = 0 AND m.removed_at_ms > ?3))
             AND NOT EXISTS (SELECT 1 FROM revoked v WHERE v.device_id = r.device_id)
         ORDER BY r.device_id",
    )?
    .query_map((no, Number(ended.rejoins_ms), Number(ended.removals_ms)), rejoin)?
    .collect()
}

fn rejoin(row: &sql::Row<'_>) -> sql::Result<Rejoin> {
    let plain = |index| row.get::<_, Number>(index).map(|number| number.0);
    Ok(Rejoin {
        device: DeviceRef { account: AccountId(row.get(0)?), device: DeviceId(row.get(1)?) },
        join_seq: plain(2)?,
        reference: Digest(row.get(3)?),
        accepted_at_ms: plain(4)?,
        seq: plain(5)?,
    })
}

/// A device's newest rejoin in a channel, whether it stands or not.
pub(crate) fn rejoin_of(
    tx: &Tx<'_>,
    (no, device): (i64, &DeviceRef),
) -> sql::Result<Option<Rejoin>> {
    tx.prepare_cached(
        "SELECT account_id, device_id, join_seq, reference, accepted_at_ms, seq FROM rejoins
         WHERE no = ?1 AND device_id = ?2 AND account_id = ?3",
    )?
    .query_row((no, device.device.as_bytes(), device.account.as_bytes()), rejoin)
    .optional()
}

/// Notes that a rejoin was shown again at `seq`.
pub(crate) fn move_rejoin(
    tx: &Tx<'_>,
    (no, device): (i64, &DeviceId),
    seq: u64,
) -> sql::Result<()> {
    tx.prepare_cached("UPDATE rejoins SET seq = ?3 WHERE no = ?1 AND device_id = ?2")?
        .execute((no, device.as_bytes(), Number(seq)))
        .map(drop)
}

/// Notes that an account's Leave statement was shown again at `seq`.
pub(crate) fn move_leave(
    tx: &Tx<'_>,
    (no, account): (i64, &AccountId),
    seq: u64,
) -> sql::Result<()> {
    tx.prepare_cached("UPDATE leaves SET shown_seq = ?3 WHERE no = ?1 AND account_id = ?2")?
        .execute((no, account.as_bytes(), Number(seq)))
        .map(drop)
}

/// Notes that an account's list was shown again at `seq`.
pub(crate) fn move_list(
    tx: &Tx<'_>,
    (no, account): (i64, &AccountId),
    seq: u64,
) -> sql::Result<()> {
    tx.prepare_cached("UPDATE posted_lists SET seq = ?3 WHERE no = ?1 AND account_id = ?2")?
        .execute((no, account.as_bytes(), Number(seq)))
        .map(drop)
}

/// Notes a device's verdict on the Commit at `commit_seq`; false if it has given one.
pub(crate) fn put_verdict(
    tx: &Tx<'_>,
    (no, device): (i64, &DeviceId),
    commit_seq: u64,
) -> sql::Result<bool> {
    tx.prepare_cached(
        "INSERT INTO verdicts (no, device_id, commit_seq) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
    )?
    .execute((no, device.as_bytes(), Number(commit_seq)))
    .map(|put| put == 1)
}

/// The Commits that a device has given its verdict on.
pub(crate) fn verdicts_of(tx: &Tx<'_>, no: i64, device: &DeviceId) -> sql::Result<Vec<u64>> {
    tx.prepare_cached(
        "SELECT commit_seq FROM verdicts WHERE no = ?1 AND device_id = ?2 ORDER BY commit_seq",
    )?
    .query_map((no, device.as_bytes()), |row| row.get::<_, Number>(0).map(|seq| seq.0))?
    .collect()
}

/// Forgets the verdicts on Commits before `end`.
pub(crate) fn trim_verdicts(tx: &Tx<'_>, no: i64, end: u64) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM verdicts WHERE no = ?1 AND commit_seq < ?2")?
        .execute((no, Number(end)))
        .map(drop)
}

/// Forgets what a device has said of coming back, and its verdicts.
pub(crate) fn forget_device(tx: &Tx<'_>, no: i64, device: &DeviceId) -> sql::Result<()> {
    let of_device = (no, device.as_bytes());
    tx.prepare_cached("DELETE FROM rejoins WHERE no = ?1 AND device_id = ?2")?
        .execute(of_device)?;
    tx.prepare_cached("DELETE FROM verdicts WHERE no = ?1 AND device_id = ?2")?
        .execute(of_device)
        .map(drop)
}

/// Forgets all rejoins and verdicts of a channel.
pub(crate) fn forget_channel(tx: &Tx<'_>, no: i64) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM rejoins WHERE no = ?1")?.execute([no])?;
    tx.prepare_cached("DELETE FROM verdicts WHERE no = ?1")?.execute([no]).map(drop)
}

/// The payload of the entry at `seq`, while it is there.
pub(crate) fn payload(tx: &Tx<'_>, no: i64, seq: u64) -> sql::Result<Option<Bytes>> {
    tx.prepare_cached(
        "SELECT p.payload FROM log l JOIN payloads p USING (id) WHERE l.no = ?1 AND l.seq = ?2",
    )?
    .query_row((no, Number(seq)), |row| row.get::<_, Vec<u8>>(0).map(Bytes::from))
    .optional()
}
