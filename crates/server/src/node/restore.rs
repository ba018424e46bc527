//! What must happen to a database that was restored from a backup before it is served again.
//! Restores no file itself.

use qpc_delivery::DeliveryError;
use qpc_proto::Incarnation;
use qpc_storage::{Outcome, StorageError, Store, sql};
use rand_core::{CryptoRng, RngCore};

use super::{Node, Policy};
use crate::store;

impl Node {
    /// Begins another life of a database whose file was restored, so that every client notices at
    /// its next login: entries that it has seen may be gone, and what it gets now must not be taken
    /// for what it had. Channels take no entry any more but the reset that ends them; inboxes begin
    /// a new hash chain. KeyPackages are void, because some were given away since the backup; their
    /// devices are told that they have none. Returns the node of the new life.
    ///
    /// # Errors
    /// [`StorageError`] when the database cannot be read or written; nothing has changed then.
    pub fn restored(
        store: &mut Store,
        policy: Policy,
        rng: &mut (impl RngCore + CryptoRng + Send),
    ) -> Result<Self, StorageError> {
        let before = Self::open(store, policy.clone(), rng)?;
        let mut fresh = Incarnation::ZERO;
        rng.fill_bytes(&mut fresh.0);
        let begun = store.transact(|tx| {
            store::set_incarnation(tx, &fresh)?;
            before.delivery.end_life(tx, fresh)
        })?;
        // What is left of these the jobs can't end with; the type does not know.
        let impossible = || StorageError::from_sql(sql::Error::InvalidQuery);
        match begun {
            Outcome::Done((channels, key_packages)) => {
                tracing::info!(channels, key_packages, "a restored database begins a new life");
            }
            Outcome::Refused(DeliveryError::Store(error)) => {
                return Err(StorageError::from_sql(error));
            }
            Outcome::Refused(_) | Outcome::Panicked => return Err(impossible()),
        }
        Self::open(store, policy, rng)
    }
}
