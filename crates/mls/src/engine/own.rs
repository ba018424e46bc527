//! KeyPackages of this device whose private parts are kept: which there are, and their end. Decides
//! nothing about when.

use std::collections::BTreeSet;

use openmls::prelude::{KeyPackageBundle, KeyPackageRef};
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::storage::StorageProvider as _;
use qpc_proto::Digest;
use qpc_storage::Tx;

use super::Engine;
use crate::error::MlsError;

impl Engine {
    /// References of the KeyPackages whose private parts are here.
    ///
    /// # Errors
    /// [`MlsError::Provider`] for the database.
    pub fn own_key_packages(&self, tx: &Tx<'_>) -> Result<Vec<Digest>, MlsError> {
        let references: Vec<KeyPackageRef> =
            self.provider(tx).storage().key_package_references()?;
        references.iter().map(|reference| Ok(Digest::try_from(reference.as_slice())?)).collect()
    }

    /// Deletes the private parts of KeyPackages: no Welcome for them can be opened any more. One
    /// that is not here is gone already.
    ///
    /// # Errors
    /// [`MlsError::Provider`]; nothing is deleted.
    pub fn forget_key_packages(
        &self,
        tx: &Tx<'_>,
        gone: &BTreeSet<Digest>,
    ) -> Result<(), MlsError> {
        tx.savepoint(|tx| {
            let provider = self.provider(tx);
            let storage = provider.storage();
            let references: Vec<KeyPackageRef> = storage.key_package_references()?;
            for reference in references {
                if !gone.contains(&Digest::try_from(reference.as_slice())?) {
                    continue;
                }
                let kept: Option<KeyPackageBundle> = storage.key_package(&reference)?;
                if let Some(kept) = kept {
                    let leaf = kept.key_package().leaf_node();
                    storage.delete_encryption_key_pair(leaf.encryption_key())?;
                }
                storage.delete_key_package(&reference)?;
            }
            Ok(())
        })
    }
}
