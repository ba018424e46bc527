//! Accepted message ids: those of the newest entries in memory, the others in a table that takes
//! them many at a time, in its order. A commit would else write a page of it for each channel.
//!
//! The rows of `log` decide. What memory says is looked up there, so that what was rolled back
//! counts for nothing; what is not in memory and not in the table was not accepted.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qpc_proto::{DeviceId, MessageId};
use qpc_storage::{Tx, sql};
use sql::OptionalExtension as _;

/// Ids in memory from which on the oldest of them are put away, until three quarters are left:
/// enough to share the pages that this writes, and few enough to hold up one commit by
/// milliseconds.
const KEPT: usize = 4_096;
/// Senders whose highest id in the table is kept in mind.
const HIGHEST_MAX: usize = 4_096;

/// A sender in a channel, by the channel's number.
type Sender = (i64, DeviceId);

/// The newest accepted message ids. A clone is the same; one for each database that is written.
#[derive(Clone)]
pub struct RecentIds {
    recent: Arc<Mutex<Recent>>,
    kept: usize,
}

#[derive(Default)]
struct Recent {
    /// Whether those are here that were there before this process.
    loaded: bool,
    /// The row of `log`, of all entries that are not put away, and of some more.
    rows: HashMap<(Sender, MessageId), i64>,
    /// The highest id in the table, or a higher one; none if it has none.
    highest: HashMap<Sender, Option<MessageId>>,
}

impl fmt::Debug for RecentIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentIds").field("held", &self.held()).finish()
    }
}

impl Default for RecentIds {
    /// Keeps 4,096 ids, and those of two group commits: what one puts away the next forgets.
    fn default() -> Self {
        Self::keeping(KEPT)
    }
}

impl RecentIds {
    /// From so many ids on, all are put away but three quarters of them.
    pub fn keeping(ids: usize) -> Self {
        Self { recent: Arc::default(), kept: ids }
    }

    /// How many ids are in memory: at most those of two group commits above what it keeps.
    pub fn held(&self) -> usize {
        self.locked().rows.len()
    }

    /// The row of the entry with this id, if there is one.
    pub(crate) fn find(
        &self,
        tx: &Tx<'_>,
        (sender, id): (Sender, &MessageId),
    ) -> sql::Result<Option<i64>> {
        let mut recent = self.locked();
        recent.load(tx)?;
        if let Some(row) = recent.rows.get(&(sender, *id)).copied() {
            if is_of(tx, row, (sender, id))? {
                return Ok(Some(row));
            }
            recent.rows.remove(&(sender, *id));
        }
        // Ids mostly grow, and then the table need not be asked.
        if recent.highest(tx, sender)?.is_none_or(|highest| *id > highest) {
            return Ok(None);
        }
        put_away(tx, (sender, id))
    }

    /// Notes the row of an entry that was just written.
    pub(crate) fn note(&self, (sender, id): (Sender, MessageId), row: i64) {
        self.locked().rows.insert((sender, id), row);
    }

    /// Whether [`RecentIds::tidy`] has something to do.
    pub(crate) fn is_full(&self) -> bool {
        self.held() >= self.kept
    }

    /// Forgets the ids that the table has, and puts the oldest of the others there if they are
    /// many. To be called before anything else in its transaction: what it sees is then on disk,
    /// and may be forgotten whatever becomes of the transaction.
    pub(crate) fn tidy(&self, tx: &Tx<'_>) -> sql::Result<()> {
        let upto = upto(tx)?;
        let mut recent = self.locked();
        recent.rows.retain(|_, row| *row > upto);
        recent.highest.clear();
        let ids = recent.rows.len();
        if ids < self.kept {
            return Ok(());
        }
        let surplus = ids.saturating_sub(self.kept.saturating_sub(self.kept / 4)).max(1);
        advance(tx, (upto, i64::try_from(surplus).unwrap_or(i64::MAX)))
    }

    /// The map stays whole whatever panics.
    fn locked(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn load(&mut self, tx: &Tx<'_>) -> sql::Result<()> {
        if self.loaded {
            return Ok(());
        }
        let mut statement = tx.prepare_cached(
            "SELECT no, sender, message_id, id FROM log
             WHERE id > (SELECT id FROM accepted_upto) AND sender IS NOT NULL",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let sender = (row.get(0)?, DeviceId(row.get(1)?));
            self.rows.insert((sender, MessageId(row.get(2)?)), row.get(3)?);
        }
        self.loaded = true;
        Ok(())
    }

    fn highest(&mut self, tx: &Tx<'_>, sender: Sender) -> sql::Result<Option<MessageId>> {
        if let Some(highest) = self.highest.get(&sender) {
            return Ok(*highest);
        }
        let highest = tx
            .prepare_cached(
                "SELECT max(message_id) FROM accepted_ids WHERE no = ?1 AND sender = ?2",
            )?
            .query_row((sender.0, sender.1.as_bytes()), |row| row.get::<_, Option<_>>(0))?
            .map(MessageId);
        if self.highest.len() >= HIGHEST_MAX {
            self.highest.clear();
        }
        self.highest.insert(sender, highest);
        Ok(highest)
    }
}

/// Whether a row of `log` is of the entry with this id.
fn is_of(tx: &Tx<'_>, row: i64, (sender, id): (Sender, &MessageId)) -> sql::Result<bool> {
    tx.prepare_cached(
        "SELECT 1 FROM log WHERE id = ?1 AND no = ?2 AND sender = ?3 AND message_id = ?4",
    )?
    .exists((row, sender.0, sender.1.as_bytes(), id.as_bytes()))
}

fn put_away(tx: &Tx<'_>, (sender, id): (Sender, &MessageId)) -> sql::Result<Option<i64>> {
    tx.prepare_cached(
        "SELECT id FROM accepted_ids WHERE no = ?1 AND sender = ?2 AND message_id = ?3",
    )?
    .query_row((sender.0, sender.1.as_bytes(), id.as_bytes()), |row| row.get(0))
    .optional()
}

/// The last row of `log` whose id is put away.
fn upto(tx: &Tx<'_>) -> sql::Result<i64> {
    tx.prepare_cached("SELECT id FROM accepted_upto")?.query_row([], |row| row.get(0))
}

/// Puts the ids of the next entries away.
fn advance(tx: &Tx<'_>, (upto, entries): (i64, i64)) -> sql::Result<()> {
    let end: Option<i64> = tx
        .prepare_cached(
            "SELECT max(id) FROM (SELECT id FROM log WHERE id > ?1 ORDER BY id LIMIT ?2)",
        )?
        .query_row((upto, entries), |row| row.get(0))?;
    let Some(end) = end else { return Ok(()) };
    tx.prepare_cached(
        "INSERT OR IGNORE INTO accepted_ids (no, sender, message_id, id)
             SELECT no, sender, message_id, id FROM log NOT INDEXED
             WHERE id > ?1 AND id <= ?2 AND sender IS NOT NULL
             ORDER BY no, sender, message_id",
    )?
    .execute((upto, end))?;
    tx.prepare_cached("UPDATE accepted_upto SET id = ?1")?.execute([end]).map(drop)
}
