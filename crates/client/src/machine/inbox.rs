//! The ordered reader: checks the hash chain, moves the cursor entry by entry, keeps what it cannot
//! read.
//!
//! Nothing else moves a cursor. An entry that may still succeed stops the reader; one that never
//! will is kept with its reason and shown.

use qpc_credential::{MlsContent, MlsHeader, Posted, StatementBody, mls_header};
use qpc_mls::MlsError;
use qpc_proto::content::{Body, Content};
use qpc_proto::message::{ChannelKind, DeviceRef, Entry, EntryKind, Page, inbox_channel};
use qpc_proto::{AccountId, DeviceId};

use super::evidence::{OPENED, UNOPENED};
use super::store::{ChannelRow, KeptEntry, MessageRow, State, Status};
use super::{Machine, Step, Work};
use crate::error::ClientError;
use crate::view::Event;

/// Why a message is not opened here.
pub(super) const ON_ANOTHER_BRANCH: &str =
    "sent on another branch of the group: if that is given up, it comes again";

/// What reading an entry came to.
pub(super) enum Progress {
    /// Done with it.
    Advance,
    /// It may succeed later: the cursor stays.
    Hold(String),
}

impl Machine {
    /// Makes sure that this device's inbox is followed.
    pub(super) fn open_inbox(&self, step: &Step<'_>) -> Result<(), ClientError> {
        let channel = inbox_channel(&self.profile.identity.device.device);
        if step.db.channel(&channel)?.is_some() {
            return Ok(());
        }
        let row = ChannelRow::new(channel, ChannelKind::Inbox, Status::Active);
        Ok(step.db.put_channel(&row)?)
    }

    /// Reads a page of a followed log.
    pub(super) fn page(&mut self, step: &mut Step<'_>, page: Page) -> Result<(), ClientError> {
        let Some(mut row) = step.db.channel(&page.channel)? else { return Ok(()) };
        let before = (row.status, row.cursor);
        row.known_head = row.known_head.max(page.head_seq);
        for entry in &page.entries {
            // A duplicate of what was read is passed over if it is one; a gap is fetched.
            if entry.seq <= row.cursor {
                if self.contradicts(step, &mut row, (entry.seq, &entry.head))? {
                    break;
                }
                continue;
            }
            let next = entry.seq == row.cursor.saturating_add(1);
            if !next || !row.status.reads() || !self.compared {
                break;
            }
            if !self.read(step, &mut row, entry)? {
                break;
            }
        }
        step.db.drop_heads(&row.channel, row.cursor)?;
        step.db.put_channel(&row)?;
        if row.kind == ChannelKind::Inbox {
            return self.look_for_lost(step, &row);
        }
        if (row.status, row.cursor) != before {
            let view = self.channel_view(step, &row)?;
            step.events.push(Event::Channel(view));
        }
        Ok(())
    }

    /// Reads one entry in its place; false stops the reader.
    fn read(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        entry: &Entry,
    ) -> Result<bool, ClientError> {
        #[cfg(test)]
        assert!(self.poison != Some(entry.seq), "the poison of a test");
        let Some(incarnation) = self.profile.incarnation else { return Ok(false) };
        if self.awaits_own_commit(step, row, entry)? {
            return Ok(false);
        }
        if !self.continues(step, row, (&incarnation, entry))? {
            return Ok(false);
        }
        if row.status == Status::Held {
            // Who joined provisionally still is.
            let provisional = row.inviter.is_some();
            row.status = if provisional { Status::Unconfirmed } else { Status::Active };
            row.reason = None;
        }
        if row.status == Status::Leaving {
            // Only a reader that is held has one.
            row.reason = None;
        }
        if row.kind != ChannelKind::Inbox {
            self.end_of_counting(step, row, entry)?;
        }
        let read = self.read_kind(step, row, entry);
        match self.read_without_place(step, row, (entry, read))? {
            Progress::Advance => {
                (row.cursor, row.head) = (entry.seq, entry.head);
                step.db.note_head(&row.channel, (entry.seq, &entry.head))?;
                self.pauses.remove(&Work::Fetch(row.channel));
                Ok(true)
            }
            Progress::Hold(reason) => {
                // A leaver stays one, and an alarm is not taken back.
                if matches!(row.status, Status::Active | Status::Unconfirmed | Status::Creating) {
                    row.status = Status::Held;
                }
                row.reason = Some(reason);
                self.pause(step, (Work::Fetch(row.channel), None));
                Ok(false)
            }
        }
    }

    fn read_kind(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        entry: &Entry,
    ) -> Result<Progress, ClientError> {
        match (row.kind, entry.kind) {
            (ChannelKind::Inbox, EntryKind::Welcome) => self.welcome(step, entry),
            (ChannelKind::Inbox, EntryKind::Notice) => self.notice_entry(step, row, entry),
            (ChannelKind::Inbox, _) | (_, EntryKind::Welcome | EntryKind::Notice) => {
                self.keep(step, row, (entry, "unknown kind of entry"))?;
                Ok(Progress::Advance)
            }
            (_, EntryKind::Application) => self.application(step, row, entry),
            (_, EntryKind::Commit) => self.commit_entry(step, row, entry),
            (_, EntryKind::Statement) => self.statement_entry(step, row, entry),
        }
    }

    /// Keeps an entry that cannot be read, and shows it.
    pub(super) fn keep(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        (entry, reason): (&Entry, &str),
    ) -> Result<(), ClientError> {
        self.note_loss(step, &row.channel, (entry, reason))?;
        step.db.keep_entry(&KeptEntry {
            channel: row.channel,
            seq: entry.seq,
            reason,
            message_id: entry.message_id,
            payload: &entry.payload,
        })?;
        if row.kind == ChannelKind::Inbox {
            self.alarm(step, Some((row.channel, entry.seq)), reason.to_owned())?;
            return Ok(());
        }
        let nobody = DeviceRef { account: AccountId::ZERO, device: DeviceId::ZERO };
        let mut line = self.line(step, row, (nobody, State::Unreadable));
        line.seq = Some(entry.seq);
        line.accepted_at_ms = Some(entry.accepted_at_ms);
        line.reason = Some(reason.to_owned());
        self.show(step, row, line)
    }

    /// A line of history that is not written yet.
    pub(super) fn line(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        (sender, state): (DeviceRef, State),
    ) -> MessageRow {
        MessageRow {
            id: 0,
            channel: row.channel,
            seq: None,
            sender,
            content_id: step.random(),
            text: String::new(),
            state,
            reason: None,
            sent_at_ms: step.now_ms,
            accepted_at_ms: None,
            seen: false,
        }
    }

    /// A notice in the history of a channel.
    pub(super) fn notice(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        (about, seq, text): (DeviceRef, u64, String),
    ) -> Result<(), ClientError> {
        let mut line = self.line(step, row, (about, State::Notice));
        line.seq = Some(seq);
        line.text = text;
        self.show(step, row, line)
    }

    /// Writes a line and says so; a line that is there already (same device, same content id) is
    /// not shown twice.
    fn show(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        mut line: MessageRow,
    ) -> Result<(), ClientError> {
        // What was sent again in the channel that took another's place may have been shown there.
        if let Some((old, _)) = step.db.replaced_by(&row.channel)?
            && step.db.has_content(&old, (&line.sender, &line.content_id))?
        {
            return Ok(());
        }
        if let Some(id) = step.db.insert_message(&line)? {
            line.id = id;
            let view = self.message_view(step, (&line, &row.title))?;
            step.events.push(Event::Message(view));
        }
        Ok(())
    }

    fn application(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        entry: &Entry,
    ) -> Result<Progress, ClientError> {
        if self.own_message(step, row, entry)? {
            return Ok(Progress::Advance);
        }
        let Ok(MlsHeader { aad, content: MlsContent::Application, .. }) =
            mls_header(&entry.payload)
        else {
            self.keep(step, row, (entry, "not an application message"))?;
            return Ok(Progress::Advance);
        };
        let opened = if aad.base_commit == row.base_commit {
            self.engine.open(step.db.0, &row.group, &entry.payload)
        } else {
            self.parted(step, row, aad.base_commit)?;
            Err(MlsError::Refused(ON_ANOTHER_BRANCH))
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(MlsError::Refused(reason)) => {
                self.compare_view(step, row, (entry, &aad, UNOPENED))?;
                self.keep(step, row, (entry, reason))?;
                return Ok(Progress::Advance);
            }
            Err(error) => return Err(error.into()),
        };
        let sender = opened.sender.device();
        self.compare_view(step, row, (entry, &aad, OPENED))?;
        self.confirm_join(step, row, &sender.account)?;
        self.heard(step, (&row.channel, &sender, entry.accepted_at_ms))?;
        let Ok(content) = Content::decode(&opened.plaintext) else {
            self.keep(step, row, (entry, "its content is malformed"))?;
            return Ok(Progress::Advance);
        };
        if let Some(digest) = &content.own_devices {
            self.compare_lists(step, &sender.account, digest)?;
        }
        let mut line = self.line(step, row, (sender, State::Received));
        line.seq = Some(entry.seq);
        line.accepted_at_ms = Some(entry.accepted_at_ms);
        line.content_id = content.content_id;
        line.sent_at_ms = content.sent_at_ms;
        match content.body {
            Body::Text(text) => line.text = text,
            Body::Unknown => line.reason = Some("of a kind that needs a newer qpc".to_owned()),
        }
        self.show(step, row, line)?;
        Ok(Progress::Advance)
    }

    /// Settles an own message that the log shows; a place that the server gave to an own message
    /// but shows another entry in is a lie, and the message is sent again.
    fn own_message(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        entry: &Entry,
    ) -> Result<bool, ClientError> {
        let found = step.db.sealed_message(&row.channel, (&entry.message_id, &entry.payload))?;
        if let Some(id) = found {
            let told = step.db.message(id)?.is_some_and(|line| line.state == State::Accepted);
            step.db.settle(id, (entry.seq, entry.accepted_at_ms))?;
            if !told {
                self.show_own(step, id)?;
            }
        }
        if let Some(id) = step.db.misplaced(&row.channel, entry.seq)? {
            step.db.unaccept(id)?;
            let text = "the server gave this place to a message of mine, but shows another";
            self.alarm(step, Some((row.channel, entry.seq)), text.to_owned())?;
        }
        Ok(found.is_some())
    }

    /// Says that an own message changed its state.
    pub(super) fn show_own(&self, step: &mut Step<'_>, id: u64) -> Result<(), ClientError> {
        if let Some(message) = step.db.message(id)? {
            let title = step.db.channel(&message.channel)?.map(|row| row.title);
            let view = self.message_view(step, (&message, &title.unwrap_or_default()))?;
            step.events.push(Event::Outbox(view));
        }
        Ok(())
    }

    pub(super) fn statement_entry(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        entry: &Entry,
    ) -> Result<Progress, ClientError> {
        self.carry_gap(step, row)?;
        let statement = match Posted::verify(&entry.payload, &row.channel) {
            Ok(Posted::Said(statement)) => statement,
            Ok(Posted::Devices(identity)) => {
                return self.devices_entry(step, row, (entry, identity));
            }
            Err(_) => {
                self.keep(step, row, (entry, "the statement does not verify"))?;
                return Ok(Progress::Advance);
            }
        };
        if let StatementBody::Rejoin(_) = statement.body {
            self.rejoin_entry(step, row, (entry, &statement))?;
            return Ok(Progress::Advance);
        }
        if let StatementBody::Verdict(said) = &statement.body {
            return self.verdict_entry(step, row, (entry, &statement, said));
        }
        if let StatementBody::Reset(successor) = statement.body {
            self.reset_entry(step, row, (entry, &statement, &successor))?;
            return Ok(Progress::Advance);
        }
        let device = statement.certificate.device();
        if matches!(statement.body, StatementBody::Leave) {
            self.leaver_has_no_voice(step, row, &statement.certificate)?;
        }
        let members = self.engine.view(step.db.0, &row.group)?.members;
        if !members.iter().any(|leaf| leaf.is_of(&statement.certificate)) {
            // A device that is out, or never was in, speaks for nobody here.
            return Ok(Progress::Advance);
        }
        match statement.body {
            StatementBody::Leave => {
                let standing = (&device.account, entry.seq, entry.payload.as_ref());
                if !step.db.put_standing(&row.channel, standing)? {
                    // It is shown once more to who came in behind it.
                    return Ok(Progress::Advance);
                }
                let own = device.account == self.profile.identity.device.account;
                let text = if own {
                    row.status = Status::Leaving;
                    self.end_leave(step, row)?;
                    self.give_up_for_leave(step, row)?;
                    "you asked to leave".to_owned()
                } else {
                    self.follow_leave(step, row, &device.account)?;
                    format!("{} asked to leave", self.name_of(step, &device.account)?)
                };
                self.notice(step, row, (device, entry.seq, text))?;
            }
            StatementBody::Rejoin(_) | StatementBody::Verdict(_) | StatementBody::Reset(_) => {}
        }
        Ok(Progress::Advance)
    }
}
