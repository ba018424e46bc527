//! When accepted message ids go from memory into their table. Accepts nothing.

use qpc_storage::Tx;

use super::Delivery;
use crate::DeliveryError;

impl Delivery {
    /// Whether there is something to do for [`Delivery::put_ids_away`].
    pub fn has_ids_to_put_away(&self) -> bool {
        self.recent.is_full()
    }

    /// Puts the oldest ids that are in memory into their table, some at a time, and forgets those
    /// that an earlier transaction has put there. The first thing in its transaction.
    ///
    /// # Errors
    /// [`DeliveryError::Store`]; what is in memory still counts then.
    pub fn put_ids_away(&self, tx: &Tx<'_>) -> Result<(), DeliveryError> {
        Ok(self.recent.tidy(tx)?)
    }
}
