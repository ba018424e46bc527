//! Inboxes: one channel for each device, written by the server alone.

use std::collections::BTreeSet;

use qpc_proto::message::{Accepted, ChannelKind, DeviceRef, WelcomePointer, inbox_channel};
use qpc_proto::{ChannelId, Digest, MessageId};

use super::Call;
use super::writing::{Draft, Writing, append};
use crate::DeliveryError;
use crate::store::channels::{self, Channel};
use crate::store::members;

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
    adds.iter().map(|device| post(writing, device, &draft)).collect()
}

fn post(
    writing: &Writing<'_>,
    device: &DeviceRef,
    draft: &Draft<'_>,
) -> Result<ChannelId, DeliveryError> {
    let mut inbox = open(writing.call, device)?;
    let seq = inbox.head_seq.saturating_add(1);
    append(writing.delivery, writing.call, &mut inbox, (seq, draft))?;
    channels::save(writing.call.tx, &inbox)?;
    Ok(inbox.id)
}

/// A device's inbox, made when it is first needed.
fn open(call: &Call<'_>, device: &DeviceRef) -> Result<Channel, DeliveryError> {
    let id = inbox_channel(&device.device);
    if let Some(inbox) = channels::find(call.tx, &id, true)? {
        return Ok(inbox);
    }
    let inbox = channels::insert(call.tx, &id, ChannelKind::Inbox, call.now_ms)?;
    members::put(call.tx, inbox.no, device, 1)?;
    Ok(inbox)
}
