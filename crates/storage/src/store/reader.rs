//! A connection that reads committed data beside the writer, and is made anew once it has failed.
//! Never writes to the store: not a row, and not the write-ahead log when it closes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::Lock;
use super::{Tx, connect, open};
use crate::error::failure_in;
use crate::sql::ffi;
use crate::{Options, StorageError, sql};

/// A read-only view of a store, for one thread at a time. Keeps the store's lock while it lives.
#[derive(Debug)]
pub struct Reader {
    conn: sql::Connection,
    path: PathBuf,
    options: Options,
    _lock: Arc<Lock>,
}

impl Reader {
    pub(super) fn new(
        path: &Path,
        options: &Options,
        lock: &Arc<Lock>,
    ) -> Result<Reader, StorageError> {
        Ok(Reader {
            conn: connect::reader(path, options)?,
            path: path.to_owned(),
            options: options.clone(),
            _lock: Arc::clone(lock),
        })
    }

    /// SQLCipher gives a connection up for good that could not read one page, though the disk may
    /// be well again. Such a one is replaced.
    ///
    /// # Errors
    /// Why it can't be opened anew.
    fn heal(&mut self) -> Result<(), sql::Error> {
        // Not a cached statement: it gives what held when it was prepared.
        let status = self.conn.query_row("PRAGMA cipher_status", [], |row| row.get::<_, String>(0));
        if status? == "1" {
            return Ok(());
        }
        tracing::error!("a reader of the store failed and is opened anew");
        self.conn = connect::reader(&self.path, &self.options).map_err(|error| {
            let code = failure_in(&error).map_or(ffi::SQLITE_IOERR, |found| found.extended_code);
            sql::Error::SqliteFailure(ffi::Error::new(code), Some(error.to_string()))
        })?;
        Ok(())
    }

    /// Runs `body` over one snapshot of what was committed before its first statement. Keep it
    /// short: the write-ahead log cannot be emptied past a running read.
    ///
    /// # Errors
    /// Those of `body`, and SQLite's; a statement that writes fails.
    pub fn read<T, E: From<sql::Error>>(
        &mut self,
        body: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.heal()?;
        // Dropping the transaction ends it, also when `body` panics.
        let snapshot = self.conn.transaction()?;
        body(&Tx::new(&snapshot))
    }

    /// Writes a copy of what is committed now to the new file `path`, encrypted with the same
    /// key. The writer goes on meanwhile; a crash leaves no file at `path` or a whole one.
    ///
    /// # Errors
    /// [`StorageError::Filesystem`] if the file exists; [`StorageError::Full`] without space.
    pub fn copy_to(&mut self, path: &Path) -> Result<(), StorageError> {
        if path.try_exists().map_err(StorageError::from_io)? {
            let exists = io::Error::new(io::ErrorKind::AlreadyExists, "the copy exists already");
            return Err(StorageError::from_io(exists));
        }
        self.heal().map_err(StorageError::from_sql)?;
        let (conn, options) = (&self.conn, &self.options);
        open::create(path, options.durability, |draft| connect::copy(conn, draft, options))
    }
}
