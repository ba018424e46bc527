//! Whose turn it is to commit: nobody's Commits leave the others no time to read and seal. Times
//! are the server's; what was taken stands in the rows of the channel and its members.

use qpc_proto::ChannelId;

use super::writing::Writing;
use super::{Call, Delivery};
use crate::DeliveryError;
use crate::roster::Roster;
use crate::store::{channels, members};

/// A turn that a Commit takes if it is accepted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    /// How long it lasts, in milliseconds; none: it takes none of the device's.
    wait_ms: Option<u64>,
}

impl Delivery {
    /// Keeps the channel's next turn for the calling device, whose Commit came too late, if nobody
    /// has it, and its own turns allow. Other devices' Commits wait so long, messages don't.
    /// Returns the milliseconds until the turn begins; none if it has none.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn reserve_turn(
        &self,
        call: &Call<'_>,
        channel: &ChannelId,
    ) -> Result<Option<u64>, DeliveryError> {
        let pacing = &self.config.pacing;
        let mut writing = match Writing::open(self, call, channel) {
            Ok(writing) => writing,
            Err(DeliveryError::ChannelNotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let now_ms = writing.now_ms();
        let begins = writing.channel_wait_ms();
        let taken = writing.channel.reserved.is_some_and(|(_, until_ms)| until_ms > now_ms);
        let last = writing.member.pace.reserved_at_ms;
        let again = last != 0 && now_ms.saturating_sub(last) < pacing.reserved_every_ms;
        let may = writing.check_rights().is_ok() && writing.own_wait_ms()?.0 <= begins;
        if pacing.reserved_ms == 0 || taken || again || !may {
            return Ok(None);
        }
        let ends_ms = now_ms.saturating_add(begins).saturating_add(pacing.reserved_ms);
        writing.channel.reserved = Some((call.caller.device, ends_ms));
        writing.member.pace.reserved_at_ms = now_ms;
        writing.save_turns()?;
        Ok(Some(begins))
    }
}

impl Writing<'_> {
    /// Whether a Commit may come now, of which the rosters at its base and now are known. An
    /// account that is alone in both holds up nobody.
    ///
    /// # Errors
    /// [`DeliveryError::Paced`].
    pub(super) fn check_turn(
        &self,
        before: &Roster,
        current: &Roster,
    ) -> Result<Turn, DeliveryError> {
        if is_lone(before) && is_lone(current) {
            return Ok(Turn::default());
        }
        let (own_ms, lasts_ms) = self.own_wait_ms()?;
        let now_ms = self.now_ms();
        let reserved_ms = match self.channel.reserved {
            Some((device, until_ms)) if device != self.call.caller.device => {
                until_ms.saturating_sub(now_ms)
            }
            Some(_) | None => 0,
        };
        match own_ms.max(self.channel_wait_ms()).max(reserved_ms) {
            0 => Ok(Turn { wait_ms: lasts_ms }),
            wait_ms => Err(DeliveryError::Paced(wait_ms)),
        }
    }

    /// Takes the turn of the Commit at `seq`, which was accepted.
    pub(super) fn take_turn(&mut self, turn: Turn, seq: u64) {
        let now_ms = self.channel.head_at_ms;
        let wait_ms = self.delivery.config.pacing.channel_wait_ms;
        self.channel.turns = self.channel.turns.take(now_ms, wait_ms);
        self.channel.reserved = None;
        let pace = &mut self.member.pace;
        pace.seq = seq;
        match turn.wait_ms {
            Some(wait_ms) => {
                pace.turns = pace.turns.take(now_ms, wait_ms);
                pace.wait_ms = wait_ms;
            }
            // So many messages free one Commit: who stays on its base posts as many again.
            None => self.member.base_entries = 0,
        }
    }

    /// Stores the turns of the channel and the device.
    pub(super) fn save_turns(&self) -> Result<(), DeliveryError> {
        channels::save_turns(self.call.tx, &self.channel)?;
        Ok(members::save_pace(self.call.tx, self.channel.no, &self.member)?)
    }

    /// Never before the channel's last entry.
    fn now_ms(&self) -> u64 {
        self.call.now_ms.max(self.channel.head_at_ms)
    }

    /// Milliseconds until the channel takes a Commit.
    fn channel_wait_ms(&self) -> u64 {
        let pacing = &self.delivery.config.pacing;
        let rate = (pacing.channel_burst, pacing.channel_wait_ms);
        self.channel.turns.wait(self.now_ms(), rate)
    }

    /// Milliseconds until the device has a turn, and how long that lasts. Each lasts twice as long
    /// as the one before while somebody else builds on what was before the device's last Commit.
    fn own_wait_ms(&self) -> Result<(u64, Option<u64>), DeliveryError> {
        let (pacing, member) = (&self.delivery.config.pacing, &self.member);
        if member.base_entries >= pacing.free_after {
            return Ok((0, None));
        }
        let place = (self.channel.no, &self.call.caller.account);
        let pace = &member.pace;
        let doubted = pace.seq != 0 && members::doubts(self.call.tx, place, pace.seq)?;
        let lasts_ms = match doubted {
            true => pace.wait_ms.max(pacing.wait_ms).saturating_mul(2).min(pacing.wait_max_ms),
            false => pacing.wait_ms,
        };
        let wait_ms = pace.turns.wait(self.now_ms(), (pacing.burst, lasts_ms));
        Ok((wait_ms, Some(lasts_ms)))
    }
}

fn is_lone(roster: &Roster) -> bool {
    roster.accounts().nth(1).is_none()
}
