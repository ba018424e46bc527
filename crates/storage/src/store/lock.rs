//! The lock file beside a store: who has it open, and whether the last one closed it.
//! Never removed: a process that waits for the old file would lock nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::connect;
use crate::StorageError;
use crate::key::private;

/// Of one length, so that a full disk can't be in the way.
const OPEN: &[u8; 5] = b"open\n";
const SHUT: &[u8; 5] = b"shut\n";

/// The lock on a store, as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    pub(super) fn take(path: &Path) -> Result<Lock, StorageError> {
        let mut options = OpenOptions::new();
        let options = private(options.read(true).write(true).create(true).truncate(false));
        let file = options.open(connect::beside(path, ".lock")).map_err(StorageError::from_io)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { file }),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked),
            Err(TryLockError::Error(error)) => Err(StorageError::from_io(error)),
        }
    }

    /// Whether the process that had the store last did not close it.
    pub(super) fn says_open(&self) -> Result<bool, StorageError> {
        let mut mark = Vec::with_capacity(OPEN.len());
        let mut file = &self.file;
        file.rewind().map_err(StorageError::from_io)?;
        let limit = OPEN.len().try_into().unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut mark).map_err(StorageError::from_io)?;
        Ok(mark == OPEN)
    }

    /// From now on the store counts as not closed. The mark isn't synced, and a failure is no
    /// reason to refuse the store: if it gets lost, a log that is left still shows a crash, and
    /// without one nothing was written since the last checkpoint.
    pub(super) fn mark_open(&self) {
        if let Err(error) = self.write(OPEN) {
            tracing::warn!(%error, "the lock file could not be marked");
        }
    }

    /// The store was closed. If this gets lost, the next process checks the store in vain.
    pub(super) fn mark_shut(&self) {
        if let Err(error) = self.write(SHUT) {
            tracing::warn!(%error, "the lock file could not be marked");
        }
    }

    fn write(&self, mark: &[u8]) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(mark)
    }
}
