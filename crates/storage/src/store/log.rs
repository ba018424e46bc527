//! The write-ahead log: how long it is, and when it goes back into the file.
//! Never waits long for a reader, and never keeps a failed sync to itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{Options, StorageError, sql};

/// How long a batch waits for readers before the log is longer than it may be. It is enough for
/// readers that take turns: a new one does not hold up the log once it is copied.
const CUT_WAIT_MS: u32 = 20;

/// What a checkpoint moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// A reader holds an old snapshot, so the log could not be emptied.
    pub blocked: bool,
    /// Pages of 4 KiB in the write-ahead log.
    pub log_pages: u64,
    /// How many of them are in the database file now.
    pub moved_pages: u64,
}

/// The log as the writer knows it.
#[derive(Debug)]
pub(super) struct Log {
    /// Set by SQLite after each commit.
    pages: Arc<AtomicU32>,
    last: Checkpoint,
}

impl Log {
    /// Follows the commits of `conn`.
    pub(super) fn follow(conn: &mut sql::Connection) -> Result<Log, StorageError> {
        let pages = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&pages);
        conn.wal_hook(Some(move |_: &mut sql::hooks::Wal, count: i32| {
            seen.store(u32::try_from(count).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let last = Checkpoint { blocked: false, log_pages: 0, moved_pages: 0 };
        Ok(Log { pages, last })
    }

    /// The length now, and what the last checkpoint found.
    pub(super) fn state(&self) -> Checkpoint {
        Checkpoint { log_pages: self.pages.load(Ordering::Relaxed).into(), ..self.last }
    }

    /// After a commit: moves the log into the file if it is long, and cuts it if it is too long.
    pub(super) fn tend(
        &mut self,
        conn: &sql::Connection,
        options: &Options,
    ) -> Result<(), StorageError> {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < options.checkpoint_pages {
            return Ok(());
        }
        if pages <= options.log_pages_max {
            return self.run(conn, "PRAGMA wal_checkpoint(PASSIVE)").map(drop);
        }
        wait(conn, options.busy_timeout_ms.min(CUT_WAIT_MS))?;
        let cut = self.empty(conn);
        wait(conn, options.busy_timeout_ms)?;
        if cut?.blocked {
            tracing::warn!(pages, "a reader keeps the write-ahead log from being cut");
        }
        Ok(())
    }

    /// Moves all of the log into the file and empties it, unless a reader needs it.
    pub(super) fn empty(&mut self, conn: &sql::Connection) -> Result<Checkpoint, StorageError> {
        self.run(conn, "PRAGMA wal_checkpoint(TRUNCATE)")
    }

    fn run(&mut self, conn: &sql::Connection, how: &str) -> Result<Checkpoint, StorageError> {
        // -1 stands for "no log yet".
        let pages = |row: &sql::Row<'_>, column| {
            row.get::<_, i64>(column).map(|pages| u64::try_from(pages).unwrap_or(0))
        };
        self.last = conn.query_row(how, [], |row| {
            let (busy, log_pages, moved_pages): (bool, _, _) =
                (row.get(0)?, pages(row, 1)?, pages(row, 2)?);
            let blocked = busy || moved_pages < log_pages;
            Ok(Checkpoint { blocked, log_pages, moved_pages })
        })?;
        let left = u32::try_from(self.last.log_pages).unwrap_or(u32::MAX);
        self.pages.store(left, Ordering::Relaxed);
        Ok(self.last)
    }
}

fn wait(conn: &sql::Connection, ms: u32) -> Result<(), StorageError> {
    Ok(conn.busy_timeout(Duration::from_millis(ms.into()))?)
}
