//! Rows of the devices that are or were in a channel.

use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, MessageId};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

use super::channels::{self, Channel, Held};
use super::column::number;
use crate::turns::Turns;

/// How a device was taken out of a channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Removal {
    /// The Commit that did it.
    pub(crate) seq: u64,
    /// When that was accepted, Unix milliseconds.
    pub(crate) at_ms: u64,
    /// Another account has built on it.
    pub(crate) confirmed: bool,
}

/// A device that is or was in a channel.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) device: DeviceRef,
    pub(crate) join_seq: u64,
    pub(crate) read_from: u64,
    pub(crate) acked_seq: u64,
    pub(crate) last_base: u64,
    pub(crate) last_message_id: Option<MessageId>,
    pub(crate) removal: Option<Removal>,
    /// Of its own entries.
    pub(crate) held: Held,
    /// Its last entry that named a base.
    pub(crate) last_seq: u64,
    /// Messages on the base that it named last.
    pub(crate) base_entries: u64,
    /// Its last Commit, and when it may commit again.
    pub(crate) pace: Pace,
}

/// A device's Commits in a channel.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// The last one.
    pub(crate) seq: u64,
    pub(crate) turns: Turns,
    /// How long each turn lasts, milliseconds; 0: as long as usual.
    pub(crate) wait_ms: u64,
    /// When one was reserved for it last, Unix milliseconds.
    pub(crate) reserved_at_ms: u64,
}

impl Member {
    /// A device that joins with entry 1.
    pub(crate) fn founding(device: DeviceRef) -> Self {
        Self {
            device,
            join_seq: 1,
            read_from: 1,
            acked_seq: 0,
            last_base: 0,
            last_message_id: None,
            removal: None,
            held: Held::default(),
            last_seq: 0,
            base_entries: 0,
            pace: Pace::default(),
        }
    }
}

/// The columns of [`member`], of a table alias `m`. A macro: each statement is one literal.
macro_rules! member_columns {
    () => {
        "m.account_id, m.device_id, m.join_seq, m.read_from, m.acked_seq, m.last_base,
         m.last_message_id, m.removal_seq, m.removed_at_ms, m.removal_confirmed, m.app_bytes,
         m.commit_bytes, m.statement_bytes, m.last_seq, m.base_entries, m.commit_seq,
         m.turns_taken, m.turns_since_ms, m.turn_wait_ms, m.reserved_at_ms"
    };
}

/// Reads a member from the columns that begin at `at`.
fn member(row: &sql::Row<'_>, at: usize) -> sql::Result<Member> {
    let plain = |index| row.get::<_, Number>(at + index).map(|number| number.0);
    let removal = match number(row, at + 7)? {
        Some(seq) => Some(Removal {
            seq,
            at_ms: number(row, at + 8)?.unwrap_or_default(),
            confirmed: row.get(at + 9)?,
        }),
        None => None,
    };
    Ok(Member {
        device: DeviceRef { account: AccountId(row.get(at)?), device: DeviceId(row.get(at + 1)?) },
        join_seq: plain(2)?,
        read_from: plain(3)?,
        acked_seq: plain(4)?,
        last_base: plain(5)?,
        last_message_id: row.get::<_, Option<_>>(at + 6)?.map(MessageId),
        removal,
        held: Held { application: plain(10)?, commits: plain(11)?, statements: plain(12)? },
        last_seq: plain(13)?,
        base_entries: plain(14)?,
        pace: Pace {
            seq: plain(15)?,
            turns: Turns { taken: plain(16)?, since_ms: plain(17)? },
            wait_ms: plain(18)?,
            reserved_at_ms: plain(19)?,
        },
    })
}

pub(crate) fn find(tx: &Tx<'_>, no: i64, device: &DeviceRef) -> sql::Result<Option<Member>> {
    tx.prepare_cached(concat!(
        "SELECT ",
        member_columns!(),
        " FROM members m WHERE m.no = ?1 AND m.device_id = ?2 AND m.account_id = ?3"
    ))?
    .query_row((no, device.device.as_bytes(), device.account.as_bytes()), |row| member(row, 0))
    .optional()
}

/// All channels that a device is or was in, in order of creation.
pub(crate) fn of_device(tx: &Tx<'_>, device: &DeviceRef) -> sql::Result<Vec<(Channel, Member)>> {
    tx.prepare_cached(concat!(
        "SELECT ",
        channels::channel_columns!(),
        ", ",
        member_columns!(),
        " FROM members m JOIN channels c USING (no)
         WHERE m.device_id = ?1 AND m.account_id = ?2 ORDER BY m.no"
    ))?
    .query_map((device.device.as_bytes(), device.account.as_bytes()), |row| {
        Ok((channels::channel(row)?, member(row, channels::COLUMNS)?))
    })?
    .collect()
}

/// The first sequence number of a log from `first_seq` on that some device may read and has not
/// acknowledged; none if there is no such device. A removal that nobody has built on takes effect
/// if it is of `ended_ms` or before; then the device reads up to it, unless it was revoked.
pub(crate) fn unread_from(
    tx: &Tx<'_>,
    no: i64,
    (first_seq, ended_ms): (u64, u64),
) -> sql::Result<Option<u64>> {
    tx.prepare_cached(
        "SELECT min(max(m.acked_seq + 1, m.read_from)) FROM members m
         WHERE m.no = ?1 AND (m.removal_seq IS NULL
             OR (m.removal_confirmed = 0 AND m.removed_at_ms > ?3)
             OR (m.removal_seq >= max(m.acked_seq + 1, m.read_from, ?2) AND NOT EXISTS
                 (SELECT 1 FROM revoked r WHERE r.device_id = m.device_id)))",
    )?
    .query_row((no, Number(first_seq), Number(ended_ms)), |row| number(row, 0))
}

/// Puts a device in by the Commit at `join_seq`, whatever it was before. Who returns before having
/// read up to its removal goes on reading there, else at the join. A Commit that undoes others may
/// name a device of an erased account: of it there is no row.
pub(crate) fn put(tx: &Tx<'_>, no: i64, device: &DeviceRef, join_seq: u64) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO members (no, device_id, account_id, join_seq, read_from, acked_seq, last_base,
             removal_confirmed)
         SELECT ?1, ?2, ?3, ?4, ?4, 0, 0, 0 WHERE NOT EXISTS
             (SELECT 1 FROM revoked r WHERE r.device_id = ?2 AND r.account_id IS NULL)
         ON CONFLICT (no, device_id) DO UPDATE SET
             read_from = CASE
                 WHEN acked_seq >= removal_seq THEN excluded.join_seq ELSE read_from END,
             join_seq = excluded.join_seq,
             removal_seq = NULL, removed_at_ms = NULL, removal_confirmed = 0",
    )?
    .execute((no, device.device.as_bytes(), device.account.as_bytes(), Number(join_seq)))
    .map(drop)
}

pub(crate) fn remove(
    tx: &Tx<'_>,
    no: i64,
    device: &DeviceRef,
    removal: &Removal,
) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE members SET removal_seq = ?3, removed_at_ms = ?4, removal_confirmed = ?5
         WHERE no = ?1 AND device_id = ?2",
    )?
    .execute((
        no,
        device.device.as_bytes(),
        Number(removal.seq),
        Number(removal.at_ms),
        removal.confirmed,
    ))
    .map(drop)
}

/// Devices whose removal nobody has built on yet, of Commits up to `seq`: each with that Commit.
pub(crate) fn leaving(tx: &Tx<'_>, no: i64, seq: u64) -> sql::Result<Vec<(DeviceRef, u64)>> {
    tx.prepare_cached(
        "SELECT account_id, device_id, removal_seq FROM members
         WHERE no = ?1 AND removal_seq IS NOT NULL AND removal_confirmed = 0 AND removal_seq <= ?2
         ORDER BY removal_seq, device_id",
    )?
    .query_map((no, Number(seq)), |row| {
        let device = DeviceRef { account: AccountId(row.get(0)?), device: DeviceId(row.get(1)?) };
        Ok((device, row.get::<_, Number>(2)?.0))
    })?
    .collect()
}

/// Whether there is a removal that nobody has built on yet.
pub(crate) fn has_leaving(tx: &Tx<'_>, no: i64) -> sql::Result<bool> {
    tx.prepare_cached(
        "SELECT 1 FROM members WHERE no = ?1 AND removal_seq IS NOT NULL AND removal_confirmed = 0",
    )?
    .exists([no])
}

pub(crate) fn confirm_removal(tx: &Tx<'_>, no: i64, device: &DeviceRef) -> sql::Result<()> {
    tx.prepare_cached("UPDATE members SET removal_confirmed = 1 WHERE no = ?1 AND device_id = ?2")?
        .execute((no, device.device.as_bytes()))
        .map(drop)
}

/// Forgets all who are or were in a channel.
pub(crate) fn drop_all(tx: &Tx<'_>, no: i64) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM members WHERE no = ?1")?.execute([no]).map(drop)
}

/// Whether any device of an account is or was in a channel.
pub(crate) fn has_account(tx: &Tx<'_>, no: i64, account: &AccountId) -> sql::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM members WHERE account_id = ?1 AND no = ?2")?
        .exists((account.as_bytes(), no))
}

/// Writes what a device's own entries have moved.
pub(crate) fn save(tx: &Tx<'_>, no: i64, member: &Member) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE members SET last_base = ?3, last_message_id = ?4, app_bytes = ?5,
             commit_bytes = ?6, statement_bytes = ?7, last_seq = ?8, base_entries = ?9
         WHERE no = ?1 AND device_id = ?2",
    )?
    .execute((
        no,
        member.device.device.as_bytes(),
        Number(member.last_base),
        member.last_message_id.as_ref().map(MessageId::as_bytes),
        Number(member.held.application),
        Number(member.held.commits),
        Number(member.held.statements),
        Number(member.last_seq),
        Number(member.base_entries),
    ))
    .map(drop)
}

/// Bytes of the statements in a channel's log that its members have posted.
pub(crate) fn statement_bytes(tx: &Tx<'_>, no: i64) -> sql::Result<u64> {
    tx.prepare_cached("SELECT coalesce(sum(statement_bytes), 0) FROM members WHERE no = ?1")?
        .query_row([no], |row| row.get::<_, Number>(0).map(|sum| sum.0))
}

/// Writes a device's turns at Commits.
pub(crate) fn save_pace(tx: &Tx<'_>, no: i64, member: &Member) -> sql::Result<()> {
    let pace = &member.pace;
    tx.prepare_cached(
        "UPDATE members SET commit_seq = ?3, turns_taken = ?4, turns_since_ms = ?5,
             turn_wait_ms = ?6, reserved_at_ms = ?7 WHERE no = ?1 AND device_id = ?2",
    )?
    .execute((
        no,
        member.device.device.as_bytes(),
        Number(pace.seq),
        Number(pace.turns.taken),
        Number(pace.turns.since_ms),
        Number(pace.wait_ms),
        Number(pace.reserved_at_ms),
    ))
    .map(drop)
}

/// Whether a member of another account has posted after the Commit at `seq` on an older base: it
/// had read that Commit, and has not applied it. Who has joined since has.
pub(crate) fn doubts(tx: &Tx<'_>, (no, account): (i64, &AccountId), seq: u64) -> sql::Result<bool> {
    tx.prepare_cached(
        "SELECT 1 FROM members WHERE no = ?1 AND account_id != ?2 AND removal_seq IS NULL
         AND last_seq > ?3 AND last_base < ?3 AND join_seq <= ?3",
    )?
    .exists((no, account.as_bytes(), Number(seq)))
}

/// Moves a cursor forward; whether it moved.
pub(crate) fn ack(tx: &Tx<'_>, no: i64, device: &DeviceRef, seq: u64) -> sql::Result<bool> {
    tx.prepare_cached(
        "UPDATE members SET acked_seq = ?3 WHERE no = ?1 AND device_id = ?2 AND acked_seq < ?3",
    )?
    .execute((no, device.device.as_bytes(), Number(seq)))
    .map(|moved| moved > 0)
}
