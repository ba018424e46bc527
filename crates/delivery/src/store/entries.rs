//! Rows of log entries, of the message ids that were accepted, and pages read from them.

use bytes::Bytes;
use qpc_proto::message::{Accepted, DeviceRef, Entry, EntryKind};
use qpc_proto::{Digest, Malformed, MessageId};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

use super::column::decoded;
use super::commits;

/// The last sequence number that [`entry_id`] has room for.
pub(crate) const SEQ_MAX: u64 = u32::MAX as u64;

/// The row id of a sequence number, which is at most [`SEQ_MAX`]; higher ones name no row.
pub(crate) fn entry_id(no: i64, seq: u64) -> i64 {
    let seq = i64::try_from(seq.min(SEQ_MAX)).unwrap_or(i64::MAX);
    (no << 32) | seq
}

/// A new entry in its place.
pub(crate) struct NewRow<'a> {
    pub(crate) kind: EntryKind,
    pub(crate) after_commit: u64,
    pub(crate) accepted: Accepted,
    pub(crate) message_id: MessageId,
    pub(crate) welcome: Option<i64>,
    pub(crate) payload: &'a [u8],
}

pub(crate) fn insert(tx: &Tx<'_>, no: i64, new: &NewRow<'_>) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO entries (id, kind, after_commit, accepted_at_ms, message_id, head, welcome,
             payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((
        entry_id(no, new.accepted.seq),
        new.kind.code(),
        Number(new.after_commit),
        Number(new.accepted.accepted_at_ms),
        new.message_id.as_bytes(),
        new.accepted.head.as_bytes(),
        new.welcome,
        new.payload,
    ))
    .map(drop)
}

/// A message id that was accepted: of which bytes, and the answer that it got.
pub(crate) struct Remembered {
    pub(crate) digest: [u8; 16],
    pub(crate) accepted: Accepted,
}

pub(crate) fn remembered(
    tx: &Tx<'_>,
    (no, device): (i64, &DeviceRef),
    message_id: &MessageId,
) -> sql::Result<Option<Remembered>> {
    tx.prepare_cached(
        "SELECT m.digest, m.seq, e.head, e.accepted_at_ms
         FROM message_ids m JOIN entries e ON e.id = (m.no << 32) | m.seq
         WHERE m.no = ?1 AND m.device_id = ?2 AND m.message_id = ?3",
    )?
    .query_row((no, device.device.as_bytes(), message_id.as_bytes()), |row| {
        Ok(Remembered {
            digest: row.get(0)?,
            accepted: Accepted {
                seq: row.get::<_, Number>(1)?.0,
                head: Digest(row.get(2)?),
                accepted_at_ms: row.get::<_, Number>(3)?.0,
                duplicate: true,
            },
        })
    })
    .optional()
}

/// A message id with the place and the digest of what it was accepted for.
pub(crate) struct NewId {
    pub(crate) message_id: MessageId,
    pub(crate) seq: u64,
    pub(crate) digest: [u8; 16],
}

pub(crate) fn remember(
    tx: &Tx<'_>,
    (no, device): (i64, &DeviceRef),
    new: &NewId,
) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO message_ids (no, device_id, message_id, seq, digest)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((no, device.device.as_bytes(), new.message_id.as_bytes(), Number(new.seq), new.digest))
    .map(drop)
}

/// What part of a log to read.
pub(crate) struct Range {
    pub(crate) no: i64,
    /// First and last sequence number.
    pub(crate) seqs: (u64, u64),
    pub(crate) entries_max: usize,
    /// Counts payloads, bundles and Welcomes; the first entry comes whatever its size.
    pub(crate) bytes_max: usize,
}

/// Entries in order from the range's start, cut on an entry's border.
pub(crate) fn read(tx: &Tx<'_>, range: &Range) -> sql::Result<Vec<Entry>> {
    let mut statement = tx.prepare_cached(
        "SELECT e.id, e.kind, e.after_commit, e.accepted_at_ms, e.message_id, e.head, e.payload,
                w.welcome
         FROM entries e LEFT JOIN welcomes w ON w.id = e.welcome
         WHERE e.id BETWEEN ?1 AND ?2 ORDER BY e.id LIMIT ?3",
    )?;
    let (first, last) = range.seqs;
    let limit = u32::try_from(range.entries_max).unwrap_or(u32::MAX);
    let ids = (entry_id(range.no, first), entry_id(range.no, last));
    let mut rows = statement.query((ids.0, ids.1, limit))?;
    let mut entries = Vec::new();
    let mut left = range.bytes_max;
    while let Some(row) = rows.next()? {
        let entry = entry(tx, row)?;
        match left.checked_sub(size(&entry)) {
            Some(rest) => left = rest,
            None if entries.is_empty() => left = 0,
            None => break,
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(tx: &Tx<'_>, row: &sql::Row<'_>) -> sql::Result<Entry> {
    let id: i64 = row.get(0)?;
    let kind = EntryKind::from_code(row.get(1)?).ok_or(Malformed("kind of an entry"));
    let mut entry = Entry {
        seq: u64::try_from(id & i64::from(u32::MAX)).unwrap_or_default(),
        kind: decoded(1, kind)?,
        after_commit: row.get::<_, Number>(2)?.0,
        accepted_at_ms: row.get::<_, Number>(3)?.0,
        message_id: MessageId(row.get(4)?),
        payload: Bytes::from(row.get::<_, Vec<u8>>(6)?),
        roster_change: Bytes::new(),
        statements: Vec::new(),
        welcome_hash: Digest::ZERO,
        head: Digest(row.get(5)?),
        welcome: row.get::<_, Option<Vec<u8>>>(7)?.map(Bytes::from),
    };
    if entry.kind == EntryKind::Commit {
        let bundle = commits::bundle(tx, id)?;
        entry.roster_change = bundle.roster_change;
        entry.statements = bundle.statements;
        entry.welcome_hash = bundle.welcome_hash;
    }
    Ok(entry)
}

fn size(entry: &Entry) -> usize {
    let statements = entry.statements.iter().map(Bytes::len).sum::<usize>();
    [entry.roster_change.len(), statements]
        .into_iter()
        .chain(entry.welcome.as_ref().map(Bytes::len))
        .fold(entry.payload.len(), usize::saturating_add)
}
