//! What can go wrong with the database file, typed by what to do about it. Never carries a key.

use rusqlite::ffi::ErrorCode;

/// Why the database could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process has the file.
    #[error("the database is in use by another process: stop it, or use another folder")]
    Locked,
    /// The key does not open the file (or it is no database of ours); it was left as it is.
    #[error("the key does not open this database; the file was left as it is")]
    WrongKey,
    /// The key file is missing, has a wrong length, or others may read it.
    #[error("the key file: {0}")]
    KeyFile(&'static str),
    /// There is no database.
    #[error("there is no database here: create it first")]
    NotFound,
    /// The file was written by a newer version.
    #[error(
        "the database's schema `{schema}` is version {found}: this version reads up to {known}"
    )]
    SchemaNewer {
        /// Whose tables.
        schema: &'static str,
        /// Version in the file.
        found: u32,
        /// Newest version that this program knows.
        known: u32,
    },
    /// The linked SQLite has known corruption bugs.
    #[error("the linked SQLite is older than 3.51.3: rebuild with a newer one")]
    SqliteTooOld,
    /// The linked SQLite cannot encrypt.
    #[error("the linked SQLite is not SQLCipher: rebuild with the bundled one")]
    NotEncrypted,
    /// No room on the disk. Nothing was written; try again when there is.
    #[error("the disk is full: nothing was written; free some space")]
    Full,
    /// The disk failed. Stop: what the system holds in memory can no longer be trusted.
    #[error("the disk failed: stop, check the disk, and restore from a backup if need be")]
    Io,
    /// The file is damaged.
    #[error("the database is damaged: restore it from a backup")]
    Corrupt,
    /// A migration failed; the file is at its earlier version.
    #[error("a migration failed: {0}")]
    Migration(String),
    /// Any other refusal of SQLite.
    #[error("the database refused: {0}")]
    Sql(sqlite::Error),
    /// The folder or file could not be used.
    #[error("the database's folder: {0}")]
    Filesystem(#[from] std::io::Error),
}

use rusqlite as sqlite;

impl StorageError {
    /// Classifies what SQLite said.
    pub fn from_sql(error: sqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        match code {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::SystemIoFailure) => Self::Io,
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt,
            Some(ErrorCode::NotADatabase) => Self::WrongKey,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            _ => Self::Sql(error),
        }
    }

    /// Whether the process must stop instead of trying again.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Io | Self::Corrupt)
    }
}

impl From<sqlite::Error> for StorageError {
    fn from(error: sqlite::Error) -> Self {
        Self::from_sql(error)
    }
}
