//! Statements that stand: an account leaves, a list took a device off, a device asks to come back.
//! They are neither expired nor trimmed, and shown to who joins later. Never judges a signature.

use bytes::Bytes;
use qpc_proto::chain::sha256;
use qpc_proto::message::{ChannelKind, DeviceRef, EntryKind};
use qpc_proto::{AccountId, DeviceId, Digest, MessageId};
use qpc_storage::Tx;

use super::writing::{Draft, Place, Writing, append};
use super::{Delivery, revocation};
use crate::DeliveryError;
use crate::roster::Roster;
use crate::store::channels::{self, Channel, Leave};
use crate::store::commits;
use crate::store::entries::Inserts;
use crate::store::revoked;
use crate::store::standing::{self, Ended, Rejoin};

/// How long a rejoin stands: as long as its KeyPackage can be added and still be read of after the
/// longest retention.
pub(super) const REJOIN_STANDS_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// How long all admins' devices must have asked before others may end a group.
const UNANSWERED_MS: u64 = 24 * 3_600 * 1_000;
/// How many statements one Commit lets the server show again; the next shows the rest.
const SHOWN_MAX: usize = 64;

/// A statement that stands, and where.
struct Standing {
    seq: u64,
    of: Of,
}

/// Whose it is, and of which kind.
enum Of {
    Leave(AccountId),
    List(AccountId),
    Rejoin(DeviceId),
}

impl Delivery {
    /// The rejoins that stand in a channel, whatever Commit one starts from.
    pub(super) fn rejoins(
        &self,
        (tx, now_ms): (&Tx<'_>, u64),
        no: i64,
    ) -> Result<Vec<Rejoin>, DeliveryError> {
        let ended = Ended {
            rejoins_ms: now_ms.saturating_sub(REJOIN_STANDS_MS),
            removals_ms: now_ms.saturating_sub(self.config.retention_ms),
        };
        Ok(standing::rejoins(tx, no, ended)?)
    }

    /// Where a log must stay: at the first statement that stands and is still there.
    pub(super) fn needed_from(
        &self,
        (tx, now_ms): (&Tx<'_>, u64),
        channel: &Channel,
    ) -> Result<u64, DeliveryError> {
        // Nobody can act on what stands in a channel that has ended.
        if channel.has_ended() {
            return Ok(u64::MAX);
        }
        let leaves = leaves(tx, channel)?;
        let rejoins = self.rejoins((tx, now_ms), channel.no)?;
        if leaves.is_empty() && rejoins.is_empty() && revoked::lists(tx, channel.no)?.is_empty() {
            return Ok(u64::MAX);
        }
        let roster = commits::roster(tx, channel.no, channel.last_commit)?;
        if is_abandoned(tx, &leaves, &roster)? {
            return Ok(u64::MAX);
        }
        let leaves = leaves.iter().filter(|leave| roster.leaves(&leave.account, leave.seq));
        let list = revocation::needed(tx, channel, &roster)?.into_iter().map(|(_, seq)| seq);
        let rejoins = rejoins.iter().map(|rejoin| rejoin.seq);
        let standing = leaves.map(|leave| leave.shown_seq).chain(rejoins).chain(list);
        // A Commit on an old base may let stand again what has gone meanwhile.
        Ok(standing.filter(|seq| *seq >= channel.first_seq).min().unwrap_or(u64::MAX))
    }
}

/// What accounts have said of leaving. Nobody leaves a direct channel: what older servers took
/// there says nothing.
pub(super) fn leaves(tx: &Tx<'_>, channel: &Channel) -> Result<Vec<Leave>, DeliveryError> {
    match channel.kind {
        ChannelKind::Direct | ChannelKind::Inbox => Ok(Vec::new()),
        ChannelKind::Group => Ok(channels::leaves(tx, channel.no)?),
    }
}

/// Whether nobody who stays is in a roster: every account has said that it leaves, or has revoked
/// devices alone.
pub(super) fn is_abandoned(
    tx: &Tx<'_>,
    leaves: &[Leave],
    roster: &Roster,
) -> Result<bool, DeliveryError> {
    for (device, _) in roster.devices() {
        let account = &device.account;
        let leaves = leaves.iter().any(|l| l.account == *account && roster.leaves(account, l.seq));
        if !leaves && !revoked::contains(tx, &device.device)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Writing<'_> {
    /// Shows those who joined behind a statement that stands the same bytes once more. `roster` is
    /// that after the Commit at `commit`, which was just appended.
    pub(super) fn show_standing(
        &mut self,
        roster: &Roster,
        commit: u64,
    ) -> Result<(), DeliveryError> {
        let (tx, now_ms) = self.call.at();
        let last_join = roster.devices().map(|(_, join)| join).max().unwrap_or_default();
        let mut behind = self.standing(roster)?;
        behind.retain(|standing| standing.seq < last_join);
        if behind.is_empty() {
            return Ok(());
        }
        behind.sort_by_key(|standing| standing.seq);
        let mut room = self.room_to_show()?;
        let mut inserts = Inserts::new(tx, &self.delivery.recent)?;
        let mut shown = 0;
        for standing in behind {
            let Some(bytes) = standing::payload(tx, self.channel.no, standing.seq)? else {
                continue;
            };
            let draft = Draft::plain(EntryKind::Statement, shown_id(&bytes, commit), &bytes);
            if shown == SHOWN_MAX || room < draft.bytes {
                break;
            }
            (shown, room) = (shown.saturating_add(1), room.saturating_sub(draft.bytes));
            let place = Place { seq: self.next_seq()?, sender: None };
            let seq = place.seq;
            let at = (&mut inserts, now_ms);
            append(self.delivery, at, &mut self.channel, (place, &draft))?;
            let no = self.channel.no;
            match standing.of {
                Of::Leave(account) => standing::move_leave(tx, (no, &account), seq)?,
                Of::List(account) => standing::move_list(tx, (no, &account), seq)?,
                Of::Rejoin(device) => standing::move_rejoin(tx, (no, &device), seq)?,
            }
        }
        Ok(())
    }

    /// What stands for a roster.
    fn standing(&self, roster: &Roster) -> Result<Vec<Standing>, DeliveryError> {
        let (tx, no) = (self.call.tx, self.channel.no);
        let leaves = leaves(tx, &self.channel)?.into_iter();
        let leaves = leaves.filter(|leave| roster.leaves(&leave.account, leave.seq));
        let mut all: Vec<_> = leaves
            .map(|leave| Standing { seq: leave.shown_seq, of: Of::Leave(leave.account) })
            .collect();
        for (account, seq) in revocation::needed(tx, &self.channel, roster)? {
            all.push(Standing { seq, of: Of::List(account) });
        }
        for rejoin in self.delivery.rejoins(self.call.at(), no)? {
            if roster.join_seq(&rejoin.device) == Some(rejoin.join_seq) {
                let of = Of::Rejoin(rejoin.device.device);
                all.push(Standing { seq: rejoin.seq, of });
            }
        }
        Ok(all)
    }

    /// Whether a device has said in this log that it wants back into the place that it has in the
    /// roster that a Commit starts from, or that it had last, by that KeyPackage.
    pub(super) fn may_come_back(
        &self,
        (device, join_seq, reference): &(DeviceRef, u64, Digest),
        before: &Roster,
    ) -> Result<bool, DeliveryError> {
        let (tx, no) = (self.call.tx, self.channel.no);
        let Some(said) = standing::rejoin_of(tx, (no, device))? else { return Ok(false) };
        let ends_at_ms = said.accepted_at_ms.saturating_add(REJOIN_STANDS_MS);
        let same = said.join_seq == *join_seq && said.reference == *reference;
        if !same || ends_at_ms <= self.call.now_ms {
            return Ok(false);
        }
        if before.join_seq(device) == Some(*join_seq) {
            return Ok(true);
        }
        let standing = self.delivery.rejoins(self.call.at(), no)?;
        Ok(standing.iter().any(|rejoin| rejoin.device == *device))
    }

    /// Whether every device of every admin in a roster has asked for a day to come back: none of
    /// them can commit, and no member has taken one back. Where there is no admin, nobody waits for
    /// one: such a group goes on as it is.
    pub(super) fn has_lost_its_admins(&self, roster: &Roster) -> Result<bool, DeliveryError> {
        let (_, now_ms) = self.call.at();
        let rejoins = self.delivery.rejoins(self.call.at(), self.channel.no)?;
        let is_old =
            |rejoin: &Rejoin| rejoin.accepted_at_ms.saturating_add(UNANSWERED_MS) <= now_ms;
        let asks = |device: &DeviceRef| rejoins.iter().any(|r| r.device == *device && is_old(r));
        let admins = roster.devices().filter(|(device, _)| roster.is_admin(&device.account));
        let mut admins = admins.map(|(device, _)| device).peekable();
        Ok(admins.peek().is_some() && admins.all(asks))
    }
}

/// The message id of a statement that the server shows again behind a Commit.
fn shown_id(statement: &Bytes, commit: u64) -> MessageId {
    MessageId(sha256(&[statement.as_ref(), &commit.to_be_bytes()].concat()).short())
}
