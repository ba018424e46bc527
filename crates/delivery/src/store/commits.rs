//! Rows of Commits: their bundles, the rosters after them and their Welcomes.

use bytes::Bytes;
use qpc_proto::codec::{Reader, Writer};
use qpc_proto::{AccountId, Digest, Malformed};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

use super::channels::Channel;
use super::column::decoded;
use super::entries::entry_id;
use crate::roster::Roster;

/// A Commit's row.
pub(crate) struct NewCommit<'a> {
    pub(crate) seq: u64,
    pub(crate) committer: AccountId,
    pub(crate) base_commit: u64,
    /// The roster after it; none when it is that of its base.
    pub(crate) roster: Option<&'a Roster>,
    pub(crate) roster_change: &'a [u8],
    pub(crate) statements: &'a [Bytes],
    pub(crate) welcome_hash: Digest,
}

pub(crate) fn insert(tx: &Tx<'_>, no: i64, new: &NewCommit<'_>) -> sql::Result<()> {
    let id = entry_id(no, new.seq);
    if let Some(roster) = new.roster {
        tx.prepare_cached("INSERT INTO rosters (id, roster, since) VALUES (?1, ?2, ?3)")?
            .execute((id, roster.encode(), roster.encode_since()))?;
    }
    let statements =
        new.statements.iter().fold(Writer::default(), |w, statement| w.var(statement)).finish();
    tx.prepare_cached(
        "INSERT INTO commits (id, committer, base_commit, roster, roster_change, statements,
             welcome_hash)
         VALUES (?1, ?2, ?3, coalesce(?4, (SELECT roster FROM commits WHERE id = ?5)), ?6, ?7, ?8)",
    )?
    .execute((
        id,
        new.committer.as_bytes(),
        Number(new.base_commit),
        new.roster.map(|_| id),
        entry_id(no, new.base_commit),
        new.roster_change,
        statements,
        new.welcome_hash.as_bytes(),
    ))
    .map(drop)
}

/// What readers get of a Commit beside its payload.
pub(super) struct Bundle {
    pub(super) roster_change: Bytes,
    pub(super) statements: Vec<Bytes>,
    pub(super) welcome_hash: Digest,
}

pub(super) fn bundle(tx: &Tx<'_>, id: i64) -> sql::Result<Bundle> {
    tx.prepare_cached("SELECT roster_change, statements, welcome_hash FROM commits WHERE id = ?1")?
        .query_row([id], |row| {
            Ok(Bundle {
                roster_change: Bytes::from(row.get::<_, Vec<u8>>(0)?),
                statements: decoded(1, split(&row.get::<_, Vec<u8>>(1)?))?,
                welcome_hash: Digest(row.get(2)?),
            })
        })
}

fn split(bytes: &[u8]) -> Result<Vec<Bytes>, Malformed> {
    let mut r = Reader::new(bytes);
    let mut statements = Vec::new();
    while r.remaining() > 0 {
        statements.push(Bytes::copy_from_slice(r.var(bytes.len())?));
    }
    Ok(statements)
}

/// A Commit of a channel's log, as later ones refer to it.
pub(crate) struct Commit {
    pub(crate) committer: AccountId,
    pub(crate) base_commit: u64,
}

pub(crate) fn find(tx: &Tx<'_>, no: i64, seq: u64) -> sql::Result<Option<Commit>> {
    tx.prepare_cached("SELECT committer, base_commit FROM commits WHERE id = ?1")?
        .query_row([entry_id(no, seq)], |row| {
            Ok(Commit {
                committer: AccountId(row.get(0)?),
                base_commit: row.get::<_, Number>(1)?.0,
            })
        })
        .optional()
}

/// The roster after the Commit at `seq`; empty where there is none.
pub(crate) fn roster(tx: &Tx<'_>, no: i64, seq: u64) -> sql::Result<Roster> {
    tx.prepare_cached(
        "SELECT r.roster, r.since FROM commits c JOIN rosters r ON r.id = c.roster WHERE c.id = ?1",
    )?
    .query_row([entry_id(no, seq)], |row| {
        let (roster, since) = (row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?);
        decoded(0, Roster::decode((&roster, &since)))
    })
    .optional()
    .map(Option::unwrap_or_default)
}

/// Stores a Welcome and returns its row. It may outlive its channel, so the row's number says
/// nothing of that.
pub(crate) fn insert_welcome(tx: &Tx<'_>, welcome: &[u8]) -> sql::Result<i64> {
    tx.prepare_cached("INSERT INTO welcomes (welcome) VALUES (?1)")?.insert([welcome])
}

/// Commits that went, and the bytes of the rosters that went with them.
pub(crate) struct Forgotten {
    pub(crate) commits: u64,
    pub(crate) bytes: u64,
}

/// Deletes Commits whose entries have gone and that nobody can name as a base any more, at most
/// `limit` of them, with the rosters that only they refer to. The last one stays, those on which
/// removals rest that nobody has built on, and what devices may name that were removed after
/// `ended_ms`: a Commit on an older base may undo that.
pub(crate) fn prune(
    tx: &Tx<'_>,
    channel: &Channel,
    (ended_ms, limit): (u64, u64),
) -> sql::Result<Forgotten> {
    let no = channel.no;
    let named = tx
        .prepare_cached(
            "SELECT min(max(m.last_base, m.join_seq),
                 coalesce((SELECT c.base_commit FROM commits c
                     WHERE m.removal_confirmed = 0 AND c.id = (m.no << 32 | m.removal_seq)),
                     9223372036854775807)) AS named
             FROM members m WHERE m.no = ?1 AND (m.removal_seq IS NULL OR m.removed_at_ms > ?2)
             ORDER BY named LIMIT 1",
        )?
        .query_row((no, Number(ended_ms)), |row| row.get::<_, Number>(0))
        .optional()?;
    let end = named.map_or(u64::MAX, |seq| seq.0).min(channel.first_seq).min(channel.last_commit);
    forget(tx, no, (end, limit))
}

/// Deletes the oldest Commits before `end`, at most `limit`, with the rosters that only they refer
/// to.
pub(crate) fn forget(tx: &Tx<'_>, no: i64, (end, limit): (u64, u64)) -> sql::Result<Forgotten> {
    let ids = (entry_id(no, 0), entry_id(no, end));
    let commits = tx
        .prepare_cached(
            "DELETE FROM commits WHERE id IN
                 (SELECT id FROM commits WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3)",
        )?
        .execute((ids.0, ids.1, Number(limit)))?;
    let mut bytes = 0;
    if commits > 0 {
        let mut rosters = tx.prepare_cached(
            "DELETE FROM rosters WHERE id >= ?1 AND id < ?2
                 AND NOT EXISTS (SELECT 1 FROM commits c WHERE c.roster = rosters.id)
             RETURNING length(roster) + length(since)",
        )?;
        for gone in rosters.query_map(ids, |row| row.get::<_, Number>(0))? {
            bytes = gone?.0.saturating_add(bytes);
        }
    }
    Ok(Forgotten { commits: u64::try_from(commits).unwrap_or(u64::MAX), bytes })
}
