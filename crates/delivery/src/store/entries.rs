//! Rows of log entries with the message ids that were accepted, and pages read from them.

use std::fmt;

use bytes::Bytes;
use qpc_proto::message::{Accepted, DeviceRef, Entry, EntryKind};
use qpc_proto::{DeviceId, Digest, Malformed, MessageId};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

use super::column::decoded;
use super::commits;
use super::payloads::{Puts, Takes};
use super::recent::RecentIds;

/// The last sequence number that [`entry_id`] has room for.
pub(crate) const SEQ_MAX: u64 = u32::MAX as u64;

/// The row id of a Commit or a roster by its sequence number, which is at most
/// [`SEQ_MAX`]; higher ones name no row.
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
    /// Who posted it, and the digest of what the message id stands for; none for the server's own.
    pub(crate) sender: Option<(DeviceId, [u8; 16])>,
    pub(crate) welcome: Option<i64>,
    pub(crate) payload: &'a [u8],
}

/// The statements that put entries in: kept ready by who puts in many.
pub(crate) struct Inserts<'a> {
    tx: &'a Tx<'a>,
    recent: &'a RecentIds,
    row: sql::CachedStatement<'a>,
    payloads: Puts<'a>,
}

impl fmt::Debug for Inserts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inserts")
    }
}

impl<'a> Inserts<'a> {
    /// For entries one by one.
    pub(crate) fn new(tx: &'a Tx<'a>, recent: &'a RecentIds) -> sql::Result<Self> {
        Self::sharing((tx, recent), false)
    }

    /// For messages, nothing else, until [`Inserts::finish`]: those of a channel that come one
    /// behind the other share a row.
    pub(crate) fn of_messages(tx: &'a Tx<'a>, recent: &'a RecentIds) -> sql::Result<Self> {
        Self::sharing((tx, recent), true)
    }

    fn sharing((tx, recent): (&'a Tx<'a>, &'a RecentIds), shared: bool) -> sql::Result<Self> {
        Ok(Self {
            tx,
            recent,
            row: tx.prepare_cached(
                "INSERT INTO log (no, seq, kind, after_commit, accepted_at_ms, message_id, head,
                     sender, digest, welcome, place, bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            payloads: Puts::new(tx, shared)?,
        })
    }

    /// Writes what messages have left to write.
    pub(crate) fn finish(&mut self) -> sql::Result<()> {
        self.payloads.finish()
    }

    /// Puts an entry in; false, and nothing is written, if its sender has one of that message id.
    pub(crate) fn put(&mut self, no: i64, new: &NewRow<'_>) -> sql::Result<bool> {
        let scope = new.sender.map(|(sender, _)| (no, sender));
        if let Some(scope) = scope
            && self.recent.find(self.tx, (scope, &new.message_id))?.is_some()
        {
            return Ok(false);
        }
        let place = self.payloads.place(no, new.payload.len())?;
        let id = self.row.insert((
            no,
            Number(new.accepted.seq),
            new.kind.code(),
            Number(new.after_commit),
            Number(new.accepted.accepted_at_ms),
            new.message_id.as_bytes(),
            new.accepted.head.as_bytes(),
            new.sender.as_ref().map(|(sender, _)| sender.as_bytes()),
            new.sender.map(|(_, digest)| digest),
            new.welcome,
            place,
            place.map(|_| Number(u64::try_from(new.payload.len()).unwrap_or(u64::MAX))),
        ))?;
        if let Some(scope) = scope {
            self.recent.note((scope, new.message_id), id);
        }
        self.payloads.put((no, id), place, new.payload).map(|()| true)
    }
}

/// A message id that was accepted: of which bytes, and the answer that it got.
pub(crate) struct Remembered {
    pub(crate) digest: [u8; 16],
    pub(crate) accepted: Accepted,
}

pub(crate) fn remembered(
    (tx, recent): (&Tx<'_>, &RecentIds),
    (no, device): (i64, &DeviceRef),
    message_id: &MessageId,
) -> sql::Result<Option<Remembered>> {
    let Some(id) = recent.find(tx, ((no, device.device), message_id))? else {
        return Ok(None);
    };
    tx.prepare_cached("SELECT digest, seq, head, accepted_at_ms FROM log WHERE id = ?1")?
        .query_row([id], |row| {
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
        "SELECT l.seq, l.kind, l.after_commit, l.accepted_at_ms, l.message_id, l.head, w.welcome,
                l.id, l.place
         FROM log l LEFT JOIN welcomes w ON w.id = l.welcome
         WHERE l.no = ?1 AND l.seq BETWEEN ?2 AND ?3 ORDER BY l.seq LIMIT ?4",
    )?;
    let (first, last) = range.seqs;
    let limit = u32::try_from(range.entries_max).unwrap_or(u32::MAX);
    let mut rows = statement.query((range.no, Number(first), Number(last.min(SEQ_MAX)), limit))?;
    let mut payloads = Takes::new(tx)?;
    let mut entries = Vec::new();
    let mut left = range.bytes_max;
    while left > 0 || entries.is_empty() {
        let Some(row) = rows.next()? else { break };
        let Some(payload) = payloads.take(row.get(7)?, row.get(8)?)? else { continue };
        let entry = entry(tx, (range.no, row), payload)?;
        match left.checked_sub(size(&entry)) {
            Some(rest) => left = rest,
            None if entries.is_empty() => left = 0,
            None => break,
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(tx: &Tx<'_>, (no, row): (i64, &sql::Row<'_>), payload: Bytes) -> sql::Result<Entry> {
    let kind = EntryKind::from_code(row.get(1)?).ok_or(Malformed("kind of an entry"));
    let mut entry = Entry {
        seq: row.get::<_, Number>(0)?.0,
        kind: decoded(1, kind)?,
        after_commit: row.get::<_, Number>(2)?.0,
        accepted_at_ms: row.get::<_, Number>(3)?.0,
        message_id: MessageId(row.get(4)?),
        payload,
        roster_change: Bytes::new(),
        statements: Vec::new(),
        welcome_hash: Digest::ZERO,
        head: Digest(row.get(5)?),
        welcome: row.get::<_, Option<Vec<u8>>>(6)?.map(Bytes::from),
    };
    if entry.kind == EntryKind::Commit {
        let bundle = commits::bundle(tx, entry_id(no, entry.seq))?;
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
