//! History and outbox.

use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, ChannelId, DeviceId, MessageId};
use qpc_storage::sql::{self, OptionalExtension as _, Row, params};

use super::Db;

/// State of a message. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Sealed,
    Accepted,
    Refused,
    Received,
    Unreadable,
    Notice,
    /// Own: taken back by the user.
    Cancelled,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Sealed,
        Self::Accepted,
        Self::Refused,
        Self::Received,
        Self::Unreadable,
        Self::Notice,
        Self::Cancelled,
    ];

    pub(super) fn code(self) -> u8 {
        Self::ALL.iter().zip(0_u8..).find(|(s, _)| **s == self).map_or(0, |(_, code)| code)
    }

    fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::Unreadable)
    }
}

/// One line of history.
#[derive(Clone)]
pub(crate) struct MessageRow {
    /// Zero before it is inserted.
    pub(crate) id: u64,
    pub(crate) channel: ChannelId,
    pub(crate) seq: Option<u64>,
    pub(crate) sender: DeviceRef,
    pub(crate) content_id: [u8; 16],
    pub(crate) text: String,
    pub(crate) state: State,
    pub(crate) reason: Option<String>,
    pub(crate) sent_at_ms: u64,
    pub(crate) accepted_at_ms: Option<u64>,
    pub(crate) seen: bool,
}

/// An own message that is not settled.
#[derive(Clone)]
pub(crate) struct OutboxRow {
    pub(crate) id: u64,
    /// Message id, `after_commit` and payload, once sealed.
    pub(crate) sealed: Option<(MessageId, u64, Vec<u8>)>,
}

/// The latest time that a column holds: a sender's clock may say anything.
pub(super) const TIME_MAX: u64 = i64::MAX.unsigned_abs();

const COLUMNS: &str = "id, channel, seq, account, device, content_id, text, state, reason,
    sent_at_ms, accepted_at_ms, seen";

fn read(row: &Row<'_>) -> sql::Result<MessageRow> {
    Ok(MessageRow {
        id: row.get(0)?,
        channel: ChannelId(row.get(1)?),
        seq: row.get(2)?,
        sender: DeviceRef { account: AccountId(row.get(3)?), device: DeviceId(row.get(4)?) },
        content_id: row.get(5)?,
        text: row.get(6)?,
        state: State::from_code(row.get(7)?),
        reason: row.get(8)?,
        sent_at_ms: row.get(9)?,
        accepted_at_ms: row.get(10)?,
        seen: row.get(11)?,
    })
}

fn read_outbox(row: &Row<'_>) -> sql::Result<OutboxRow> {
    let message_id: Option<[u8; 16]> = row.get(1)?;
    let sealed = match (message_id, row.get(2)?, row.get(3)?) {
        (Some(id), Some(after_commit), Some(payload)) => {
            Some((MessageId(id), after_commit, payload))
        }
        _ => None,
    };
    Ok(OutboxRow { id: row.get(0)?, sealed })
}

impl Db<'_> {
    /// Inserts a message; `None` when this device's content id is there already.
    pub(crate) fn insert_message(&self, message: &MessageRow) -> sql::Result<Option<u64>> {
        let inserted = self
            .0
            .prepare_cached(
                "INSERT INTO message (channel, seq, account, device, content_id, text, state,
                    reason, sent_at_ms, accepted_at_ms, seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (channel, device, content_id) DO NOTHING",
            )?
            .execute(params![
                message.channel.0,
                message.seq,
                message.sender.account.0,
                message.sender.device.0,
                message.content_id,
                message.text,
                message.state.code(),
                message.reason,
                message.sent_at_ms.min(TIME_MAX),
                message.accepted_at_ms.map(|at_ms| at_ms.min(TIME_MAX)),
                message.seen,
            ])?;
        let id = self.0.last_insert_rowid();
        Ok((inserted > 0).then(|| u64::try_from(id).unwrap_or(0)))
    }

    pub(crate) fn message(&self, id: u64) -> sql::Result<Option<MessageRow>> {
        let query = format!("SELECT {COLUMNS} FROM message WHERE id = ?1");
        self.0.prepare_cached(&query)?.query_row([id], read).optional()
    }

    /// The last `limit` messages of a channel, oldest first.
    pub(crate) fn history(&self, channel: &ChannelId, limit: u64) -> sql::Result<Vec<MessageRow>> {
        let query = format!(
            "SELECT * FROM (SELECT {COLUMNS} FROM message WHERE channel = ?1
             ORDER BY id DESC LIMIT ?2) ORDER BY id"
        );
        // SQLite's integers are signed.
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0.prepare_cached(&query)?.query_map(params![channel.0, limit], read)?.collect()
    }

    /// Messages not yet seen, oldest first.
    pub(crate) fn unseen(&self, limit: u64) -> sql::Result<Vec<MessageRow>> {
        let query = format!("SELECT {COLUMNS} FROM message WHERE seen = 0 ORDER BY id LIMIT ?1");
        self.0.prepare_cached(&query)?.query_map([limit], read)?.collect()
    }

    pub(crate) fn mark_seen(&self, up_to: u64) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE message SET seen = 1 WHERE seen = 0 AND id <= ?1")?
            .execute([up_to])?;
        Ok(())
    }

    pub(crate) fn set_state(
        &self,
        id: u64,
        (state, reason): (State, Option<&str>),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE message SET state = ?2, reason = ?3 WHERE id = ?1")?
            .execute(params![id, state.code(), reason])?;
        Ok(())
    }

    /// The server answered for a place: nothing is resent, the bytes are kept until the log shows
    /// them.
    pub(crate) fn accept(&self, id: u64, (seq, accepted_at_ms): (u64, u64)) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE message SET state = ?2, seq = ?3, accepted_at_ms = ?4 WHERE id = ?1",
            )?
            .execute(params![id, State::Accepted.code(), seq, accepted_at_ms])?;
        self.0
            .prepare_cached("UPDATE outbox SET accepted_seq = ?2 WHERE id = ?1")?
            .execute(params![id, seq])?;
        Ok(())
    }

    /// The log shows an own message: it is settled.
    pub(crate) fn settle(&self, id: u64, place: (u64, u64)) -> sql::Result<()> {
        self.accept(id, place)?;
        self.0.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    /// What was accepted up to `seq` will not be shown: the answers settle it.
    pub(crate) fn settle_up_to(&self, channel: &ChannelId, seq: u64) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM outbox WHERE channel = ?1 AND accepted_seq <= ?2")?
            .execute(params![channel.0, seq])?;
        Ok(())
    }

    /// An own message that the server gave this place, though the log shows another there.
    pub(crate) fn misplaced(&self, channel: &ChannelId, seq: u64) -> sql::Result<Option<u64>> {
        self.0
            .prepare_cached("SELECT id FROM outbox WHERE channel = ?1 AND accepted_seq = ?2")?
            .query_row(params![channel.0, seq], |row| row.get(0))
            .optional()
    }

    /// Takes an answer back: the sealed bytes are sent again.
    pub(crate) fn unaccept(&self, id: u64) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE outbox SET accepted_seq = NULL WHERE id = ?1")?
            .execute([id])?;
        self.set_state(id, (State::Sealed, None))
    }

    /// Moves everything of one channel to another: the pair had a channel already.
    pub(crate) fn move_messages(&self, from: &ChannelId, to: &ChannelId) -> sql::Result<()> {
        for table in ["message", "outbox"] {
            let statement = format!("UPDATE {table} SET channel = ?2 WHERE channel = ?1");
            self.0.prepare_cached(&statement)?.execute(params![from.0, to.0])?;
        }
        Ok(())
    }

    /// Forgets the lines of what could not be read behind `seq`.
    pub(crate) fn drop_unreadable(&self, channel: &ChannelId, seq: u64) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM message WHERE channel = ?1 AND seq > ?2 AND state = ?3")?
            .execute(params![channel.0, seq, State::Unreadable.code()])?;
        Ok(())
    }

    /// An own message is refused for good.
    pub(crate) fn refuse(&self, id: u64, reason: &str) -> sql::Result<()> {
        self.set_state(id, (State::Refused, Some(reason)))?;
        self.0.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    /// The user took an own message back.
    pub(crate) fn cancel(&self, id: u64) -> sql::Result<()> {
        self.set_state(id, (State::Cancelled, None))?;
        self.0.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    /// Own messages that are not settled, and those refused for good, oldest first.
    pub(crate) fn unsettled(&self) -> sql::Result<Vec<MessageRow>> {
        // The number stands in the text, for the index to be used.
        let query = format!(
            "SELECT {COLUMNS} FROM message
             WHERE id IN (SELECT id FROM outbox UNION SELECT id FROM message WHERE state = {})
             ORDER BY id",
            State::Refused.code()
        );
        self.0.prepare_cached(&query)?.query_map([], read)?.collect()
    }

    pub(crate) fn queue(&self, id: u64, channel: &ChannelId) -> sql::Result<()> {
        self.0
            .prepare_cached("INSERT INTO outbox (id, channel) VALUES (?1, ?2)")?
            .execute(params![id, channel.0])?;
        Ok(())
    }

    /// The first `limit` unsettled messages of a channel, in order.
    pub(crate) fn outbox(&self, channel: &ChannelId, limit: u64) -> sql::Result<Vec<OutboxRow>> {
        self.0
            .prepare_cached(
                "SELECT id, message_id, after_commit, payload FROM outbox
                 WHERE channel = ?1 AND accepted_seq IS NULL ORDER BY id LIMIT ?2",
            )?
            .query_map(params![channel.0, limit], read_outbox)?
            .collect()
    }

    pub(crate) fn outbox_len(&self, channel: Option<&ChannelId>) -> sql::Result<u64> {
        match channel {
            Some(channel) => self
                .0
                .prepare_cached(
                    "SELECT count(*) FROM outbox WHERE channel = ?1 AND accepted_seq IS NULL",
                )?
                .query_row([channel.0], |row| row.get(0)),
            None => self
                .0
                .prepare_cached("SELECT count(*) FROM outbox WHERE accepted_seq IS NULL")?
                .query_row([], |row| row.get(0)),
        }
    }

    /// Notes the sealed bytes of a message, and when they were sealed.
    pub(crate) fn seal(
        &self,
        (id, now_ms): (u64, u64),
        (message_id, after_commit, payload): (&MessageId, u64, &[u8]),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE outbox SET message_id = ?2, after_commit = ?3, payload = ?4,
                    sealed_at_ms = ?5
                 WHERE id = ?1",
            )?
            .execute(params![id, message_id.0, after_commit, payload, now_ms.min(TIME_MAX)])?;
        self.0
            .prepare_cached(
                "INSERT INTO sealed_id (channel, message_id, sealed_at_ms)
                 SELECT channel, message_id, sealed_at_ms FROM outbox WHERE id = ?1",
            )?
            .execute([id])?;
        self.set_state(id, (State::Sealed, None))
    }

    /// Whether this home ever sealed something under an id.
    pub(crate) fn was_sealed(
        &self,
        channel: &ChannelId,
        message_id: &MessageId,
    ) -> sql::Result<bool> {
        self.0
            .prepare_cached("SELECT 1 FROM sealed_id WHERE channel = ?1 AND message_id = ?2")?
            .exists(params![channel.0, message_id.0])
    }

    /// What was sealed in a channel and is not settled waits again.
    pub(crate) fn unseal_all(&self, channel: &ChannelId) -> sql::Result<()> {
        self.outbox(channel, u64::from(u32::MAX))?.iter().try_for_each(|row| self.unseal(row.id))
    }

    /// The server accepted this id from this device last: forgets those that were sealed longer
    /// than `age_ms` before it and that nothing here would send again. None of them can be the last
    /// that it accepts any more.
    pub(crate) fn forget_sealed(
        &self,
        channel: &ChannelId,
        (last, age_ms): (&MessageId, u64),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "DELETE FROM sealed_id
                 WHERE channel = ?1
                    AND sealed_at_ms < (SELECT sealed_at_ms FROM sealed_id
                        WHERE channel = ?1 AND message_id = ?2) - ?3
                    AND message_id NOT IN (SELECT message_id FROM outbox
                        WHERE channel = ?1 AND message_id IS NOT NULL)
                    AND message_id NOT IN (SELECT message_id FROM sealed_commit
                        WHERE channel = ?1)
                    AND message_id NOT IN (SELECT request_id FROM intent
                        WHERE channel = ?1 AND state < 3)",
            )?
            .execute(params![channel.0, last.0, age_ms])?;
        Ok(())
    }

    /// The messages of a channel that were sealed before a time and are not settled.
    pub(crate) fn sealed_before(
        &self,
        channel: &ChannelId,
        before_ms: u64,
    ) -> sql::Result<Vec<u64>> {
        self.0
            .prepare_cached(
                "SELECT id FROM outbox
                 WHERE channel = ?1 AND accepted_seq IS NULL AND payload IS NOT NULL
                    AND sealed_at_ms < ?2
                 ORDER BY id",
            )?
            .query_map(params![channel.0, before_ms.min(TIME_MAX)], |row| row.get(0))?
            .collect()
    }

    /// Drops sealed bytes: the message waits to be sealed anew.
    pub(crate) fn unseal(&self, id: u64) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE outbox SET message_id = NULL, after_commit = NULL, payload = NULL
                 WHERE id = ?1",
            )?
            .execute([id])?;
        self.set_state(id, (State::Waiting, None))
    }

    pub(crate) fn is_queued(&self, id: u64) -> sql::Result<bool> {
        self.0.prepare_cached("SELECT 1 FROM outbox WHERE id = ?1")?.exists([id])
    }

    /// The unsettled message with these sealed bytes.
    pub(crate) fn sealed_message(
        &self,
        channel: &ChannelId,
        (message_id, payload): (&MessageId, &[u8]),
    ) -> sql::Result<Option<u64>> {
        self.0
            .prepare_cached(
                "SELECT id FROM outbox WHERE channel = ?1 AND message_id = ?2 AND payload = ?3",
            )?
            .query_row(params![channel.0, message_id.0, payload], |row| row.get(0))
            .optional()
    }
}
