//! What shows that the server lies about a log: an entry that does not fit those before it, a part
//! taken back, a member that was shown another one.
//!
//! What this device can prove by itself stops the reader; what somebody else says is told.

use qpc_credential::mls_header;
use qpc_proto::aad::Aad;
use qpc_proto::chain::{Link, Log};
use qpc_proto::message::{ChannelState, Entry, EntryKind};
use qpc_proto::{Digest, Incarnation};

use super::store::{ChannelRow, Status};
use super::{Machine, Step};
use crate::error::ClientError;

/// Of an entry whose sender is known.
pub(super) const OPENED: &str =
    "a member was shown another log than this device: the server may be lying";
/// Of an entry that anybody in the channel may have made.
pub(super) const UNOPENED: &str = "an entry that this device can't open names another log than \
    it was shown: the server or its sender may be lying";

/// What no honest server takes into a log: its checks on the open part of an entry, once more.
fn misplaced(row: &ChannelRow, entry: &Entry) -> Option<&'static str> {
    let sealed = matches!(entry.kind, EntryKind::Application | EntryKind::Commit);
    if entry.after_commit != if sealed { row.last_commit } else { 0 } {
        return Some("the log holds an entry that does not follow the Commit before it");
    }
    let aad = mls_header(&entry.payload).ok().filter(|_| sealed)?.aad;
    if aad.channel != row.channel {
        return Some("the log holds an entry that was sealed for another channel");
    }
    let text = "the log holds an entry that builds on a Commit which it does not hold";
    (aad.base_commit > row.last_commit).then_some(text)
}

impl Machine {
    /// Whether an entry continues the log as it was read; if not, the reader stops.
    pub(super) fn continues(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (incarnation, entry): (&Incarnation, &Entry),
    ) -> Result<bool, ClientError> {
        let log = Log { incarnation: *incarnation, channel: row.channel };
        // Where an inbox lost its front, the first entry that is left is taken as it is.
        let resumed = row.cursor > 0 && row.head == Digest::ZERO;
        let fits = resumed || log.next(&row.head, &Link::of(entry)) == entry.head;
        let broken = (!fits).then_some("the server's log breaks its own chain");
        if fits && entry.after_commit != row.last_commit {
            self.is_behind_gap(step, row, entry.after_commit)?;
        }
        let Some(text) = broken.or_else(|| misplaced(row, entry)) else { return Ok(true) };
        (row.status, row.reason) = (Status::Alarm, Some(format!("{text} at {}", entry.seq)));
        self.alarm(step, Some((row.channel, entry.seq)), text.to_owned())?;
        Ok(false)
    }

    /// Compares the log that a member was shown with this device's, by the digest in its entry.
    /// Tells; does not stop, for a hostile member could claim anything. Where a Commit was left out
    /// or moved, nothing can be opened any more: what cannot be is compared, too.
    pub(super) fn compare_view(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        (entry, aad, text): (&Entry, &Aad, &str),
    ) -> Result<(), ClientError> {
        // The number is the sender's: none that no column holds goes further than this.
        if aad.head_seq >= entry.seq {
            return self.alarm(step, Some((row.channel, entry.seq)), text.to_owned());
        }
        let shown = step.db.head_at(&row.channel, aad.head_seq)?;
        if shown.is_some_and(|head| head.short() != aad.head) {
            self.alarm(step, Some((row.channel, aad.head_seq)), text.to_owned())?;
        }
        Ok(())
    }

    /// Stops the reader if the server now names another head at a place that was read: it took back
    /// what it showed.
    pub(super) fn contradicts(
        &self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (seq, head): (u64, &Digest),
    ) -> Result<bool, ClientError> {
        let read = step.db.head_at(&row.channel, seq)?;
        let same = read.is_none_or(|read| read == *head);
        if same || seq > row.cursor || !row.status.reads() {
            return Ok(false);
        }
        self.taken_back(step, row, seq)?;
        Ok(true)
    }

    /// Stops the reader if the log is shorter than what was read, as the server says before it is
    /// read on a connection. Who was removed meanwhile may read no more than up to that.
    pub(super) fn compare_length(
        &self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (first, state): (bool, &ChannelState),
    ) -> Result<(), ClientError> {
        let shorter = first && state.head_seq < row.cursor && state.removal_seq.is_none();
        if shorter && row.status.reads() {
            self.taken_back(step, row, state.head_seq.saturating_add(1))?;
        }
        Ok(())
    }

    /// From this number on the server's log is not the one that was read.
    fn taken_back(
        &self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        seq: u64,
    ) -> Result<(), ClientError> {
        let text = "the server took back a part of the log that this device has read";
        (row.status, row.reason) = (Status::Alarm, Some(format!("{text}: from {seq} on")));
        self.alarm(step, Some((row.channel, seq)), text.to_owned())
    }
}
