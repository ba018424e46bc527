//! A transaction as its user sees it: statements, nested savepoints, and one job of a batch.
//! Never commits; the store does.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::failure_in;
use crate::{StorageError, sql};

/// One unit of work in a batch: all of it is stored, or nothing.
pub type Job<'a, T, E> = Box<dyn FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'a>;

/// What became of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T, E> {
    /// Stored durably.
    Done(T),
    /// The job returned an error; nothing of it is stored.
    Refused(E),
    /// The job panicked; nothing of it is stored. The panic hook has the details.
    Panicked,
}

/// The inside of a transaction. Dereferences to [`sql::Connection`]; use `prepare_cached`.
///
/// Constraints must be immediate: a deferred one would fail the commit of the whole batch.
/// `BEGIN` and `COMMIT` belong to the store: a stray commit is turned into a rollback.
pub struct Tx<'c> {
    conn: &'c sql::Connection,
    depth: u32,
}

impl<'c> Tx<'c> {
    pub(super) fn new(conn: &'c sql::Connection) -> Tx<'c> {
        Tx { conn, depth: 0 }
    }

    /// Runs `body` in a nested savepoint: on an error everything it wrote is rolled back, then
    /// the error is returned and the transaction goes on. May be nested in itself.
    ///
    /// # Errors
    /// Those of `body`, and SQLite's.
    pub fn savepoint<T, E: From<sql::Error>>(
        &self,
        body: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let inner = Tx { conn: self.conn, depth: self.depth + 1 };
        inner.begin()?;
        match body(&inner) {
            Ok(value) => inner.release().map(|()| value).map_err(E::from),
            // With the transaction gone there is no savepoint left, and `error` says why.
            Err(error) if self.conn.is_autocommit() => Err(error),
            Err(error) => {
                inner.revert()?;
                Err(error)
            }
        }
    }

    fn begin(&self) -> Result<(), sql::Error> {
        self.step("SAVEPOINT")
    }

    fn release(&self) -> Result<(), sql::Error> {
        self.step("RELEASE")
    }

    fn revert(&self) -> Result<(), sql::Error> {
        self.step("ROLLBACK TO")?;
        self.step("RELEASE")
    }

    fn step(&self, verb: &str) -> Result<(), sql::Error> {
        let statement = format!("{verb} depth_{}", self.depth);
        self.conn.prepare_cached(&statement)?.execute([]).map(drop)
    }
}

impl Deref for Tx<'_> {
    type Target = sql::Connection;

    fn deref(&self) -> &sql::Connection {
        self.conn
    }
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("depth", &self.depth).finish_non_exhaustive()
    }
}

/// Runs one job in its own savepoint. An error of this function fails the whole batch.
pub(super) fn run<T, E>(
    conn: &sql::Connection,
    job: impl FnOnce(&Tx<'_>) -> Result<T, E>,
) -> Result<Outcome<T, E>, StorageError>
where
    E: std::error::Error + 'static,
{
    let tx = Tx::new(conn);
    tx.begin()?;
    // Safe to unwind over: whatever the job left half done is rolled back below.
    let outcome = match catch_unwind(AssertUnwindSafe(|| job(&tx))) {
        Ok(Ok(value)) => Outcome::Done(value),
        Ok(Err(error)) => Outcome::Refused(error),
        Err(_) => Outcome::Panicked,
    };
    fail_batch(conn, &outcome)?;
    match &outcome {
        Outcome::Done(_) => tx.release()?,
        Outcome::Refused(_) => tx.revert()?,
        Outcome::Panicked => {
            tracing::error!("a job panicked and was rolled back");
            tx.revert()?;
        }
    }
    Ok(outcome)
}

/// SQLite answers some failures by rolling back the whole transaction, other jobs included; and
/// after a fatal one nothing may be committed.
fn fail_batch<T, E>(conn: &sql::Connection, outcome: &Outcome<T, E>) -> Result<(), StorageError>
where
    E: std::error::Error + 'static,
{
    let cause = match outcome {
        Outcome::Refused(error) => failure_in(error),
        Outcome::Done(_) | Outcome::Panicked => None,
    };
    let cause = cause.map(|failure| StorageError::from_code(failure.extended_code));
    match cause {
        Some(cause) if cause.is_fatal() || conn.is_autocommit() => Err(cause),
        None if conn.is_autocommit() => {
            Err(StorageError::from_code(sql::ffi::SQLITE_ABORT_ROLLBACK))
        }
        Some(_) | None => Ok(()),
    }
}
