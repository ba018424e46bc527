//! Rows of channels, of direct pairs and of Leave statements.

use qpc_proto::message::ChannelKind;
use qpc_proto::{AccountId, ChannelId, Digest};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

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
}

/// The columns of [`channel`], of a table alias `c`. A macro: each statement is one literal.
macro_rules! channel_columns {
    () => {
        "c.no, c.channel_id, c.kind, c.first_seq, c.head_seq, c.head, c.head_at_ms, c.last_commit"
    };
}
pub(super) use channel_columns;

/// Reads a channel from the row's first eight columns.
pub(super) fn channel(row: &sql::Row<'_>) -> sql::Result<Channel> {
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

/// A new, empty channel.
pub(crate) fn insert(
    tx: &Tx<'_>,
    id: &ChannelId,
    kind: ChannelKind,
    now_ms: u64,
) -> sql::Result<Channel> {
    let code = match kind {
        ChannelKind::Direct => 1,
        ChannelKind::Group => 2,
        ChannelKind::Inbox => 3,
    };
    let inbox = kind == ChannelKind::Inbox;
    let no = tx
        .prepare_cached(
            "INSERT INTO channels (channel_id, inbox, kind, first_seq, head_seq, head, head_at_ms,
                 last_commit, oldest_at_ms) VALUES (?1, ?2, ?3, 1, 0, ?4, 0, 0, ?5)",
        )?
        .insert((id.as_bytes(), inbox, code, Digest::ZERO.as_bytes(), Number(now_ms)))?;
    Ok(Channel {
        no,
        id: *id,
        kind,
        first_seq: 1,
        head_seq: 0,
        head: Digest::ZERO,
        head_at_ms: 0,
        last_commit: 0,
    })
}

/// Writes how far the log has grown.
pub(crate) fn save(tx: &Tx<'_>, channel: &Channel) -> sql::Result<()> {
    tx.prepare_cached(
        "UPDATE channels SET head_seq = ?2, head = ?3, head_at_ms = ?4, last_commit = ?5
         WHERE no = ?1",
    )?
    .execute((
        channel.no,
        Number(channel.head_seq),
        channel.head.as_bytes(),
        Number(channel.head_at_ms),
        Number(channel.last_commit),
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

/// Notes an account's Leave statement; a newer one replaces it.
pub(crate) fn put_leave(tx: &Tx<'_>, no: i64, account: &AccountId, seq: u64) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT INTO leaves (no, account_id, seq) VALUES (?1, ?2, ?3)
         ON CONFLICT (no, account_id) DO UPDATE SET seq = excluded.seq",
    )?
    .execute((no, account.as_bytes(), Number(seq)))
    .map(drop)
}

/// Each account's newest Leave statement.
pub(crate) fn leaves(tx: &Tx<'_>, no: i64) -> sql::Result<Vec<(AccountId, u64)>> {
    tx.prepare_cached("SELECT account_id, seq FROM leaves WHERE no = ?1 ORDER BY account_id")?
        .query_map([no], |row| Ok((AccountId(row.get(0)?), row.get::<_, Number>(1)?.0)))?
        .collect()
}
