//! How large a Commit and its Welcome can become, before anything is sealed. An upper bound that
//! is close: it counts every leaf, as if the tree had no keys above them.

use openmls::prelude::tls_codec::Size as _;
use qpc_storage::Tx;

use super::{CommitPlan, Engine, MlsGroupId};
use crate::error::MlsError;

/// An HPKE ciphertext of a path secret, for a leaf that has no keys above it.
const SEALED_SECRET: usize = 32 + 48 + 4;
/// A node of the own path: its public key in the Commit; key, parent hash and the places of leaves
/// it does not cover in the tree.
const PATH_NODE: usize = 128;
/// A tree has no more levels than this below its root.
const LEVELS: usize = 16;
/// What a new device takes besides its KeyPackage (as a proposal) and its leaf (in the tree):
/// reference and sealed secrets in the Welcome, a blank node, its place at each node above it.
const NEWCOMER: usize = 320 + 4 * LEVELS;
/// Headers, signatures, tags, authenticated data, and the length of what is padded.
const FRAME: usize = 2_048;
/// A proposal to remove a leaf.
const REMOVAL: usize = 16;

/// What a KeyPackage of this length adds to a Commit and its Welcome, at most.
pub fn bytes_of_add(key_package: usize) -> usize {
    key_package.saturating_mul(2).saturating_add(NEWCOMER)
}

impl Engine {
    /// The bytes of a planned Commit and its Welcome together, at most.
    ///
    /// # Errors
    /// [`MlsError`] when the group can't be read.
    pub fn bytes_of_commit(
        &self,
        tx: &Tx<'_>,
        id: &MlsGroupId,
        plan: &CommitPlan,
    ) -> Result<usize, MlsError> {
        self.look(tx, id, |kept| {
            let leaves = kept.members()?.len();
            let group = &kept.group;
            let extensions = match &plan.context {
                Some(context) => context.extensions()?.tls_serialized_len(),
                None => group.extensions().tls_serialized_len(),
            };
            let own = group.own_leaf_node().map_or(0, |leaf| leaf.tls_serialized_len());
            let tree = match plan.adds.is_empty() {
                true => 0,
                false => group.export_ratchet_tree().tls_serialized_len(),
            };
            let fixed = [
                FRAME,
                // In the proposal, and in the GroupInfo.
                extensions.saturating_mul(2),
                own.saturating_mul(2),
                PATH_NODE.saturating_mul(2).saturating_mul(LEVELS),
                leaves.saturating_mul(SEALED_SECRET),
                plan.removes.len().saturating_mul(REMOVAL),
                tree,
            ];
            let adds = plan.adds.iter().map(|bytes| bytes_of_add(bytes.len()));
            Ok(fixed.into_iter().chain(adds).fold(0, usize::saturating_add))
        })
    }
}
