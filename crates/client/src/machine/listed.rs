//! What the server says of this device's channels, compared with what this device knows: how far
//! they go, whether they ended, and which of them this home lacks altogether.
//!
//! The list is the server's word alone. It ends nothing that is still read, moves no message, and
//! makes this device a member of nothing: it asks, and members answer.

use qpc_credential::RejoinReason;
use qpc_proto::message::{ChannelKind, ChannelState};

use super::store::{ChannelRow, IntentState, RejoinRow, Status};
use super::upkeep::SEALED_KEPT_MS;
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view::Event;

/// What a channel is called of which this home knows nothing else.
const UNKNOWN: &str = "a channel that this home does not know yet";

impl Machine {
    /// Compares what the server knows of this device's channels with what this device knows.
    pub(super) fn listed(
        &mut self,
        step: &mut Step<'_>,
        channels: &[ChannelState],
    ) -> Result<(), ClientError> {
        let first = !std::mem::replace(&mut self.compared, true);
        let asked = std::mem::take(&mut self.listing);
        // An earlier life of this home that wrote to a channel did so before this was asked.
        self.unlisted.clear();
        let forgets = self.upkeep.forgets_sealed(step.now_ms);
        for mut row in step.db.channels()? {
            // A channel may have the id of an inbox: whoever makes it chooses.
            let inbox = |kind| kind == ChannelKind::Inbox;
            let same = |state: &&ChannelState| {
                state.channel == row.channel && inbox(state.kind) == inbox(row.kind)
            };
            let state = channels.iter().find(same);
            self.compare_life(step, &mut row, state)?;
            if self.compare_lives(step, &mut row, state)? {
                continue;
            }
            let Some(state) = state else {
                if row.status.reads() && asked.contains(&row.channel) {
                    row.status = Status::NeedsRepair;
                    row.reason = Some("the server does not know this channel".to_owned());
                    step.db.put_channel(&row)?;
                }
                continue;
            };
            row.known_head = row.known_head.max(state.head_seq);
            if row.status != Status::Creating {
                row.retention_ms = state.retention_ms;
            }
            self.compare_membership(step, &mut row, state)?;
            if forgets && let Some(last) = &state.last_message_id {
                step.db.forget_sealed(&row.channel, (last, SEALED_KEPT_MS))?;
            }
            self.compare_length(step, &mut row, (first, state))?;
            self.compare_end(step, &mut row, state)?;
            self.acked.insert(row.channel, state.acked_seq);
            step.db.put_channel(&row)?;
        }
        self.find_lost(step, channels)
    }

    /// The server says that a channel which this device takes for one of this life ended with an
    /// earlier one: it was made, or this device invited, before the backup, and heard of it after.
    fn compare_life(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        state: Option<&ChannelState>,
    ) -> Result<(), ClientError> {
        let Some(now) = self.profile.incarnation else { return Ok(()) };
        let earlier = state.is_some_and(|state| state.incarnation != now);
        if !earlier || row.kind == ChannelKind::Inbox || row.status.is_over() {
            return Ok(());
        }
        if step.db.ended(&row.channel)?.is_some_and(|ended| ended.restored) {
            return Ok(());
        }
        let text = "the server was restored from a backup: this channel ended before";
        self.alarm(step, Some((row.channel, row.cursor)), text.to_owned())?;
        self.end_life(step, row, text)
    }

    /// The server says that a channel goes on as another. Its log says so, too, for as long as it
    /// is kept; where this device can't read that any more, it sends nothing and waits to be taken
    /// into the successor: what waits follows only there where the old group supports it.
    fn compare_end(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        state: &ChannelState,
    ) -> Result<(), ClientError> {
        let Some(successor) = state.successor else { return Ok(()) };
        let is_read = !row.status.reads() || row.cursor >= state.head_seq;
        let over = row.status.is_over() || row.status == Status::Creating;
        let ended = step.db.ended(&row.channel)?.unwrap_or_default();
        // A reset of this device's own is on its way: its answer says more.
        if !is_read || over || ended.statement.is_some() || row.kind == ChannelKind::Inbox {
            return Ok(());
        }
        let known = ended.successor == Some(successor);
        if !known && row.status == Status::NeedsRepair {
            return Ok(());
        }
        self.rebase(step, row)?;
        step.db.unseal_all(&row.channel)?;
        for intent in step.db.open_in(&row.channel)? {
            step.db.set_intent(intent.id, (IntentState::Failed, Some(GOES_ON)))?;
        }
        row.status = if known { Status::Closed } else { Status::NeedsRepair };
        row.reason = Some(GOES_ON.to_owned());
        step.db.put_channel(row)?;
        let own = self.profile.identity.device;
        let text = format!("the server says: {GOES_ON} ({successor})");
        self.notice(step, row, (own, row.cursor, text))?;
        let view = self.channel_view(step, row)?;
        step.events.push(Event::Channel(view));
        if known { self.succeed(step, row, &successor) } else { Ok(()) }
    }

    /// This device lost invitations: they expired unread, or an older copy of this home came back,
    /// from before they were read. Channels may be missing here.
    pub(super) fn lost_invitations(
        &self,
        step: &Step<'_>,
        inbox: &ChannelRow,
    ) -> Result<(), ClientError> {
        let rejoin = RejoinRow { gap_at: Some(inbox.cursor), ..step.db.rejoin(&inbox.channel)? };
        Ok(step.db.put_rejoin(&inbox.channel, &rejoin)?)
    }

    /// The inbox was read to its end: what is missing still is asked for.
    pub(super) fn look_for_lost(
        &mut self,
        step: &Step<'_>,
        inbox: &ChannelRow,
    ) -> Result<(), ClientError> {
        if inbox.in_step() && step.db.rejoin(&inbox.channel)?.gap_at.is_some() {
            self.list_due = true;
        }
        Ok(())
    }

    /// Channels that have this device in their roster, of which no invitation is left: it asks to
    /// be taken in again. Only where invitations were lost, or this device wrote to a channel that
    /// it does not know, and once the inbox was read as far as the list knows it: an invitation
    /// that this device refused is none that it lost.
    fn find_lost(
        &mut self,
        step: &mut Step<'_>,
        channels: &[ChannelState],
    ) -> Result<(), ClientError> {
        let rows = step.db.channels()?;
        let Some(inbox) = rows.iter().find(|row| row.kind == ChannelKind::Inbox) else {
            return Ok(());
        };
        let mut rejoin = step.db.rejoin(&inbox.channel)?;
        let shown = channels.iter().find(|state| state.kind == ChannelKind::Inbox);
        let is_read = shown.is_some_and(|state| state.head_seq <= inbox.cursor);
        let Some(incarnation) = self.profile.incarnation else { return Ok(()) };
        let is_lost = |state: &&ChannelState| {
            state.kind != ChannelKind::Inbox
                && state.incarnation == incarnation
                && Self::lives_on(state)
                && !rows.iter().any(|row| row.channel == state.channel)
        };
        let lost: Vec<_> = channels.iter().filter(is_lost).collect();
        let written = lost.iter().find(|state| state.last_message_id.is_some());
        if let Some(state) = written.filter(|_| rejoin.gap_at.is_none()) {
            let text = "this home was restored from an older copy: it lacks a channel that it \
                        wrote to";
            self.alarm(step, Some((state.channel, state.head_seq)), text.to_owned())?;
            rejoin.gap_at = Some(inbox.cursor);
            step.db.put_rejoin(&inbox.channel, &rejoin)?;
        }
        if rejoin.gap_at.is_none() || !is_read {
            return Ok(());
        }
        for state in lost {
            self.ask_for_lost(step, state)?;
        }
        step.db.put_rejoin(&inbox.channel, &RejoinRow { gap_at: None, ..rejoin })?;
        Ok(())
    }

    /// A place that this device knows by the list alone. What was said before is not for it; it
    /// reads on from where the log ends now.
    fn ask_for_lost(
        &mut self,
        step: &mut Step<'_>,
        state: &ChannelState,
    ) -> Result<(), ClientError> {
        let mut row = ChannelRow::new(state.channel, state.kind, Status::Rejoining);
        row.title = UNKNOWN.to_owned();
        row.reason = Some("its invitation was lost: this device asks to be taken in again".into());
        (row.cursor, row.known_head) = (state.head_seq, state.head_seq);
        row.retention_ms = state.retention_ms;
        step.db.put_channel(&row)?;
        if let Some(id) = &state.last_message_id {
            // What this device sent before is no sign of another copy.
            step.db.note_sealed(&row.channel, (id, step.now_ms))?;
        }
        self.note_unheard(step, &row.channel, (state.added_seq, state.head_seq))?;
        let rejoin = RejoinRow {
            latest_seq: state.added_seq,
            wanted: Some(RejoinReason::Expired.code()),
            gap_at: Some(row.cursor),
            ..RejoinRow::default()
        };
        step.db.put_rejoin(&row.channel, &rejoin)?;
        let view = self.channel_view(step, &row)?;
        step.events.push(Event::Channel(view));
        Ok(())
    }

    /// Whether the list says that a channel lives on as it is.
    pub(super) fn lives_on(state: &ChannelState) -> bool {
        state.removal_seq.is_none() && state.successor.is_none()
    }
}

/// What stands with a channel that ended, as far as the server says.
const GOES_ON: &str = "this channel ended and goes on as another, which needs an invitation";
