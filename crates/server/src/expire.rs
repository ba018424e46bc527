//! What is due, ended all at once, for who runs a node without the server's timers.

use qpc_proto::ChannelId;
use qpc_storage::{Outcome, StorageError, Store, sql};

use crate::node::Node;

impl Node {
    /// Deletes and ends all that is due at `now_ms`, for who runs a node without its timers; returns
    /// the logs that have grown.
    ///
    /// # Errors
    /// [`StorageError`]; what was done before it stays done.
    pub fn expire(&self, store: &mut Store, now_ms: u64) -> Result<Vec<ChannelId>, StorageError> {
        let mut wakes = Vec::new();
        loop {
            let swept = store
                .transact(|tx| self.sweep(tx, now_ms).map_err(|_| sql::Error::InvalidQuery))?;
            match swept {
                Outcome::Done((outputs, more)) => {
                    wakes.extend(outputs.wakes);
                    if !more {
                        return Ok(wakes);
                    }
                }
                Outcome::Refused(_) | Outcome::Panicked => {
                    return Err(StorageError::from_sql(sql::Error::InvalidQuery));
                }
            }
        }
    }
}
