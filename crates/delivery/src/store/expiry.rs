//! What goes when entries expire: a log's front, with the message ids and Welcomes of it.

use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

use super::channels::{self, Channel, channel_columns};
use super::column::number;
use super::entries::entry_id;

/// Channels whose oldest entry was accepted up to `until_ms`, the oldest first.
pub(crate) fn due(tx: &Tx<'_>, until_ms: u64, limit: u32) -> sql::Result<Vec<Channel>> {
    tx.prepare_cached(concat!(
        "SELECT ",
        channel_columns!(),
        " FROM channels c WHERE c.oldest_at_ms <= ?1 ORDER BY c.oldest_at_ms LIMIT ?2"
    ))?
    .query_map((Number(until_ms), limit), channels::channel)?
    .collect()
}

/// The first of the sequence numbers from `first` to before `end` that was accepted after
/// `until_ms`; `end` if none was.
pub(crate) fn first_after(
    tx: &Tx<'_>,
    no: i64,
    (first, end): (u64, u64),
    until_ms: u64,
) -> sql::Result<u64> {
    let found = tx
        .prepare_cached(
            "SELECT id & 4294967295 FROM entries
             WHERE id >= ?1 AND id < ?2 AND accepted_at_ms > ?3 ORDER BY id LIMIT 1",
        )?
        .query_row((entry_id(no, first), entry_id(no, end), Number(until_ms)), |row| {
            row.get::<_, Number>(0)
        })
        .optional()?;
    Ok(found.map_or(end, |seq| seq.0))
}

/// How far the one reader of an inbox has read.
pub(crate) fn inbox_acked(tx: &Tx<'_>, no: i64) -> sql::Result<u64> {
    tx.prepare_cached("SELECT max(acked_seq) FROM members WHERE no = ?1")?
        .query_row([no], |row| Ok(number(row, 0)?.unwrap_or_default()))
}

/// Deletes the entries before `end`, with what only their readers need.
pub(crate) fn trim(tx: &Tx<'_>, channel: &Channel, end: u64) -> sql::Result<()> {
    let ids = (entry_id(channel.no, channel.first_seq), entry_id(channel.no, end));
    tx.prepare_cached(
        "DELETE FROM welcomes WHERE id IN (SELECT welcome FROM entries
             WHERE id >= ?1 AND id < ?2 AND welcome IS NOT NULL)
         AND NOT EXISTS (SELECT 1 FROM entries e
             WHERE e.welcome = welcomes.id AND NOT (e.id >= ?1 AND e.id < ?2))",
    )?
    .execute(ids)?;
    tx.prepare_cached("DELETE FROM entries WHERE id >= ?1 AND id < ?2")?.execute(ids)?;
    tx.prepare_cached(
        "UPDATE commits SET roster_change = x'', statements = x'' WHERE id >= ?1 AND id < ?2",
    )?
    .execute(ids)?;
    tx.prepare_cached("DELETE FROM message_ids WHERE no = ?1 AND seq < ?2")?
        .execute((channel.no, Number(end)))?;
    tx.prepare_cached("UPDATE channels SET first_seq = ?2 WHERE no = ?1")?
        .execute((channel.no, Number(end)))
        .map(drop)
}

/// Deletes an inbox with all that is in it.
pub(crate) fn drop_inbox(tx: &Tx<'_>, inbox: &Channel) -> sql::Result<()> {
    trim(tx, inbox, inbox.head_seq.saturating_add(1))?;
    tx.prepare_cached("DELETE FROM members WHERE no = ?1")?.execute([inbox.no])?;
    tx.prepare_cached("DELETE FROM channels WHERE no = ?1")?.execute([inbox.no]).map(drop)
}

/// Notes when a channel's oldest entry was accepted; `otherwise_ms` if it has none, or if that is
/// later, because the entry may not go before.
pub(crate) fn note_oldest(
    tx: &Tx<'_>,
    channel: &Channel,
    first_seq: u64,
    otherwise_ms: u64,
) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE channels SET oldest_at_ms =
             max(?3, coalesce((SELECT accepted_at_ms FROM entries WHERE id = ?2), ?3))
         WHERE no = ?1",
    )?
    .execute((channel.no, entry_id(channel.no, first_seq), Number(otherwise_ms)))
    .map(drop)
}
