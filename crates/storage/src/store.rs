//! The one writer of a database: group commit, maintenance, closing.
//! Never reports a result before the commit that holds it is durable.

mod connect;
mod open;
mod reader;
mod schema;
mod tx;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::failure_in;
use crate::{Options, StorageError, sql};

pub use reader::Reader;
pub use tx::{Job, Outcome, Tx};

/// An open database and the right to write it. One per file, in one process: it holds a lock on
/// `<path>.lock` that ends when it and its readers are gone.
#[derive(Debug)]
pub struct Store {
    conn: sql::Connection,
    path: PathBuf,
    options: Options,
    /// True only while this type itself commits; see `connect::guard_commits`.
    may_commit: Arc<AtomicBool>,
    /// The first fatal failure, as SQLite's extended code.
    failed: Option<i32>,
    lock: Arc<File>,
}

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

impl Store {
    /// Opens the database at `path`, creating it if there is no file, and migrates it.
    ///
    /// # Errors
    /// `Locked`, `WrongKey`, `NotEncrypted`, `SchemaNewer`, `SqliteTooOld` and `NoCipher` leave
    /// the file as it was; otherwise see [`StorageError`].
    pub fn open(path: &Path, options: &Options) -> Result<Store, StorageError> {
        open::open(path, options, open::Missing::Create)
    }

    /// Like [`Store::open`], but a missing file is [`StorageError::NotFound`] and stays missing.
    ///
    /// # Errors
    /// As [`Store::open`], and `NotFound`.
    pub fn open_existing(path: &Path, options: &Options) -> Result<Store, StorageError> {
        open::open(path, options, open::Missing::Refuse)
    }

    /// Group commit: runs the jobs in order in one transaction, each in its own savepoint, and
    /// returns their outcomes, in order, once the one commit is durable. A job that returns an
    /// error or panics is rolled back alone; the others are not affected.
    ///
    /// # Errors
    /// The batch fails as a whole, and nothing of it is stored, if a job's error took the whole
    /// transaction with it (no space, a failing disk, no memory), if it stems from a fatal
    /// failure, or if the commit fails. After a fatal error every further batch is refused.
    pub fn apply<T, E>(
        &mut self,
        jobs: Vec<Job<'_, T, E>>,
    ) -> Result<Vec<Outcome<T, E>>, StorageError>
    where
        E: std::error::Error + 'static,
    {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        self.commit(|conn| jobs.into_iter().map(|job| tx::run(conn, job)).collect())
    }

    /// One job in one transaction, by the rules of [`Store::apply`].
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub fn transact<T, E>(
        &mut self,
        job: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<Outcome<T, E>, StorageError>
    where
        E: std::error::Error + 'static,
    {
        self.commit(|conn| tx::run(conn, job))
    }

    /// A further connection that reads committed data beside this writer; may move to another
    /// thread.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn reader(&self) -> Result<Reader, StorageError> {
        let conn = connect::reader(&self.path, &self.options)?;
        Ok(Reader::new(conn, self.options.clone(), Arc::clone(&self.lock)))
    }

    /// Where the database is, with symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the write-ahead log into the database file and empties it, so that deleted bytes
    /// are gone from both (secure deletion overwrites them in the file).
    ///
    /// # Errors
    /// [`StorageError::Io`] when a sync fails; a reader in the way is no error.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, StorageError> {
        self.refuse_after_failure()?;
        let result = checkpoint(&self.conn);
        self.note_failure(result)
    }

    /// Gives up to `pages` free pages of 4 KiB at the end of the file back to the file system,
    /// in one transaction.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub fn release_pages(&mut self, pages: u32) -> Result<(), StorageError> {
        // Each step of the statement frees one page, so it must be run to its end.
        self.commit(|conn| {
            let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        })
    }

    /// Empties the write-ahead log into the file, closes it and gives up the lock (which ends
    /// once all readers are gone, too). After a fatal failure the files are left as they are.
    ///
    /// # Errors
    /// Those of the checkpoint; the file is closed and unlocked nevertheless.
    pub fn close(mut self) -> Result<(), StorageError> {
        let moved = if self.failed.is_none() { self.checkpoint().map(drop) } else { Ok(()) };
        let closed = self.conn.close().map_err(|(_, error)| StorageError::from_sql(error));
        moved.and(closed)
    }

    fn new(mut conn: sql::Connection, opened: open::Opened<'_>) -> Result<Store, StorageError> {
        let may_commit = Arc::new(AtomicBool::new(false));
        connect::guard_commits(&mut conn, &may_commit)?;
        Ok(Store {
            conn,
            path: opened.path,
            options: opened.options.clone(),
            may_commit,
            failed: None,
            lock: Arc::new(opened.lock),
        })
    }

    fn commit<R>(
        &mut self,
        body: impl FnOnce(&sql::Connection) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        self.refuse_after_failure()?;
        let result = self.try_commit(body);
        self.note_failure(result)
    }

    fn try_commit<R>(
        &mut self,
        body: impl FnOnce(&sql::Connection) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        // Rolls back when dropped, which is what every early return below relies on.
        let tx = self.conn.transaction_with_behavior(sql::TransactionBehavior::Immediate)?;
        let results = body(&tx)?;
        self.may_commit.store(true, Ordering::Relaxed);
        let committed = tx.commit();
        self.may_commit.store(false, Ordering::Relaxed);
        committed?;
        Ok(results)
    }

    fn refuse_after_failure(&self) -> Result<(), StorageError> {
        self.failed.map_or(Ok(()), |code| Err(StorageError::from_code(code)))
    }

    fn note_failure<R>(&mut self, result: Result<R, StorageError>) -> Result<R, StorageError> {
        if let Err(error) = &result
            && error.is_fatal()
        {
            let failure = failure_in(error).map(|failure| failure.extended_code);
            self.failed = Some(failure.unwrap_or(sql::ffi::SQLITE_IOERR));
            tracing::error!(code = self.failed, "the store failed and refuses further writes");
            // Frames whose sync failed must not be copied into the file on the way out.
            if let Err(error) = connect::checkpoint_on_close(&self.conn, false) {
                tracing::error!(%error, "closing may still copy the log");
            }
        }
        result
    }
}

fn checkpoint(conn: &sql::Connection) -> Result<Checkpoint, StorageError> {
    // -1 stands for "no log yet".
    let pages = |row: &sql::Row<'_>, column| {
        row.get::<_, i64>(column).map(|pages| u64::try_from(pages).unwrap_or(0))
    };
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        Ok(Checkpoint {
            blocked: row.get(0)?,
            log_pages: pages(row, 1)?,
            moved_pages: pages(row, 2)?,
        })
    })
    .map_err(StorageError::from_sql)
}
