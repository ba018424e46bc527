//! What the server and Commits on other branches say about this device's own place: it may have
//! been taken in elsewhere, or be out.
//!
//! Believes no Commit that it cannot judge: it asks, and waits for its invitation.

use qpc_credential::{RejoinReason, Statement, StatementBody, mls_header};
use qpc_proto::message::{ChannelState, Entry};
use qpc_proto::roster::RosterChange;

use super::commits::ELSEWHERE;
use super::inbox::ON_ANOTHER_BRANCH;
use super::rejoin::{ASK_EVERY_MS, REFUSED_MS, REJOIN_STANDS_MS, SOON};
use super::store::{ChannelRow, IntentKind, IntentState, Made, Status};
use super::{Machine, Step, Work};
use crate::error::ClientError;

impl Machine {
    /// A Commit on a branch where this device is not. One that adds it shows that it was taken in
    /// where the others never were: an invitation to here counts, and so does another ask.
    pub(super) fn named_elsewhere(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        entry: &Entry,
    ) -> Result<(), ClientError> {
        let Ok(change) = RosterChange::decode(&entry.roster_change) else { return Ok(()) };
        let own = self.profile.identity.device;
        if change.adds.contains(&own) {
            let mut rejoin = step.db.rejoin(&row.channel)?;
            rejoin.latest_seq = rejoin.latest_seq.max(entry.seq);
            step.db.put_rejoin(&row.channel, &rejoin)?;
            if rejoin.joined_seq > 0 && (row.status.seals() || row.status == Status::Held) {
                // What it sent since it came in here, nobody else may have read.
                step.db.put_lost(&row.channel, rejoin.joined_seq)?;
            }
            return self.want_rejoin(step, row, RejoinReason::Branch);
        }
        // Whether the others hold it void, the server knows.
        let waits = matches!(row.status, Status::Rejoining | Status::Leaving);
        self.list_due |= change.removes.contains(&own) && waits;
        Ok(())
    }

    /// Who knows more of the branch that this device is on than it does lost it. Where the members
    /// had parted before it came in, it knows of nothing to settle, and no verdict tells it: it
    /// goes along.
    pub(super) fn others_lost_branch(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        said: &Statement,
    ) -> Result<(), ClientError> {
        let StatementBody::Rejoin(rejoin) = &said.body else { return Ok(()) };
        let account = said.certificate.device().account;
        let is_in = row.status.seals() || row.status == Status::Held;
        let joined_seq = step.db.rejoin(&row.channel)?.joined_seq;
        if rejoin.reason != RejoinReason::Branch || !is_in || joined_seq == 0 {
            return Ok(());
        }
        // Once another than the inviter was heard here, that one's word is one of many. Who spoke
        // of a Commit before this device came in hears what becomes of it.
        let trusted = row.inviter == Some(account)
            || account == self.profile.identity.device.account
            || step.db.spoke_elsewhere(&row.channel, (&account, joined_seq))?;
        if !trusted {
            return Ok(());
        }
        // What members parted at since is this device's own to judge.
        let base = rejoin.base_commit;
        let next = step.db.parting(&row.channel, base)?;
        // What was settled is forgotten; nobody parts where this device came in before it does.
        let undisputed = match next {
            Some(next) => next.made == Made::Applied && !next.told,
            None => base == joined_seq,
        };
        let here = base == row.base_commit || undisputed;
        if !here || !self.others_parted_before(step, (row, joined_seq))? {
            return Ok(());
        }
        // What it sent since it came in here, nobody else may have read.
        step.db.put_lost(&row.channel, joined_seq)?;
        self.want_rejoin(step, row, RejoinReason::Branch)
    }

    /// Whether somebody goes on, behind the Commit by which this device came in, from one before.
    /// (The founding Commit has none before it.)
    fn others_parted_before(
        &self,
        step: &Step<'_>,
        (row, joined_seq): (&ChannelRow, u64),
    ) -> Result<bool, ClientError> {
        let reasons = [ELSEWHERE, ON_ANOTHER_BRANCH];
        let kept = step.db.kept_behind(&row.channel, joined_seq, reasons)?;
        Ok(kept
            .iter()
            .filter_map(|payload| mls_header(payload).ok())
            .any(|header| (1..joined_seq).contains(&header.aad.base_commit)))
    }

    /// The server says that this device was removed by a Commit that expired before it was read: it
    /// asks to be taken in again, to hear whether it is out for good.
    pub(super) fn removed_unread(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        state: &ChannelState,
    ) -> Result<(), ClientError> {
        let unread = |seq: u64| row.last_commit < seq && seq <= row.cursor;
        let is_in = row.status.seals() || row.status == Status::Held;
        if is_in && state.removal_seq.is_some_and(unread) {
            self.want_rejoin(step, row, RejoinReason::Expired)?;
        }
        Ok(())
    }

    /// The server says that a device which asked was removed: it asks again, to hear whether it is
    /// out for good. One that is leaving, and has read its removal on a branch where it is not,
    /// is: at worst it leaves early. True if it did.
    pub(super) fn asks_whether_out(
        &self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        state: &ChannelState,
    ) -> Result<bool, ClientError> {
        let read = state.removal_seq.is_some_and(|seq| seq <= row.cursor);
        if row.status == Status::Leaving && read && self.strayed(step, row)? {
            self.out_meanwhile(step, row)?;
            return Ok(true);
        }
        let mut rejoin = step.db.rejoin(&row.channel)?;
        let since = step.now_ms.saturating_sub(rejoin.asked_ms);
        let refused = (REFUSED_MS..=REJOIN_STANDS_MS).contains(&since);
        let long_ago = since >= ASK_EVERY_MS && !refused;
        if state.removal_seq.is_some() && row.status == Status::Rejoining && long_ago {
            rejoin.asked_seq = 0;
            step.db.put_rejoin(&row.channel, &rejoin)?;
        }
        Ok(false)
    }

    /// The server takes this device's rejoin later: it is said again as it was, and what is waited
    /// for is shown. (A home that was put back knows of none that it made since.)
    pub(super) fn rejoin_waits(&self, step: &mut Step<'_>, work: &Work) -> Result<(), ClientError> {
        let Work::Statement(intent) = work else { return Ok(()) };
        let intent = step.db.intent(*intent)?.filter(|row| row.kind == IntentKind::Rejoin);
        let Some(intent) = intent else { return Ok(()) };
        let Some(mut row) = step.db.channel(&intent.channel)? else { return Ok(()) };
        let wanted = step.db.rejoin(&row.channel)?.wanted;
        let reason = wanted.and_then(|code| RejoinReason::from_code(code).ok());
        match (reason, row.status) {
            (Some(reason), Status::Rejoining) => self.explain(step, &mut row, (reason, SOON)),
            _ => Ok(()),
        }
    }

    /// A channel that an earlier version stopped for what it could not mend: this device asks now.
    pub(super) fn lost_long_ago(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        state: &ChannelState,
    ) -> Result<(), ClientError> {
        if row.status != Status::NeedsRepair || !Self::lives_on(state) {
            return Ok(());
        }
        let copy = row.reason.as_ref().is_some_and(|reason| reason.contains("copy"));
        let reason = if copy { RejoinReason::Copy } else { RejoinReason::Expired };
        self.want_rejoin(step, row, reason)
    }

    /// A copy taken while a channel was made or left: it was made, and this device comes back to
    /// it first.
    pub(super) fn interrupted(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
    ) -> Result<(), ClientError> {
        if !matches!(row.status, Status::Creating | Status::Leaving) {
            return Ok(());
        }
        self.rebase(step, row)?;
        for intent in self.open_of(step, (&row.channel, IntentKind::Create))? {
            step.db.set_intent(intent.id, (IntentState::Done, None))?;
        }
        row.status = Status::NeedsRepair;
        Ok(())
    }
}
