//! Reading: pages, the list of channels, cursors. All but [`Delivery::ack`] only read, so that they
//! work in a reader's transaction.

use qpc_proto::ChannelId;
use qpc_proto::limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use qpc_proto::message::{ChannelKind, ChannelState, Cursor, Fetch, Page, inbox_channel};

use super::writing::Writing;
use super::{Call, Delivery, removal};
use crate::DeliveryError;
use crate::store::channels::{self, Channel};
use crate::store::entries::{self, Range};
use crate::store::expiry;
use crate::store::members::{self, Member};

impl Delivery {
    /// Reads a page: entries behind `after_seq`, no earlier than the device may read, cut on an
    /// entry's border, at least one if there is any. An inbox that nothing was ever put into is
    /// empty.
    ///
    /// # Errors
    /// [`DeliveryError::ChannelNotFound`], [`DeliveryError::GapExpired`], [`DeliveryError::Store`].
    pub fn fetch(&self, call: &Call<'_>, fetch: &Fetch) -> Result<Page, DeliveryError> {
        let mut page = Page {
            channel: fetch.channel,
            entries: Vec::new(),
            head_seq: 0,
            published: Vec::new(),
        };
        let Some((channel, member)) = find(call, &fetch.channel)? else {
            return match call.means_its_inbox(&fetch.channel) {
                true => Ok(page),
                false => Err(DeliveryError::ChannelNotFound),
            };
        };
        page.head_seq = self.readable_head(call, &channel, &member);
        let after = fetch.after_seq.max(member.read_from.saturating_sub(1));
        let first = after.saturating_add(1);
        if first < channel.first_seq {
            return Err(self.gap(call, &channel, self.first_served(call.at(), &channel)?)?);
        }
        if first <= page.head_seq {
            let range = Range {
                no: channel.no,
                seqs: (first, page.head_seq),
                entries_max: PAGE_ENTRIES_MAX,
                bytes_max: budget(fetch.bytes_max),
            };
            page.entries = entries::read(call.tx, &range)?;
        }
        let kept_from_ms = call.now_ms.saturating_sub(self.retention_ms(&channel));
        if page.entries.first().is_some_and(|entry| entry.accepted_at_ms <= kept_from_ms) {
            let served = self.first_served(call.at(), &channel)?;
            if first < served {
                return Err(self.gap(call, &channel, served)?);
            }
        }
        Ok(page)
    }

    /// Says that a log begins at `first`, and with which head of the hash chain.
    fn gap(
        &self,
        call: &Call<'_>,
        channel: &Channel,
        first: u64,
    ) -> Result<DeliveryError, DeliveryError> {
        let before = expiry::head(call.tx, channel.no, first.saturating_sub(1))?;
        let head = match first == channel.first_seq {
            true => channel.boundary_head,
            false => before.unwrap_or(channel.boundary_head),
        };
        Ok(DeliveryError::GapExpired(first, head))
    }

    /// The head of a channel that the calling device is in with all rights: it may publish to it,
    /// and hears what is published. Nobody publishes to an inbox, or to a channel that has ended.
    ///
    /// # Errors
    /// [`DeliveryError::ChannelNotFound`], [`DeliveryError::NotMember`],
    /// [`DeliveryError::ChannelClosed`] or `CHANNEL_CLOSED`, [`DeliveryError::Store`].
    pub fn head_of_member(
        &self,
        call: &Call<'_>,
        channel: &ChannelId,
    ) -> Result<u64, DeliveryError> {
        let place = Writing::open(self, call, channel)?;
        place.check_rights()?;
        Ok(place.channel.head_seq)
    }

    /// The channels that the calling device may read, its inbox always among them.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn list_channels(&self, call: &Call<'_>) -> Result<Vec<ChannelState>, DeliveryError> {
        let mut states: Vec<_> = members::of_device(call.tx, &call.caller)?
            .into_iter()
            .map(|(channel, member)| self.state(call, &channel, &member))
            .collect();
        if !states.iter().any(|state| state.kind == ChannelKind::Inbox) {
            states.push(ChannelState {
                channel: inbox_channel(&call.caller.device),
                kind: ChannelKind::Inbox,
                head_seq: 0,
                join_seq: 1,
                acked_seq: 0,
                removal_seq: None,
                last_message_id: None,
                retention_ms: self.config.retention_ms,
                added_seq: 1,
                incarnation: self.incarnation,
                successor: None,
            });
        }
        Ok(states)
    }

    /// Notes how far the device has durably read. Cursors only move forward, and not beyond what it
    /// may read.
    ///
    /// # Errors
    /// [`DeliveryError::ChannelNotFound`] for any channel it was never in,
    /// [`DeliveryError::Store`].
    pub fn ack(&self, call: &Call<'_>, cursors: &[Cursor]) -> Result<(), DeliveryError> {
        for cursor in cursors {
            match find(call, &cursor.channel)? {
                Some((channel, member)) => {
                    let seq = cursor.seq.min(self.readable_head(call, &channel, &member));
                    let moved = members::ack(call.tx, channel.no, &call.caller, seq)?;
                    if moved && channel.kind == ChannelKind::Inbox {
                        channels::save_due(call.tx, (channel.no, call.now_ms))?;
                    }
                }
                None if call.means_its_inbox(&cursor.channel) => {}
                None => return Err(DeliveryError::ChannelNotFound),
            }
        }
        Ok(())
    }

    /// A removed device reads up to and including its removal, once that has taken effect.
    fn readable_head(&self, call: &Call<'_>, channel: &Channel, member: &Member) -> u64 {
        removal::effective(self, call.now_ms, member)
            .map_or(channel.head_seq, |removal| removal.seq.min(channel.head_seq))
    }

    fn state(&self, call: &Call<'_>, channel: &Channel, member: &Member) -> ChannelState {
        let is_out = removal::effective(self, call.now_ms, member).is_some();
        ChannelState {
            channel: channel.id,
            kind: channel.kind,
            head_seq: self.readable_head(call, channel, member),
            join_seq: member.read_from,
            acked_seq: member.acked_seq,
            removal_seq: member.removal.map(|removal| removal.seq),
            last_message_id: member.last_message_id,
            retention_ms: self.retention_ms(channel),
            added_seq: member.join_seq,
            incarnation: channel.lived_in.unwrap_or(self.incarnation),
            successor: channel.successor.filter(|_| !is_out),
        }
    }
}

/// A channel with the caller's place in it.
fn find(call: &Call<'_>, id: &ChannelId) -> Result<Option<(Channel, Member)>, DeliveryError> {
    let Some(channel) = channels::find(call.tx, id, call.means_its_inbox(id))? else {
        return Ok(None);
    };
    let member = members::find(call.tx, channel.no, &call.caller)?;
    Ok(member.map(|member| (channel, member)))
}

/// 0 stands for the server's limit.
fn budget(bytes_max: u64) -> usize {
    match usize::try_from(bytes_max) {
        Ok(0) | Err(_) => PAGE_BYTES_MAX,
        Ok(bytes) => bytes.min(PAGE_BYTES_MAX),
    }
}
