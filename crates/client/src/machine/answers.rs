//! What the server's answers mean. A refusal for good is shown; one that may pass makes the work
//! wait.

use std::collections::BTreeSet;

use qpc_proto::message::{Accepted, ChannelKind, Identity, Page, Response};
use qpc_proto::{AccountId, ChannelId, Digest, ErrorBody, ErrorCode, ErrorDetail};

use super::store::{IntentKind, IntentState, Status};
use super::{Failure, Machine, Step, Work};
use crate::error::ClientError;

/// A log that goes no further than it was read, though more was heard of, is asked for so often by
/// the usual pauses.
const ATTEMPTS_AT_THE_END: u32 = 8;
/// Then once in this time, in milliseconds.
const AT_THE_END_MS: u64 = 1_800_000;

impl Machine {
    pub(super) fn answer(
        &mut self,
        step: &mut Step<'_>,
        work: Work,
        result: Result<Response, Failure>,
    ) -> Result<(), ClientError> {
        let response = match result {
            Ok(response) => response,
            Err(Failure::Lost) => {
                self.due_again(&work);
                return Ok(());
            }
            Err(Failure::Refused(body)) => return self.refused(step, work, body),
        };
        if !matches!(work, Work::Fetch(_) | Work::Outbox(_)) {
            self.pauses.remove(&work);
        }
        let excused = self.take_excuses(&work);
        match (work, response) {
            (Work::ListChannels, Response::Channels(channels)) => self.listed(step, &channels),
            (Work::KeyPackageStatus, Response::KeyPackageStatus(status)) => {
                self.told_key_packages(&status);
                self.refill(step, &status)
            }
            (Work::Upload, Response::Uploaded(_)) => self.uploaded(step),
            (Work::OwnDevices, Response::Devices(devices)) => {
                self.own_answer(step, (&devices, &excused))
            }
            (Work::Renew, Response::Done) => self.renewal_answered(step),
            (Work::Devices(account), Response::Devices(devices)) => {
                self.devices_answer(step, (&account, &excused), &devices.identity)
            }
            (Work::Lookup(name), Response::Identity(identity)) => {
                let excused = excused.contains(&identity.account);
                self.found(step, (&name, excused), &identity)
            }
            (Work::Claim(intent, account), Response::Claims(claims)) => {
                let excused = excused.contains(&account);
                self.claimed(step, (intent, account, excused), &claims)
            }
            (Work::Fetch(channel), Response::Page(page)) => self.fetched(step, (channel, page)),
            (Work::Commit(channel), Response::Accepted(accepted)) => {
                self.committed(step, (&channel, &accepted))
            }
            (Work::Outbox(channel), Response::Enqueued(answer)) => {
                self.enqueued(step, &channel, answer)
            }
            (Work::Statement(intent), Response::Accepted(accepted)) => {
                self.stated(step, (intent, &accepted))
            }
            (Work::Ack, Response::Done) => {
                self.note_acked();
                Ok(())
            }
            (work, _) => {
                let text = "the server answered something else than was asked";
                self.alarm(step, None, text.to_owned())?;
                self.pause(step, (work, None));
                Ok(())
            }
        }
    }

    /// What was asked has no answer: what follows from no row is asked again.
    fn due_again(&mut self, work: &Work) {
        self.list_due |= *work == Work::ListChannels;
        self.own_due |= *work == Work::OwnDevices;
        if let Work::Outbox(channel) = work {
            self.batches.remove(channel);
        }
    }

    /// Accounts of which a newer list came since this was asked.
    fn take_excuses(&mut self, work: &Work) -> BTreeSet<AccountId> {
        let of_work = self.excused.iter().filter(|(asked, _)| asked == work);
        let accounts = of_work.map(|(_, account)| *account).collect();
        self.excused.retain(|(asked, _)| asked != work);
        accounts
    }

    /// A page that was asked for; one that brings nothing on is not asked for again at once.
    fn fetched(
        &mut self,
        step: &mut Step<'_>,
        (channel, page): (ChannelId, Page),
    ) -> Result<(), ClientError> {
        let cursor = |step: &Step<'_>| -> Result<_, ClientError> {
            Ok(step.db.channel(&channel)?.map(|row| row.cursor))
        };
        let (before, head_seq) = (cursor(step)?, page.head_seq);
        self.page(step, page)?;
        let work = Work::Fetch(channel);
        if cursor(step)? == before && !self.paused(&work, step.now_ms) {
            let attempts = self.pause(step, (work.clone(), None));
            // The server shows no more to a device that it takes for removed, on whatever branch:
            // what it may read again is pushed to it.
            let is_end = before.is_some_and(|read| head_seq <= read);
            if is_end && attempts >= ATTEMPTS_AT_THE_END {
                self.pause(step, (work, Some(AT_THE_END_MS)));
            }
        }
        Ok(())
    }

    fn note_acked(&mut self) {
        for cursor in std::mem::take(&mut self.acking) {
            self.acked.insert(cursor.channel, cursor.seq);
        }
    }

    fn found(
        &mut self,
        step: &mut Step<'_>,
        (name, excused): (&str, bool),
        identity: &Identity,
    ) -> Result<(), ClientError> {
        self.lookups.remove(name);
        match self.check_identity(step, (&identity.account, excused), identity) {
            Ok(verified) if verified.list.name == name => Ok(()),
            Ok(_) => {
                let text = format!("the server answered for {name} with somebody else");
                self.lookup_failed(step, (name, text))
            }
            Err(ClientError::Alarm(text)) => self.lookup_failed(step, (name, text)),
            Err(error) => Err(error),
        }
    }

    fn lookup_failed(
        &mut self,
        step: &mut Step<'_>,
        (name, text): (&str, String),
    ) -> Result<(), ClientError> {
        let body = ErrorBody::new(ErrorCode::IdentityInvalid, text.clone());
        self.lookups.insert(name.to_owned(), Some(body));
        self.alarm(step, None, text)
    }

    fn committed(
        &mut self,
        step: &mut Step<'_>,
        (channel, accepted): (&ChannelId, &Accepted),
    ) -> Result<(), ClientError> {
        let sent = self.committing.remove(channel);
        // The log may have shown it before the answer came.
        let sealed = step.db.sealed_commit(channel)?;
        let sealed = sealed.filter(|sealed| Some(sealed.bundle.message_id) == sent);
        if let Some(mut row) = step.db.channel(channel)? {
            self.contradicts(step, &mut row, (accepted.seq, &accepted.head))?;
            if let Some(sealed) = sealed {
                self.accepted_commits.insert(sealed.bundle.message_id);
                self.commit_in_gap(step, &mut row, (accepted, &sealed))?;
            }
            row.known_head = row.known_head.max(accepted.seq);
            step.db.put_channel(&row)?;
        }
        Ok(())
    }

    fn stated(
        &self,
        step: &mut Step<'_>,
        (intent, accepted): (u64, &Accepted),
    ) -> Result<(), ClientError> {
        step.db.set_intent(intent, (IntentState::Done, None))?;
        let Some(intent) = step.db.intent(intent)? else { return Ok(()) };
        if let Some(mut row) = step.db.channel(&intent.channel)? {
            self.contradicts(step, &mut row, (accepted.seq, &accepted.head))?;
            row.known_head = row.known_head.max(accepted.seq);
            if intent.kind == IntentKind::Rejoin {
                self.asked_to_rejoin(step, &mut row)?;
            }
            step.db.put_channel(&row)?;
        }
        Ok(())
    }

    fn refused(
        &mut self,
        step: &mut Step<'_>,
        work: Work,
        body: ErrorBody,
    ) -> Result<(), ClientError> {
        self.take_excuses(&work);
        if matches!(body.code, ErrorCode::DeviceRevoked | ErrorCode::AccountSuspended) {
            self.due_again(&work);
            self.stop(step, body.code);
            return Ok(());
        }
        if body.code == ErrorCode::ChannelClosed
            && let Work::Outbox(channel) | Work::Commit(channel) = &work
        {
            return self.channel_closed(step, channel, &body);
        }
        match &work {
            Work::Lookup(name) if !body.code.retryable() => {
                self.lookups.insert(name.clone(), Some(body));
                Ok(())
            }
            Work::Commit(channel) => self.commit_refused(step, *channel, body),
            Work::Claim(intent, account) => self.claim_refused(step, (*intent, *account), body),
            Work::Fetch(channel) if !body.code.retryable() => {
                self.fetch_refused(step, channel, &body)
            }
            Work::Upload if !body.code.retryable() => {
                // These packages will never be taken; others are made.
                self.status_due = true;
                self.pause(step, (Work::KeyPackageStatus, None));
                self.uploaded(step)
            }
            Work::Renew if !body.code.retryable() => self.renewal_answered(step),
            Work::Statement(intent) if !body.code.retryable() => match step.db.intent(*intent)? {
                Some(row) if row.kind == IntentKind::Rejoin => {
                    self.rejoin_refused(step, &row, &body)
                }
                _ => self.fail_intent(step, (*intent, body.code.as_str())),
            },
            Work::Outbox(channel) if !body.code.retryable() => {
                self.batch_refused(step, channel, &body)
            }
            Work::Devices(account) if !body.code.retryable() => {
                self.spoken_of.remove(account);
                Ok(())
            }
            Work::ListChannels
            | Work::OwnDevices
            | Work::Renew
            | Work::Devices(_)
            | Work::KeyPackageStatus
            | Work::Upload
            | Work::Lookup(_)
            | Work::Fetch(_)
            | Work::Outbox(_)
            | Work::Statement(_)
            | Work::Ack => {
                self.due_again(&work);
                self.rejoin_waits(step, &work)?;
                self.pause(step, (work, body.retry_after_ms));
                Ok(())
            }
        }
    }

    /// The whole batch was refused, so its first message is what the refusal is about.
    fn batch_refused(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        body: &ErrorBody,
    ) -> Result<(), ClientError> {
        let ids = self.batches.remove(channel).unwrap_or_default();
        if let Some(id) = ids.first() {
            step.db.refuse(*id, body.code.as_str())?;
            self.show_own(step, *id)?;
        }
        Ok(())
    }

    fn fetch_refused(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        body: &ErrorBody,
    ) -> Result<(), ClientError> {
        let Some(mut row) = step.db.channel(channel)? else { return Ok(()) };
        let (first, boundary) = match body.detail {
            Some(ErrorDetail::Expired(range)) => (range.first_available, range.boundary_head),
            _ => (0, Digest::ZERO),
        };
        if body.code == ErrorCode::GapExpired && first > row.cursor {
            if row.kind == ChannelKind::Inbox {
                let count = first.saturating_sub(row.cursor).saturating_sub(1);
                // Nothing in it builds on what is lost: it is read on where it begins now.
                self.note_expired(step, &row.channel, (row.cursor, first))?;
                (row.cursor, row.head) = (first.saturating_sub(1), boundary);
                step.db.put_channel(&row)?;
                self.lost_invitations(step, &row)?;
                self.look_for_lost(step, &row)?;
                let text = format!("{count} invitations expired before this device read them");
                return self.alarm(step, Some((row.channel, first)), text);
            }
            // What expired may have been the end of the channel: only the list says so now.
            self.list_due = true;
            return self.pass_gap(step, &mut row, (first, boundary));
        }
        row.status = Status::NeedsRepair;
        row.reason = Some(format!("the server refuses the log: {}", body.code.as_str()));
        let text = row.reason.clone().unwrap_or_default();
        let own = self.profile.identity.device;
        self.notice(step, &row, (own, row.cursor, text))?;
        Ok(step.db.put_channel(&row)?)
    }

    fn commit_refused(
        &mut self,
        step: &mut Step<'_>,
        channel: ChannelId,
        body: ErrorBody,
    ) -> Result<(), ClientError> {
        let Some(mut row) = step.db.channel(&channel)? else { return Ok(()) };
        let sent = self.committing.remove(&channel);
        let sealed = step.db.sealed_commit(&channel)?;
        let Some(sealed) = sealed.filter(|sealed| Some(sealed.bundle.message_id) == sent) else {
            return Ok(());
        };
        let Some(intent) = step.db.intent(sealed.intent)? else { return Ok(()) };
        if body.code == ErrorCode::StaleCommit && intent.attempts < super::intents::ATTEMPTS_MAX {
            if let Some(ErrorDetail::LastCommit(seq)) = body.detail {
                row.known_head = row.known_head.max(seq);
                self.missed_commit(step, &mut row, seq)?;
            }
            step.db.put_channel(&row)?;
            self.rebase(step, &row)?;
            self.pause(step, (Work::Commit(channel), body.retry_after_ms));
            return Ok(());
        }
        if body.code == ErrorCode::ChannelExists {
            return self.adopt(step, (&intent, &channel), &body);
        }
        if body.code.retryable() && body.code != ErrorCode::StaleCommit {
            self.pause(step, (Work::Commit(channel), body.retry_after_ms));
            return Ok(());
        }
        self.rebase(step, &row)?;
        if intent.kind == IntentKind::TakeBack {
            return self.not_taken_back(step, &row, &sealed);
        }
        if body.code == ErrorCode::RosterRefused && self.claim_anew(step, &intent)? {
            return Ok(());
        }
        self.end_leave(step, &mut row)?;
        step.db.put_channel(&row)?;
        let reason = format!("the server refused: {} ({})", body.message, body.code.as_str());
        self.fail_intent(step, (intent.id, &reason))
    }
}
