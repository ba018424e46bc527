//! The loss ledger, and how far reading came before a run ended without saying so.

use qpc_proto::ChannelId;
use qpc_storage::sql::{self, OptionalExtension as _, Row, params};

use super::Db;

/// Entries in a row that this device never read, or could not, for one reason.
#[derive(Debug, Clone)]
pub(crate) struct LossRow {
    pub(crate) channel: ChannelId,
    pub(crate) seq: u64,
    pub(crate) count: u64,
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) at_ms: u64,
    /// How often it was read again.
    pub(crate) retried: u64,
}

const COLUMNS: &str = "channel, seq, count, code, reason, at_ms, retried";

fn read(row: &Row<'_>) -> sql::Result<LossRow> {
    Ok(LossRow {
        channel: ChannelId(row.get(0)?),
        seq: row.get(1)?,
        count: row.get(2)?,
        code: row.get(3)?,
        reason: row.get(4)?,
        at_ms: row.get(5)?,
        retried: row.get(6)?,
    })
}

impl Db<'_> {
    /// Notes a loss; one that was read again and is still lost keeps its count of retries.
    pub(crate) fn put_loss(&self, loss: &LossRow) -> sql::Result<()> {
        let at_ms = i64::try_from(loss.at_ms).unwrap_or(i64::MAX);
        self.0
            .prepare_cached(
                "INSERT INTO loss (channel, seq, count, code, reason, at_ms, retried)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (channel, seq) DO UPDATE SET count = ?3, code = ?4, reason = ?5,
                    at_ms = ?6, standing = 1",
            )?
            .execute(params![
                loss.channel.0,
                loss.seq,
                loss.count,
                loss.code,
                loss.reason,
                at_ms,
                loss.retried,
            ])?;
        Ok(())
    }

    /// What stands, of one channel or of all, in the order of their logs.
    pub(crate) fn losses(&self, channel: Option<&ChannelId>) -> sql::Result<Vec<LossRow>> {
        let query = format!(
            "SELECT {COLUMNS} FROM loss WHERE standing = 1 AND (?1 IS NULL OR channel = ?1)
             ORDER BY channel, seq"
        );
        let channel = channel.map(|channel| channel.0);
        self.0.prepare_cached(&query)?.query_map([channel], read)?.collect()
    }

    /// The code of the loss at a place.
    pub(crate) fn loss_code(&self, channel: &ChannelId, seq: u64) -> sql::Result<Option<String>> {
        self.0
            .prepare_cached("SELECT code FROM loss WHERE channel = ?1 AND seq = ?2")?
            .query_row(params![channel.0, seq], |row| row.get(0))
            .optional()
    }

    /// What is behind `seq` is read again: what stays lost is noted anew.
    pub(crate) fn losses_read_again(&self, channel: &ChannelId, seq: u64) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE loss SET retried = retried + 1, standing = 0
                 WHERE channel = ?1 AND seq > ?2 AND standing = 1",
            )?
            .execute(params![channel.0, seq])?;
        Ok(())
    }

    /// Says that a run is going on, or has ended in order; whether one was going on before.
    pub(crate) fn set_going(&self, going: bool) -> sql::Result<bool> {
        let was: Option<bool> = self
            .0
            .prepare_cached("SELECT going FROM run WHERE id = 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        if was != Some(going) {
            self.0
                .prepare_cached("INSERT OR REPLACE INTO run (id, going) VALUES (1, ?1)")?
                .execute([going])?;
        }
        Ok(was.unwrap_or(false))
    }

    /// Where reading began that did not come to its end, and how often.
    pub(crate) fn attempt(&self, channel: &ChannelId) -> sql::Result<Option<(u64, u64)>> {
        self.0
            .prepare_cached("SELECT seq, tries FROM attempt WHERE channel = ?1")?
            .query_row([channel.0], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    }

    pub(crate) fn put_attempt(
        &self,
        channel: &ChannelId,
        (seq, tries): (u64, u64),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO attempt (channel, seq, tries) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![channel.0, seq, tries])?;
        Ok(())
    }

    pub(crate) fn drop_attempt(&self, channel: &ChannelId) -> sql::Result<()> {
        self.0.prepare_cached("DELETE FROM attempt WHERE channel = ?1")?.execute([channel.0])?;
        Ok(())
    }
}
