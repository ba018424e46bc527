//! Sealing a Commit: the proposals by value, the declared change bound into the authenticated data.

use std::collections::BTreeSet;

use bytes::Bytes;
use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{
    KeyPackage, KeyPackageIn, LeafNodeIndex, LeafNodeParameters, MlsGroup, ProtocolVersion,
};
use openmls_traits::OpenMlsProvider as _;
use qpc_credential::Certificate;
use qpc_proto::aad::CommitBinding;
use qpc_proto::chain::statements_digest;
use qpc_proto::message::DeviceRef;
use qpc_proto::roster::RosterChange;
use qpc_storage::Tx;

use super::{Engine, Members, MlsGroupId, Place, known_certificate, leaf_certificate};
use crate::context::ChannelContext;
use crate::error::MlsError;

/// What a Commit is to do. Empty: a self-update.
#[derive(Debug, Clone, Default)]
pub struct CommitPlan {
    /// TLS-serialized KeyPackages of the devices to add, admitted by `credential`.
    pub adds: Vec<Vec<u8>>,
    /// Devices to remove.
    pub removes: BTreeSet<DeviceRef>,
    /// The context after it, if it changes.
    pub context: Option<ChannelContext>,
    /// Signed statements that justify removals.
    pub statements: Vec<Bytes>,
}

/// A Commit ready to send once the transaction is on disk; pending until the log reaches it.
#[derive(Debug, Clone)]
pub struct SealedCommit {
    /// MLSMessage with a PrivateMessage.
    pub payload: Vec<u8>,
    /// The declared change.
    pub change: RosterChange,
    /// MLSMessage with the Welcome, when devices are added.
    pub welcome: Option<Vec<u8>>,
}

impl Engine {
    /// Seals a Commit and leaves it pending.
    ///
    /// # Errors
    /// [`MlsError::CommitPending`] when one is; [`MlsError::Refused`] for a KeyPackage that is no
    /// good or a device that is not there; nothing is kept.
    pub fn commit(
        &self,
        tx: &Tx<'_>,
        id: &MlsGroupId,
        (place, plan): (&Place, &CommitPlan),
    ) -> Result<SealedCommit, MlsError> {
        self.change(tx, id, |tx, kept| {
            let members = kept.members()?;
            let group = &mut kept.group;
            if !group.is_active() {
                return Err(MlsError::NotMember);
            }
            if group.pending_commit().is_some() {
                return Err(MlsError::CommitPending);
            }
            let adds = self.key_packages(tx, &plan.adds)?;
            let change = declared_change(group, &adds, plan)?;
            let mut aad = place.aad();
            aad.commit = Some(CommitBinding {
                roster_change: change.digest(),
                statements: statements_digest(&plan.statements),
            });
            group.set_aad(aad.encode());
            let removes = leaf_indices(&members, &plan.removes)?;
            let (payload, welcome) = self.stage(tx, group, (adds, removes, plan))?;
            Ok(SealedCommit { payload, change, welcome })
        })
    }

    fn key_packages(&self, tx: &Tx<'_>, adds: &[Vec<u8>]) -> Result<Vec<KeyPackage>, MlsError> {
        let provider = self.provider(tx);
        adds.iter()
            .map(|bytes| {
                KeyPackageIn::tls_deserialize_exact(bytes)
                    .map_err(|_| MlsError::Refused("a KeyPackage does not parse"))?
                    .validate(provider.crypto(), ProtocolVersion::Mls10)
                    .map_err(|_| MlsError::Refused("a KeyPackage does not verify"))
            })
            .collect()
    }

    /// The own leaf with this device's certificate, where that ends later than the leaf's. Every
    /// Commit takes it along: nobody has to ask for it.
    fn renewed_leaf(&self, group: &MlsGroup) -> Result<Option<LeafNodeParameters>, MlsError> {
        let held = leaf_certificate(group, group.own_leaf_index())?;
        let own = Certificate::read_verified(&self.device.certificate)?;
        let later = own.entry.not_after_ms > held.entry.not_after_ms;
        let same = own.device() == held.device() && own.entry.key == held.entry.key;
        Ok((same && later).then(|| {
            LeafNodeParameters::builder().with_credential_with_key(self.device.credential()).build()
        }))
    }

    fn stage(
        &self,
        tx: &Tx<'_>,
        group: &mut MlsGroup,
        (adds, removes, plan): (Vec<KeyPackage>, Vec<LeafNodeIndex>, &CommitPlan),
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), MlsError> {
        let provider = self.provider(tx);
        let renewed = self.renewed_leaf(group)?;
        let mut builder = group
            .commit_builder()
            .force_self_update(true)
            .propose_adds(adds)
            .propose_removals(removes);
        if let Some(leaf) = renewed {
            builder = builder.leaf_node_parameters(leaf);
        }
        if let Some(context) = &plan.context {
            builder = builder
                .propose_group_context_extensions(context.extensions()?)
                .map_err(|_| MlsError::Library("propose a context"))?;
        }
        let bundle = builder
            .load_psks(provider.storage())
            .map_err(|_| MlsError::Library("load psks"))?
            .build(provider.rand(), provider.crypto(), &self.device, |_| true)
            .map_err(|_| MlsError::Refused("the Commit cannot be built"))?
            .stage_commit(&provider)
            .map_err(|_| MlsError::Library("stage a Commit"))?;
        let (commit, welcome, _) = bundle.into_messages();
        let encode = |message: openmls::prelude::MlsMessageOut| {
            message.to_bytes().map_err(|_| MlsError::Library("encode a Commit"))
        };
        Ok((encode(commit)?, welcome.map(encode).transpose()?))
    }
}

/// What the plan does to devices and roles.
fn declared_change(
    group: &MlsGroup,
    adds: &[KeyPackage],
    plan: &CommitPlan,
) -> Result<RosterChange, MlsError> {
    let before = ChannelContext::from_extensions(group.extensions())?;
    let adds = adds
        .iter()
        .map(|kp| Ok(known_certificate(kp.leaf_node().credential())?.device()))
        .collect::<Result<BTreeSet<_>, MlsError>>()?;
    let after = plan.context.as_ref().unwrap_or(&before);
    Ok(RosterChange {
        adds,
        removes: plan.removes.clone(),
        roles: super::judge::role_changes(&before, after),
    })
}

fn leaf_indices(
    members: &Members,
    devices: &BTreeSet<DeviceRef>,
) -> Result<Vec<LeafNodeIndex>, MlsError> {
    let leaves: Vec<_> = members
        .iter()
        .filter(|member| devices.contains(&member.certificate.device()))
        .map(|member| LeafNodeIndex::new(member.index))
        .collect();
    if leaves.len() == devices.len() {
        Ok(leaves)
    } else {
        Err(MlsError::Refused("a device to remove is not a member"))
    }
}
