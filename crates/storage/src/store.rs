//! The one writer of a database: group commit, maintenance, closing.
//! Never reports a result before the commit that holds it is durable.

mod check;
mod connect;
mod copies;
mod lock;
mod log;
mod open;
mod reader;
mod schema;
mod tx;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::failure_in;
use crate::{Options, StorageError, sql};

use lock::Lock;
use log::Log;

pub use copies::{Verified, rekey, restore, verify};
pub use log::Checkpoint;
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
    log: Log,
    lock: Arc<Lock>,
}

/// The inside of a group commit.
#[derive(Debug)]
pub struct Batch<'c> {
    conn: &'c sql::Connection,
}

impl Batch<'_> {
    /// Runs a job in a savepoint of its own.
    ///
    /// # Errors
    /// The batch has failed as a whole; let it end with this error.
    pub fn run<T, E>(
        &self,
        job: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<Outcome<T, E>, StorageError>
    where
        E: std::error::Error + 'static,
    {
        tx::run(self.conn, job)
    }
}

impl Store {
    /// Opens the database at `path`, creating it if there is no file, and migrates it. If the
    /// last process did not close it, every page in use is read and checked first.
    ///
    /// # Errors
    /// `Locked`, `WrongKey`, `NotEncrypted`, `Corrupt`, `SchemaNewer`, `SqliteTooOld` and
    /// `NoCipher` leave the file as it was; otherwise see [`StorageError`].
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
        self.batch(|batch| jobs.into_iter().map(|job| batch.run(job)).collect())
    }

    /// Group commit for a caller that decides on its next job by what became of the last: `body`
    /// runs its jobs one by one, and all that it returns is durable once this returns.
    ///
    /// # Errors
    /// As [`Store::apply`]; and those of `body`, after which nothing of the batch is stored.
    pub fn batch<R>(
        &mut self,
        body: impl FnOnce(&Batch<'_>) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        self.commit(|conn| body(&Batch { conn }))
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
    /// thread. A read that fails spoils none behind it.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn reader(&self) -> Result<Reader, StorageError> {
        Reader::new(&self.path, &self.options, &self.lock)
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
        let result = self.log.empty(&self.conn);
        self.note_failure(result)
    }

    /// The write-ahead log as it is: how many pages of 4 KiB it has now, and what the last
    /// checkpoint found. It is cut back to nothing above [`Options::log_pages_max`], so it has at
    /// most these and those of one batch, unless `blocked`: then it grows as long as the reader
    /// reads.
    pub fn log(&self) -> Checkpoint {
        self.log.state()
    }

    /// Gives up to `pages` free pages of 4 KiB back to the file system, in one transaction;
    /// returns how many are left to give back.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub fn release_pages(&mut self, pages: u32) -> Result<u32, StorageError> {
        let free = |conn: &sql::Connection| {
            conn.query_row("PRAGMA freelist_count", [], |row| row.get::<_, u32>(0))
        };
        if free(&self.conn)? == 0 {
            return Ok(0);
        }
        // Each step of the statement frees one page, so it must be run to its end.
        self.commit(|conn| {
            let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(free(conn)?)
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
        moved.and(closed)?;
        if self.failed.is_none() {
            self.lock.mark_shut();
        }
        Ok(())
    }

    fn new(mut conn: sql::Connection, opened: open::Opened<'_>) -> Result<Store, StorageError> {
        let may_commit = Arc::new(AtomicBool::new(false));
        connect::guard_commits(&mut conn, &may_commit)?;
        let log = Log::follow(&mut conn)?;
        Ok(Store {
            conn,
            path: opened.path,
            options: opened.options.clone(),
            may_commit,
            failed: None,
            log,
            lock: Arc::new(opened.lock),
        })
    }

    fn commit<R>(
        &mut self,
        body: impl FnOnce(&sql::Connection) -> Result<R, StorageError>,
    ) -> Result<R, StorageError> {
        self.refuse_after_failure()?;
        let result = self.try_commit(body);
        let result = self.note_failure(result)?;
        self.tend_log();
        Ok(result)
    }

    /// What was committed is durable, whatever becomes of the log; but a store whose disk fails
    /// here takes no further batch.
    fn tend_log(&mut self) {
        let tended = self.log.tend(&self.conn, &self.options);
        if let Err(error) = self.note_failure(tended) {
            tracing::warn!(%error, "the write-ahead log was not moved into the store");
        }
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
