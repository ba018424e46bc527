//! Members' clients take back who lost its place: one Commit takes devices out and in again, each
//! by the KeyPackage in its own statement.
//!
//! The server judges what stands; what it refuses is dropped. Never acts for this device itself.

use bytes::Bytes;
use qpc_credential::{Certificate, Posted, Statement, StatementBody, admit_key_package};
use qpc_mls::MlsError;
use qpc_mls::engine::{CommitPlan, MemberLeaf, Members};
use qpc_proto::message::{DeviceRef, Entry};
use qpc_proto::roster::RosterChange;
use qpc_proto::{ChannelId, RequestId};

use super::contacts::number_of;
use super::rejoin::REJOIN_STANDS_MS;
use super::store::{
    ChannelRow, IntentKind, IntentRow, IntentState, SealedCommitRow, StandingRejoin, Status,
};
use super::{Machine, Step};
use crate::error::ClientError;

/// Who came in after the last Commit that the device knew lets others go first, in milliseconds.
const NEWCOMER_MS: u64 = 30_000;
/// Devices taken in again by one Commit.
const AT_ONCE: usize = 8;

impl Machine {
    /// Another device lost its place here: noted until a Commit takes it in again.
    pub(super) fn rejoin_entry(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (entry, said): (&Entry, &Statement),
    ) -> Result<(), ClientError> {
        let device = said.certificate.device();
        if device == self.profile.identity.device {
            return Ok(());
        }
        let Some(members) = self.members_now(step, row)? else { return Ok(()) };
        if !members.iter().any(|leaf| is_of_account(leaf, &said.certificate)) {
            return Ok(());
        }
        self.others_lost_branch(step, row, said)?;
        let known = step.db.standing_rejoins(&row.channel)?;
        if known.iter().any(|known| known.statement == entry.payload.as_ref()) {
            return Ok(());
        }
        let standing = StandingRejoin { device, statement: entry.payload.to_vec() };
        step.db.put_standing_rejoin(&row.channel, (entry.seq, &standing))?;
        self.surveyed.remove(&row.channel);
        let name = self.name_of(step, &device.account)?;
        let text = format!("a device of {name} lost its place here and asks to be taken in again");
        self.notice(step, row, (device, entry.seq, text))
    }

    /// The members as this device knows them; `None` when it has no group here.
    pub(super) fn members_now(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<Members>, ClientError> {
        match self.engine.view(step.db.0, &row.group) {
            Ok(view) => Ok(Some(view.members)),
            Err(MlsError::UnknownGroup) => Ok(None),
            Err(_) if row.status == Status::Rejoining => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every member's client takes back who lost its place: siblings first, then by turns.
    pub(super) fn survey_rejoins(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        members: &[MemberLeaf],
    ) -> Result<(), ClientError> {
        let mut standing = step.db.standing_rejoins(&row.channel)?;
        if !standing.is_empty() {
            let usable = self.usable(step, (&row.channel, members))?;
            standing = usable.into_iter().map(|(standing, _)| standing).collect();
        }
        let open = self.open_of(step, (&row.channel, IntentKind::TakeBack))?;
        let Some(first) = standing.first().map(|standing| standing.device.account) else {
            for intent in open.iter().filter(|intent| intent.state != IntentState::Sealed) {
                step.db.set_intent(intent.id, (IntentState::Done, None))?;
            }
            return Ok(());
        };
        if !open.is_empty() {
            return Ok(());
        }
        let gone: Vec<DeviceRef> = standing.iter().map(|standing| standing.device).collect();
        let mut at = self.turn_of(step, (&first, members, &gone));
        if !self.is_known_to(step, row, &standing)? {
            at = at.saturating_add(NEWCOMER_MS);
        }
        self.intend(step, &row.channel, (IntentKind::TakeBack, &[], at)).map(drop)
    }

    /// Whether those who ask know this account in the channel. They know the roster of the last
    /// Commit that they applied; taken back by somebody who came later, they would wait for
    /// another's word.
    fn is_known_to(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        standing: &[StandingRejoin],
    ) -> Result<bool, ClientError> {
        let own = self.profile.identity.device.account;
        let joined_seq = step.db.rejoin(&row.channel)?.joined_seq;
        Ok(standing.iter().all(|standing| {
            let base = match Posted::verify(&standing.statement, &row.channel) {
                Ok(Posted::Said(Statement { body: StatementBody::Rejoin(rejoin), .. })) => {
                    rejoin.base_commit
                }
                Ok(Posted::Said(_) | Posted::Devices(_)) | Err(_) => 0,
            };
            // Who knows of no Commit knows nobody.
            standing.device.account == own || base == 0 || joined_seq <= base
        }))
    }

    /// Takes out and in again who lost its place: several at once, until one of them may be what a
    /// Commit was refused for.
    pub(super) fn plan_take_back(
        &self,
        step: &mut Step<'_>,
        intent: &IntentRow,
        row: &ChannelRow,
    ) -> Result<Option<CommitPlan>, ClientError> {
        let most = if intent.attempts == 0 { AT_ONCE } else { 1 };
        let members = self.engine.view(step.db.0, &row.group)?.members;
        let mut plan = CommitPlan::default();
        for (standing, package) in
            self.usable(step, (&row.channel, &members))?.into_iter().take(most)
        {
            plan.adds.push(package);
            plan.statements.push(standing.statement.into());
            if members.iter().any(|leaf| leaf.certificate.device() == standing.device) {
                plan.removes.insert(standing.device);
            }
        }
        Ok((!plan.adds.is_empty()).then_some(plan))
    }

    /// The KeyPackage of a standing rejoin, if it may be followed. What this device knows of lists,
    /// and its clock, may be older than the rejoin: it stands until the server says otherwise.
    fn package_of(
        &self,
        step: &Step<'_>,
        (members, standing): (&[MemberLeaf], &StandingRejoin),
        channel: &ChannelId,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        let Ok(Posted::Said(said)) = Posted::verify(&standing.statement, channel) else {
            return Ok(None);
        };
        let StatementBody::Rejoin(rejoin) = said.body else { return Ok(None) };
        // It was made with the statement, and stands longer than a directory would serve it.
        let Ok(admitted) = admit_key_package(&rejoin.key_package, said.issued_at_ms) else {
            return Ok(None);
        };
        if step.now_ms.saturating_sub(said.issued_at_ms) > REJOIN_STANDS_MS {
            return Ok(None);
        }
        // A Commit with it would be void for all; the device asks anew once it is renewed.
        if admitted.certificate.entry.not_after_ms <= step.now_ms.max(self.server_now(step)) {
            return Ok(None);
        }
        let newest = self.newest_of(step, &standing.device.account)?;
        let certificate = &admitted.certificate;
        let may = admitted.device == standing.device
            && said.certificate.device() == standing.device
            && newest.is_none_or(|newest| {
                // A list from before the device was linked says nothing about it: nobody may have
                // shown a later one here, where the Commit that brought it in fell.
                number_of(&newest.list) < certificate.list_number()
                    || newest.list.holds(certificate)
            })
            && members.iter().any(|leaf| is_of_account(leaf, &said.certificate))
            && standing.device != self.profile.identity.device;
        Ok(may.then(|| rejoin.key_package.to_vec()))
    }

    /// What stands and may be followed now, each with its KeyPackage.
    fn usable(
        &self,
        step: &Step<'_>,
        (channel, members): (&ChannelId, &[MemberLeaf]),
    ) -> Result<Vec<(StandingRejoin, Vec<u8>)>, ClientError> {
        let mut usable = Vec::new();
        for standing in step.db.standing_rejoins(channel)? {
            if let Some(package) = self.package_of(step, (members, &standing), channel)? {
                usable.push((standing, package));
            }
        }
        Ok(usable)
    }

    /// A Commit is in force: whom it added or removed asks for nothing any more.
    pub(super) fn settle_rejoins(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        change: &RosterChange,
    ) -> Result<(), ClientError> {
        for device in change.adds.union(&change.removes) {
            step.db.drop_standing_rejoin(&row.channel, device)?;
        }
        Ok(())
    }

    /// A Commit that takes somebody back is refused for good, or void: somebody did it already, or
    /// it cannot be done.
    pub(super) fn not_taken_back(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        sealed: &SealedCommitRow,
    ) -> Result<(), ClientError> {
        self.tried_in_vain(step, row, (sealed.intent, &sealed.bundle.statements))
    }

    /// The group engine makes no Commit of what stands: whoever asks chooses the KeyPackage, and
    /// must not keep others from coming back.
    pub(super) fn not_built(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        (intent, carried): (&IntentRow, &[Bytes]),
    ) -> Result<(), ClientError> {
        let request_id = RequestId(step.random());
        step.db.retry_intent(intent.id, &request_id)?;
        self.tried_in_vain(step, row, (intent.id, carried))
    }

    /// One of several is found by going on one by one; that one is dropped.
    fn tried_in_vain(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        (intent, carried): (u64, &[Bytes]),
    ) -> Result<(), ClientError> {
        if carried.len() == 1 {
            for standing in step.db.standing_rejoins(&row.channel)? {
                if carried.iter().any(|bytes| **bytes == *standing.statement) {
                    step.db.drop_standing_rejoin(&row.channel, &standing.device)?;
                }
            }
            step.db.set_intent(intent, (IntentState::Done, None))?;
        } else {
            step.db.set_intent(intent, (IntentState::Ready, None))?;
        }
        self.surveyed.remove(&row.channel);
        Ok(())
    }

    /// An own Commit that carries statements is void.
    pub(super) fn carried_in_vain(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        sealed: &SealedCommitRow,
    ) -> Result<(), ClientError> {
        let intent = step.db.intent(sealed.intent)?;
        if intent.is_none_or(|intent| intent.kind != IntentKind::TakeBack) {
            return Ok(());
        }
        let request_id = RequestId(step.random());
        step.db.retry_intent(sealed.intent, &request_id)?;
        self.not_taken_back(step, row, sealed)
    }
}

/// A leaf of the same account: an id only names it, the root is what it is.
pub(super) fn is_of_account(leaf: &MemberLeaf, certificate: &Certificate) -> bool {
    leaf.certificate.device().account == certificate.device().account
        && leaf.certificate.account_key.root == certificate.account_key.root
}
