//! A server that was put back from a backup begins another life: its channels ended there. What the
//! backup lacks is sent again in their successors, which members' clients make by themselves.
//!
//! Seals nothing in a channel of an earlier life.

use qpc_proto::Digest;
use qpc_proto::message::{ChannelKind, ChannelState};

use super::reset::ADD_AFTER_MS;
use super::store::{ChannelRow, EndedRow, IntentKind, IntentState, Status};
use super::{Machine, Step};
use crate::error::ClientError;

/// The other side of a direct channel waits this long, in milliseconds.
const OTHER_SIDE_MS: u64 = 60_000;
/// Devices of admins make a successor this far apart, in milliseconds.
const TURN_MS: u64 = 30_000;

impl Machine {
    /// Another life of the server: every channel ended with the one before.
    pub(super) fn end_all(&mut self, step: &mut Step<'_>, reason: &str) -> Result<(), ClientError> {
        for mut row in step.db.channels()? {
            let over = match row.status {
                Status::Left | Status::Failed | Status::Closed => true,
                // The server has never heard of it, unless its founding Commit is on its way.
                Status::Creating => {
                    row.known_head == 0 && step.db.sealed_commit(&row.channel)?.is_none()
                }
                Status::Active
                | Status::Unconfirmed
                | Status::Leaving
                | Status::Held
                | Status::NeedsRepair
                | Status::Alarm
                | Status::Rejoining => false,
            };
            if over {
                continue;
            }
            self.end_life(step, &mut row, reason)?;
        }
        Ok(())
    }

    /// A channel ended with an earlier life of the server. One whose founding this device never
    /// read is made anew as its successor.
    pub(super) fn end_life(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        reason: &str,
    ) -> Result<(), ClientError> {
        let ended = EndedRow { restored: true, ..EndedRow::default() };
        step.db.put_ended(&row.channel, &ended)?;
        if row.kind == ChannelKind::Inbox {
            return Ok(());
        }
        self.rebase(step, row)?;
        for intent in self.open_of(step, (&row.channel, IntentKind::Create))? {
            step.db.set_intent(intent.id, (IntentState::Done, None))?;
        }
        step.db.unseal_all(&row.channel)?;
        if row.status == Status::Leaving {
            self.refuse_outbox(step, row, "you left")?;
            row.status = Status::Left;
        } else {
            row.status = Status::NeedsRepair;
            row.reason = Some(reason.to_owned());
        }
        Ok(step.db.put_channel(row)?)
    }

    /// The first word of a restored server on a channel: how far its backup reaches. False for
    /// channels of this life.
    pub(super) fn compare_lives(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        state: Option<&ChannelState>,
    ) -> Result<bool, ClientError> {
        let Some(mut ended) = step.db.ended(&row.channel)?.filter(|ended| ended.restored) else {
            return Ok(false);
        };
        if row.kind == ChannelKind::Inbox {
            // Another chain with the same numbers: it is read on where both lives agree. One from
            // before this device was first invited begins anew.
            let (head_seq, acked_seq) =
                state.map_or((0, 0), |state| (state.head_seq, state.acked_seq));
            (row.cursor, row.head) = (row.cursor.min(head_seq), Digest::ZERO);
            row.known_head = head_seq;
            step.db.rewind(&row.channel, 0)?;
            step.db.drop_ended(&row.channel)?;
            self.acked.insert(row.channel, acked_seq);
            // It was followed from where the other life was read.
            self.followed = None;
            step.db.put_channel(row)?;
            return Ok(true);
        }
        if ended.head_seq.is_none() && row.status == Status::NeedsRepair {
            let head_seq = state.map_or(0, |state| state.head_seq);
            ended.head_seq = Some(head_seq);
            let own = self.profile.identity.device;
            step.db.wait_again(&row.channel, (&own, head_seq))?;
            ended.at_ms = self.successor_turn(step, row)?;
            step.db.put_ended(&row.channel, &ended)?;
        }
        Ok(true)
    }

    /// When this device makes a successor by itself: the lower account of a pair at once, the other
    /// later; devices of admins in the order of their leaves; others never.
    fn successor_turn(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<u64>, ClientError> {
        let own = self.profile.identity.device;
        let jitter = step.below(TURN_MS);
        // Of a successor that ended, too: who says so again and again gets none each time.
        let again = step.db.replaced_by(&row.channel)?.is_some();
        let from_ms = step.now_ms.saturating_add(if again { ADD_AFTER_MS } else { 0 });
        if let Some(peer) = row.peer {
            let wait = if own.account < peer { 0 } else { OTHER_SIDE_MS.saturating_add(jitter) };
            return Ok(Some(from_ms.saturating_add(wait)));
        }
        let Some(view) = self.old_view(step, row)? else { return Ok(None) };
        let mut admins = view
            .members
            .iter()
            .map(|leaf| leaf.certificate.device())
            .filter(|device| view.context.admins.contains(&device.account));
        let turn = admins.position(|device| device == own).and_then(|at| u64::try_from(at).ok());
        let wait = |turn: u64| turn.saturating_mul(TURN_MS).saturating_add(jitter / 4);
        Ok(turn.map(|turn| from_ms.saturating_add(wait(turn))))
    }

    /// Makes the successors whose time has come, if nobody has made one.
    pub(super) fn repair_ended(&mut self, step: &mut Step<'_>) -> Result<(), ClientError> {
        if !self.compared {
            return Ok(());
        }
        for channel in step.db.successors_due(step.now_ms)? {
            let Some(row) = step.db.channel(&channel)? else { continue };
            match self.make_successor(step, &row) {
                Ok(_) => {}
                Err(ClientError::Usage(_)) => {
                    let mut ended = step.db.ended(&channel)?.unwrap_or_default();
                    ended.at_ms = None;
                    step.db.put_ended(&channel, &ended)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
