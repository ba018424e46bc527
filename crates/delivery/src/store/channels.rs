//! Rows of channels, of direct pairs and of Leave statements.

use qpc_proto::message::ChannelKind;
use qpc_proto::{AccountId, ChannelId, DeviceId, Digest, Incarnation};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

use super::column::number;
use crate::turns::Turns;

/// When nothing can go: the last time that a column has room for.
pub(crate) const NEVER: u64 = u64::MAX >> 1;

/// Bytes of entries, by kind. What the server posts counts as statements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) application: u64,
    pub(crate) commits: u64,
    pub(crate) statements: u64,
}

/// A channel as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    pub(crate) no: i64,
    pub(crate) id: ChannelId,
    pub(crate) kind: ChannelKind,
    pub(crate) first_seq: u64,
    pub(crate) head_seq: u64,
    pub(crate) head: Digest,
    pub(crate) head_at_ms: u64,
    pub(crate) last_commit: u64,
    /// The chain's head after the last expired entry; zeros while none has.
    pub(crate) boundary_head: Digest,
    /// Its own retention, milliseconds.
    pub(crate) retention_ms: Option<u64>,
    /// Devices in the roster after the last Commit.
    pub(crate) devices: u64,
    pub(crate) held: Held,
    /// Turns of Commits.
    pub(crate) turns: Turns,
    /// Whose the next turn is, until when.
    pub(crate) reserved: Option<(DeviceId, u64)>,
    /// Nothing in it can go before, Unix milliseconds.
    pub(crate) due_at_ms: u64,
    /// The row says a later time than `due_at_ms`.
    pub(crate) due_moved: bool,
    /// The life of the database that it was made in, if that is over.
    pub(crate) lived_in: Option<Incarnation>,
    /// The channel that took its place.
    pub(crate) successor: Option<ChannelId>,
}

impl Held {
    pub(crate) fn total(&self) -> u64 {
        self.application.saturating_add(self.commits).saturating_add(self.statements)
    }
}

impl Channel {
    /// Whether it takes no entry any more, but perhaps a reset.
    pub(crate) fn has_ended(&self) -> bool {
        self.lived_in.is_some() || self.successor.is_some()
    }

    /// Notes that something can go at `at_ms`.
    pub(crate) fn is_due(&mut self, at_ms: u64) {
        if at_ms < self.due_at_ms {
            self.due_at_ms = at_ms;
            self.due_moved = true;
        }
    }
}

/// How many columns [`channel_columns`] are.
pub(super) const COLUMNS: usize = 21;

/// The columns of [`channel`], of a table alias `c`. A macro: each statement is one literal.
macro_rules! channel_columns {
    () => {
        "c.no, c.channel_id, c.kind, c.first_seq, c.head_seq, c.head, c.head_at_ms, c.last_commit,
         c.boundary_head, c.retention_ms, c.devices, c.app_bytes, c.commit_bytes,
         c.statement_bytes, c.turns_taken, c.turns_since_ms, c.reserved_for, c.reserved_until_ms,
         c.due_at_ms, c.incarnation, c.successor"
    };
}
pub(super) use channel_columns;

/// Reads a channel from the row's first [`COLUMNS`].
pub(super) fn channel(row: &sql::Row<'_>) -> sql::Result<Channel> {
    let plain = |index| row.get::<_, Number>(index).map(|number| number.0);
    let reserved_until_ms = plain(17)?;
    let reserved = row.get::<_, Option<[u8; 16]>>(16)?;
    Ok(Channel {
        no: row.get(0)?,
        id: ChannelId(row.get(1)?),
        kind: match row.get::<_, i64>(2)? {
            1 => ChannelKind::Direct,
            2 => ChannelKind::Group,
            _ => ChannelKind::Inbox,
        },
        first_seq: row.get::<_, Number>(3)?.0,
        head_seq: row.get::<_, Number>(4)?.0,
        head: Digest(row.get(5)?),
        head_at_ms: row.get::<_, Number>(6)?.0,
        last_commit: row.get::<_, Number>(7)?.0,
        boundary_head: Digest(row.get(8)?),
        retention_ms: number(row, 9)?,
        devices: plain(10)?,
        held: Held { application: plain(11)?, commits: plain(12)?, statements: plain(13)? },
        turns: Turns { taken: plain(14)?, since_ms: plain(15)? },
        reserved: reserved.map(|device| (DeviceId(device), reserved_until_ms)),
        due_at_ms: plain(18)?,
        due_moved: false,
        lived_in: row.get::<_, Option<[u8; 16]>>(19)?.map(Incarnation),
        successor: row.get::<_, Option<[u8; 16]>>(20)?.map(ChannelId),
    })
}

/// Finds a group or direct channel, or an inbox: one id may name one of each.
pub(crate) fn find(tx: &Tx<'_>, id: &ChannelId, inbox: bool) -> sql::Result<Option<Channel>> {
    tx.prepare_cached(concat!(
        "SELECT ",
        channel_columns!(),
        " FROM channels c WHERE c.channel_id = ?1 AND c.inbox = ?2"
    ))?
    .query_row((id.as_bytes(), inbox), channel)
    .optional()
}

/// A channel to be.
pub(crate) struct NewChannel {
    pub(crate) id: ChannelId,
    pub(crate) kind: ChannelKind,
    /// Its own retention, milliseconds.
    pub(crate) retention_ms: Option<u64>,
    /// The server's retention now, milliseconds.
    pub(crate) due_under_ms: u64,
}

/// A new, empty channel.
pub(crate) fn insert(tx: &Tx<'_>, new: &NewChannel) -> sql::Result<Channel> {
    let code = match new.kind {
        ChannelKind::Direct => 1,
        ChannelKind::Group => 2,
        ChannelKind::Inbox => 3,
    };
    let no = tx
        .prepare_cached(
            "INSERT INTO channels (channel_id, inbox, kind, first_seq, head_seq, head, head_at_ms,
                 last_commit, retention_ms, due_at_ms, due_under_ms)
             VALUES (?1, ?2, ?3, 1, 0, ?4, 0, 0, ?5, ?6, ?7)",
        )?
        .insert((
            new.id.as_bytes(),
            new.kind == ChannelKind::Inbox,
            code,
            Digest::ZERO.as_bytes(),
            new.retention_ms.map(Number),
            Number(NEVER),
            Number(new.due_under_ms),
        ))?;
    Ok(Channel {
        no,
        id: new.id,
        kind: new.kind,
        first_seq: 1,
        head_seq: 0,
        head: Digest::ZERO,
        head_at_ms: 0,
        last_commit: 0,
        boundary_head: Digest::ZERO,
        retention_ms: new.retention_ms,
        devices: 0,
        held: Held::default(),
        turns: Turns::default(),
        reserved: None,
        due_at_ms: NEVER,
        due_moved: false,
        lived_in: None,
        successor: None,
    })
}

/// Writes how far the log has grown.
pub(crate) fn save(tx: &Tx<'_>, channel: &Channel) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE channels SET head_seq = ?2, head = ?3, head_at_ms = ?4, last_commit = ?5,
             devices = ?6, app_bytes = ?7, commit_bytes = ?8, statement_bytes = ?9
         WHERE no = ?1",
    )?
    .execute((
        channel.no,
        Number(channel.head_seq),
        channel.head.as_bytes(),
        Number(channel.head_at_ms),
        Number(channel.last_commit),
        Number(channel.devices),
        Number(channel.held.application),
        Number(channel.held.commits),
        Number(channel.held.statements),
    ))?;
    // An index holds it: it is left alone as long as it is true.
    if channel.due_moved { save_due(tx, (channel.no, channel.due_at_ms)) } else { Ok(()) }
}

/// Writes when the next thing in a channel can go, if that is sooner than known.
pub(crate) fn save_due(tx: &Tx<'_>, (no, due_at_ms): (i64, u64)) -> sql::Result<()> {
    tx.prepare_cached("UPDATE channels SET due_at_ms = ?2 WHERE no = ?1 AND due_at_ms > ?2")?
        .execute((no, Number(due_at_ms)))
        .map(drop)
}

/// Writes the turns of a channel's Commits.
pub(crate) fn save_turns(tx: &Tx<'_>, channel: &Channel) -> sql::Result<()> {
    let reserved = channel.reserved.as_ref();
    tx.prepare_cached(
        "UPDATE channels SET turns_taken = ?2, turns_since_ms = ?3, reserved_for = ?4,
             reserved_until_ms = ?5 WHERE no = ?1",
    )?
    .execute((
        channel.no,
        Number(channel.turns.taken),
        Number(channel.turns.since_ms),
        reserved.map(|(device, _)| device.as_bytes()),
        Number(reserved.map_or(0, |(_, until_ms)| *until_ms)),
    ))
    .map(drop)
}

/// The direct channel of a pair of accounts, in ascending order.
pub(crate) fn of_pair(
    tx: &Tx<'_>,
    (lo, hi): (&AccountId, &AccountId),
) -> sql::Result<Option<ChannelId>> {
    tx.prepare_cached(
        "SELECT c.channel_id FROM direct_pairs p JOIN channels c USING (no)
         WHERE p.lo = ?1 AND p.hi = ?2",
    )?
    .query_row((lo.as_bytes(), hi.as_bytes()), |row| row.get(0).map(ChannelId))
    .optional()
}

/// Notes the direct channel of a pair of accounts, in ascending order.
pub(crate) fn insert_pair(
    tx: &Tx<'_>,
    (lo, hi): (&AccountId, &AccountId),
    no: i64,
) -> sql::Result<()> {
    tx.prepare_cached("INSERT INTO direct_pairs (lo, hi, no) VALUES (?1, ?2, ?3)")?
        .execute((lo.as_bytes(), hi.as_bytes(), no))
        .map(drop)
}

/// Frees the pair of a direct channel all of whose devices are revoked: nobody can let another in.
pub(crate) fn free_dead_pair(tx: &Tx<'_>, no: i64) -> sql::Result<()> {
    tx.prepare_cached(
        "DELETE FROM direct_pairs WHERE no = ?1 AND NOT EXISTS
            (SELECT 1 FROM members WHERE no = ?1 AND removal_seq IS NULL
             AND device_id NOT IN (SELECT device_id FROM revoked))",
    )?
    .execute([no])
    .map(drop)
}

/// Frees the pair of a direct channel.
pub(crate) fn free_pair(tx: &Tx<'_>, no: i64) -> sql::Result<()> {
    tx.prepare_cached("DELETE FROM direct_pairs WHERE no = ?1")?.execute([no]).map(drop)
}

/// Notes which channel took a channel's place.
pub(crate) fn set_successor(tx: &Tx<'_>, no: i64, successor: &ChannelId) -> sql::Result<()> {
    tx.prepare_cached("UPDATE channels SET successor = ?2 WHERE no = ?1")?
        .execute((no, successor.as_bytes()))
        .map(drop)
}

/// Notes an account's Leave statement; a newer one replaces it.
pub(crate) fn put_leave(tx: &Tx<'_>, no: i64, account: &AccountId, seq: u64) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO leaves (no, account_id, seq) VALUES (?1, ?2, ?3)
         ON CONFLICT (no, account_id) DO UPDATE SET seq = excluded.seq, shown_seq = 0",
    )?
    .execute((no, account.as_bytes(), Number(seq)))
    .map(drop)
}

/// An account's newest Leave statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leave {
    pub(crate) account: AccountId,
    pub(crate) seq: u64,
    /// Where the server showed it again last; else its own place.
    pub(crate) shown_seq: u64,
}

/// Each account's newest Leave statement.
pub(crate) fn leaves(tx: &Tx<'_>, no: i64) -> sql::Result<Vec<Leave>> {
    tx.prepare_cached(
        "SELECT account_id, seq, max(seq, shown_seq) FROM leaves WHERE no = ?1 ORDER BY account_id",
    )?
    .query_map([no], |row| {
        let (seq, shown_seq) = (row.get::<_, Number>(1)?.0, row.get::<_, Number>(2)?.0);
        Ok(Leave { account: AccountId(row.get(0)?), seq, shown_seq })
    })?
    .collect()
}
