//! What is left of an account that has ended: nothing that leads to it but ids inside of what other
//! members read and are judged by.
//!
//! Rosters and declared changes name its devices until the channel's log has lost them, signed
//! statements until they expire; the bare ids of revoked devices stay, so that members may still
//! remove them and nobody takes their place.

use qpc_proto::AccountId;
use qpc_proto::message::ChannelKind;
use qpc_storage::Tx;

use super::{Delivery, revocation};
use crate::DeliveryError;
use crate::store::account::{self, Place};
use crate::store::{commits, expiry, revoked};

impl Delivery {
    /// Deletes what belongs to an account whose devices are all revoked, about `limit` rows in one
    /// call; whether there is more to do. A pair's direct channel stays with the other account, and
    /// the pair is free; a channel that nobody else was in goes with all that is in it.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn erase_devices(
        &self,
        tx: &Tx<'_>,
        account: &AccountId,
        limit: u32,
    ) -> Result<bool, DeliveryError> {
        let mut left = limit;
        let packages = account::delete_packages(tx, account, left)?;
        take(&mut left, packages);
        while left > 0 {
            let Some(place) = account::places(tx, account, 1)?.pop() else {
                account::delete_pairs(tx, account)?;
                revoked::forget_account(tx, account)?;
                return Ok(false);
            };
            erase_place(tx, &place, &mut left)?;
        }
        Ok(true)
    }
}

/// Goes on with one place as far as `left` reaches.
fn erase_place(tx: &Tx<'_>, place: &Place, left: &mut u32) -> Result<(), DeliveryError> {
    let channel = &place.channel;
    if channel.kind == ChannelKind::Inbox {
        expiry::drop_inbox(tx, channel)?;
        take(left, 1);
        return Ok(());
    }
    let ids = account::delete_ids(tx, place, *left)?;
    take(left, ids);
    if *left == 0 {
        return Ok(());
    }
    if account::is_last(tx, place)? {
        let behind = channel.head_seq.saturating_add(1);
        let end = channel.first_seq.saturating_add(u64::from(*left)).min(behind);
        expiry::trim(tx, channel, end)?;
        take(left, usize::try_from(end.saturating_sub(channel.first_seq)).unwrap_or(usize::MAX));
        if end < behind {
            return Ok(());
        }
        // What is left of the log are ids: nobody is there to retry.
        let forgotten = expiry::forget(tx, (channel.no, behind), u64::MAX >> 1, (*left).into())?;
        take(left, forgotten);
        if *left == 0 {
            return Ok(());
        }
        account::delete_place(tx, place)?;
        account::delete_channel(tx, channel.no)?;
    } else {
        account::delete_place(tx, place)?;
        let roster = commits::roster(tx, channel.no, channel.last_commit)?;
        revocation::forget_unneeded(tx, channel, &roster)?;
    }
    take(left, 1);
    Ok(())
}

fn take(left: &mut u32, rows: usize) {
    *left = left.saturating_sub(u32::try_from(rows).unwrap_or(u32::MAX));
}
