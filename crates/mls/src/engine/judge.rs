//! Judging a Commit in log order: the verdict uses only group state, the entry's bytes and its
//! accept time, so that all undamaged members of the epoch agree (RFC 9750 section 5.3).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openmls::group::StagedCommit;
use openmls::prelude::tls_codec::Serialize as _;
use openmls::prelude::{
    LeafNode, MlsGroup, ProcessedMessageContent, Proposal, ProposalOrRefType, Sender,
};
use openmls_traits::OpenMlsProvider as _;
use qpc_credential::{Certificate, takes_secrets};
use qpc_proto::AccountId;
use qpc_proto::chain::statements_digest;
use qpc_proto::message::{ChannelKind, DeviceRef};
use qpc_proto::roster::{Role, RosterChange};
use qpc_storage::Tx;

use super::message::private_message;
use super::roles::{Proposed, check_roles};
use super::{Engine, MemberLeaf, MlsGroupId, leaf_certificate, verified_certificate};
use crate::context::{ChannelContext, POLICY_VERSION};
use crate::error::MlsError;
use crate::verdict::{Applied, Declined, Unjudged, Verdict, VoidReason, classify, lives};

/// A Commit as the log holds it.
#[derive(Debug, Clone, Copy)]
pub struct CommitEntry<'a> {
    /// MLSMessage.
    pub payload: &'a [u8],
    /// Canonical bytes of the declared change.
    pub roster_change: &'a [u8],
    /// Statements relied on.
    pub statements: &'a [Bytes],
    /// Server time of acceptance, Unix milliseconds: certificates are judged by it.
    pub accepted_at_ms: u64,
}

/// Stops the judging: either a verdict or an error of this device.
pub(super) enum Stop {
    Declined(Declined),
    Error(MlsError),
}

impl From<VoidReason> for Stop {
    fn from(reason: VoidReason) -> Self {
        Self::Declined(Declined::Void(reason))
    }
}

impl From<MlsError> for Stop {
    fn from(error: MlsError) -> Self {
        Self::Error(error)
    }
}

impl From<qpc_storage::sql::Error> for Stop {
    fn from(error: qpc_storage::sql::Error) -> Self {
        Self::Error(error.into())
    }
}

impl Engine {
    /// Judges another member's Commit and, if it is good, puts it in force. A pending Commit of
    /// this device is dropped with it. Unless applied, the group is as it was.
    ///
    /// # Errors
    /// [`MlsError`] when this device's database refused: try again, hold the cursor.
    pub fn judge(
        &self,
        tx: &Tx<'_>,
        id: &MlsGroupId,
        entry: &CommitEntry<'_>,
    ) -> Result<Verdict, MlsError> {
        let judged = self.change(tx, id, |tx, kept| {
            let members = kept.members()?;
            let group = &mut kept.group;
            group
                .clear_pending_commit(self.provider(tx).storage())
                .map_err(|error| Stop::Error(error.into()))?;
            let (committer, staged, aad) = self.stage_received(tx, group, entry)?;
            let applied = check((group, &members), (&committer, &staged), (entry, &aad))?;
            group
                .merge_staged_commit(&self.provider(tx), *staged)
                .map_err(|_| Stop::Declined(Declined::Unjudged(Unjudged::Local)))?;
            Ok(applied)
        });
        match judged {
            Ok(applied) => Ok(Verdict::Applied(applied)),
            Err(Stop::Declined(declined)) => Ok(declined.into()),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    /// Checks this device's own pending Commit by the rules that everyone applies; call before
    /// [`Engine::merge_pending`].
    ///
    /// # Errors
    /// [`MlsError`] when there is none, or the database refused.
    pub fn judge_pending(
        &self,
        tx: &Tx<'_>,
        id: &MlsGroupId,
        entry: &CommitEntry<'_>,
    ) -> Result<Verdict, MlsError> {
        let judged = self.look(tx, id, |kept| {
            let members = kept.members()?;
            let group = &kept.group;
            let staged = group.pending_commit().ok_or(MlsError::Library("no pending Commit"))?;
            let committer = leaf_certificate(group, group.own_leaf_index())?;
            let header = qpc_credential::mls_header(entry.payload).map_err(MlsError::from)?;
            check((group, &members), (&committer, staged), (entry, &header.aad.encode()))
        });
        match judged {
            Ok(applied) => Ok(Verdict::Applied(applied)),
            Err(Stop::Declined(declined)) => Ok(declined.into()),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    fn stage_received(
        &self,
        tx: &Tx<'_>,
        group: &mut MlsGroup,
        entry: &CommitEntry<'_>,
    ) -> Result<(Certificate, Box<StagedCommit>, Vec<u8>), Stop> {
        let message = private_message(entry.payload).map_err(|_| VoidReason::Parse)?;
        let processed = group
            .process_message(&self.provider(tx), message)
            .map_err(|error| Stop::Declined(classify(&error, entry.accepted_at_ms)))?;
        let Sender::Member(index) = processed.sender() else {
            return Err(VoidReason::Kind.into());
        };
        let committer = leaf_certificate(group, *index).map_err(Stop::Error)?;
        let aad = processed.aad().to_vec();
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(VoidReason::Kind.into());
        };
        Ok((committer, staged, aad))
    }
}

/// The profile's rules over a staged Commit.
fn check(
    (group, members): (&MlsGroup, &[MemberLeaf]),
    (committer, staged): (&Certificate, &StagedCommit),
    (entry, aad): (&CommitEntry<'_>, &[u8]),
) -> Result<Applied, Stop> {
    let change = RosterChange::decode(entry.roster_change).map_err(|_| VoidReason::Roster)?;
    let aad = qpc_proto::aad::Aad::decode(aad).map_err(|_| VoidReason::Parse)?;
    let binding = aad.commit.ok_or(VoidReason::Kind)?;
    if binding.roster_change != change.digest()
        || binding.statements != statements_digest(entry.statements)
    {
        return Err(VoidReason::Roster.into());
    }
    check_proposals(staged)?;
    check_committer_leaf(staged, (committer, entry.accepted_at_ms))?;
    let proposed = proposed(group, staged, entry)?;
    let before = ChannelContext::from_extensions(group.extensions()).map_err(Stop::own)?;
    let after = ChannelContext::from_extensions(staged.group_context().extensions())
        .map_err(|_| VoidReason::Kind)?;
    let roles = role_changes(&before, &after);
    let same = change.adds.iter().eq(proposed.adds.keys())
        && change.removes.iter().eq(proposed.removes.keys())
        && change.roles == roles;
    if !same {
        return Err(VoidReason::Roster.into());
    }
    check_context(&before, &after)?;
    let right = (committer, before != after);
    check_roles(&before, right, (&proposed, entry.statements), members)?;
    check_policy(&after)?;
    check_result(members, &after, &change)?;
    Ok(Applied {
        committer: committer.device(),
        self_removed: staged.self_removed(),
        change,
        context_before: before,
        context: after,
    })
}

impl Stop {
    /// Something that this device's own group state must satisfy.
    fn own(_: qpc_proto::Malformed) -> Self {
        Self::Declined(Declined::Unjudged(Unjudged::Local))
    }
}

/// Adds, Removes and context changes by value; nothing else (no references, no PSKs).
fn check_proposals(staged: &StagedCommit) -> Result<(), Stop> {
    let allowed = staged.queued_proposals().all(|queued| {
        let kind = matches!(
            queued.proposal(),
            Proposal::Add(_) | Proposal::Remove(_) | Proposal::GroupContextExtensions(_)
        );
        kind && queued.proposal_or_ref_type() == ProposalOrRefType::Proposal
    });
    if allowed { Ok(()) } else { Err(VoidReason::Kind.into()) }
}

/// A leaf may change only within its account, device and key, and its certificate only for one that
/// ends later. A leaf that stays as it is may have ended: what its device sends is judged alike by
/// all, and nobody is put out by a clock.
fn check_committer_leaf(
    staged: &StagedCommit,
    (committer, accepted_at_ms): (&Certificate, u64),
) -> Result<(), Stop> {
    let leaf = staged.update_path_leaf_node().ok_or(VoidReason::Kind)?;
    check_encryption_key(leaf)?;
    let key = leaf.signature_key().as_slice();
    let renewed =
        verified_certificate(leaf.credential(), key).map_err(|_| VoidReason::Certificate)?;
    let unchanged = renewed.as_bytes() == committer.as_bytes();
    let same = renewed.device() == committer.device()
        && renewed.account_key.root == committer.account_key.root
        && renewed.entry.key == committer.entry.key;
    let later = renewed.entry.not_after_ms > committer.entry.not_after_ms;
    let lives = renewed.entry.not_after_ms >= accepted_at_ms;
    if same && (unchanged || (later && lives)) {
        Ok(())
    } else {
        Err(VoidReason::Certificate.into())
    }
}

/// Others encrypt to every leaf: one that takes no secret would let nobody else commit again.
fn check_encryption_key(leaf: &LeafNode) -> Result<(), Stop> {
    let bytes = leaf.encryption_key().tls_serialize_detached().map_err(|_| VoidReason::Parse)?;
    // A vector (RFC 9420 section 2.1.2): one byte says that 32 follow.
    match bytes.split_first() {
        Some((32, key)) if takes_secrets(key) => Ok(()),
        Some(_) | None => Err(VoidReason::Kind.into()),
    }
}

/// The devices that the proposals add and remove.
fn proposed(
    group: &MlsGroup,
    staged: &StagedCommit,
    entry: &CommitEntry<'_>,
) -> Result<Proposed, Stop> {
    let accepted_at_ms = entry.accepted_at_ms;
    let mut proposed = Proposed::default();
    for add in staged.add_proposals() {
        let key_package = add.add_proposal().key_package();
        let (leaf, lifetime) = (key_package.leaf_node(), key_package.life_time());
        check_encryption_key(leaf)?;
        let certificate = verified_certificate(leaf.credential(), leaf.signature_key().as_slice())
            .map_err(|_| VoidReason::Certificate)?;
        let lives = lives((lifetime.not_before(), lifetime.not_after()), accepted_at_ms);
        if certificate.entry.not_after_ms < accepted_at_ms || !lives {
            return Err(VoidReason::Certificate.into());
        }
        // Only a statement can ask for one package and no other.
        if !entry.statements.is_empty() {
            let bytes = key_package.tls_serialize_detached().map_err(|_| VoidReason::Parse)?;
            proposed.packages.insert(certificate.device(), bytes);
        }
        if proposed.adds.insert(certificate.device(), certificate).is_some() {
            return Err(VoidReason::Roster.into());
        }
    }
    for remove in staged.remove_proposals() {
        let certificate = leaf_certificate(group, remove.remove_proposal().removed())
            .map_err(|_| VoidReason::Roster)?;
        proposed.removes.insert(certificate.device(), certificate);
    }
    Ok(proposed)
}

/// Accounts whose role differs between two contexts.
pub(super) fn role_changes(
    before: &ChannelContext,
    after: &ChannelContext,
) -> BTreeMap<AccountId, Role> {
    before
        .admins
        .symmetric_difference(&after.admins)
        .map(|account| (*account, after.role(account)))
        .collect()
}

/// Channel and kind never change.
fn check_context(before: &ChannelContext, after: &ChannelContext) -> Result<(), Stop> {
    if before.channel != after.channel || before.kind != after.kind {
        return Err(VoidReason::Kind.into());
    }
    Ok(())
}

/// Only a known policy can be judged. That an admin alone changes it is true in every version, and
/// so is checked before: else any member could stop all readers.
fn check_policy(after: &ChannelContext) -> Result<(), Stop> {
    if after.policy_version != POLICY_VERSION {
        return Err(Stop::Declined(Declined::Unjudged(Unjudged::Local)));
    }
    Ok(())
}

/// No device twice; a direct channel keeps its two accounts.
fn check_result(
    members: &[MemberLeaf],
    after: &ChannelContext,
    change: &RosterChange,
) -> Result<(), Stop> {
    let before: BTreeSet<DeviceRef> =
        members.iter().map(|member| member.certificate.device()).collect();
    let mut devices: BTreeSet<_> = before.difference(&change.removes).copied().collect();
    for device in &change.adds {
        if !devices.insert(*device) {
            return Err(VoidReason::Roster.into());
        }
    }
    let accounts: BTreeSet<_> = devices.iter().map(|device| device.account).collect();
    match after.kind {
        ChannelKind::Direct if accounts.len() != 2 => Err(VoidReason::Roster.into()),
        ChannelKind::Direct | ChannelKind::Group | ChannelKind::Inbox => Ok(()),
    }
}
