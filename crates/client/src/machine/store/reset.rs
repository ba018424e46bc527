//! Channels that ended, and what takes their place.

use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, ChannelId};
use qpc_storage::sql::{self, OptionalExtension as _, Row, params};

use super::Db;
use super::message::State;

/// How a channel ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct EndedRow {
    pub(crate) successor: Option<ChannelId>,
    /// The reset that was signed here.
    pub(crate) statement: Option<Vec<u8>>,
    /// It ended with an earlier life of the server.
    pub(crate) restored: bool,
    /// How far the server's backup reaches, once it has said so.
    pub(crate) head_seq: Option<u64>,
    /// When this device makes a successor by itself.
    pub(crate) at_ms: Option<u64>,
}

/// A channel that says it takes another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TakesPlaceRow {
    pub(crate) replaces: ChannelId,
    /// The account that took this device in.
    pub(crate) maker: AccountId,
    /// Made here, or the user lets what waits go there all the same.
    pub(crate) accepted: bool,
}

const COLUMNS: &str = "successor, statement, restored, head_seq, at_ms";

fn read(row: &Row<'_>, first: usize) -> sql::Result<EndedRow> {
    let column = |at: usize| first.saturating_add(at);
    Ok(EndedRow {
        successor: row.get::<_, Option<[u8; 16]>>(column(0))?.map(ChannelId),
        statement: row.get(column(1))?,
        restored: row.get(column(2))?,
        head_seq: row.get(column(3))?,
        at_ms: row.get(column(4))?,
    })
}

impl Db<'_> {
    pub(crate) fn ended(&self, channel: &ChannelId) -> sql::Result<Option<EndedRow>> {
        let query = format!("SELECT {COLUMNS} FROM ended WHERE channel = ?1");
        self.0.prepare_cached(&query)?.query_row([channel.0], |row| read(row, 0)).optional()
    }

    pub(crate) fn put_ended(&self, channel: &ChannelId, row: &EndedRow) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO ended
                    (channel, successor, statement, restored, head_seq, at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                channel.0,
                row.successor.map(|successor| successor.0),
                row.statement,
                row.restored,
                row.head_seq,
                row.at_ms,
            ])?;
        Ok(())
    }

    pub(crate) fn drop_ended(&self, channel: &ChannelId) -> sql::Result<()> {
        self.0.prepare_cached("DELETE FROM ended WHERE channel = ?1")?.execute([channel.0])?;
        Ok(())
    }

    /// The channel that another takes the place of.
    pub(crate) fn replaced_by(
        &self,
        successor: &ChannelId,
    ) -> sql::Result<Option<(ChannelId, EndedRow)>> {
        let query = format!("SELECT channel, {COLUMNS} FROM ended WHERE successor = ?1");
        self.0
            .prepare_cached(&query)?
            .query_row([successor.0], |row| Ok((ChannelId(row.get(0)?), read(row, 1)?)))
            .optional()
    }

    /// Notes whose place a channel says it takes; what was accepted stays so.
    pub(crate) fn put_takes_place(
        &self,
        successor: &ChannelId,
        row: &TakesPlaceRow,
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO takes_place (channel, replaces, maker, accepted)
                 VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (channel) DO UPDATE SET replaces = excluded.replaces,
                    maker = excluded.maker,
                    accepted = excluded.accepted
                        OR (accepted AND replaces = excluded.replaces)",
            )?
            .execute(params![successor.0, row.replaces.0, row.maker.0, row.accepted])?;
        Ok(())
    }

    pub(crate) fn takes_place(&self, successor: &ChannelId) -> sql::Result<Option<TakesPlaceRow>> {
        self.0
            .prepare_cached("SELECT replaces, maker, accepted FROM takes_place WHERE channel = ?1")?
            .query_row([successor.0], |row| {
                Ok(TakesPlaceRow {
                    replaces: ChannelId(row.get(0)?),
                    maker: AccountId(row.get(1)?),
                    accepted: row.get(2)?,
                })
            })
            .optional()
    }

    /// Channels to which this device is to make a successor now.
    pub(crate) fn successors_due(&self, now_ms: u64) -> sql::Result<Vec<ChannelId>> {
        self.0
            .prepare_cached(
                "SELECT channel FROM ended WHERE successor IS NULL AND at_ms <= ?1
                 ORDER BY at_ms, channel",
            )?
            .query_map([now_ms], |row| row.get(0).map(ChannelId))?
            .collect()
    }

    /// What waits in a channel goes to another, to be sealed there.
    pub(crate) fn move_waiting(&self, from: &ChannelId, to: &ChannelId) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE OR IGNORE message SET channel = ?2, state = ?3, reason = NULL WHERE id IN
                    (SELECT id FROM outbox WHERE channel = ?1 AND accepted_seq IS NULL)",
            )?
            .execute(params![from.0, to.0, State::Waiting.code()])?;
        self.0
            .prepare_cached(
                "UPDATE outbox SET channel = ?2, message_id = NULL, after_commit = NULL,
                    payload = NULL
                 WHERE channel = ?1 AND accepted_seq IS NULL",
            )?
            .execute(params![from.0, to.0])?;
        Ok(())
    }

    /// Own messages that had a place above `head_seq` wait again: the server lost them.
    pub(crate) fn wait_again(
        &self,
        channel: &ChannelId,
        (device, head_seq): (&DeviceRef, u64),
    ) -> sql::Result<()> {
        let (channel, device, accepted) = (channel.0, device.device.0, State::Accepted.code());
        self.0
            .prepare_cached("DELETE FROM outbox WHERE channel = ?1 AND accepted_seq IS NOT NULL")?
            .execute([channel])?;
        self.0
            .prepare_cached(
                "INSERT OR IGNORE INTO outbox (id, channel) SELECT id, channel FROM message
                 WHERE channel = ?1 AND device = ?2 AND seq > ?3 AND state = ?4",
            )?
            .execute(params![channel, device, head_seq, accepted])?;
        self.0
            .prepare_cached(
                "UPDATE message SET state = ?5, seq = NULL, accepted_at_ms = NULL
                 WHERE channel = ?1 AND device = ?2 AND seq > ?3 AND state = ?4",
            )?
            .execute(params![channel, device, head_seq, accepted, State::Waiting.code()])?;
        Ok(())
    }

    /// Whether a device's message is in a channel.
    pub(crate) fn has_content(
        &self,
        channel: &ChannelId,
        (device, content_id): (&DeviceRef, &[u8; 16]),
    ) -> sql::Result<bool> {
        self.0
            .prepare_cached(
                "SELECT 1 FROM message WHERE channel = ?1 AND device = ?2 AND content_id = ?3",
            )?
            .exists(params![channel.0, device.device.0, content_id])
    }

    /// An account is not waited for any more.
    pub(crate) fn drop_intent_account(&self, intent: u64, account: &AccountId) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM intent_account WHERE intent = ?1 AND account = ?2")?
            .execute(params![intent, account.0])?;
        Ok(())
    }
}
