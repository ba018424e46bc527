//! What is left of an account that has ended: nothing that leads to it but ids inside of what other
//! members read and are judged by.
//!
//! Rosters and declared changes name its devices until the channel's log has lost them, signed
//! statements until they expire; the bare ids of revoked devices stay, so that members may still
//! remove them and nobody takes their place.

use qpc_proto::AccountId;
use qpc_proto::message::ChannelKind;
use qpc_storage::Tx;

use super::expiry::Room;
use super::{Delivery, revocation};
use crate::DeliveryError;
use crate::store::account::{self, Place};
use crate::store::{commits, expiry, revoked};

impl Delivery {
    /// Deletes what belongs to an account whose devices are all revoked, as far as there is `room`;
    /// whether there is more to do. A pair's direct channel stays with the other account, and the
    /// pair is free; a channel that nobody else was in goes with all that is in it.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn erase_devices(
        &self,
        tx: &Tx<'_>,
        account: &AccountId,
        room: &mut Room,
    ) -> Result<bool, DeliveryError> {
        room.take(account::delete_packages(tx, account, room.rows())?);
        while !room.is_taken() {
            let Some(place) = account::places(tx, account, 1)?.pop() else {
                account::delete_pairs(tx, account)?;
                revoked::forget_account(tx, account)?;
                return Ok(false);
            };
            erase_place(tx, &place, room)?;
        }
        Ok(true)
    }
}

/// Goes on with one place as far as there is room.
fn erase_place(tx: &Tx<'_>, place: &Place, room: &mut Room) -> Result<(), DeliveryError> {
    let channel = &place.channel;
    if channel.kind == ChannelKind::Inbox {
        room.drop_inbox(tx, channel)?;
        room.take(1);
        return Ok(());
    }
    room.take(account::delete_ids(tx, place, room.rows())?);
    if room.is_taken() {
        return Ok(());
    }
    if account::is_last(tx, place)? {
        let behind = channel.head_seq.saturating_add(1);
        if room.trim(tx, channel, behind)? < behind || !room.forget_commits(tx, channel.no)? {
            return Ok(());
        }
        // What is left of the log are ids: nobody is there to retry.
        let forgotten =
            expiry::forget(tx, (channel.no, behind), u64::MAX >> 1, room.rows().into())?;
        room.take(forgotten);
        if room.is_taken() {
            return Ok(());
        }
        account::delete_place(tx, place)?;
        account::delete_channel(tx, channel.no)?;
    } else {
        account::delete_place(tx, place)?;
        let roster = commits::roster(tx, channel.no, channel.last_commit)?;
        revocation::forget_unneeded(tx, channel, &roster)?;
    }
    room.take(1);
    Ok(())
}
