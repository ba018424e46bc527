//! Who made a Commit that this device could not judge: members who settle what becomes of it leave
//! its maker out. Changes nothing.

use openmls::prelude::LeafNodeIndex;
use openmls_traits::OpenMlsProvider as _;
use qpc_proto::message::DeviceRef;
use qpc_storage::Tx;

use super::message::private_message;
use super::{Engine, MlsGroupId, leaf_certificate};
use crate::error::MlsError;
use crate::provider::listening::Listening;
use crate::provider::overheard::Overheard;
use crate::verdict::{Declined, Unjudged, classify};

/// Ends the savepoint: nothing of it is kept.
enum Found {
    Committer(Option<DeviceRef>),
    Error(MlsError),
}

impl From<qpc_storage::sql::Error> for Found {
    fn from(error: qpc_storage::sql::Error) -> Self {
        Self::Error(error.into())
    }
}

impl From<MlsError> for Found {
    fn from(error: MlsError) -> Self {
        Self::Error(error)
    }
}

impl Engine {
    /// The member whose signature a Commit has that [`Engine::judge`] calls unjudged for its path;
    /// `None` for any other. The library comes to the path behind the signature alone.
    ///
    /// # Errors
    /// [`MlsError`] when this device's database refused.
    pub fn committer(
        &self,
        tx: &Tx<'_>,
        id: &MlsGroupId,
        (payload, accepted_at_ms): (&[u8], u64),
    ) -> Result<Option<DeviceRef>, MlsError> {
        let found = self.change(tx, id, |tx, kept| -> Result<std::convert::Infallible, Found> {
            let group = &mut kept.group;
            group
                .clear_pending_commit(self.provider(tx).storage())
                .map_err(|error| Found::Error(error.into()))?;
            let provider = Listening::new(self.provider(tx), Overheard::default());
            let refused = group.process_message(&provider, private_message(payload)?).err();
            let why = refused.map(|error| classify(&error, accepted_at_ms));
            let sender = provider
                .into_ear()
                .sender()
                .filter(|_| why == Some(Declined::Unjudged(Unjudged::Path)))
                .map(|leaf| leaf_certificate(group, LeafNodeIndex::new(leaf)))
                .transpose()?;
            Err(Found::Committer(sender.map(|certificate| certificate.device())))
        });
        match found {
            Ok(never) => match never {},
            Err(Found::Committer(committer)) => Ok(committer),
            Err(Found::Error(error)) => Err(error),
        }
    }
}
