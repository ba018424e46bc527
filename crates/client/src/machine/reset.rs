//! A channel that goes on as another: one member makes the successor with the accounts of its own
//! view, the server ends the old channel in the same transaction, and what waits moves.
//!
//! Never follows a claim of succession that neither the old log nor the old group supports.

use qpc_credential::{Statement, StatementBody};
use qpc_mls::MlsError;
use qpc_mls::context::ChannelContext;
use qpc_mls::engine::GroupView;
use qpc_proto::message::{ChannelKind, Entry};
use qpc_proto::roster::Role;
use qpc_proto::{AccountId, ChannelId, ErrorBody, ErrorDetail, RequestId};
use std::collections::BTreeSet;

use super::commands::{Started, new_channel};
use super::store::{
    ChannelRow, EndedRow, IntentKind, IntentRow, IntentState, Status, TakesPlaceRow,
};
use super::{Machine, Step, Work};
use crate::error::ClientError;

/// Waits for the KeyPackages of an account before a group goes on without it for now.
const WAITS_MAX: u32 = 6;
/// The longest of them, in milliseconds.
const WAIT_MS_MAX: u64 = 60_000;
/// When an account that could not be reached is tried again, in milliseconds.
pub(super) const ADD_AFTER_MS: u64 = 600_000;
/// How long nothing is sent to a channel that has ended, while its log is read, in milliseconds.
const QUIET_MS: u64 = 30_000;

impl Machine {
    /// Ends a channel and goes on in another: by an admin of a group, by either side of a direct
    /// channel. Where it ended already, and what takes its place was made by somebody who might not
    /// end it, this says that what waits shall go there all the same.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when this account may not, or the channel is over.
    pub fn reset(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
    ) -> Result<Started, ClientError> {
        let mut row = self.known(step, channel)?;
        if let Some(started) = self.accept_successor(step, &mut row)? {
            return Ok(started);
        }
        let live = match row.status {
            Status::Active
            | Status::Unconfirmed
            | Status::Held
            | Status::NeedsRepair
            | Status::Rejoining
            | Status::Alarm => row.kind != ChannelKind::Inbox,
            Status::Creating | Status::Leaving | Status::Left | Status::Failed | Status::Closed => {
                false
            }
        };
        let successor = step.db.ended(channel)?.and_then(|ended| ended.successor);
        if !live || successor.is_some() {
            return Err(ClientError::Usage(format!("{} cannot be reset now", row.title)));
        }
        self.make_successor(step, &row)
    }

    /// Notes the successor that is to be made, with a reset of the old channel signed.
    pub(super) fn make_successor(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
    ) -> Result<Started, ClientError> {
        let accounts = self.goes_along(step, row)?;
        let mut new = new_channel(step, row.kind, row.title.clone());
        new.peer = row.peer;
        if row.retention_ms < self.servers_retention(step)? {
            new.retention_ms = row.retention_ms;
        }
        step.db.put_channel(&new)?;
        let mut ended = step.db.ended(&row.channel)?.unwrap_or_default();
        ended.successor = Some(new.channel);
        // A server that does not know the channel has nothing to end.
        let is_known = !ended.restored || ended.head_seq != Some(0);
        let body = StatementBody::Reset(new.channel);
        let signed = self.signed_statement(step, (&row.channel, body))?;
        ended.statement = is_known.then(|| signed.to_vec());
        step.db.put_ended(&row.channel, &ended)?;
        let maker = self.profile.identity.device.account;
        let place = TakesPlaceRow { replaces: row.channel, maker, accepted: true };
        step.db.put_takes_place(&new.channel, &place)?;
        let intent = self.intend(step, &new.channel, (IntentKind::Create, &accounts, 0))?;
        Ok(Started { intent: Some(intent), channel: new.channel })
    }

    /// The other accounts of a channel that this device may reset.
    fn goes_along(&self, step: &Step<'_>, row: &ChannelRow) -> Result<Vec<AccountId>, ClientError> {
        let own = self.profile.identity.device.account;
        if let Some(peer) = row.peer {
            return Ok(vec![peer]);
        }
        let Some(view) = self.old_view(step, row)? else {
            let text = "this device has no state of the group: ask an admin to repair it";
            return Err(ClientError::Usage(text.into()));
        };
        if view.context.role(&own) != Role::Admin {
            let text = "only an admin of the group may reset it: ask one";
            return Err(ClientError::Usage(text.into()));
        }
        if row.last_commit == 0 {
            // Its founding was never read here: it was to be made with these.
            return self.founded_with(step, row);
        }
        let leavers: BTreeSet<_> =
            step.db.standing(&row.channel)?.into_iter().map(|(account, _)| account).collect();
        let accounts = view.members.iter().map(|leaf| leaf.certificate.device().account);
        let others = accounts.filter(|account| *account != own && !leavers.contains(account));
        Ok(others.collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// The accounts that a group made here was to have from its first Commit on.
    pub(super) fn founded_with(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Vec<AccountId>, ClientError> {
        let mut accounts = Vec::new();
        for id in step.db.intents_of(&row.channel)? {
            if step.db.intent(id)?.is_some_and(|intent| intent.kind == IntentKind::Create) {
                accounts.extend(step.db.intent_accounts(id)?.into_iter().map(|(id, ..)| id));
            }
        }
        Ok(accounts)
    }

    /// The group as it was; `None` when this device has none.
    pub(super) fn old_view(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<GroupView>, ClientError> {
        match self.engine.view(step.db.0, &row.group) {
            Ok(view) => Ok(Some(view)),
            Err(MlsError::UnknownGroup) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a group that takes another's place is founded on: the same, and it names the old one.
    pub(super) fn as_successor(
        &self,
        step: &Step<'_>,
        (row, fresh): (&ChannelRow, ChannelContext),
    ) -> Result<ChannelContext, ClientError> {
        let Some((replaces, _)) = step.db.replaced_by(&row.channel)? else { return Ok(fresh) };
        let old = step.db.channel(&replaces)?;
        let view = old.map(|old| self.old_view(step, &old)).transpose()?.flatten();
        let (title, description) = match view {
            Some(view) => (view.context.title, view.context.description),
            None => (fresh.title.clone(), String::new()),
        };
        Ok(ChannelContext { title, description, replaces: Some(replaces), ..fresh })
    }

    /// The admins of before, those who are there from the first Commit on. The server learns roles
    /// from that Commit.
    pub(super) fn admins_again(
        &self,
        step: &Step<'_>,
        (row, founded): (&ChannelRow, ChannelContext),
        adds: &[Vec<u8>],
    ) -> Result<Option<ChannelContext>, ClientError> {
        let Some(replaces) = founded.replaces.filter(|_| row.kind == ChannelKind::Group) else {
            return Ok(None);
        };
        let old = step.db.channel(&replaces)?;
        let view = old.map(|old| self.old_view(step, &old)).transpose()?.flatten();
        let Some(view) = view else { return Ok(None) };
        let added = adds.iter().filter_map(|bytes| {
            let admitted = qpc_credential::admit_key_package(bytes, step.now_ms).ok()?;
            Some(admitted.device.account)
        });
        let admins: BTreeSet<_> = added
            .filter(|account| view.context.admins.contains(account))
            .chain(founded.admins.iter().copied())
            .collect();
        let changes = admins != founded.admins;
        Ok(changes.then_some(ChannelContext { admins, ..founded }))
    }

    /// An account without KeyPackages is waited for; a group goes on without it after a while, and
    /// it is added later. False for what is no reset.
    pub(super) fn successor_waits(
        &self,
        step: &mut Step<'_>,
        (intent, account): (&IntentRow, &AccountId),
        body: &ErrorBody,
    ) -> Result<bool, ClientError> {
        if intent.kind != IntentKind::Create || step.db.replaced_by(&intent.channel)?.is_none() {
            return Ok(false);
        }
        let direct = step.db.channel(&intent.channel)?.is_some_and(|row| row.peer.is_some());
        if direct || intent.claims < WAITS_MAX {
            let ceiling = 1_000_u64.saturating_mul(1 << intent.claims.min(10)).min(WAIT_MS_MAX);
            let wait = (ceiling / 2).saturating_add(step.below(ceiling / 2).max(50));
            let at = step.now_ms.saturating_add(wait.max(body.retry_after_ms.unwrap_or(0)));
            let request_id = RequestId(step.random());
            step.db.renew_claim(intent.id, (account, &request_id))?;
            step.db.wait_for_claim(intent.id, (step.now_ms, at))?;
            return Ok(true);
        }
        step.db.drop_intent_account(intent.id, account)?;
        let at = step.now_ms.saturating_add(ADD_AFTER_MS);
        self.intend(step, &intent.channel, (IntentKind::Add, &[*account], at))?;
        if step.db.intent_accounts(intent.id)?.iter().all(|(_, _, claimed)| *claimed) {
            step.db.set_intent(intent.id, (IntentState::Ready, None))?;
        }
        Ok(true)
    }

    /// The log ends: the channel goes on as another. What takes its place is judged by itself; but
    /// nobody ends a channel that was never in it.
    pub(super) fn reset_entry(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (entry, said, successor): (&Entry, &Statement, &ChannelId),
    ) -> Result<(), ClientError> {
        let signer = said.certificate.device();
        let view = self.old_view(step, row)?;
        let is_in = view
            .as_ref()
            .is_some_and(|view| view.members.iter().any(|leaf| leaf.is_of(&said.certificate)));
        let name = self.name_of(step, &signer.account)?;
        if !is_in && view.is_some() && knows_its_members(row.status) {
            self.keep(step, row, (entry, "the end of the channel, signed by no member"))?;
            let text = format!(
                "the server shows that {name} ended this channel, who is not in it: it is lying"
            );
            return self.alarm(step, Some((row.channel, entry.seq)), text);
        }
        let by_right = is_in
            && view.is_some_and(|view| {
                row.kind == ChannelKind::Direct || view.context.role(&signer.account) == Role::Admin
            });
        let text = match by_right {
            true => format!("{name} ended this channel: it goes on as another"),
            // When no admin can commit any more, others may.
            false => format!(
                "the server ended this channel on the word of {name}, who is no admin that this \
                 device knows: compare with the others before you trust what takes its place"
            ),
        };
        self.notice(step, row, (signer, entry.seq, text))?;
        self.rebase(step, row)?;
        for intent in step.db.open_in(&row.channel)? {
            self.fail_intent(step, (intent.id, "the channel goes on as another"))?;
        }
        let mut ended = step.db.ended(&row.channel)?.unwrap_or_default();
        ended.successor = Some(*successor);
        step.db.put_ended(&row.channel, &ended)?;
        row.status = Status::Closed;
        row.reason = Some("it ended and goes on as another channel".to_owned());
        self.succeed(step, row, successor)
    }

    /// Another's successor came first: what was to be made here is not.
    pub(super) fn drop_own_successor(
        &mut self,
        step: &mut Step<'_>,
        ended: &EndedRow,
    ) -> Result<(), ClientError> {
        let Some(own) = ended.successor else { return Ok(()) };
        let Some(row) = step.db.channel(&own)?.filter(|row| row.status == Status::Creating) else {
            return Ok(());
        };
        self.rebase(step, &row)?;
        self.engine.forget(step.db.0, &row.group)?;
        for intent in step.db.open_in(&own)? {
            step.db.set_intent(intent.id, (IntentState::Done, None))?;
        }
        let replaced = step.db.replaced_by(&own)?;
        if let Some((old, _)) = replaced {
            step.db.move_messages(&own, &old)?;
            for intent in step.db.intents_of(&own)? {
                step.db.move_intent(intent, &old)?;
            }
        }
        Ok(step.db.delete_channel(&own)?)
    }

    /// The server ended a channel: nothing is sent there; its log, or the list, says what comes.
    pub(super) fn channel_closed(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        body: &ErrorBody,
    ) -> Result<(), ClientError> {
        self.list_due = true;
        let Some(mut row) = step.db.channel(channel)? else { return Ok(()) };
        if !self.open_of(step, (channel, IntentKind::Create))?.is_empty() {
            return self.lost_reset(step, &mut row, body);
        }
        self.batches.remove(channel);
        self.rebase(step, &row)?;
        step.db.unseal_all(channel)?;
        if row.status.is_over() {
            // It was sealed before this device was out, and will never be sent.
            return self.refuse_outbox(step, &row, "the channel ended");
        }
        row.quiet_until_ms = step.now_ms.saturating_add(QUIET_MS);
        Ok(step.db.put_channel(&row)?)
    }

    /// The reset that this device's successor carries came second.
    fn lost_reset(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        body: &ErrorBody,
    ) -> Result<(), ClientError> {
        let replaced = step.db.replaced_by(&row.channel)?;
        let (Some((old, mut ended)), Some(ErrorDetail::Channel(first))) = (replaced, &body.detail)
        else {
            // It was made, in an earlier life of the server, and ended with it.
            let reason = "the server was restored from a backup before it said that this was made";
            return self.end_life(step, row, reason);
        };
        self.drop_own_successor(step, &ended)?;
        ended.successor = Some(*first);
        ended.statement = None;
        step.db.put_ended(&old, &ended)?;
        self.pauses.remove(&Work::Commit(row.channel));
        self.took_place(step, first)
    }

    /// Making a successor failed: another attempt may come, by this device or another.
    pub(super) fn successor_failed(
        &self,
        step: &mut Step<'_>,
        successor: &ChannelId,
    ) -> Result<(), ClientError> {
        let Some((old, mut ended)) = step.db.replaced_by(successor)? else { return Ok(()) };
        (ended.successor, ended.statement) = (None, None);
        if ended.restored {
            ended.at_ms = Some(step.now_ms.saturating_add(ADD_AFTER_MS));
            return Ok(step.db.put_ended(&old, &ended)?);
        }
        Ok(step.db.drop_ended(&old)?)
    }
}

/// Whether this device has read all that was done to a channel's members up to its cursor.
fn knows_its_members(status: Status) -> bool {
    match status {
        Status::Active | Status::Unconfirmed | Status::Held | Status::Leaving => true,
        Status::Creating
        | Status::NeedsRepair
        | Status::Alarm
        | Status::Rejoining
        | Status::Left
        | Status::Failed
        | Status::Closed => false,
    }
}
