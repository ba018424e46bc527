//! Inboxes: one channel for each device, written by the server alone.

use std::collections::BTreeSet;

use qpc_proto::chain::sha256;
use qpc_proto::message::{
    Accepted, ChannelKind, DeviceRef, EntryKind, Notice, WelcomePointer, inbox_channel,
};
use qpc_proto::{ChannelId, Digest, MessageId};
use qpc_storage::Tx;

use super::Delivery;
use super::writing::{Draft, Place, Writing, append};
use crate::DeliveryError;
use crate::store::channels::{self, Channel, NewChannel};
use crate::store::entries::Inserts;
use crate::store::{members, revoked};

impl Delivery {
    /// Puts a notice into the inboxes of some devices at `now_ms`, Unix milliseconds; returns the
    /// inboxes, to wake. A revoked device gets nothing.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn post_notice(
        &self,
        (tx, now_ms): (&Tx<'_>, u64),
        to: &[DeviceRef],
        notice: &Notice,
    ) -> Result<Vec<ChannelId>, DeliveryError> {
        let payload = notice.encode();
        let id = MessageId(sha256(&payload).short());
        let draft = Draft::plain(EntryKind::Notice, id, &payload);
        let mut wakes = Vec::with_capacity(to.len());
        for device in to {
            if !revoked::contains(tx, &device.device)? {
                wakes.push(post(self, (tx, now_ms), (device, &draft))?);
            }
        }
        Ok(wakes)
    }
}

/// Puts a pointer to a Welcome into the inbox of each added device; returns the inboxes. `row` is
/// the Welcome's, `message_id` the Commit's.
pub(super) fn post_welcome(
    writing: &Writing<'_>,
    commit: &Accepted,
    (adds, welcome_hash): (&BTreeSet<DeviceRef>, Digest),
    (row, message_id): (i64, MessageId),
) -> Result<Vec<ChannelId>, DeliveryError> {
    let pointer = WelcomePointer {
        channel: writing.channel.id,
        kind: writing.channel.kind,
        join_seq: commit.seq,
        head: commit.head,
        welcome_hash,
        inviter: writing.call.caller.account,
    }
    .encode();
    let draft = Draft::pointer(message_id, &pointer, row);
    let put = |device| post(writing.delivery, writing.call.at(), (device, &draft));
    adds.iter().map(put).collect()
}

fn post(
    delivery: &Delivery,
    (tx, now_ms): (&Tx<'_>, u64),
    (device, draft): (&DeviceRef, &Draft<'_>),
) -> Result<ChannelId, DeliveryError> {
    let mut inbox = open(delivery, tx, device)?;
    let place = Place { seq: inbox.head_seq.saturating_add(1), sender: None };
    append(
        delivery,
        (&mut Inserts::new(tx, &delivery.recent)?, now_ms),
        &mut inbox,
        (place, draft),
    )?;
    channels::save(tx, &inbox)?;
    Ok(inbox.id)
}

/// A device's inbox, made when it is first needed.
fn open(delivery: &Delivery, tx: &Tx<'_>, device: &DeviceRef) -> Result<Channel, DeliveryError> {
    let id = inbox_channel(&device.device);
    if let Some(inbox) = channels::find(tx, &id, true)? {
        return Ok(inbox);
    }
    let due_under_ms = delivery.config.retention_ms;
    let new = NewChannel { id, kind: ChannelKind::Inbox, retention_ms: None, due_under_ms };
    let inbox = channels::insert(tx, &new)?;
    members::put(tx, inbox.no, device, 1)?;
    Ok(inbox)
}
