//! What a restored database's other life means here: numbers and heads above the backup's end were
//! spoken of before, so that no channel of then takes an entry again but the reset that ends it.

use qpc_proto::Incarnation;
use qpc_storage::Tx;

use super::Delivery;
use crate::DeliveryError;
use crate::store::life;

/// Inboxes that are looked at together.
const INBOXES_AT_ONCE: u32 = 1_000;

impl Delivery {
    /// Ends the life that this service is of: its channels take no entry any more but a reset, and
    /// keep the hash chain that they have; inboxes go on, with the numbers they have, in a chain of
    /// `next` from their first entry on; no KeyPackage is served. Returns how many channels ended
    /// and KeyPackages are void.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn end_life(
        &self,
        tx: &Tx<'_>,
        next: Incarnation,
    ) -> Result<(usize, usize), DeliveryError> {
        let ended = life::end(tx, &self.incarnation)?;
        let mut last = 0;
        loop {
            let inboxes = life::inboxes(tx, last, INBOXES_AT_ONCE)?;
            let Some(inbox) = inboxes.last() else { break };
            last = inbox.no;
            for inbox in &inboxes {
                life::rechain(tx, inbox, next)?;
            }
        }
        Ok((ended, self.void_key_packages(tx)?))
    }
}
