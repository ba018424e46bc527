//! One writer a file: an advisory lock beside the database, released by the system when the process ends.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::StorageError;

/// The held lock.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held until dropped")] File);

fn lock_path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

impl Lock {
    /// Takes the lock of a database.
    pub(crate) fn take(database: &Path) -> Result<Self, StorageError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(lock_path(database))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }
}
