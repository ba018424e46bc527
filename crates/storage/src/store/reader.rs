//! A connection that reads committed data beside the writer.
//! Never writes to the store: not a row, and not the write-ahead log when it closes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::lock::Lock;
use super::{Tx, connect, open};
use crate::{Options, StorageError, sql};

/// A read-only view of a store, for one thread at a time. Keeps the store's lock while it lives.
#[derive(Debug)]
pub struct Reader {
    conn: sql::Connection,
    options: Options,
    _lock: Arc<Lock>,
}

impl Reader {
    pub(super) fn new(conn: sql::Connection, options: Options, lock: Arc<Lock>) -> Reader {
        Reader { conn, options, _lock: lock }
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
        let (conn, options) = (&self.conn, &self.options);
        open::create(path, options.durability, |draft| connect::copy(conn, draft, options))
    }
}
