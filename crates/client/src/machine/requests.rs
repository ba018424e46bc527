//! What is to be asked of the server now, derived from the database. Sealing happens here, so that
//! sealed bytes are on disk before they leave.

use qpc_proto::RequestId;
use qpc_proto::message::{
    ClaimKeyPackages, CommitRequest, CreateChannel, Cursor, Fetch, Request, Statement,
    inbox_channel,
};

use super::commits::{ELSEWHERE, NOT_FOR_US};
use super::store::{ChannelRow, IntentKind, IntentRow, IntentState, SealedCommitRow, Status};
use super::{Machine, Outgoing, Step, Work};
use crate::error::ClientError;
use crate::view::Event;

/// Entries read before they are acknowledged while other work is going on.
const ACK_EVERY: u64 = 64;

/// Lists of contacts asked for at a time: a large group brings many, and what the user looks up
/// comes under the same limit of the server.
const LISTS_AT_ONCE: usize = 4;

impl Machine {
    /// Everything that is due, each piece of work once at a time.
    ///
    /// # Errors
    /// [`ClientError`] when this device's database or keys refused: the transaction must not
    /// commit.
    pub fn requests(&mut self, step: &mut Step<'_>) -> Result<Vec<Outgoing>, ClientError> {
        let mut out = Vec::new();
        if !self.online || self.stopped.is_some() {
            return Ok(out);
        }
        self.note_time(step)?;
        self.ask_to_rejoin(step)?;
        self.repair_ended(step)?;
        self.survey(step)?;
        self.look_after(step)?;
        self.look_after_entries(step)?;
        self.account_requests(step, &mut out)?;
        self.intent_requests(step, &mut out)?;
        for row in step.db.channels()? {
            self.channel_requests(step, &mut out, &row)?;
        }
        self.ack_request(step, &mut out)?;
        self.note_caught_up(step, &out)?;
        Ok(out)
    }

    /// Whether work is neither in flight nor waiting.
    fn is_due(&self, work: &Work, now_ms: u64) -> bool {
        !self.in_flight.contains(work) && !self.paused(work, now_ms)
    }

    fn send(&mut self, out: &mut Vec<Outgoing>, outgoing: Outgoing) {
        self.in_flight.insert(outgoing.work.clone());
        out.push(outgoing);
    }

    fn account_requests(
        &mut self,
        step: &mut Step<'_>,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), ClientError> {
        let request_id = RequestId::ZERO;
        if self.list_due && self.is_due(&Work::ListChannels, step.now_ms) {
            let known = step.db.channels()?.into_iter().filter(|row| row.known_head > 0);
            self.listing = known.map(|row| row.channel).collect();
            self.list_due = false;
            let (work, request) = (Work::ListChannels, Request::ListChannels);
            self.send(out, Outgoing { work, request_id, request });
        }
        self.list_requests(step, out);
        if self.is_due(&Work::Renew, step.now_ms)
            && let Some((request_id, request)) = self.next_renewal(step)?
        {
            self.send(out, Outgoing { work: Work::Renew, request_id, request });
        }
        if self.is_due(&Work::Upload, step.now_ms)
            && let Some((request_id, request)) = self.next_upload(step)?
        {
            self.send(out, Outgoing { work: Work::Upload, request_id, request });
        } else if self.status_due && self.is_due(&Work::KeyPackageStatus, step.now_ms) {
            let (work, request) = (Work::KeyPackageStatus, Request::KeyPackageStatus);
            self.send(out, Outgoing { work, request_id, request });
        }
        let wanted = self.lookups.iter().filter(|(_, refused)| refused.is_none());
        let names: Vec<String> = wanted.map(|(name, _)| name.clone()).collect();
        for name in names {
            let work = Work::Lookup(name.clone());
            if self.is_due(&work, step.now_ms) {
                self.send(out, Outgoing { work, request_id, request: Request::Lookup(name) });
            }
        }
        Ok(())
    }

    /// Newest device lists: the own one, and those of contacts of which somebody spoke.
    fn list_requests(&mut self, step: &Step<'_>, out: &mut Vec<Outgoing>) {
        let request_id = RequestId::ZERO;
        if self.own_due && self.is_due(&Work::OwnDevices, step.now_ms) {
            self.own_due = false;
            let request = Request::DeviceList(self.profile.identity.device.account);
            self.send(out, Outgoing { work: Work::OwnDevices, request_id, request });
        }
        let asked = self.in_flight.iter().filter(|work| matches!(work, Work::Devices(_))).count();
        let mut room = LISTS_AT_ONCE.saturating_sub(asked);
        let spoken_of: Vec<_> = self.spoken_of.keys().copied().collect();
        for account in spoken_of {
            let work = Work::Devices(account);
            if room > 0 && self.is_due(&work, step.now_ms) {
                room = room.saturating_sub(1);
                if let Some(spoken) = self.spoken_of.get_mut(&account) {
                    spoken.asked = spoken.number;
                }
                let request = Request::DeviceList(account);
                self.send(out, Outgoing { work, request_id, request });
            }
        }
    }

    fn intent_requests(
        &mut self,
        step: &mut Step<'_>,
        out: &mut Vec<Outgoing>,
    ) -> Result<(), ClientError> {
        for intent in step.db.open_intents()? {
            if intent.state == IntentState::Claiming && intent.not_before_ms <= step.now_ms {
                if !self.may_claim(step, &intent)? {
                    continue;
                }
                let devices = step.db.intent_devices(intent.id)?;
                for (account, request_id, claimed) in step.db.intent_accounts(intent.id)? {
                    let work = Work::Claim(intent.id, account);
                    if !claimed && self.may_claim_more() && self.is_due(&work, step.now_ms) {
                        let devices = devices.clone();
                        let claim = ClaimKeyPackages { account, devices };
                        let request = Request::ClaimKeyPackages(claim);
                        self.send(out, Outgoing { work, request_id, request });
                    }
                }
            } else if intent.kind.is_statement() {
                let work = Work::Statement(intent.id);
                if self.is_due(&work, step.now_ms)
                    && let Some(statement) = step.db.statement(intent.id)?
                {
                    let (channel, statement) = (intent.channel, statement.into());
                    let request = Request::Statement(Statement { channel, statement });
                    let request_id = intent.request_id;
                    self.send(out, Outgoing { work, request_id, request });
                }
            }
        }
        Ok(())
    }

    /// Whether KeyPackages are of use: nobody is added to a channel that this device is out of.
    fn may_claim(&self, step: &Step<'_>, intent: &IntentRow) -> Result<bool, ClientError> {
        if !matches!(intent.kind, IntentKind::Sibling | IntentKind::Revoke) {
            return Ok(true);
        }
        let status = step.db.channel(&intent.channel)?.map(|row| row.status);
        match status {
            Some(Status::Leaving) if intent.kind == IntentKind::Revoke => Ok(true),
            Some(Status::Left | Status::Leaving | Status::Failed | Status::Closed) | None => {
                step.db.set_intent(intent.id, (IntentState::Done, None))?;
                Ok(false)
            }
            Some(status) => Ok(status.seals()),
        }
    }

    fn channel_requests(
        &mut self,
        step: &mut Step<'_>,
        out: &mut Vec<Outgoing>,
        row: &ChannelRow,
    ) -> Result<(), ClientError> {
        let fetch = Work::Fetch(row.channel);
        let behind = row.status.reads() && !row.in_step() && self.compared;
        if behind && self.is_due(&fetch, step.now_ms) {
            let request =
                Request::Fetch(Fetch { channel: row.channel, after_seq: row.cursor, bytes_max: 0 });
            let request_id = RequestId::ZERO;
            self.send(out, Outgoing { work: fetch, request_id, request });
        }
        let quiet = row.quiet_until_ms > step.now_ms
            || !row.in_step()
            || !self.compared
            || self.unlisted.contains(&row.channel)
            || self.unvouched(step, row)?.is_some();
        let commit = self.commit_request(step, (row, quiet), out)?;
        let work = Work::Outbox(row.channel);
        if self.is_due(&work, step.now_ms) {
            let waits = quiet || commit || self.withheld(step, row)?.is_some();
            let may_seal = row.status.seals() && !waits;
            if let Some(request) = self.next_batch(step, row, may_seal)? {
                self.send(out, Outgoing { work, request_id: RequestId::ZERO, request });
            }
        }
        Ok(())
    }

    /// Sends the pending Commit, or seals the next one. True while messages must wait for a Commit:
    /// one is on its way, or a removal is wanted.
    fn commit_request(
        &mut self,
        step: &mut Step<'_>,
        (row, quiet): (&ChannelRow, bool),
        out: &mut Vec<Outgoing>,
    ) -> Result<bool, ClientError> {
        let work = Work::Commit(row.channel);
        let sealed = match step.db.sealed_commit(&row.channel)? {
            Some(sealed) => Some(sealed),
            None => {
                let Some(intent) = self.next_intent(step, row)? else { return Ok(false) };
                let removal = matches!(intent.kind, IntentKind::Remove | IntentKind::Revoke);
                let messages = step.db.outbox_len(Some(&row.channel))? > 0
                    && !self.paused(&Work::Outbox(row.channel), step.now_ms)
                    && self.withheld(step, row)?.is_none();
                let first = intent.kind == IntentKind::Create || (intent.attempts == 0 && removal);
                let urgent = removal || self.goes_first(step, (&intent, row))?;
                let blocked = self.in_flight.contains(&Work::Outbox(row.channel))
                    || (messages && !first && !urgent);
                if quiet || blocked || !self.is_due(&work, step.now_ms) {
                    return Ok(removal);
                }
                self.seal_commit(step, (&intent, row))?
            }
        };
        let Some(sealed) = sealed else { return Ok(false) };
        let message_id = sealed.bundle.message_id;
        if self.accepted_commits.contains(&message_id) {
            return Ok(true);
        }
        if self.is_due(&work, step.now_ms) {
            let outgoing = self.bundle_request(step, row, sealed)?;
            self.committing.insert(row.channel, message_id);
            self.send(out, outgoing);
            return Ok(true);
        }
        // Refused for now: what needs not wait for what it changes goes on without it.
        let kind = step.db.intent(sealed.intent)?.map(|intent| intent.kind);
        let first =
            matches!(kind, Some(IntentKind::Create | IntentKind::Remove | IntentKind::Revoke));
        Ok(first || !self.paused(&work, step.now_ms))
    }

    /// The operation whose turn it is, of those that this device may carry out as it stands.
    fn next_intent(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<IntentRow>, ClientError> {
        let ready = |intent: &IntentRow| {
            intent.state == IntentState::Ready
                && !intent.kind.is_statement()
                && intent.not_before_ms <= step.now_ms
        };
        let mut open = step.db.open_in(&row.channel)?;
        open.retain(ready);
        // What a revoked device must not read waits for its removal; any Commit is an update, too.
        open.sort_by_key(|intent| {
            (intent.kind != IntentKind::Revoke, intent.kind == IntentKind::Update)
        });
        for intent in open {
            if self.may_commit(step, row, intent.kind)? {
                return Ok(Some(intent));
            }
        }
        Ok(None)
    }

    /// Who is leaving still removes others who are, and takes back who asks for it: somebody must.
    /// On a branch that the others have left it takes nobody back.
    fn may_commit(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        kind: IntentKind,
    ) -> Result<bool, ClientError> {
        if row.status.seals() || kind == IntentKind::Create {
            return Ok(true);
        }
        let clears = matches!(kind, IntentKind::Remove | IntentKind::Revoke)
            || (kind == IntentKind::TakeBack && !self.strayed(step, row)?);
        Ok(clears && row.status == Status::Leaving)
    }

    fn bundle_request(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        sealed: SealedCommitRow,
    ) -> Result<Outgoing, ClientError> {
        let intent = step.db.intent(sealed.intent)?;
        let (channel, bundle) = (row.channel, sealed.bundle);
        let (request_id, request) = match intent {
            Some(intent) if intent.kind == IntentKind::Create => {
                let ended = step.db.replaced_by(&channel)?;
                if let Some((old, _)) = &ended {
                    // The reset is this device's last word there, under this id.
                    step.db.note_sealed(old, (&bundle.message_id, step.now_ms))?;
                }
                let reset = ended.and_then(|(_, ended)| ended.statement).map(Into::into);
                let (kind, retention_ms) = (row.kind, row.retention_ms);
                let create = CreateChannel { channel, kind, bundle, retention_ms, reset };
                (intent.request_id, Request::CreateChannel(create))
            }
            Some(_) | None => (RequestId::ZERO, Request::Commit(CommitRequest { channel, bundle })),
        };
        Ok(Outgoing { work: Work::Commit(channel), request_id, request })
    }

    /// Acknowledges what is durably read: in batches while busy, all of it when nothing else goes
    /// on.
    fn ack_request(&mut self, step: &Step<'_>, out: &mut Vec<Outgoing>) -> Result<(), ClientError> {
        if !self.is_due(&Work::Ack, step.now_ms) {
            return Ok(());
        }
        let busy = !out.is_empty() || !self.in_flight.is_empty();
        let cursors = self.unacked(step, if busy { ACK_EVERY } else { 1 })?;
        if !cursors.is_empty() {
            self.acking.clone_from(&cursors);
            let (work, request) = (Work::Ack, Request::Ack(cursors));
            self.send(out, Outgoing { work, request_id: RequestId::ZERO, request });
        }
        Ok(())
    }

    fn unacked(&self, step: &Step<'_>, at_least: u64) -> Result<Vec<Cursor>, ClientError> {
        let mut cursors = Vec::new();
        for row in step.db.channels()? {
            // One that the server may not know would have all the others refused.
            let current = row.status.reads() || row.status == Status::Left;
            let acked = self.acked.get(&row.channel).copied().unwrap_or(0);
            let behind = row.known_head > 0 && row.cursor >= acked.saturating_add(at_least);
            if !current || !behind || cursors.len() >= qpc_proto::limits::CURSORS_MAX {
                continue;
            }
            let seq = self.read_for_good(step, &row)?;
            if seq >= acked.saturating_add(at_least) {
                cursors.push(Cursor { channel: row.channel, seq });
            }
        }
        Ok(cursors)
    }

    /// How far a channel never has to be read again: behind a Commit that may be in force for
    /// others, a Welcome may take this device back.
    fn read_for_good(&self, step: &Step<'_>, row: &ChannelRow) -> Result<u64, ClientError> {
        if row.status == Status::Rejoining {
            return Ok(row.base_commit);
        }
        Ok(if self.strayed(step, row)? { row.base_commit } else { row.cursor })
    }

    /// Whether Commits came since the base of this device that it could not apply, and that others
    /// may have.
    pub(super) fn strayed(&self, step: &Step<'_>, row: &ChannelRow) -> Result<bool, ClientError> {
        let way = (row.base_commit, row.cursor.saturating_add(1));
        Ok(row.base_commit != row.last_commit
            && step.db.kept_between(&row.channel, way, [ELSEWHERE, NOT_FOR_US])?)
    }

    /// Says once a connection that everything the server had at login has been read.
    fn note_caught_up(&mut self, step: &mut Step<'_>, out: &[Outgoing]) -> Result<(), ClientError> {
        if self.caught_up
            || self.list_due
            || self.in_flight.contains(&Work::ListChannels)
            || out.iter().any(|o| matches!(o.work, Work::Fetch(_)))
        {
            return Ok(());
        }
        let inbox = inbox_channel(&self.profile.identity.device.device);
        let behind = step.db.channels()?.iter().any(|row| {
            row.status.reads()
                && !row.in_step()
                && (row.channel == inbox || row.status != Status::Held)
        });
        if !behind {
            self.caught_up = true;
            step.events.push(Event::CaughtUp);
        }
        Ok(())
    }
}
