//! Opening: the lock, the key, the checks that fail closed, the pragmas that fix durability.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::StorageError;
use crate::key::Key;
use crate::schema::Schema;

/// SQLite before this version has a WAL-reset bug that corrupts files.
const SQLITE_MIN: i32 = 3_051_003;
/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 256;
/// Pages after which a commit checkpoints the WAL (4 KiB each).
const WAL_PAGES: u32 = 4_000;
/// Bytes that the WAL is cut to after a checkpoint.
const WAL_BYTES_KEPT: u32 = 16 * 1024 * 1024;

/// What an answer promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives power loss: `synchronous=FULL`.
    Full,
    /// Survives the process alone: `synchronous=OFF`, for simulation.
    Process,
}

/// How to open a database.
#[derive(Debug, Clone)]
pub struct Options {
    /// Raw key.
    pub key: Key,
    /// What an answer promises.
    pub durability: Durability,
    /// Tables, by owner.
    pub schemas: Vec<Schema>,
}

impl Options {
    /// Fully durable.
    pub fn new(key: Key, schemas: Vec<Schema>) -> Self {
        Self {
            key,
            durability: Durability::Full,
            schemas,
        }
    }
}

/// Whether the linked SQLite may be used.
fn check_version(version: i32) -> Result<(), StorageError> {
    if version < SQLITE_MIN {
        Err(StorageError::SqliteTooOld)
    } else {
        Ok(())
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The one writer; makes the file if it is not there.
    Write,
    /// Beside the writer.
    Read,
}

/// Opens and keys a connection; the first read proves the key.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that opens databases"
)]
pub(crate) fn connect(
    path: &Path,
    options: &Options,
    access: Access,
) -> Result<Connection, StorageError> {
    check_version(rusqlite::version_number())?;
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if access == Access::Write {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags)?;
    connection.execute_batch(&options.key.pragma())?;
    let cipher: Result<String, _> =
        connection.query_row("PRAGMA cipher_version", [], |row| row.get(0));
    if cipher.is_err() {
        return Err(StorageError::NotEncrypted);
    }
    // The page authenticator is fixed when a file is made: HMAC-SHA256 is cheaper to check than the
    // default SHA512. A wrong key makes SQLCipher complain on standard error: silenced, it is typed.
    connection.execute_batch(
        "PRAGMA cipher_log_level = NONE; PRAGMA cipher_hmac_algorithm = HMAC_SHA256;",
    )?;
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| {
        row.get::<_, i64>(0)
    })?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    configure(&connection, options.durability, access)?;
    Ok(connection)
}

fn configure(
    connection: &Connection,
    durability: Durability,
    access: Access,
) -> Result<(), StorageError> {
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Process => "OFF",
    };
    let common =
        "PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 2000;";
    connection.execute_batch(common)?;
    match access {
        Access::Write => connection.execute_batch(&format!(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA secure_delete = ON;
             PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
             PRAGMA wal_autocheckpoint = {WAL_PAGES};
             PRAGMA journal_size_limit = {WAL_BYTES_KEPT};"
        ))?,
        Access::Read => connection.execute_batch("PRAGMA query_only = ON;")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_168_an_old_sqlite_is_refused() {
        assert!(matches!(
            check_version(3_051_002),
            Err(StorageError::SqliteTooOld)
        ));
        assert!(check_version(3_051_003).is_ok());
        assert!(check_version(rusqlite::version_number()).is_ok());
    }
}
