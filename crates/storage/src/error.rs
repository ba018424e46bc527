//! The errors of a store, sorted by who must act, and the classification of SQLite's.
//! Messages say what to do and never hold a key, a path or a stored value.

use std::error::Error;
use std::io;

use rusqlite::ffi;

use crate::sql;

/// Why a store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    // The operator must act: the file was not touched.
    /// Another process (or this one) has the store open.
    #[error("the store is open elsewhere; stop the other process first")]
    Locked,
    /// The key does not open the file, or its first page is damaged.
    #[error("the key does not open this store; give the right key or restore a backup")]
    WrongKey,
    /// The file is empty or a plain database: not one of ours.
    #[error("the file is not an encrypted store; give the path of a store or move it away")]
    NotEncrypted,
    /// The key file cannot be used.
    #[error("the key file {reason}")]
    KeyFile {
        /// What is wrong with it and what to do.
        reason: &'static str,
    },
    /// There is no store at the path, and none may be created.
    #[error("there is no store at this path; create it or correct the path")]
    NotFound,
    /// The file was migrated by a newer program than this one can follow.
    #[error("schema {schema} has version {file}, this program knows {supported}; update it")]
    SchemaNewer {
        /// Name of the schema.
        schema: &'static str,
        /// Version in the file.
        file: u32,
        /// Version of this program.
        supported: u32,
    },
    /// The linked SQLite has a known corruption bug in its write-ahead log.
    #[error("SQLite {found} can corrupt a store; build with 3.51.3 or later")]
    SqliteTooOld {
        /// The linked version, as text.
        found: &'static str,
    },
    /// The linked SQLite cannot encrypt.
    #[error("this program was built without SQLCipher; build it with the bundled one")]
    NoCipher,

    // Retry: nothing of the batch was stored, and the store stays usable.
    /// No space left. Reads go on; writes succeed again once there is space.
    #[error("no space left for the store; free some, writes then go on")]
    Full(#[source] sql::Error),

    // Local storage: see `is_fatal`.
    /// Reading, writing or syncing failed. What the disk holds is unknown until a restart.
    #[error("the disk failed; check it, then restart")]
    Io(#[source] sql::Error),
    /// A page fails its authentication or its structure is broken.
    #[error("the store is damaged; restore a backup")]
    Corrupt(#[source] sql::Error),
    /// The file system refused (permissions, missing directory, read-only mount).
    #[error("the file system refused; check directory and permissions: {0}")]
    Filesystem(#[source] io::Error),

    // Our bug.
    /// A migration failed or differs from the one that was applied; none of its schema's
    /// pending migrations are applied.
    #[error("migrating schema {schema} failed: {source}")]
    Migration {
        /// Name of the schema.
        schema: &'static str,
        /// What failed.
        source: Box<refinery_core::Error>,
    },
    /// A statement failed for another reason.
    #[error("a statement failed: {0}")]
    Sql(#[source] sql::Error),
}

impl StorageError {
    /// Sorts an error of SQLite into `Full`, `Io`, `Corrupt` or `Sql`.
    pub fn from_sql(error: sql::Error) -> StorageError {
        let Some(failure) = failure_in(&error) else {
            return StorageError::Sql(error);
        };
        match (failure.extended_code & 0xff, failure.extended_code) {
            // The shared-memory index is rebuilt from the log: failing to grow it loses nothing.
            // A file that can't be cut is as long as it was, and its checkpoint comes again.
            (ffi::SQLITE_FULL, _) | (_, ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_TRUNCATE) => {
                StorageError::Full(error)
            }
            (_, ffi::SQLITE_IOERR_NOMEM) => StorageError::Sql(error),
            (ffi::SQLITE_IOERR, _) => StorageError::Io(error),
            (ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB, _) => StorageError::Corrupt(error),
            _ => StorageError::Sql(error),
        }
    }

    /// Whether the caller must stop: after a failed sync the state of the disk is unknown, so
    /// neither a retry nor a further write is safe. The store refuses every further batch.
    pub fn is_fatal(&self) -> bool {
        matches!(self, StorageError::Io(_) | StorageError::Corrupt(_))
    }

    /// Whether only space is missing: the same batch may succeed later.
    pub fn is_full(&self) -> bool {
        matches!(self, StorageError::Full(_))
    }

    pub(crate) fn from_io(error: io::Error) -> StorageError {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        if full.contains(&error.kind()) {
            return StorageError::from_code(ffi::SQLITE_FULL);
        }
        StorageError::Filesystem(error)
    }

    pub(crate) fn from_code(extended_code: i32) -> StorageError {
        StorageError::from_sql(failure(extended_code))
    }
}

impl From<sql::Error> for StorageError {
    fn from(error: sql::Error) -> StorageError {
        StorageError::from_sql(error)
    }
}

fn failure(extended_code: i32) -> sql::Error {
    sql::Error::SqliteFailure(ffi::Error::new(extended_code), None)
}

/// The failure of SQLite that `error` stems from. Looks for the innermost type, because a
/// transparent wrapper leaves the outer ones out of the chain.
pub(crate) fn failure_in(error: &(dyn Error + 'static)) -> Option<ffi::Error> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(failure) = error.downcast_ref::<ffi::Error>() {
            return Some(*failure);
        }
        link = error.source();
    }
    None
}

/// Whether `error` stems from a value that no column holds (a number above `i64::MAX`, too many
/// bytes) or that breaks a constraint: the same input fails again, and nothing else is wrong.
pub fn is_of_value(error: &(dyn Error + 'static)) -> bool {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(sql::Error::ToSqlConversionFailure(_)) = error.downcast_ref::<sql::Error>() {
            return true;
        }
        link = error.source();
    }
    let primary = failure_in(error).map(|failure| failure.extended_code & 0xff);
    matches!(primary, Some(ffi::SQLITE_CONSTRAINT | ffi::SQLITE_MISMATCH | ffi::SQLITE_TOOBIG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error(transparent)]
        Storage(#[from] StorageError),
        #[error("denied")]
        Denied,
    }

    #[test]
    fn codes_are_sorted_by_who_must_act() {
        let sorted = StorageError::from_code;
        assert!(sorted(ffi::SQLITE_FULL).is_full());
        assert!(sorted(ffi::SQLITE_IOERR_SHMSIZE).is_full());
        assert!(sorted(ffi::SQLITE_IOERR_TRUNCATE).is_full());
        assert!(matches!(sorted(ffi::SQLITE_IOERR_FSYNC), StorageError::Io(_)));
        assert!(matches!(sorted(ffi::SQLITE_CORRUPT), StorageError::Corrupt(_)));
        assert!(matches!(sorted(ffi::SQLITE_NOTADB), StorageError::Corrupt(_)));
        assert!(matches!(sorted(ffi::SQLITE_IOERR_NOMEM), StorageError::Sql(_)));
        assert!(matches!(sorted(ffi::SQLITE_CONSTRAINT_UNIQUE), StorageError::Sql(_)));
        assert!(sorted(ffi::SQLITE_IOERR_WRITE).is_fatal());
        assert!(!sorted(ffi::SQLITE_FULL).is_fatal());
    }

    #[test]
    fn a_failure_is_found_through_transparent_wrappers() {
        let wrapped = Outer::from(StorageError::from_code(ffi::SQLITE_IOERR_WRITE));
        let found = failure_in(&wrapped).map(|failure| failure.extended_code);
        assert_eq!(found, Some(ffi::SQLITE_IOERR_WRITE));
        assert!(failure_in(&Outer::Denied).is_none());
    }

    #[test]
    fn a_value_that_no_column_holds_is_told_from_a_disk_that_fails() {
        let too_high = sql::Error::ToSqlConversionFailure("above i64::MAX".into());
        assert!(is_of_value(&Outer::from(StorageError::from_sql(too_high))));
        let of_code = |code| is_of_value(&Outer::from(StorageError::from_code(code)));
        assert!(of_code(ffi::SQLITE_CONSTRAINT_CHECK));
        assert!(of_code(ffi::SQLITE_TOOBIG));
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_NOMEM,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_INTERRUPT,
        ] {
            assert!(!of_code(code), "{code}");
        }
        assert!(!is_of_value(&Outer::Denied));
    }

    #[test]
    fn a_full_file_system_reads_as_full() {
        let error = io::Error::from(io::ErrorKind::StorageFull);
        assert!(StorageError::from_io(error).is_full());
    }
}
