//! Devices that were taken off their account: nothing of theirs is served any more, and every
//! channel that they are in is shown the list that says so. Never judges a list: its caller has.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use qpc_proto::chain::sha256;
use qpc_proto::message::{ChannelKind, DeviceRef, EntryKind};
use qpc_proto::{AccountId, ChannelId, MessageId};
use qpc_storage::Tx;

use super::expiry::Room;
use super::writing::{Draft, Place, append};
use super::{Delivery, removal};
use crate::DeliveryError;
use crate::roster::Roster;
use crate::store::channels::{self, Channel};
use crate::store::entries::{Inserts, SEQ_MAX};
use crate::store::members::{self, Member};
use crate::store::{key_packages, revoked};

/// Entries of revoked devices' inboxes that go at once.
const INBOX_ROWS: u32 = 512;

impl Delivery {
    /// Takes everything from some devices of one account that was revoked: their KeyPackages can't
    /// be claimed, their inboxes are gone (what is large in them with the next sweeps), and
    /// `statement` (of the device list that doesn't hold them) stands once in the log of every
    /// channel that a revoked device of the account is in, now or since before: its members
    /// must learn whom the newest list holds instead. A direct channel that only revoked devices
    /// are left in gives its pair free. `now_ms` is Unix milliseconds. Returns the channels to
    /// wake; the same call again changes nothing.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn revoke_devices(
        &self,
        (tx, now_ms): (&Tx<'_>, u64),
        devices: &[DeviceRef],
        statement: &Bytes,
    ) -> Result<Vec<ChannelId>, DeliveryError> {
        let accounts: BTreeSet<AccountId> = devices.iter().map(|device| device.account).collect();
        for device in devices {
            revoked::insert(tx, device)?;
            key_packages::bury_all(tx, device)?;
        }
        let mut shown: BTreeMap<i64, (Channel, AccountId)> = BTreeMap::new();
        let mut room = Room::of(INBOX_ROWS);
        for account in accounts {
            for device in revoked::of_account(tx, &account)? {
                for (channel, member) in members::of_device(tx, &DeviceRef { account, device })? {
                    if channel.kind == ChannelKind::Inbox {
                        empty_inbox((tx, now_ms), (&channel, &member), &mut room)?;
                    } else if removal::effective(self, now_ms, &member).is_none() {
                        shown.insert(channel.no, (channel, account));
                    }
                }
            }
        }
        let mut wakes = Vec::new();
        for (mut channel, account) in shown.into_values() {
            channels::free_dead_pair(tx, channel.no)?;
            if self.show((tx, now_ms), (&mut channel, &account), statement)? {
                wakes.push(channel.id);
            }
        }
        Ok(wakes)
    }

    /// Puts an account's device list into a log, unless it was the last such put there.
    fn show(
        &self,
        (tx, now_ms): (&Tx<'_>, u64),
        (channel, account): (&mut Channel, &AccountId),
        statement: &[u8],
    ) -> Result<bool, DeliveryError> {
        let id = MessageId(sha256(statement).short());
        let seq = channel.head_seq.saturating_add(1);
        // A log that is full for ever, or has ended, must not stop the revocation.
        if channel.has_ended()
            || revoked::posted(tx, channel.no, account)? == Some(id)
            || seq > SEQ_MAX
        {
            return Ok(false);
        }
        let draft = Draft::plain(EntryKind::Statement, id, statement);
        let at = (&mut Inserts::new(tx, &self.recent)?, now_ms);
        append(self, at, channel, (Place { seq, sender: None }, &draft))?;
        channels::save(tx, channel)?;
        revoked::put_posted(tx, channel.no, account, (seq, id))?;
        Ok(true)
    }
}

/// The lists in a log that members still need: each account with where its list stands. Only reads.
pub(super) fn needed(
    tx: &Tx<'_>,
    channel: &Channel,
    roster: &Roster,
) -> Result<Vec<(AccountId, u64)>, DeliveryError> {
    let mut needed = revoked::lists(tx, channel.no)?;
    for at in (0..needed.len()).rev() {
        if let Some((account, _)) = needed.get(at)
            && !is_needed(tx, (channel, roster), account)?
        {
            needed.swap_remove(at);
        }
    }
    Ok(needed)
}

/// Deletes a revoked device's inbox. What doesn't go at once counts as read, and goes with sweeps.
fn empty_inbox(
    (tx, now_ms): (&Tx<'_>, u64),
    (inbox, member): (&Channel, &Member),
    room: &mut Room,
) -> Result<(), DeliveryError> {
    if room.drop_inbox(tx, inbox)? {
        return Ok(());
    }
    members::ack(tx, inbox.no, &member.device, inbox.head_seq)?;
    Ok(channels::save_due(tx, (inbox.no, now_ms))?)
}

/// Forgets the lists of erased accounts in a log that nobody needs.
pub(super) fn forget_unneeded(
    tx: &Tx<'_>,
    channel: &Channel,
    roster: &Roster,
) -> Result<(), DeliveryError> {
    for (account, _) in revoked::lists(tx, channel.no)? {
        let known = members::has_account(tx, channel.no, &account)?;
        if !known && !is_needed(tx, (channel, roster), &account)? {
            revoked::drop_posted(tx, channel.no, &account)?;
        }
    }
    Ok(())
}

/// Whether members need an account's list: a device that it revoked is in the roster, and somebody
/// is there to remove it.
fn is_needed(
    tx: &Tx<'_>,
    (channel, roster): (&Channel, &Roster),
    account: &AccountId,
) -> Result<bool, DeliveryError> {
    // A direct channel keeps its two accounts: of one that has ended nothing can be removed.
    let over =
        channel.kind == ChannelKind::Direct && !members::has_account(tx, channel.no, account)?;
    Ok(!over && is_due(tx, roster, account)?)
}

fn is_due(tx: &Tx<'_>, roster: &Roster, account: &AccountId) -> Result<bool, DeliveryError> {
    let devices = roster.devices().map(|(device, _)| device);
    let (of_account, others): (Vec<&DeviceRef>, Vec<&DeviceRef>) =
        devices.partition(|device| device.account == *account);
    let mut there = false;
    let mut able = false;
    for device in of_account {
        match revoked::contains(tx, &device.device)? {
            true => there = true,
            false => able = true,
        }
    }
    for device in others {
        if !there || able {
            break;
        }
        able = !revoked::contains(tx, &device.device)?;
    }
    Ok(there && able)
}
