//! Members that made different things of one Commit: seeing it, saying what this device made of it,
//! and counting what others say.
//!
//! Everything follows from the log: what is read in the same order comes to the same outcome at
//! every member. What is done about the outcome is in `branch`.

use qpc_credential::{Certificate, Said, Statement, StatementBody, mls_header};
use qpc_mls::Applied;
use qpc_mls::engine::GroupView;
use qpc_proto::chain::sha256;
use qpc_proto::message::{DeviceRef, Entry};
use qpc_proto::roster::{Role, RosterChange};
use qpc_proto::{AccountId, DeviceId};

use super::ballot::{COUNTED_MS, Electorate, Leaf, Voter};
use super::commits::{ELSEWHERE, QUIET_MS};
use super::inbox::Progress;
use super::store::{ChannelRow, IntentKind, Made, Status, VerdictRow};
use super::take_back::is_of_account;
use super::{Machine, Step};
use crate::error::ClientError;

/// Devices that were in before and after a Commit: of this view, without those it adds or removes.
fn stayed(view: &GroupView, change: &RosterChange) -> Vec<Leaf> {
    let leaf = |certificate: &Certificate| Leaf {
        device: certificate.device(),
        key: certificate.entry.key,
    };
    let all = view.members.iter().map(|member| leaf(&member.certificate));
    let moved =
        |leaf: &Leaf| change.adds.contains(&leaf.device) || change.removes.contains(&leaf.device);
    all.filter(|leaf| !moved(leaf)).collect()
}

/// Those without the devices of accounts that have asked to leave: who goes decides for nobody.
fn stays_on(
    step: &Step<'_>,
    row: &ChannelRow,
    mut leaves: Vec<Leaf>,
) -> Result<Vec<Leaf>, ClientError> {
    for (account, _) in step.db.standing(&row.channel)? {
        leaves.retain(|leaf| leaf.device.account != account);
    }
    Ok(leaves)
}

/// How long it is remembered who gave a verdict on a Commit of another branch, in milliseconds of
/// accept time: the day that decides, and one in which they say that they lost.
const ELSEWHERE_MS: u64 = 2 * COUNTED_MS;

/// Nobody in particular.
const NOBODY: DeviceRef = DeviceRef { account: AccountId::ZERO, device: DeviceId::ZERO };

fn row_of(row: &ChannelRow, (entry, made): (&Entry, Made), electorate: Electorate) -> VerdictRow {
    VerdictRow {
        channel: row.channel,
        seq: entry.seq,
        commit: sha256(&entry.payload),
        base_commit: row.base_commit,
        made,
        until_ms: entry.accepted_at_ms.saturating_add(COUNTED_MS),
        electorate,
        said: false,
        told: false,
        withholds: false,
    }
}

impl Machine {
    /// Remembers a Commit in force; `view` is the group after it.
    pub(super) fn note_applied(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        (entry, applied, view): (&Entry, &Applied, &GroupView),
    ) -> Result<(), ClientError> {
        let leaves = stays_on(step, row, stayed(view, &applied.change))?;
        let electorate = Electorate { committer: applied.committer, leaves };
        let mut noted = row_of(row, (entry, Made::Applied), electorate);
        noted.base_commit = mls_header(&entry.payload).map_or(0, |header| header.aad.base_commit);
        Ok(step.db.put_verdict(&noted)?)
    }

    /// Remembers a Commit that is void here, in case others build on it.
    pub(super) fn note_void(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        entry: &Entry,
    ) -> Result<(), ClientError> {
        let nobody = Electorate { committer: NOBODY, leaves: Vec::new() };
        Ok(step.db.put_verdict(&row_of(row, (entry, Made::Void), nobody))?)
    }

    /// Remembers a Commit whose path this device can't open, and says so at once: its committer, at
    /// least, goes on from it.
    pub(super) fn note_unjudged(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        entry: &Entry,
    ) -> Result<(), ClientError> {
        let Ok(change) = RosterChange::decode(&entry.roster_change) else { return Ok(()) };
        let view = self.engine.view(step.db.0, &row.group)?;
        let read = (&entry.payload[..], entry.accepted_at_ms);
        let committer = self.engine.committer(step.db.0, &row.group, read)?.unwrap_or(NOBODY);
        let leaves = stays_on(step, row, stayed(&view, &change))?;
        let electorate = Electorate { committer, leaves };
        let mut noted = row_of(row, (entry, Made::Unjudged), electorate);
        noted.withholds =
            !change.removes.is_empty() && !self.repeats(step, row, (&view, &change))?;
        step.db.put_verdict(&noted)?;
        self.disagree(step, row, noted)
    }

    /// Has the removals of a Commit that this device can't open made again on its own branch, if it
    /// may: what is written here waits for that.
    fn repeats(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        (view, change): (&GroupView, &RosterChange),
    ) -> Result<bool, ClientError> {
        let own = self.profile.identity.device.account;
        let mut gone: Vec<AccountId> = change.removes.iter().map(|device| device.account).collect();
        gone.dedup();
        let stays = |device: &DeviceRef| gone.contains(&device.account);
        let whole = !stayed(view, change).iter().any(|leaf| stays(&leaf.device));
        if !whole || gone.contains(&own) || view.context.role(&own) != Role::Admin {
            return Ok(false);
        }
        let at = step.now_ms.saturating_add(QUIET_MS);
        self.intend(step, &row.channel, (IntentKind::Remove, &gone, at))?;
        Ok(true)
    }

    /// An entry builds on another Commit than this device's last one: where they part, this device
    /// says what it made of it.
    pub(super) fn parted(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        base: u64,
    ) -> Result<(), ClientError> {
        match step.db.parting(&row.channel, base)? {
            Some(noted) => self.disagree(step, row, noted),
            None => Ok(()),
        }
    }

    /// Members make different things of a Commit: the user is told, and this device says what it
    /// made of it, each once.
    fn disagree(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        mut noted: VerdictRow,
    ) -> Result<(), ClientError> {
        if row.status == Status::Rejoining || (noted.told && noted.said) {
            return Ok(());
        }
        if !std::mem::replace(&mut noted.told, true) {
            self.tell_of_split(step, row, &noted)?;
        }
        if !noted.said && noted.made != Made::Void && !self.own_voice_was_heard(step, &noted)? {
            self.say(step, row, &noted)?;
            noted.said = true;
        }
        Ok(step.db.mark_verdict(&noted)?)
    }

    fn tell_of_split(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        noted: &VerdictRow,
    ) -> Result<(), ClientError> {
        let about = noted.electorate.committer;
        if noted.made == Made::Void {
            let text = "others go on from a Commit that the group's rules do not allow here: \
                compare safety numbers and versions with them; to go on with them, ask an admin \
                to remove you and add you again";
            return self.alarm(step, Some((row.channel, noted.seq)), text.to_owned());
        }
        let text = if noted.made == Made::Applied {
            "some members could not open the last change of keys: the members' devices settle \
             which of the two they go on from"
        } else {
            "this device could not open a change of keys: the members' devices settle whether \
             they go on from it"
        };
        self.notice(step, row, (about, noted.seq, text.to_owned()))
    }

    /// Whether this device has no voice, or another device of its account spoke first. One without
    /// a voice speaks all the same while nobody did: others see that there is something to settle.
    fn own_voice_was_heard(
        &self,
        step: &Step<'_>,
        noted: &VerdictRow,
    ) -> Result<bool, ClientError> {
        let own = self.profile.identity.device;
        match noted.electorate.voter(&own) {
            Some(voter) => Ok(step.db.has_voted(noted, &voter)?),
            None => Ok(noted.made == Made::Applied),
        }
    }

    fn say(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        noted: &VerdictRow,
    ) -> Result<(), ClientError> {
        let said = Said {
            commit_seq: noted.seq,
            commit: noted.commit,
            applied: noted.made == Made::Applied,
        };
        let body = StatementBody::Verdict(said);
        let bytes = self.signed_statement(step, (&row.channel, body))?;
        let intent = self.intend(step, &row.channel, (IntentKind::Verdict, &[], 0))?;
        Ok(step.db.put_statement(intent, (&bytes, step.now_ms))?)
    }

    /// A verdict in the log. It counts if its signer was in before and after the Commit, and means
    /// the Commit that this device read.
    pub(super) fn verdict_entry(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (entry, statement, said): (&Entry, &Statement, &Said),
    ) -> Result<Progress, ClientError> {
        // The number is the signer's: what lies ahead is no Commit that this device read.
        let is_behind = said.commit_seq <= row.cursor;
        let noted =
            is_behind.then(|| step.db.verdict(&row.channel, said.commit_seq)).transpose()?;
        let judged = |noted: &VerdictRow| noted.made != Made::Elsewhere;
        let Some(noted) = noted.flatten().filter(judged) else {
            self.said_elsewhere(step, row, (entry, statement, said))?;
            return Ok(Progress::Advance);
        };
        let signer = statement.certificate.device();
        let key = &statement.certificate.entry.key;
        let was_in = match noted.made {
            Made::Applied | Made::Unjudged => noted.electorate.holds(&signer, key),
            Made::Void | Made::Elsewhere => {
                let members = self.engine.view(step.db.0, &row.group)?.members;
                members.iter().any(|leaf| leaf.is_of(&statement.certificate))
            }
        };
        if !was_in {
            return Ok(Progress::Advance);
        }
        if said.commit != noted.commit {
            let name = self.name_of(step, &signer.account)?;
            let text = format!(
                "{name} says it was shown another Commit there than this device: {name} or the \
                 server is lying"
            );
            self.alarm(step, Some((row.channel, noted.seq)), text)?;
            return Ok(Progress::Advance);
        }
        if let Some(voter) = noted.electorate.voter(&signer) {
            step.db.vote(&noted, (&voter, said.applied))?;
        }
        if said.applied != (noted.made == Made::Applied) {
            self.disagree(step, row, noted.clone())?;
        }
        let tally = step.db.tally(&noted)?;
        if let Some(outcome) = tally.majority(noted.electorate.size()) {
            self.settled(step, row, (&noted, outcome))?;
        }
        Ok(Progress::Advance)
    }

    /// A verdict on a Commit of a branch where this device is not decides nothing here. Should this
    /// device be taken in there, who gave it knows what becomes of that Commit, and this device
    /// does not.
    fn said_elsewhere(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        (entry, statement, said): (&Entry, &Statement, &Said),
    ) -> Result<(), ClientError> {
        let at = said.commit_seq;
        let around = (at.saturating_sub(1), at.saturating_add(1));
        let is_read = at <= row.cursor;
        if !is_read || !step.db.kept_between(&row.channel, around, [ELSEWHERE; 2])? {
            return Ok(());
        }
        let Some(members) = self.members_now(step, row)? else { return Ok(()) };
        if !members.iter().any(|leaf| is_of_account(leaf, &statement.certificate)) {
            return Ok(());
        }
        let nobody = Electorate { committer: NOBODY, leaves: Vec::new() };
        let first = VerdictRow {
            seq: at,
            commit: said.commit,
            until_ms: entry.accepted_at_ms.saturating_add(ELSEWHERE_MS),
            ..row_of(row, (entry, Made::Elsewhere), nobody)
        };
        let noted = match step.db.verdict(&row.channel, at)? {
            Some(noted) => noted,
            None => {
                step.db.put_verdict(&first)?;
                first
            }
        };
        let voter = Voter::Account(statement.certificate.device().account);
        Ok(step.db.vote(&noted, (&voter, said.applied))?)
    }

    /// An account asks to leave: from here on it has no voice in what is open, nor what it said
    /// before. Who voted and left must not have those who stay wait for nobody. Whoever reads the
    /// log counts alike: by who was in before and after each Commit, on whichever branch.
    pub(super) fn leaver_has_no_voice(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        leaver: &Certificate,
    ) -> Result<(), ClientError> {
        let device = leaver.device();
        for mut noted in step.db.open_verdicts(&row.channel)? {
            let was_in = noted.electorate.holds(&device, &leaver.entry.key);
            let voter = noted.electorate.voter(&device).filter(|_| was_in);
            // What was lost with one that is settled is dropped with it.
            let is_open = step.db.verdict(&row.channel, noted.seq)?.is_some();
            let Some(voter @ Voter::Account(_)) = voter.filter(|_| is_open) else { continue };
            noted.electorate.leaves.retain(|leaf| leaf.device.account != device.account);
            step.db.silence(&noted, &voter)?;
            if device.account == self.profile.identity.device.account {
                continue;
            }
            if let Some(outcome) = step.db.tally(&noted)?.majority(noted.electorate.size()) {
                self.settled(step, row, (&noted, outcome))?;
            }
        }
        Ok(())
    }

    /// An entry of this accept time is about to be read: verdicts of the day before count no more.
    pub(super) fn end_of_counting(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        entry: &Entry,
    ) -> Result<(), ClientError> {
        while let Some(noted) = step.db.overdue(&row.channel, entry.accepted_at_ms)? {
            let outcome = step.db.tally(&noted)?.at_the_end();
            self.settled(step, row, (&noted, outcome))?;
        }
        Ok(())
    }

    /// Why what is written here waits: a Commit that this device can't open removes somebody.
    pub(super) fn withheld_by_split(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<String>, ClientError> {
        let waits = step.db.withholds(&row.channel, step.now_ms)?;
        let text = "somebody may have been removed by a change that this device could not open: \
            what you write waits until that is settled, a day at most";
        Ok(waits.then(|| text.to_owned()))
    }
}
