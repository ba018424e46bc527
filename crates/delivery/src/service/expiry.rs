//! What ends with time, or once all have read it. A log loses its front, never its middle: it stays
//! gapless, and a reader who is behind is told so. Standing statements and unread Welcomes stay
//! longer than the rest; message ids outlive their entries.

use qpc_credential::lifetime;
use qpc_proto::message::ChannelKind;
use qpc_proto::{ChannelId, Malformed};
use qpc_storage::Tx;

use super::{Delivery, revocation, standing};
use crate::DeliveryError;
use crate::store::channels::{self, Channel, NEVER};
use crate::store::commits::{self, Forgotten};
use crate::store::{account, expiry, key_packages, members};

/// How long a Welcome waits for its device.
const UNREAD_KEPT_MS: u64 = lifetime::RETENTION_MAX * 1_000;
/// From then on no KeyPackage can be added, or admitted again: its tombstone is of no more use.
const TOMBSTONES_KEPT_MS: u64 = (lifetime::BACK + lifetime::AHEAD) * 1_000;
/// When to look again at a channel whose oldest entry had to stay.
const LOOK_AGAIN_MS: u64 = 3_600 * 1_000;
/// The shortest retention of a channel.
const RETENTION_MIN_MS: u64 = 60_000;
/// Bytes of entries from which on one step deletes no more. They are overwritten, and so written
/// once more. The last entry may be larger than what is left.
const STEP_BYTES: u64 = 1_024 * 1_024;
/// Commits of a channel that one step forgets, each perhaps with a roster of 1,000 devices.
const PRUNED_AT_ONCE: u32 = 32;
/// Channels that one step looks at because something in them is due.
const CHANNELS_AT_ONCE: u32 = 64;

/// What one transaction may still delete, whatever it deletes.
#[derive(Debug)]
pub struct Room {
    rows: u32,
    bytes: u64,
}

impl Room {
    /// About so many rows, and a MiB of what is large.
    pub fn of(rows: u32) -> Self {
        Self { rows, bytes: STEP_BYTES }
    }

    /// Whether nothing more may go.
    pub(super) fn is_taken(&self) -> bool {
        self.rows == 0 || self.bytes == 0
    }

    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    pub(super) fn take(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(u32::try_from(rows).unwrap_or(u32::MAX));
    }

    /// Deletes what fits of a log's entries before `end`; returns where it begins then.
    pub(super) fn trim(
        &mut self,
        tx: &Tx<'_>,
        channel: &Channel,
        end: u64,
    ) -> Result<u64, DeliveryError> {
        let first = channel.first_seq;
        let within = end.min(first.saturating_add(self.rows.into()));
        if self.is_taken() || within <= first {
            return Ok(first);
        }
        let mut cut = first;
        for (seq, bytes) in expiry::sizes(tx, channel.no, (first, within))? {
            if self.bytes == 0 {
                break;
            }
            self.bytes = self.bytes.saturating_sub(bytes);
            cut = seq.saturating_add(1);
        }
        // Nothing that is left holds it up, not even a hole.
        let cut = if self.bytes == 0 { cut } else { within };
        expiry::trim(tx, channel, cut)?;
        self.take(usize::try_from(cut.saturating_sub(first)).unwrap_or(usize::MAX));
        Ok(cut)
    }

    /// Deletes an inbox of a device that is gone, if all of it fits; whether it did.
    pub(super) fn drop_inbox(
        &mut self,
        tx: &Tx<'_>,
        inbox: &Channel,
    ) -> Result<bool, DeliveryError> {
        let behind = inbox.head_seq.saturating_add(1);
        let fits = self.trim(tx, inbox, behind)? == behind;
        if fits {
            drop_channel(tx, inbox.no)?;
        }
        Ok(fits)
    }

    /// Forgets the oldest Commits of a channel that nobody is in; whether these were the last.
    pub(super) fn forget_commits(&mut self, tx: &Tx<'_>, no: i64) -> Result<bool, DeliveryError> {
        let limit = self.pruned_at_once();
        let forgotten = commits::forget(tx, no, (u64::MAX, limit))?;
        Ok(self.holds_all(&forgotten, limit))
    }

    /// How many Commits may go next.
    fn pruned_at_once(&self) -> u64 {
        self.rows.min(PRUNED_AT_ONCE).into()
    }

    /// Takes the room of Commits that went; whether there were fewer than might have gone.
    fn holds_all(&mut self, forgotten: &Forgotten, limit: u64) -> bool {
        self.take(usize::try_from(forgotten.commits).unwrap_or(usize::MAX));
        self.bytes = self.bytes.saturating_sub(forgotten.bytes);
        forgotten.commits < limit
    }
}

/// Deletes an emptied channel with all who are or were in it.
fn drop_channel(tx: &Tx<'_>, no: i64) -> Result<(), DeliveryError> {
    members::drop_all(tx, no)?;
    Ok(account::delete_channel(tx, no)?)
}

impl Delivery {
    /// Deletes what has expired: entries older than their channel's retention, later their message
    /// ids, read or outlived Welcomes, tombstones of KeyPackages; and what was left of a channel
    /// that all have left, or of a revoked device's inbox. What goes takes `room`, and about as
    /// many KeyPackages may go; returns how many entries, ids, Commits and KeyPackages went.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn sweep_expired(
        &self,
        tx: &Tx<'_>,
        now_ms: u64,
        room: &mut Room,
    ) -> Result<usize, DeliveryError> {
        let dead_ms = now_ms.saturating_sub(TOMBSTONES_KEPT_MS);
        let swept = key_packages::sweep(tx, dead_ms, room.rows())?;
        let mut sweep = Sweep { delivery: self, tx, now_ms, room, gone: 0 };
        let at = (now_ms, self.config.retention_ms);
        for channel in expiry::due(tx, at, CHANNELS_AT_ONCE)? {
            if sweep.room.is_taken() {
                break;
            }
            let end = sweep.expired_end(&channel)?.max(sweep.acked_end(&channel)?);
            if end > channel.first_seq {
                let roster = commits::roster(tx, channel.no, channel.last_commit)?;
                revocation::forget_unneeded(tx, &channel, &roster)?;
            }
            let pruned = sweep.prune(&channel)?;
            sweep.cut(channel, (end, pruned))?;
        }
        Ok(swept.saturating_add(sweep.gone))
    }

    /// Whether [`Self::sweep_expired`] finds a channel to look at.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn has_due(&self, tx: &Tx<'_>, now_ms: u64) -> Result<bool, DeliveryError> {
        Ok(!expiry::due(tx, (now_ms, self.config.retention_ms), 1)?.is_empty())
    }

    /// Deletes the entries of some channels that every device has acknowledged which may read them
    /// (`now_ms` is Unix milliseconds), inboxes included, and never a standing statement. What has
    /// no `room` goes by [`Self::sweep_expired`]; returns how many went. An unknown channel has
    /// none.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn trim_acked(
        &self,
        (tx, now_ms): (&Tx<'_>, u64),
        ids: &[ChannelId],
        room: &mut Room,
    ) -> Result<usize, DeliveryError> {
        let mut sweep = Sweep { delivery: self, tx, now_ms, room, gone: 0 };
        for (id, inbox) in ids.iter().flat_map(|id| [(id, false), (id, true)]) {
            let Some(channel) = channels::find(tx, id, inbox)? else { continue };
            if sweep.room.is_taken() {
                channels::save_due(tx, (channel.no, now_ms))?;
                continue;
            }
            let end = sweep.acked_end(&channel)?;
            if end > channel.first_seq {
                // Of what is due for another reason it has seen nothing.
                let rest = channel.due_at_ms > now_ms;
                sweep.cut(channel, (end, rest))?;
            }
        }
        Ok(sweep.gone)
    }

    /// The first sequence number of a log that is served at `now_ms`: what has expired is not, even
    /// if no sweep has come by.
    pub(super) fn first_served(
        &self,
        (tx, now_ms): (&Tx<'_>, u64),
        channel: &Channel,
    ) -> Result<u64, DeliveryError> {
        let room = &mut Room::of(0);
        Sweep { delivery: self, tx, now_ms, room, gone: 0 }.expired_end(channel)
    }

    /// How long entries of a channel are kept, in milliseconds.
    pub(super) fn retention_ms(&self, channel: &Channel) -> u64 {
        let servers = self.config.retention_ms;
        channel.retention_ms.map_or(servers, |own| own.min(servers))
    }

    /// The retention that a new channel asks for; 0 is the server's.
    pub(super) fn own_retention(&self, asked_ms: u64) -> Result<Option<u64>, DeliveryError> {
        if asked_ms == 0 {
            return Ok(None);
        }
        if (RETENTION_MIN_MS..=self.config.retention_ms).contains(&asked_ms) {
            return Ok(Some(asked_ms));
        }
        let why = "a channel's retention is 60,000 ms at least, and at most the server's";
        Err(Malformed(why).into())
    }
}

/// One sweep at work.
struct Sweep<'a> {
    delivery: &'a Delivery,
    tx: &'a Tx<'a>,
    now_ms: u64,
    room: &'a mut Room,
    /// How many rows went.
    gone: usize,
}

impl Sweep<'_> {
    /// Where a log begins without what has expired.
    fn expired_end(&self, channel: &Channel) -> Result<u64, DeliveryError> {
        let until_ms = self.now_ms.saturating_sub(self.delivery.retention_ms(channel));
        let (first, behind) = (channel.first_seq, channel.head_seq.saturating_add(1));
        let expired = expiry::first_after(self.tx, channel.no, (first, behind), until_ms)?;
        if expired == first {
            return Ok(first);
        }
        Ok(match channel.kind {
            ChannelKind::Direct | ChannelKind::Group => {
                expired.min(self.needed_from(channel)?).max(first)
            }
            ChannelKind::Inbox => self.unread_from(channel, expired)?,
        })
    }

    /// Where an inbox must stay: at what its device has not read, for as long as a Welcome waits.
    fn unread_from(&self, channel: &Channel, expired: u64) -> Result<u64, DeliveryError> {
        let unread = expiry::inbox_acked(self.tx, channel.no)?.saturating_add(1);
        let outlived_ms = self.now_ms.saturating_sub(UNREAD_KEPT_MS);
        let range = (channel.first_seq, expired);
        let outlived = expiry::first_after(self.tx, channel.no, range, outlived_ms)?;
        Ok(expired.min(unread).max(outlived))
    }

    /// Where a log begins without what everybody has read.
    fn acked_end(&self, channel: &Channel) -> Result<u64, DeliveryError> {
        let ended_ms = self.now_ms.saturating_sub(self.delivery.config.retention_ms);
        let range = (channel.first_seq, ended_ms);
        let unread = members::unread_from(self.tx, channel.no, range)?;
        let end = unread.unwrap_or(u64::MAX).min(channel.head_seq.saturating_add(1));
        if end <= channel.first_seq || channel.kind == ChannelKind::Inbox {
            return Ok(end.max(channel.first_seq));
        }
        Ok(end.min(self.needed_from(channel)?).max(channel.first_seq))
    }

    /// Takes the front off a log as far as `end`, forgets what was remembered long enough, and
    /// notes when to come again: at once if there was no room for all, or Commits are not `pruned`.
    fn cut(
        &mut self,
        mut channel: Channel,
        (end, pruned): (u64, bool),
    ) -> Result<(), DeliveryError> {
        let (tx, no, first) = (self.tx, channel.no, channel.first_seq);
        channel.first_seq = self.room.trim(tx, &channel, end)?;
        let gone = channel.first_seq.saturating_sub(first);
        self.gone = self.gone.saturating_add(usize::try_from(gone).unwrap_or(usize::MAX));
        let mut all = pruned && channel.first_seq >= end;
        let place = (no, channel.first_seq);
        let kept_ms = self.remembered_ms();
        let until_ms = self.now_ms.saturating_sub(kept_ms);
        let forgotten = expiry::forget(tx, place, until_ms, self.room.rows().into())?;
        self.count(forgotten);
        let remembered = expiry::oldest_remembered(tx, place)?;
        if remembered.is_none() && self.is_over(&channel)? {
            if self.room.forget_commits(tx, no)? {
                return drop_channel(tx, no);
            }
            all = false;
        }
        let forget_at = remembered.map_or(NEVER, |at_ms| at_ms.saturating_add(kept_ms));
        let next_cut = if all { self.next_cut(&channel)? } else { self.now_ms };
        let due_at = next_cut.min(forget_at);
        Ok(expiry::note_due(tx, no, (due_at, self.delivery.config.retention_ms))?)
    }

    /// Forgets Commits that only older entries than any to come can refer to; whether that is all.
    fn prune(&mut self, channel: &Channel) -> Result<bool, DeliveryError> {
        let ended_ms = self.now_ms.saturating_sub(self.delivery.config.retention_ms);
        let limit = self.room.pruned_at_once();
        let pruned = commits::prune(self.tx, channel, (ended_ms, limit))?;
        self.gone = self.gone.saturating_add(usize::try_from(pruned.commits).unwrap_or(usize::MAX));
        Ok(self.room.holds_all(&pruned, limit))
    }

    /// Where a log must stay, for a statement that stands.
    fn needed_from(&self, channel: &Channel) -> Result<u64, DeliveryError> {
        self.delivery.needed_from((self.tx, self.now_ms), channel)
    }

    /// Whether a channel has lost its last entry and message id, and nobody who stays is in it.
    fn is_over(&self, channel: &Channel) -> Result<bool, DeliveryError> {
        if channel.first_seq <= channel.head_seq {
            return Ok(false);
        }
        if channel.kind == ChannelKind::Inbox {
            return Ok(expiry::is_orphaned(self.tx, channel.no)?);
        }
        let roster = commits::roster(self.tx, channel.no, channel.last_commit)?;
        standing::is_abandoned(self.tx, &standing::leaves(self.tx, channel)?, &roster)
    }

    /// How long a message id is remembered.
    fn remembered_ms(&self) -> u64 {
        let config = &self.delivery.config;
        config.retention_ms.saturating_add(config.outbox_age_ms)
    }

    fn count(&mut self, rows: usize) {
        self.room.take(rows);
        self.gone = self.gone.saturating_add(rows);
    }

    /// When the entry at a log's front can go, if not once all have read it. What expired and had
    /// to stay is looked at again after a while.
    fn next_cut(&self, channel: &Channel) -> Result<u64, DeliveryError> {
        let Some(at_ms) = expiry::accepted_at(self.tx, channel.no, channel.first_seq)? else {
            return Ok(NEVER);
        };
        let kept_ms = match channel.kind {
            ChannelKind::Inbox if expiry::inbox_acked(self.tx, channel.no)? < channel.first_seq => {
                UNREAD_KEPT_MS.max(self.delivery.retention_ms(channel))
            }
            ChannelKind::Direct | ChannelKind::Group | ChannelKind::Inbox => {
                self.delivery.retention_ms(channel)
            }
        };
        let due_at = at_ms.saturating_add(kept_ms);
        let stuck = due_at <= self.now_ms;
        Ok(if stuck { self.now_ms.saturating_add(LOOK_AGAIN_MS) } else { due_at })
    }
}
