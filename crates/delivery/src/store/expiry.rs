//! What goes when entries expire: payloads and Welcomes at a log's front, later the message ids.

use qpc_proto::Digest;
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

use super::channels::{self, Channel, NEVER, channel_columns};
use super::column::number;
use super::entries::entry_id;
use super::standing;

/// Each of the three ways to be due is a range of one index.
const DUE: &str = concat!(
    "SELECT ",
    channel_columns!(),
    " FROM channels c WHERE c.due_under_ms < ?2 OR c.due_under_ms > ?2
         OR (c.due_under_ms = ?2 AND c.due_at_ms <= ?1) LIMIT ?3"
);

/// Channels in which something may go at `now_ms`, and those that were not looked at since the
/// server's retention is `retention_ms`.
pub(crate) fn due(
    tx: &Tx<'_>,
    (now_ms, retention_ms): (u64, u64),
    limit: u32,
) -> sql::Result<Vec<Channel>> {
    tx.prepare_cached(DUE)?
        .query_map((Number(now_ms), Number(retention_ms), limit), channels::channel)?
        .collect()
}

/// When the entry at `seq` was accepted.
pub(crate) fn accepted_at(tx: &Tx<'_>, no: i64, seq: u64) -> sql::Result<Option<u64>> {
    tx.prepare_cached("SELECT accepted_at_ms FROM log WHERE no = ?1 AND seq = ?2")?
        .query_row((no, Number(seq)), |row| row.get::<_, Number>(0))
        .optional()
        .map(|at_ms| at_ms.map(|at_ms| at_ms.0))
}

/// The chain's head after the entry at `seq`.
pub(crate) fn head(tx: &Tx<'_>, no: i64, seq: u64) -> sql::Result<Option<Digest>> {
    tx.prepare_cached("SELECT head FROM log WHERE no = ?1 AND seq = ?2")?
        .query_row((no, Number(seq)), |row| row.get(0).map(Digest))
        .optional()
}

/// The first of the sequence numbers from `first` to before `end` that was accepted after
/// `until_ms`; `end` if none was. The log has no gap there, and times never fall.
pub(crate) fn first_after(
    tx: &Tx<'_>,
    no: i64,
    (first, end): (u64, u64),
    until_ms: u64,
) -> sql::Result<u64> {
    let (mut first, mut end) = (first, end);
    while first < end {
        let middle = first.midpoint(end);
        match accepted_at(tx, no, middle)? {
            Some(at_ms) if at_ms <= until_ms => first = middle.saturating_add(1),
            Some(_) | None => end = middle,
        }
    }
    Ok(first)
}

/// How far the one reader of an inbox has read.
pub(crate) fn inbox_acked(tx: &Tx<'_>, no: i64) -> sql::Result<u64> {
    tx.prepare_cached("SELECT max(acked_seq) FROM members WHERE no = ?1")?
        .query_row([no], |row| Ok(number(row, 0)?.unwrap_or_default()))
}

/// The entries from `first` to before `end`, by number, with the bytes that go with each. A Welcome
/// goes with its last pointer.
pub(crate) fn sizes(
    tx: &Tx<'_>,
    no: i64,
    (first, end): (u64, u64),
) -> sql::Result<Vec<(u64, u64)>> {
    tx.prepare_cached(
        "SELECT l.seq, coalesce(l.bytes, length(p.payload), 0) + coalesce(length(w.welcome), 0)
             + coalesce(length(c.roster_change) + length(c.statements), 0)
         FROM log l LEFT JOIN payloads p ON p.id = l.id - coalesce(l.place, 0)
             LEFT JOIN welcomes w ON w.id = l.welcome AND NOT EXISTS
                 (SELECT 1 FROM log o WHERE o.welcome = l.welcome AND o.id <> l.id)
             LEFT JOIN commits c ON l.kind = 2 AND c.id = (l.no << 32 | l.seq)
         WHERE l.no = ?1 AND l.seq >= ?2 AND l.seq < ?3 ORDER BY l.seq",
    )?
    .query_map((no, Number(first), Number(end)), |row| {
        Ok((row.get::<_, Number>(0)?.0, row.get::<_, Number>(1)?.0))
    })?
    .collect()
}

/// Deletes the payloads before `end`, with what only their readers need; where some share a row
/// with later ones, the row goes with the last of them. What was posted by a
/// device keeps its row, which answers a retry.
pub(crate) fn trim(tx: &Tx<'_>, channel: &Channel, end: u64) -> sql::Result<()> {
    let range = (channel.no, Number(channel.first_seq), Number(end));
    tx.prepare_cached(
        "DELETE FROM welcomes WHERE id IN (SELECT welcome FROM log
             WHERE no = ?1 AND seq >= ?2 AND seq < ?3 AND welcome IS NOT NULL)
         AND NOT EXISTS (SELECT 1 FROM log l WHERE l.welcome = welcomes.id
             AND NOT (l.no = ?1 AND l.seq >= ?2 AND l.seq < ?3))",
    )?
    .execute(range)?;
    free(tx, channel, end)?;
    tx.prepare_cached(
        "DELETE FROM payloads WHERE id IN (SELECT id - coalesce(place, 0) FROM log
             WHERE no = ?1 AND seq >= ?2 AND seq < ?3)
         AND id IS NOT (SELECT id - place FROM log WHERE no = ?1 AND seq = ?3 AND place > 0)",
    )?
    .execute(range)?;
    let ids = (entry_id(channel.no, channel.first_seq), entry_id(channel.no, end));
    tx.prepare_cached(
        "UPDATE commits SET roster_change = x'', statements = x'' WHERE id >= ?1 AND id < ?2",
    )?
    .execute(ids)?;
    standing::trim_verdicts(tx, channel.no, end)?;
    tx.prepare_cached(
        "UPDATE channels SET first_seq = ?3, boundary_head =
             coalesce((SELECT head FROM log WHERE no = ?1 AND seq = ?3 - 1), boundary_head)
         WHERE no = ?1 AND first_seq = ?2",
    )?
    .execute(range)?;
    tx.prepare_cached(
        "DELETE FROM log WHERE no = ?1 AND seq >= ?2 AND seq < ?3 AND sender IS NULL",
    )?
    .execute(range)
    .map(drop)
}

/// Gives back the room of the entries before `end`, to the channel and to those who posted them.
fn free(tx: &Tx<'_>, channel: &Channel, end: u64) -> sql::Result<()> {
    let mut sizes = tx.prepare_cached(
        "SELECT l.sender, l.kind, sum(coalesce(l.bytes, length(p.payload))
             + coalesce(length(c.roster_change) + length(c.statements), 0))
         FROM log l JOIN payloads p ON p.id = l.id - coalesce(l.place, 0)
             LEFT JOIN commits c ON l.kind = 2 AND c.id = (l.no << 32 | l.seq)
         WHERE l.no = ?1 AND l.seq >= ?2 AND l.seq < ?3 GROUP BY l.sender, l.kind",
    )?;
    let mut of_channel = tx.prepare_cached(
        "UPDATE channels SET app_bytes = app_bytes - iif(?2 = 1, ?3, 0),
             commit_bytes = commit_bytes - iif(?2 = 2, ?3, 0),
             statement_bytes = statement_bytes - iif(?2 IN (1, 2), 0, ?3) WHERE no = ?1",
    )?;
    let mut of_member = tx.prepare_cached(
        "UPDATE members SET app_bytes = app_bytes - iif(?2 = 1, ?3, 0),
             commit_bytes = commit_bytes - iif(?2 = 2, ?3, 0),
             statement_bytes = statement_bytes - iif(?2 IN (1, 2), 0, ?3)
         WHERE no = ?1 AND device_id = ?4",
    )?;
    let mut rows = sizes.query((channel.no, Number(channel.first_seq), Number(end)))?;
    while let Some(row) = rows.next()? {
        let sender = row.get::<_, Option<[u8; 16]>>(0)?;
        let (kind, bytes) = (row.get::<_, i64>(1)?, row.get::<_, Number>(2)?);
        of_channel.execute((channel.no, kind, bytes))?;
        if let Some(sender) = sender {
            of_member.execute((channel.no, kind, bytes, sender))?;
        }
    }
    Ok(())
}

/// Forgets message ids of entries that have gone and were accepted up to `until_ms`, looking at the
/// `limit` oldest; returns how many went. That of the first entry stays with its channel: its maker
/// can't make the channel anew, as whoever comes too late with another entry can seal that anew.
pub(crate) fn forget(
    tx: &Tx<'_>,
    (no, first_seq): (i64, u64),
    until_ms: u64,
    limit: u64,
) -> sql::Result<usize> {
    tx.prepare_cached(
        "DELETE FROM log WHERE no = ?1 AND accepted_at_ms <= ?3 AND seq IN
             (SELECT seq FROM log WHERE no = ?1 AND seq > 1 AND seq < ?2 ORDER BY seq LIMIT ?4)",
    )?
    .execute((no, Number(first_seq), Number(until_ms), Number(limit)))
}

/// When the oldest entry was accepted that has gone and is still remembered, but the first.
pub(crate) fn oldest_remembered(
    tx: &Tx<'_>,
    (no, first_seq): (i64, u64),
) -> sql::Result<Option<u64>> {
    tx.prepare_cached(
        "SELECT accepted_at_ms FROM log WHERE no = ?1 AND seq > 1 AND seq < ?2 ORDER BY seq
         LIMIT 1",
    )?
    .query_row((no, Number(first_seq)), |row| row.get::<_, Number>(0))
    .optional()
    .map(|at_ms| at_ms.map(|at_ms| at_ms.0))
}

/// Whether the device was revoked that an inbox is of.
pub(crate) fn is_orphaned(tx: &Tx<'_>, no: i64) -> sql::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM members m JOIN revoked r USING (device_id) WHERE m.no = ?1")?
        .exists([no])
}

/// Notes when the next thing in a channel can go, while the server's retention is `retention_ms`.
pub(crate) fn note_due(
    tx: &Tx<'_>,
    no: i64,
    (due_at_ms, retention_ms): (u64, u64),
) -> sql::Result<()> {
    tx.prepare_cached("UPDATE channels SET due_at_ms = ?2, due_under_ms = ?3 WHERE no = ?1")?
        .execute((no, Number(due_at_ms.min(NEVER)), Number(retention_ms)))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_storage::{Durability, Key, Options, Outcome, Store};

    #[test]
    fn what_is_due_is_found_without_looking_at_every_channel() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Key::from_bytes([1; 32]), vec![crate::schema()]);
        let options = options.with_durability(Durability::Process);
        let mut store = Store::open(&dir.path().join("delivery.db"), &options).unwrap();
        let plan = store.transact(|tx| {
            let explain = format!("EXPLAIN QUERY PLAN {DUE}");
            let mut statement = tx.prepare(&explain)?;
            let rows = statement.query_map((1, 1, 1), |row| row.get::<_, String>(3))?;
            rows.collect::<sql::Result<Vec<_>>>()
        });
        let Outcome::Done(plan) = plan.unwrap() else { panic!("a plan") };
        let found = plan.iter().filter(|step| step.contains("channels_due")).count();
        assert_eq!(found, 3, "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("SCAN")), "{plan:?}");
    }
}
