//! Channels as this device reads them, recent heads, kept entries and standing statements.

use qpc_proto::message::ChannelKind;
use qpc_proto::{AccountId, ChannelId, Digest, MessageId};
use qpc_storage::sql::{self, OptionalExtension as _, Row, params};

use super::Db;

/// Heads kept for comparison with members' digests, per channel.
const HEADS_KEPT: u64 = 1_000;

/// How a channel stands. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Active,
    Unconfirmed,
    Leaving,
    Left,
    Held,
    NeedsRepair,
    Alarm,
    Failed,
    /// This device asked to be taken in again.
    Rejoining,
    /// It goes on as another channel.
    Closed,
}

impl Status {
    const ALL: [Self; 11] = [
        Self::Creating,
        Self::Active,
        Self::Unconfirmed,
        Self::Leaving,
        Self::Left,
        Self::Held,
        Self::NeedsRepair,
        Self::Alarm,
        Self::Failed,
        Self::Rejoining,
        Self::Closed,
    ];

    fn code(self) -> u8 {
        Self::ALL.iter().zip(0_u8..).find(|(s, _)| **s == self).map_or(0, |(_, code)| code)
    }

    fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::NeedsRepair)
    }

    /// Whether the log is still read.
    pub(crate) fn reads(self) -> bool {
        match self {
            Self::Creating | Self::Active | Self::Unconfirmed | Self::Leaving => true,
            // A held entry may succeed later: it is fetched again.
            Self::Held => true,
            // Up to where it is taken in again.
            Self::Rejoining => true,
            Self::Left | Self::NeedsRepair | Self::Alarm | Self::Failed | Self::Closed => false,
        }
    }

    /// Whether nothing can be sealed here ever again.
    pub(crate) fn is_over(self) -> bool {
        match self {
            Self::Leaving | Self::Left | Self::Failed | Self::Closed => true,
            Self::Creating
            | Self::Active
            | Self::Unconfirmed
            | Self::Held
            | Self::NeedsRepair
            | Self::Rejoining
            | Self::Alarm => false,
        }
    }

    /// Whether entries may be sealed.
    pub(crate) fn seals(self) -> bool {
        match self {
            Self::Active | Self::Unconfirmed => true,
            Self::Creating
            | Self::Leaving
            | Self::Left
            | Self::Held
            | Self::NeedsRepair
            | Self::Alarm
            | Self::Rejoining
            | Self::Closed
            | Self::Failed => false,
        }
    }
}

/// A channel.
#[derive(Debug, Clone)]
pub(crate) struct ChannelRow {
    pub(crate) channel: ChannelId,
    pub(crate) kind: ChannelKind,
    pub(crate) title: String,
    pub(crate) peer: Option<AccountId>,
    pub(crate) group: [u8; 32],
    pub(crate) status: Status,
    pub(crate) reason: Option<String>,
    pub(crate) cursor: u64,
    pub(crate) head: Digest,
    /// The highest sequence number the server has spoken of.
    pub(crate) known_head: u64,
    pub(crate) base_commit: u64,
    pub(crate) last_commit: u64,
    /// Set while the join is not confirmed.
    pub(crate) inviter: Option<AccountId>,
    /// Nothing is sent before this time.
    pub(crate) quiet_until_ms: u64,
    /// Nothing is sealed before the user accepts this account.
    pub(crate) held_by: Option<AccountId>,
    /// How long the server keeps entries, as it said; while it is being created, what is asked for.
    /// 0: nothing was said, or asked.
    pub(crate) retention_ms: u64,
}

impl ChannelRow {
    /// A channel of which nothing has been read.
    pub(crate) fn new(channel: ChannelId, kind: ChannelKind, status: Status) -> Self {
        Self {
            channel,
            kind,
            title: String::new(),
            peer: None,
            group: [0; 32],
            status,
            reason: None,
            cursor: 0,
            head: Digest::ZERO,
            known_head: 0,
            base_commit: 0,
            last_commit: 0,
            inviter: None,
            quiet_until_ms: 0,
            held_by: None,
            retention_ms: 0,
        }
    }

    /// Everything the server spoke of has been read.
    pub(crate) fn in_step(&self) -> bool {
        self.cursor >= self.known_head
    }
}

/// An entry kept unopened or unreadable.
#[derive(Debug, Clone)]
pub(crate) struct KeptEntry<'a> {
    pub(crate) channel: ChannelId,
    pub(crate) seq: u64,
    pub(crate) reason: &'a str,
    pub(crate) message_id: MessageId,
    pub(crate) payload: &'a [u8],
}

const COLUMNS: &str = "channel, kind, title, peer, group_id, status, reason, cursor, head,
    known_head, base_commit, last_commit, inviter, quiet_until_ms, held_by,
    retention_ms";

fn kind_code(kind: ChannelKind) -> u8 {
    match kind {
        ChannelKind::Direct => 1,
        ChannelKind::Group => 2,
        ChannelKind::Inbox => 3,
    }
}

fn read(row: &Row<'_>) -> sql::Result<ChannelRow> {
    Ok(ChannelRow {
        channel: ChannelId(row.get(0)?),
        kind: match row.get::<_, u8>(1)? {
            1 => ChannelKind::Direct,
            3 => ChannelKind::Inbox,
            _ => ChannelKind::Group,
        },
        title: row.get(2)?,
        peer: row.get::<_, Option<[u8; 16]>>(3)?.map(AccountId),
        group: row.get(4)?,
        status: Status::from_code(row.get(5)?),
        reason: row.get(6)?,
        cursor: row.get(7)?,
        head: Digest(row.get(8)?),
        known_head: row.get(9)?,
        base_commit: row.get(10)?,
        last_commit: row.get(11)?,
        inviter: row.get::<_, Option<[u8; 16]>>(12)?.map(AccountId),
        quiet_until_ms: row.get(13)?,
        held_by: row.get::<_, Option<[u8; 16]>>(14)?.map(AccountId),
        retention_ms: row.get(15)?,
    })
}

impl Db<'_> {
    pub(crate) fn channel(&self, channel: &ChannelId) -> sql::Result<Option<ChannelRow>> {
        let query = format!("SELECT {COLUMNS} FROM channel WHERE channel = ?1");
        self.0.prepare_cached(&query)?.query_row([channel.0], read).optional()
    }

    /// Every channel, the inbox among them.
    pub(crate) fn channels(&self) -> sql::Result<Vec<ChannelRow>> {
        let query = format!("SELECT {COLUMNS} FROM channel ORDER BY title, channel");
        self.0.prepare_cached(&query)?.query_map([], read)?.collect()
    }

    /// The live direct channel with an account.
    pub(crate) fn direct_channel(&self, peer: &AccountId) -> sql::Result<Option<ChannelRow>> {
        let query = format!(
            "SELECT {COLUMNS} FROM channel WHERE peer = ?1 AND status NOT IN (?2, ?3, ?4)
             ORDER BY channel LIMIT 1"
        );
        let (left, failed) = (Status::Left.code(), Status::Failed.code());
        let closed = Status::Closed.code();
        self.0
            .prepare_cached(&query)?
            .query_row(params![peer.0, left, failed, closed], read)
            .optional()
    }

    pub(crate) fn put_channel(&self, row: &ChannelRow) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO channel (channel, kind, title, peer, group_id, status,
                    reason, cursor, head, known_head, base_commit, last_commit, inviter,
                    quiet_until_ms, held_by, retention_ms)
                 VALUES
                    (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?
            .execute(params![
                row.channel.0,
                kind_code(row.kind),
                row.title,
                row.peer.map(|peer| peer.0),
                row.group,
                row.status.code(),
                row.reason,
                row.cursor,
                row.head.0,
                row.known_head,
                row.base_commit,
                row.last_commit,
                row.inviter.map(|inviter| inviter.0),
                row.quiet_until_ms,
                row.held_by.map(|account| account.0),
                row.retention_ms,
            ])?;
        Ok(())
    }

    pub(crate) fn delete_channel(&self, channel: &ChannelId) -> sql::Result<()> {
        for table in ["channel", "head", "standing_statement", "outbox", "upkeep", "heard"] {
            let statement = format!("DELETE FROM {table} WHERE channel = ?1");
            self.0.prepare_cached(&statement)?.execute([channel.0])?;
        }
        Ok(())
    }

    pub(crate) fn note_head(
        &self,
        channel: &ChannelId,
        (seq, head): (u64, &Digest),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached("INSERT OR REPLACE INTO head (channel, seq, head) VALUES (?1, ?2, ?3)")?
            .execute(params![channel.0, seq, head.0])?;
        Ok(())
    }

    /// Drops the heads that are too far behind a place to be compared with.
    pub(crate) fn drop_heads(&self, channel: &ChannelId, seq: u64) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM head WHERE channel = ?1 AND seq <= ?2")?
            .execute(params![channel.0, seq.saturating_sub(HEADS_KEPT)])?;
        Ok(())
    }

    pub(crate) fn head_at(&self, channel: &ChannelId, seq: u64) -> sql::Result<Option<Digest>> {
        self.0
            .prepare_cached("SELECT head FROM head WHERE channel = ?1 AND seq = ?2")?
            .query_row(params![channel.0, seq], |row| row.get(0).map(Digest))
            .optional()
    }

    pub(crate) fn keep_entry(&self, entry: &KeptEntry<'_>) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO kept_entry (channel, seq, reason, message_id, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                entry.channel.0,
                entry.seq,
                entry.reason,
                entry.message_id.0,
                entry.payload
            ])?;
        Ok(())
    }

    /// What was kept unread behind `seq` is read again.
    pub(crate) fn rewind(&self, channel: &ChannelId, seq: u64) -> sql::Result<()> {
        for table in ["head", "kept_entry"] {
            let statement = format!("DELETE FROM {table} WHERE channel = ?1 AND seq > ?2");
            self.0.prepare_cached(&statement)?.execute(params![channel.0, seq])?;
        }
        self.losses_read_again(channel, seq)?;
        self.drop_unreadable(channel, seq)
    }

    /// Whether an entry between two places, neither included, was kept for one of two reasons.
    pub(crate) fn kept_between(
        &self,
        channel: &ChannelId,
        (after, before): (u64, u64),
        reasons: [&str; 2],
    ) -> sql::Result<bool> {
        let [one, other] = reasons;
        self.0
            .prepare_cached(
                "SELECT 1 FROM kept_entry
                 WHERE channel = ?1 AND seq > ?2 AND seq < ?3 AND reason IN (?4, ?5)",
            )?
            .exists(params![channel.0, after, before, one, other])
    }

    /// The bytes of entries behind a place that were kept for one of two reasons.
    pub(crate) fn kept_behind(
        &self,
        channel: &ChannelId,
        after: u64,
        reasons: [&str; 2],
    ) -> sql::Result<Vec<Vec<u8>>> {
        let [one, other] = reasons;
        self.0
            .prepare_cached(
                "SELECT payload FROM kept_entry
                 WHERE channel = ?1 AND seq > ?2 AND reason IN (?3, ?4)",
            )?
            .query_map(params![channel.0, after, one, other], |row| row.get(0))?
            .collect()
    }

    /// Notes what stands; false for the bytes that are noted already.
    pub(crate) fn put_standing(
        &self,
        channel: &ChannelId,
        (account, seq, statement): (&AccountId, u64, &[u8]),
    ) -> sql::Result<bool> {
        let known = self
            .0
            .prepare_cached(
                "SELECT 1 FROM standing_statement
                 WHERE channel = ?1 AND account = ?2 AND statement = ?3",
            )?
            .exists(params![channel.0, account.0, statement])?;
        self.0
            .prepare_cached(
                "INSERT OR IGNORE INTO standing_statement (channel, account, seq, statement)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![channel.0, account.0, seq, statement])?;
        Ok(!known)
    }

    /// Standing statements of a channel: account and signed bytes.
    pub(crate) fn standing(&self, channel: &ChannelId) -> sql::Result<Vec<(AccountId, Vec<u8>)>> {
        self.0
            .prepare_cached(
                "SELECT account, statement FROM standing_statement WHERE channel = ?1 ORDER BY seq",
            )?
            .query_map([channel.0], |row| Ok((AccountId(row.get(0)?), row.get(1)?)))?
            .collect()
    }

    pub(crate) fn drop_standing(
        &self,
        channel: &ChannelId,
        account: &AccountId,
    ) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM standing_statement WHERE channel = ?1 AND account = ?2")?
            .execute(params![channel.0, account.0])?;
        Ok(())
    }
}
