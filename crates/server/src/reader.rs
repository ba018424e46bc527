//! A few read-only connections that work beside the writer, each on a blocking thread.
//!
//! Never writes; a panicking read costs its caller an answer, not the pool a reader.

use std::sync::{Arc, Mutex, PoisonError};

use qpc_storage::sql;
use qpc_storage::{Reader, StorageError, Store, Tx};
use tokio::sync::Semaphore;

/// The pool.
pub(crate) struct Readers {
    idle: Mutex<Vec<Reader>>,
    seats: Arc<Semaphore>,
}

/// The read gave nothing: the reader failed or panicked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFailed {
    #[error("the read panicked")]
    Panicked,
    #[error(transparent)]
    Sql(#[from] sql::Error),
}

/// Puts its reader back, whatever happens.
struct Seat<'a> {
    readers: &'a Readers,
    reader: Option<Reader>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.readers.put(reader);
        }
    }
}

impl Readers {
    /// Opens `count` readers, at least one.
    pub(crate) fn open(store: &Store, count: usize) -> Result<Arc<Self>, StorageError> {
        let readers: Vec<_> =
            (0..count.max(1)).map(|_| store.reader()).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            seats: Arc::new(Semaphore::new(readers.len())),
            idle: Mutex::new(readers),
        }))
    }

    /// Runs `read` in one read transaction.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Tx<'_>) -> T + Send + 'static,
    ) -> Result<T, ReadFailed> {
        let permit = Arc::clone(&self.seats).acquire_owned().await;
        let readers = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut seat = Seat { reader: readers.take(), readers: &readers };
            let reader = seat.reader.as_mut().ok_or(ReadFailed::Panicked)?;
            Ok(reader.read(|tx| Ok::<T, sql::Error>(read(tx)))?)
        });
        work.await.unwrap_or(Err(ReadFailed::Panicked))
    }

    /// Closes all idle readers, so that the writer can fold the log back into the file.
    pub(crate) fn close(&self) {
        self.seats.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take(&self) -> Option<Reader> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, reader: Reader) {
        // A closed pool keeps none: its file is being closed.
        if !self.seats.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        }
    }
}
