//! Group operations: claiming KeyPackages, sealing the Commit, following what others asked for.

use std::collections::BTreeSet;

use qpc_credential::{Statement, StatementBody, admit_key_package};
use qpc_mls::MlsError;
use qpc_mls::context::{ChannelContext, POLICY_VERSION};
use qpc_mls::engine::{CommitPlan, Place};
use qpc_proto::message::{ChannelKind, CommitBundle, DeviceRef};
use qpc_proto::{AccountId, ChannelId, RequestId};

use super::outbox::new_message_id;
use super::store::{ChannelRow, IntentKind, IntentRow, IntentState, SealedCommitRow, Status};
use super::{Machine, Step};
use crate::error::ClientError;

/// Members commit for a leaver in the order of their leaves, this far apart, in milliseconds.
const TURN_MS: u64 = 2_000;
/// Attempts at a Commit before the operation is given up and shown as failed.
pub(super) const ATTEMPTS_MAX: u32 = 64;

impl Machine {
    /// Notes an operation and the accounts it is about.
    pub(super) fn intend(
        &self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        (kind, accounts, not_before_ms): (IntentKind, &[AccountId], u64),
    ) -> Result<u64, ClientError> {
        let adds = matches!(kind, IntentKind::Create | IntentKind::Add | IntentKind::Sibling);
        let claims = adds && !accounts.is_empty();
        let intent = IntentRow {
            id: 0,
            channel: *channel,
            kind,
            state: if claims { IntentState::Claiming } else { IntentState::Ready },
            request_id: RequestId(step.random()),
            attempts: 0,
            not_before_ms,
            reason: None,
            claims: 0,
        };
        let id = step.db.insert_intent(&intent, step.now_ms)?;
        for account in accounts {
            let request_id = RequestId(step.random());
            step.db.insert_intent_account(id, (account, &request_id))?;
        }
        Ok(id)
    }

    /// Signs a leave to be posted: every retry has the same bytes.
    pub(super) fn ask_to_leave(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
    ) -> Result<u64, ClientError> {
        let intent = self.intend(step, &row.channel, (IntentKind::Leave, &[], 0))?;
        let leave = self.signed_statement(step, (&row.channel, StatementBody::Leave))?;
        step.db.put_statement(intent, (&leave, step.now_ms))?;
        Ok(intent)
    }

    /// This account leaves, by whichever device: what was written or wanted here ends, visibly.
    pub(super) fn give_up_for_leave(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
    ) -> Result<(), ClientError> {
        self.give_up_changes(step, row, "you left")?;
        self.refuse_outbox(step, row, "you left")
    }

    /// What the user wanted to change in a channel and this device can't any more fails, visibly.
    pub(super) fn give_up_changes(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        reason: &str,
    ) -> Result<(), ClientError> {
        // Who is leaving still removes others.
        let is_out = row.status == Status::Left;
        for intent in step.db.open_in(&row.channel)? {
            let watched = matches!(intent.kind, IntentKind::Add | IntentKind::Context)
                || (is_out && intent.kind == IntentKind::Remove);
            if intent.state != IntentState::Sealed && watched {
                self.fail_intent(step, (intent.id, reason))?;
            }
        }
        Ok(())
    }

    /// Somebody asked to leave: every member's client commits the removal, in the order of leaves.
    pub(super) fn follow_leave(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        leaver: &AccountId,
    ) -> Result<(), ClientError> {
        if row.kind != ChannelKind::Group {
            return Ok(());
        }
        let own = self.profile.identity.device;
        let members = self.engine.view(step.db.0, &row.group)?.members;
        let turn = members
            .iter()
            .filter(|member| member.certificate.device().account != *leaver)
            .position(|member| member.certificate.device() == own)
            .and_then(|position| u64::try_from(position).ok())
            .unwrap_or(0);
        let wait = turn.saturating_mul(TURN_MS).saturating_add(step.below(TURN_MS));
        let at = step.now_ms.saturating_add(wait);
        self.intend(step, &row.channel, (IntentKind::Remove, &[*leaver], at))?;
        Ok(())
    }

    /// Gives an operation up; a channel that was to be created by it fails with it.
    pub(super) fn fail_intent(
        &self,
        step: &mut Step<'_>,
        (intent, reason): (u64, &str),
    ) -> Result<(), ClientError> {
        let Some(row) = step.db.intent(intent)? else { return Ok(()) };
        step.db.set_intent(intent, (IntentState::Failed, Some(reason)))?;
        if row.kind == IntentKind::Revoke {
            self.revoke_failed(step, (intent, &row.channel), reason)?;
        }
        if row.kind == IntentKind::Update {
            self.update_failed(step, &row.channel)?;
        }
        if row.kind == IntentKind::Create
            && let Some(mut channel) = step.db.channel(&row.channel)?
        {
            self.successor_failed(step, &row.channel)?;
            channel.status = Status::Failed;
            channel.reason = Some(reason.to_owned());
            step.db.put_channel(&channel)?;
            self.refuse_outbox(step, &channel, reason)?;
            match self.engine.forget(step.db.0, &channel.group) {
                Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Seals the Commit of an operation whose time has come; `None` when there is nothing to seal.
    pub(super) fn seal_commit(
        &mut self,
        step: &mut Step<'_>,
        (intent, row): (&IntentRow, &ChannelRow),
    ) -> Result<Option<SealedCommitRow>, ClientError> {
        let plan = match self.plan(step, intent, row)? {
            Some(plan) => plan,
            None => {
                let now = step.db.intent(intent.id)?.map(|now| now.state);
                if now == Some(IntentState::Ready) {
                    step.db.set_intent(intent.id, (IntentState::Done, None))?;
                    // It stood for what else is to be done here.
                    self.surveyed.remove(&row.channel);
                }
                return Ok(None);
            }
        };
        if intent.kind == IntentKind::Create {
            self.create_group(step, row)?;
        }
        if let Some(reason) = self.too_large(step, (row, &plan))? {
            self.fail_intent(step, (intent.id, &reason))?;
            return Ok(None);
        }
        let place = Place {
            channel: row.channel,
            base_commit: row.base_commit,
            head_seq: row.cursor,
            head: row.head,
        };
        let sealed = match self.engine.commit(step.db.0, &row.group, (&place, &plan)) {
            Ok(sealed) => sealed,
            Err(MlsError::Refused(_)) if intent.kind == IntentKind::TakeBack => {
                self.not_built(step, row, (intent, &plan.statements))?;
                return Ok(None);
            }
            Err(MlsError::Refused(reason)) => {
                self.fail_intent(step, (intent.id, reason))?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let sealed = SealedCommitRow {
            intent: intent.id,
            bundle: CommitBundle {
                message_id: new_message_id(step, row),
                after_commit: row.last_commit,
                payload: sealed.payload.into(),
                roster_change: sealed.change.encode().into(),
                welcome: sealed.welcome.map(Into::into),
                statements: plan.statements,
            },
        };
        step.db.put_sealed_commit(&row.channel, (&sealed, step.now_ms))?;
        step.db.set_intent(intent.id, (IntentState::Sealed, None))?;
        Ok(Some(sealed))
    }

    /// A new group at epoch 0; what an earlier attempt left is forgotten.
    fn create_group(&self, step: &Step<'_>, row: &ChannelRow) -> Result<(), ClientError> {
        let context = self.founding_context(step, row)?;
        self.engine.forget(step.db.0, &row.group)?;
        Ok(self.engine.create(step.db.0, &row.group, (&context, step.now_ms))?)
    }

    fn founding_context(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<ChannelContext, ClientError> {
        let own = self.profile.identity.device.account;
        let fresh = ChannelContext {
            channel: row.channel,
            kind: row.kind,
            title: match row.kind {
                ChannelKind::Group => row.title.clone(),
                ChannelKind::Direct | ChannelKind::Inbox => String::new(),
            },
            admins: row.peer.into_iter().chain([own]).collect(),
            description: String::new(),
            replaces: None,
            policy_version: POLICY_VERSION,
        };
        self.as_successor(step, (row, fresh))
    }

    /// What the Commit is to do now; `None` when it has been done meanwhile.
    fn plan(
        &self,
        step: &mut Step<'_>,
        intent: &IntentRow,
        row: &ChannelRow,
    ) -> Result<Option<CommitPlan>, ClientError> {
        let accounts = step.db.intent_accounts(intent.id)?;
        let accounts: BTreeSet<AccountId> = accounts.into_iter().map(|(id, ..)| id).collect();
        match intent.kind {
            IntentKind::Create => {
                let adds = step.db.key_packages(intent.id)?;
                let founded = self.founding_context(step, row)?;
                let context = self.admins_again(step, (row, founded), &adds)?;
                Ok(Some(CommitPlan { adds, context, ..CommitPlan::default() }))
            }
            IntentKind::Add | IntentKind::Sibling => self.plan_adds(step, intent, row),
            IntentKind::Revoke => self.plan_revoke(step, intent, row),
            IntentKind::Remove => {
                let members = self.devices(step, row)?;
                let removes: BTreeSet<_> =
                    members.into_iter().filter(|d| accounts.contains(&d.account)).collect();
                let standing = step.db.standing(&row.channel)?;
                let statements = standing
                    .into_iter()
                    .filter(|(account, _)| accounts.contains(account))
                    .map(|(_, bytes)| bytes.into())
                    .collect();
                let plan = CommitPlan { removes, statements, ..CommitPlan::default() };
                Ok((!plan.removes.is_empty()).then_some(plan))
            }
            IntentKind::Update => Ok(self.is_update_due(step, row)?.then(CommitPlan::default)),
            IntentKind::Context => self.plan_context(step, intent, row),
            IntentKind::TakeBack => self.plan_take_back(step, intent, row),
            IntentKind::Leave | IntentKind::Rejoin | IntentKind::Verdict => Ok(None),
        }
    }

    /// Adds those whose devices are not members yet. Packages that waited too long are claimed
    /// anew: nobody may be taken for added who is not.
    fn plan_adds(
        &self,
        step: &mut Step<'_>,
        intent: &IntentRow,
        row: &ChannelRow,
    ) -> Result<Option<CommitPlan>, ClientError> {
        let members = self.devices(step, row)?;
        let mut adds = Vec::new();
        let mut outlived = false;
        for bytes in step.db.key_packages(intent.id)? {
            match admit_key_package(&bytes, step.now_ms) {
                Ok(admitted) if members.contains(&admitted.device) => {}
                Ok(admitted) => {
                    let newest = self.newest_of(step, &admitted.device.account)?;
                    let held = newest.is_none_or(|it| it.list.holds(&admitted.certificate));
                    outlived |= !held && intent.kind == IntentKind::Add;
                    if held {
                        adds.push((admitted.device.account, bytes));
                    }
                }
                Err(_) => outlived = true,
            }
        }
        if outlived {
            self.claim_all_again(step, intent.id)?;
            return Ok(None);
        }
        self.plan_batch(step, row, adds)
    }

    /// None of the KeyPackages that an operation claimed are of use any more: it claims others.
    pub(super) fn claim_all_again(
        &self,
        step: &mut Step<'_>,
        intent: u64,
    ) -> Result<(), ClientError> {
        for (account, ..) in step.db.intent_accounts(intent)? {
            let request_id = RequestId(step.random());
            step.db.claim_again(intent, (&account, &request_id))?;
        }
        Ok(step.db.set_intent(intent, (IntentState::Claiming, None))?)
    }

    fn devices(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<BTreeSet<DeviceRef>, ClientError> {
        let view = self.engine.view(step.db.0, &row.group)?;
        Ok(view.members.iter().map(|member| member.certificate.device()).collect())
    }

    /// What this device says in a channel, signed.
    pub(super) fn signed_statement(
        &self,
        step: &Step<'_>,
        (channel, body): (&ChannelId, StatementBody),
    ) -> Result<bytes::Bytes, ClientError> {
        let certificate = &self.profile.identity.certificate;
        let certificate = qpc_credential::Certificate::verify(certificate)
            .map_err(|_| ClientError::Internal("the own certificate does not verify"))?;
        let statement =
            Statement { channel: *channel, certificate, issued_at_ms: step.now_ms, body };
        Ok(statement.sign(self.profile.keys.sign_statement()))
    }
}
