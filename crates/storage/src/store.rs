//! The one writer, its group commit, and readers beside it.

use std::cell::Cell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::StorageError;
use crate::lock::Lock;
use crate::open::{Access, Options, connect};

/// One unit of work in a batch.
pub type Job<'a, T, E> = Box<dyn FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'a>;

/// What became of a job whose batch is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T, E> {
    /// Its changes are durable.
    Done(T),
    /// It refused; its changes were rolled back.
    Refused(E),
    /// It panicked; its changes were rolled back.
    Panicked,
}

/// A transaction in progress; dereferences to the connection.
#[derive(Debug)]
pub struct Tx<'c> {
    connection: &'c Connection,
    depth: Cell<u32>,
}

impl Deref for Tx<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'c> Tx<'c> {
    fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            depth: Cell::new(0),
        }
    }

    /// Runs `work` in a SAVEPOINT: an error rolls back what it did and nothing else. Nests.
    ///
    /// # Errors
    /// What `work` returned, or SQLite's refusal to begin or release.
    pub fn savepoint<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let depth = self.depth.get();
        let name = format!("qpc_{depth}");
        self.prepare_cached(&format!("SAVEPOINT {name}"))?
            .execute([])?;
        self.depth.set(depth.saturating_add(1));
        let result = work(self);
        self.depth.set(depth);
        if result.is_err() {
            // SQLite may have rolled the whole transaction back already; `apply` sees that.
            if self.is_autocommit() {
                return result;
            }
            self.prepare_cached(&format!("ROLLBACK TO {name}"))?
                .execute([])?;
        }
        self.prepare_cached(&format!("RELEASE {name}"))?
            .execute([])?;
        result
    }
}

/// Why a job left its savepoint.
enum Left<E> {
    Refused(E),
    Panicked,
    Sql(rusqlite::Error),
}

impl<E> From<rusqlite::Error> for Left<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// The writer of a database. Owns an exclusive lock on the file.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    options: Options,
    _lock: Lock,
}

impl Store {
    /// Opens a database, making it if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when another process has it, [`StorageError::WrongKey`] when the key
    /// does not open it (the file stays as it is), [`StorageError::SchemaNewer`], and others.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StorageError> {
        let lock = Lock::take(path)?;
        let mut connection = connect(path, options, Access::Write)?;
        for schema in &options.schemas {
            schema.migrate(&mut connection)?;
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
            options: options.clone(),
            _lock: lock,
        })
    }

    /// The same, but never makes a database.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], or as [`Store::open`].
    pub fn open_existing(path: &Path, options: &Options) -> Result<Self, StorageError> {
        if !path.try_exists()? {
            return Err(StorageError::NotFound);
        }
        Self::open(path, options)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Group commit: every job in a SAVEPOINT of its own, one COMMIT for all. The outcomes are
    /// returned, in order, only after the batch is durable.
    ///
    /// # Errors
    /// [`StorageError`] when the batch as a whole could not be made durable: nothing of it was kept.
    pub fn apply<T, E>(
        &mut self,
        jobs: Vec<Job<'_, T, E>>,
    ) -> Result<Vec<Outcome<T, E>>, StorageError> {
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")?
            .execute([])?;
        let result = self.run_all(jobs);
        let committed = match result {
            Ok(outcomes) => self
                .connection
                .prepare_cached("COMMIT")
                .and_then(|mut commit| commit.execute([]))
                .map(|_| outcomes)
                .map_err(StorageError::from_sql),
            Err(error) => Err(error),
        };
        if committed.is_err() && !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        committed
    }

    fn run_all<T, E>(&self, jobs: Vec<Job<'_, T, E>>) -> Result<Vec<Outcome<T, E>>, StorageError> {
        let tx = Tx::new(&self.connection);
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            let outcome = tx.savepoint(|tx| match catch_unwind(AssertUnwindSafe(|| job(tx))) {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(refused)) => Err(Left::Refused(refused)),
                Err(_) => Err(Left::Panicked),
            });
            // A full disk or a failed read rolls the whole transaction back by itself.
            if self.connection.is_autocommit() {
                return Err(self.lost_transaction());
            }
            outcomes.push(match outcome {
                Ok(done) => Outcome::Done(done),
                Err(Left::Refused(refused)) => Outcome::Refused(refused),
                Err(Left::Panicked) => {
                    // Its nested savepoints are gone with its own; their count is, too.
                    tx.depth.set(0);
                    tracing::error!("a job panicked inside a transaction; it was rolled back");
                    Outcome::Panicked
                }
                Err(Left::Sql(error)) => return Err(StorageError::from_sql(error)),
            });
        }
        Ok(outcomes)
    }

    /// Finds out why SQLite gave up the transaction, by trying an empty one.
    fn lost_transaction(&self) -> StorageError {
        let probe = self
            .connection
            .execute_batch("BEGIN IMMEDIATE; CREATE TABLE qpc_probe (a); ROLLBACK;");
        if !self.connection.is_autocommit() {
            let rolled_back = self.connection.execute_batch("ROLLBACK");
            tracing::debug!(ok = rolled_back.is_ok(), "rolled a probe back");
        }
        probe.map_or_else(StorageError::from_sql, |()| StorageError::Full)
    }

    /// One job, by the same rules.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub fn transact<T, E>(
        &mut self,
        job: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send,
    ) -> Result<Outcome<T, E>, StorageError> {
        let mut outcomes = self.apply(vec![Box::new(job) as Job<'_, T, E>])?;
        outcomes.pop().ok_or(StorageError::Io)
    }

    /// A reader beside this writer.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn reader(&self) -> Result<Reader, StorageError> {
        Ok(Reader {
            connection: connect(&self.path, &self.options, Access::Read)?,
        })
    }

    /// Folds the WAL into the file and closes it.
    ///
    /// # Errors
    /// What SQLite said; the WAL then stays beside the file and is read at the next start.
    pub fn close(self) -> Result<(), StorageError> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.connection
            .close()
            .map_err(|(_, error)| StorageError::from_sql(error))
    }
}

/// A read-only connection; sees what was committed when its transaction began.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Runs `read` in one read transaction.
    ///
    /// # Errors
    /// What `read` returned, or SQLite's refusal.
    pub fn read<T, E: From<rusqlite::Error>>(
        &mut self,
        read: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = self.connection.transaction()?;
        let result = read(&Tx::new(&transaction));
        transaction.finish()?;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Migration, Schema};

    const T: Schema = Schema {
        name: "t",
        migrations: &[Migration {
            name: "t",
            sql: "CREATE TABLE t (a INTEGER NOT NULL)",
        }],
    };

    fn options(byte: u8) -> Options {
        Options::new(Key::from_bytes([byte; 32]), vec![T])
    }

    fn insert(tx: &Tx<'_>, value: i64) -> Result<(), rusqlite::Error> {
        tx.prepare_cached("INSERT INTO t VALUES (?1)")?
            .execute([value])
            .map(|_| ())
    }

    fn values(tx: &Tx<'_>) -> Result<Vec<i64>, rusqlite::Error> {
        tx.prepare_cached("SELECT a FROM t ORDER BY a")?
            .query_map([], |row| row.get(0))?
            .collect()
    }

    #[test]
    fn a_refused_and_a_panicking_job_leave_the_others_durable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut store = Store::open(&path, &options(1)).unwrap();
        let jobs: Vec<Job<'_, i64, &str>> = vec![
            Box::new(|tx| insert(tx, 1).map(|()| 1).map_err(|_| "sql")),
            Box::new(|tx| insert(tx, 2).map_err(|_| "sql").and(Err("no"))),
            Box::new(|tx| {
                let inner: Result<(), rusqlite::Error> = tx.savepoint(|tx| {
                    insert(tx, 3)?;
                    panic!("a bug");
                });
                inner.map(|()| 3).map_err(|_| "sql")
            }),
            Box::new(|tx| insert(tx, 4).map(|()| 4).map_err(|_| "sql")),
        ];
        let outcomes = store.apply(jobs).unwrap();
        assert_eq!(
            outcomes,
            [
                Outcome::Done(1),
                Outcome::Refused("no"),
                Outcome::Panicked,
                Outcome::Done(4)
            ]
        );
        drop(store);
        let mut store = Store::open_existing(&path, &options(1)).unwrap();
        assert_eq!(
            store.transact(|tx| values(tx)).unwrap(),
            Outcome::Done(vec![1, 4])
        );
    }

    #[test]
    fn a_nested_savepoint_rolls_back_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("db"), &options(1)).unwrap();
        let outcome = store.transact(|tx| {
            insert(tx, 1)?;
            let inner: Result<(), rusqlite::Error> = tx.savepoint(|tx| {
                insert(tx, 2)?;
                tx.savepoint(|tx| insert(tx, 3))?;
                Err(rusqlite::Error::QueryReturnedNoRows)
            });
            assert!(inner.is_err());
            insert(tx, 4)?;
            values(tx)
        });
        assert_eq!(outcome.unwrap(), Outcome::Done(vec![1, 4]));
    }

    #[test]
    fn case_169_a_wrong_key_is_typed_and_the_file_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        Store::open(&path, &options(1)).unwrap().close().unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(!before.starts_with(b"SQLite format 3"));
        assert!(matches!(
            Store::open(&path, &options(2)),
            Err(StorageError::WrongKey)
        ));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, b"SQLite format 3\0 but not really").unwrap();
        assert!(matches!(
            Store::open(&path, &options(1)),
            Err(StorageError::WrongKey)
        ));
        assert_eq!(
            std::fs::read(&path).unwrap(),
            b"SQLite format 3\0 but not really"
        );
    }

    #[test]
    fn case_173_a_second_writer_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let first = Store::open(&path, &options(1)).unwrap();
        assert!(matches!(
            Store::open(&path, &options(1)),
            Err(StorageError::Locked)
        ));
        drop(first);
        assert!(Store::open(&path, &options(1)).is_ok());
    }

    #[test]
    fn a_reader_sees_only_what_was_committed_and_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("db"), &options(1)).unwrap();
        let mut reader = store.reader().unwrap();
        let seen = std::sync::Mutex::new(Vec::new());
        store
            .transact(|tx| {
                insert(tx, 1)?;
                *seen.lock().unwrap() = reader.read(values)?;
                Ok::<_, rusqlite::Error>(())
            })
            .unwrap();
        assert!(seen.into_inner().unwrap().is_empty());
        let mut reader = store.reader().unwrap();
        assert_eq!(reader.read(values).unwrap(), [1]);
        assert!(reader.read(|tx| insert(tx, 2)).is_err());
    }

    #[test]
    fn case_213_a_newer_schema_is_refused_unless_it_allows_this_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut store = Store::open(&path, &options(1)).unwrap();
        let newer = |oldest: i64| {
            move |tx: &Tx<'_>| {
                tx.execute(
                    "UPDATE storage_meta SET version = 2, oldest_reader = ?1",
                    [oldest],
                )
            }
        };
        store.transact(newer(2)).unwrap();
        drop(store);
        let refused = Store::open(&path, &options(1));
        assert!(matches!(
            refused,
            Err(StorageError::SchemaNewer {
                found: 2,
                known: 1,
                ..
            })
        ));
        let bare = Options::new(Key::from_bytes([1; 32]), Vec::new());
        Store::open(&path, &bare)
            .unwrap()
            .transact(newer(1))
            .unwrap();
        assert!(Store::open(&path, &options(1)).is_ok());
    }

    #[test]
    fn opening_what_is_not_there_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let refused = Store::open_existing(&path, &options(1));
        assert!(matches!(refused, Err(StorageError::NotFound)));
        assert!(!path.exists());
    }
}
