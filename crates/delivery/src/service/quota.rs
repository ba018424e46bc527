//! How much a channel may hold, and each of its devices: messages leave room for Commits and
//! statements, and nobody takes the room of all. What is trimmed gives its room back.

use bytes::Bytes;
use qpc_proto::ErrorCode;
use qpc_proto::message::EntryKind;

use super::writing::{Draft, Writing};
use crate::DeliveryError;
use crate::store::channels::Held;
use crate::store::members;

/// The room for messages, in sixteenths of the quota; one sixteenth is for statements, and Commits
/// take what is left.
const APPLICATION_SIXTEENTHS: u64 = 14;
/// Among at most so many devices a kind's room is shared: the 17th has no smaller share.
const SHARES_MAX: u64 = 16;
/// Length of a statement's length in a Commit's row.
const PREFIX_BYTES: u64 = 4;

impl Writing<'_> {
    /// Whether the channel and the device have room for an entry.
    ///
    /// # Errors
    /// `QUOTA`.
    pub(super) fn check_room(&self, draft: &Draft<'_>) -> Result<(), DeliveryError> {
        let quota = self.delivery.config.channel_bytes_max;
        let sixteenth = quota / 16;
        let (channel, own) = (&self.channel.held, &self.member.held);
        let devices = self.channel.devices.clamp(1, SHARES_MAX);
        let share = |room: u64| room.checked_div(devices).unwrap_or(room);
        let (all, room, mine, most) = match draft.kind {
            EntryKind::Application => {
                let room = sixteenth.saturating_mul(APPLICATION_SIXTEENTHS);
                (channel.application, room, own.application, share(room))
            }
            EntryKind::Commit => (channel.commits, quota, own.commits, sixteenth),
            EntryKind::Statement | EntryKind::Welcome | EntryKind::Notice => {
                (channel.statements, sixteenth, own.statements, share(sixteenth))
            }
        };
        let fits = |held: u64, limit| held.saturating_add(draft.bytes) <= limit;
        if !fits(mine, most) {
            let why = "this device has filled its share of the channel; retry once older entries \
                       have been read by all or have expired";
            return Err(DeliveryError::Refused(ErrorCode::Quota, why));
        }
        if !fits(all, room) || !fits(channel.total(), quota) {
            let why = "the channel is full; retry once older entries have been read by all or \
                       have expired";
            return Err(DeliveryError::Refused(ErrorCode::Quota, why));
        }
        Ok(())
    }

    /// How many bytes of statements the server may show again: with all else that no member has
    /// posted they take half of the statements' room at most, so that members can state something
    /// still.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub(super) fn room_to_show(&self) -> Result<u64, DeliveryError> {
        let sixteenth = self.delivery.config.channel_bytes_max / 16;
        let all = self.channel.held.statements;
        let of_members = members::statement_bytes(self.call.tx, self.channel.no)?;
        let of_server = all.saturating_sub(of_members);
        Ok(sixteenth.saturating_sub(all).min((sixteenth / 2).saturating_sub(of_server)))
    }
}

/// Adds an entry.
pub(super) fn count(held: &mut Held, draft: &Draft<'_>) {
    let of_kind = match draft.kind {
        EntryKind::Application => &mut held.application,
        EntryKind::Commit => &mut held.commits,
        EntryKind::Statement | EntryKind::Welcome | EntryKind::Notice => &mut held.statements,
    };
    *of_kind = of_kind.saturating_add(draft.bytes);
}

/// What a statement takes in a Commit's row.
pub(super) fn carried_bytes(statement: &Bytes) -> u64 {
    long(statement.len()).saturating_add(PREFIX_BYTES)
}

pub(super) fn long(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
