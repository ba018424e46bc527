//! Commits in log order: own ones are put in force when the log reaches them, others' are judged;
//! what a member's device makes of them shows in the base of what it sends next.

use std::collections::BTreeSet;

use qpc_credential::mls_header;
use qpc_mls::engine::{CommitEntry, GroupView, MemberLeaf};
use qpc_mls::{Applied, MlsError, Unjudged, Verdict};
use qpc_proto::AccountId;
use qpc_proto::message::Entry;

use super::evidence::{OPENED, UNOPENED};
use super::inbox::Progress;
use super::store::{ChannelRow, IntentState, SealedCommitRow, Status};
use super::{Machine, Step};
use crate::error::ClientError;

/// Why a Commit is passed over that may be in force for others: this device may have strayed.
pub(super) const ELSEWHERE: &str = "a Commit on another branch of the group";
/// As above.
pub(super) const NOT_FOR_US: &str = "a Commit whose keys were not made for this device";
/// How long nothing is sent after a Commit whose path this device cannot open, in milliseconds.
pub(super) const QUIET_MS: u64 = 30_000;

fn of(entry: &Entry) -> CommitEntry<'_> {
    CommitEntry {
        payload: &entry.payload,
        roster_change: &entry.roster_change,
        statements: &entry.statements,
        accepted_at_ms: entry.accepted_at_ms,
    }
}

/// Why what waited in a channel ends with a removal.
pub(super) const OUT: &str = "this device is no longer a member";

impl Machine {
    pub(super) fn commit_entry(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        entry: &Entry,
    ) -> Result<Progress, ClientError> {
        let sealed = step.db.sealed_commit(&row.channel)?;
        let own = sealed.filter(|sealed| {
            sealed.bundle.message_id == entry.message_id && sealed.bundle.payload == entry.payload
        });
        let progress = match own {
            Some(sealed) => self.own_commit(step, row, (entry, &sealed))?,
            None => self.other_commit(step, row, entry)?,
        };
        if matches!(progress, Progress::Advance) {
            row.last_commit = entry.seq;
        }
        Ok(progress)
    }

    fn own_commit(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (entry, sealed): (&Entry, &SealedCommitRow),
    ) -> Result<Progress, ClientError> {
        let verdict = self.engine.judge_pending(step.db.0, &row.group, &of(entry))?;
        step.db.drop_sealed_commit(&row.channel)?;
        self.accepted_commits.remove(&sealed.bundle.message_id);
        match verdict {
            Verdict::Applied(applied) => {
                self.engine.merge_pending(step.db.0, &row.group)?;
                row.base_commit = entry.seq;
                if row.status == Status::Creating {
                    row.status = Status::Active;
                    self.is_in(step, (&row.channel, entry.seq))?;
                    step.db.put_channel(row)?;
                    self.took_place(step, &row.channel)?;
                }
                self.commit_done(step, sealed)?;
                self.in_force(step, row, (entry, &applied))?;
                self.leaf_renewed(step, row)?;
            }
            Verdict::Void(_) | Verdict::Unjudged(_) => {
                self.engine.clear_pending(step.db.0, &row.group)?;
                let reason = "the group's rules do not allow it";
                if row.status == Status::Creating {
                    (row.status, row.reason) = (Status::Failed, Some(reason.to_owned()));
                }
                self.fail_intent(step, (sealed.intent, reason))?;
                if !sealed.bundle.statements.is_empty() {
                    self.carried_in_vain(step, row, sealed)?;
                }
            }
        }
        Ok(Progress::Advance)
    }

    fn other_commit(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        entry: &Entry,
    ) -> Result<Progress, ClientError> {
        let base = mls_header(&entry.payload).ok().map(|header| header.aad);
        let Some(aad) = base else {
            return self.skip(step, row, (entry, "a Commit that does not parse"));
        };
        if aad.base_commit != row.base_commit {
            self.compare_view(step, row, (entry, &aad, UNOPENED))?;
            self.parted(step, row, aad.base_commit)?;
            self.named_elsewhere(step, row, entry)?;
            return self.skip(step, row, (entry, ELSEWHERE));
        }
        match self.engine.judge(step.db.0, &row.group, &of(entry))? {
            Verdict::Applied(applied) => {
                self.rebase(step, row)?;
                row.base_commit = entry.seq;
                self.compare_view(step, row, (entry, &aad, OPENED))?;
                self.confirm_join(step, row, &applied.committer.account)?;
                self.in_force(step, row, (entry, &applied))?;
                self.tree_changed(step, row, &applied.change)?;
                Ok(Progress::Advance)
            }
            Verdict::Void(reason) => {
                self.compare_view(step, row, (entry, &aad, UNOPENED))?;
                self.note_void(step, row, entry)?;
                let text = format!("a void Commit ({}): skipped by everyone", reason.as_str());
                self.skip(step, row, (entry, &text))
            }
            Verdict::Unjudged(Unjudged::Path) => {
                self.compare_view(step, row, (entry, &aad, UNOPENED))?;
                row.quiet_until_ms = step.now_ms.saturating_add(QUIET_MS);
                self.note_unjudged(step, row, entry)?;
                self.skip(step, row, (entry, NOT_FOR_US))
            }
            Verdict::Unjudged(Unjudged::Clock) => Ok(Progress::Hold(
                "a Commit that this machine's clock does not allow yet: check the clock".into(),
            )),
            Verdict::Unjudged(Unjudged::Local) => Ok(Progress::Hold(
                "a Commit that this device cannot judge; it is tried again".into(),
            )),
        }
    }

    /// Passes over a Commit that is not in force here; an own one that waits is sealed anew behind
    /// it.
    pub(super) fn skip(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (entry, reason): (&Entry, &str),
    ) -> Result<Progress, ClientError> {
        self.keep(step, row, (entry, reason))?;
        self.rebase(step, row)?;
        Ok(Progress::Advance)
    }

    /// Another Commit came first: the own one is dropped and sealed anew later.
    pub(super) fn rebase(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
    ) -> Result<(), ClientError> {
        let Some(sealed) = step.db.sealed_commit(&row.channel)? else { return Ok(()) };
        step.db.drop_sealed_commit(&row.channel)?;
        self.accepted_commits.remove(&sealed.bundle.message_id);
        match self.engine.clear_pending(step.db.0, &row.group) {
            Ok(()) | Err(MlsError::UnknownGroup) => {}
            Err(error) => return Err(error.into()),
        }
        step.db.set_intent(sealed.intent, (IntentState::Ready, None))?;
        let request_id = qpc_proto::RequestId(step.random());
        Ok(step.db.retry_intent(sealed.intent, &request_id)?)
    }

    /// What a Commit in force means for the channel.
    fn in_force(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (entry, applied): (&Entry, &Applied),
    ) -> Result<(), ClientError> {
        self.tell_context(step, row, (entry, applied))?;
        self.settle_rejoins(step, row, &applied.change)?;
        if applied.self_removed && applied.change.adds.contains(&self.profile.identity.device) {
            return self.taken_out_and_in(step, row, entry.seq);
        }
        if applied.self_removed {
            row.status = Status::Left;
            row.reason = None;
            self.refuse_outbox(step, row, OUT)?;
            self.give_up_changes(step, row, OUT)?;
            self.notice(step, row, (applied.committer, entry.seq, "you are out".into()))?;
            return Ok(());
        }
        self.surveyed.remove(&row.channel);
        let view = self.engine.view(step.db.0, &row.group)?;
        self.note_applied(step, row, (entry, applied, &view))?;
        let at = (&row.channel, entry.accepted_at_ms);
        self.heard_commit(step, at, (&applied.committer, &applied.change))?;
        self.end_leave(step, row)?;
        self.added(step, row, (entry, applied, &view))?;
        for device in &applied.change.removes {
            let stays =
                view.members.iter().any(|m| m.certificate.device().account == device.account);
            if !stays {
                step.db.drop_standing(&row.channel, &device.account)?;
                // Who comes back later must not be removed for what is done.
                step.db.drop_removals(&row.channel, &device.account)?;
                let name = self.name_of(step, &device.account)?;
                let text = format!("{name} is out");
                self.notice(step, row, (*device, entry.seq, text))?;
            } else if !applied.change.adds.iter().any(|added| added.account == device.account) {
                let name = self.name_of(step, &device.account)?;
                let text = format!("a device of {name} is out");
                self.notice(step, row, (*device, entry.seq, text))?;
            }
        }
        Ok(())
    }

    /// Who came in by a Commit: accounts, or devices of those that are in.
    fn added(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        (entry, applied, view): (&Entry, &Applied, &GroupView),
    ) -> Result<(), ClientError> {
        let (adds, removes) = (&applied.change.adds, &applied.change.removes);
        let leaves = view.members.iter().filter(|leaf| adds.contains(&leaf.certificate.device()));
        let leaves: Vec<_> = leaves.map(|leaf| &leaf.certificate).collect();
        self.meet_leaves(step, &leaves)?;
        let mut told = BTreeSet::new();
        for certificate in leaves {
            let device = certificate.device();
            let stood = |other: &MemberLeaf| {
                let other = other.certificate.device();
                other.account == device.account && !adds.contains(&other)
            };
            let name = self.name_of(step, &device.account)?;
            let text = if removes.contains(&device) {
                format!("{name} came back with a device that had lost its place")
            } else if removes.iter().any(|gone| gone.account == device.account) {
                format!("{name} is here with another device")
            } else if view.members.iter().any(stood) {
                format!("{name} is here with one more device")
            } else {
                format!("{name} joined")
            };
            if told.insert((device.account, text.clone())) {
                self.notice(step, row, (device, entry.seq, text))?;
            }
        }
        Ok(())
    }

    /// Who is leaving and has nobody left to commit the removal is out; the group ends with them. A
    /// Commit on its way may still bring somebody in. What other devices of the account wrote
    /// before the leave is read first: up to the leave itself, which any of them may have said.
    ///
    /// So is who has said it and whose branch the members gave up: they carry it out elsewhere.
    pub(super) fn end_leave(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
    ) -> Result<(), ClientError> {
        if row.status != Status::Leaving || step.db.sealed_commit(&row.channel)?.is_some() {
            return Ok(());
        }
        let own = self.profile.identity.device;
        let view = self.engine.view(step.db.0, &row.group)?;
        let alone = view.members.iter().all(|m| m.certificate.device().account == own.account);
        let siblings = view.members.iter().any(|m| m.certificate.device() != own);
        let of_own = |(account, _): &(AccountId, Vec<u8>)| *account == own.account;
        let said = step.db.standing(&row.channel)?.iter().any(of_own);
        let given_up = step.db.lost(&row.channel)?.is_some();
        if said && given_up || alone && (said || !siblings) {
            row.status = Status::Left;
            self.give_up_changes(step, row, "you left")?;
        }
        Ok(())
    }
}
