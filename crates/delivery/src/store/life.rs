//! What changes when a restored database begins another life: channels end, inboxes go on under
//! another hash chain.

use qpc_proto::chain::{Link, Log, sha256};
use qpc_proto::message::EntryKind;
use qpc_proto::{Digest, Incarnation, Malformed, MessageId};
use qpc_storage::{Number, Tx, sql};

use super::channels::{self, Channel, channel_columns};
use super::column::decoded;

/// Notes of all channels but inboxes that they lived in `incarnation`, if nothing is noted yet.
/// Returns of how many.
pub(crate) fn end(tx: &Tx<'_>, incarnation: &Incarnation) -> sql::Result<usize> {
    tx.prepare_cached(
        "UPDATE channels SET incarnation = ?1 WHERE incarnation IS NULL AND inbox = 0",
    )?
    .execute([incarnation.as_bytes()])
}

/// The inboxes behind the row `no`, at most `limit`.
pub(crate) fn inboxes(tx: &Tx<'_>, no: i64, limit: u32) -> sql::Result<Vec<Channel>> {
    tx.prepare_cached(concat!(
        "SELECT ",
        channel_columns!(),
        " FROM channels c WHERE c.inbox = 1 AND c.no > ?1 ORDER BY c.no LIMIT ?2"
    ))?
    .query_map((no, limit), channels::channel)?
    .collect()
}

/// Writes the heads of an inbox anew, from what is before its first entry on, as those of
/// `incarnation`.
pub(crate) fn rechain(tx: &Tx<'_>, inbox: &Channel, incarnation: Incarnation) -> sql::Result<()> {
    let log = Log { incarnation, channel: inbox.id };
    let mut head = inbox.boundary_head;
    let mut entries = tx.prepare_cached(
        "SELECT l.id, l.seq, l.kind, l.after_commit, l.accepted_at_ms, l.message_id, p.payload
         FROM log l JOIN payloads p USING (id) WHERE l.no = ?1 AND l.seq >= ?2 ORDER BY l.seq",
    )?;
    let mut rows = entries.query((inbox.no, Number(inbox.first_seq)))?;
    while let Some(row) = rows.next()? {
        head = log.next(&head, &link(row)?);
        tx.prepare_cached("UPDATE log SET head = ?2 WHERE id = ?1")?
            .execute((row.get::<_, i64>(0)?, head.as_bytes()))?;
    }
    tx.prepare_cached("UPDATE channels SET head = ?2 WHERE no = ?1")?
        .execute((inbox.no, head.as_bytes()))
        .map(drop)
}

fn link(row: &sql::Row<'_>) -> sql::Result<Link> {
    let kind = EntryKind::from_code(row.get(2)?).ok_or(Malformed("kind of an entry"));
    Ok(Link {
        seq: row.get::<_, Number>(1)?.0,
        kind: decoded(2, kind)?,
        after_commit: row.get::<_, Number>(3)?.0,
        accepted_at_ms: row.get::<_, Number>(4)?.0,
        message_id: MessageId(row.get(5)?),
        payload: sha256(&row.get::<_, Vec<u8>>(6)?),
        bundle: Digest::ZERO,
    })
}
