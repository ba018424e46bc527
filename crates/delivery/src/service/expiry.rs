//! What ends with time. A log loses its front, never its middle: it stays gapless, and a reader who
//! is behind is told so. Standing statements and unread Welcomes stay longer than the rest.

use qpc_credential::lifetime;
use qpc_proto::message::ChannelKind;
use qpc_storage::Tx;

use super::{Delivery, revocation};
use crate::DeliveryError;
use crate::store::channels::{self, Channel};
use crate::store::{commits, expiry, key_packages, revoked};

/// How long a Welcome waits for its device.
const UNREAD_KEPT_MS: u64 = lifetime::RETENTION_MAX * 1_000;
/// From then on no KeyPackage can be added, or admitted again: its tombstone is of no more use.
const TOMBSTONES_KEPT_MS: u64 = (lifetime::BACK + lifetime::AHEAD) * 1_000;
/// When to look again at a channel whose oldest entry had to stay.
const LOOK_AGAIN_MS: u64 = 3_600 * 1_000;

impl Delivery {
    /// Deletes what has expired: entries older than the retention with their message ids, read or
    /// outlived Welcomes, tombstones of KeyPackages. About `limit` rows of each kind go at most;
    /// returns how many entries and KeyPackages went.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn sweep_expired(
        &self,
        tx: &Tx<'_>,
        now_ms: u64,
        limit: u32,
    ) -> Result<usize, DeliveryError> {
        let dead_ms = now_ms.saturating_sub(TOMBSTONES_KEPT_MS);
        let mut swept = key_packages::sweep(tx, dead_ms, limit)?;
        let until_ms = now_ms.saturating_sub(self.config.retention_ms);
        let mut times = Times { now_ms, until_ms, left: u64::from(limit) };
        for channel in expiry::due(tx, until_ms, limit)? {
            let gone = trim(tx, &channel, &times)?;
            swept = swept.saturating_add(usize::try_from(gone).unwrap_or(usize::MAX));
            times.left = times.left.saturating_sub(gone);
            if times.left == 0 {
                break;
            }
        }
        Ok(swept)
    }
}

/// What one sweep goes by.
struct Times {
    now_ms: u64,
    /// Entries accepted up to then have expired.
    until_ms: u64,
    /// How many entries may still go.
    left: u64,
}

/// Takes the expired front off a log; returns how many entries went.
fn trim(tx: &Tx<'_>, channel: &Channel, times: &Times) -> Result<u64, DeliveryError> {
    let first = channel.first_seq;
    let behind = channel.head_seq.saturating_add(1);
    let end = first.saturating_add(times.left).min(behind);
    let expired = expiry::first_after(tx, channel.no, (first, end), times.until_ms)?;
    let end = match channel.kind {
        ChannelKind::Direct | ChannelKind::Group => expired.min(needed_from(tx, channel)?),
        ChannelKind::Inbox => unread_from(tx, channel, expired, times.now_ms)?,
    };
    if end > first {
        expiry::trim(tx, channel, end)?;
    }
    let oldest_ms = if end == behind {
        times.now_ms
    } else if end < expired {
        // Expired, but it stays: other channels come first for a while.
        times.until_ms.saturating_add(LOOK_AGAIN_MS)
    } else {
        0
    };
    expiry::note_oldest(tx, channel, end, oldest_ms)?;
    Ok(end.saturating_sub(first))
}

/// The first standing statement of a log: an account said that it leaves, or a list took a device
/// off its account; and it is still there.
fn needed_from(tx: &Tx<'_>, channel: &Channel) -> Result<u64, DeliveryError> {
    let leaves = channels::leaves(tx, channel.no)?;
    if leaves.is_empty() && revoked::lists(tx, channel.no)?.is_empty() {
        return Ok(u64::MAX);
    }
    let roster = commits::roster(tx, channel.no, channel.last_commit)?;
    let standing = leaves.iter().filter(|(account, seq)| roster.leaves(account, *seq));
    let list = revocation::first_needed(tx, channel, &roster)?;
    Ok(standing.map(|(_, seq)| *seq).chain(list).min().unwrap_or(u64::MAX))
}

/// Where an inbox must stay: at what its device has not read, for as long as a Welcome waits.
fn unread_from(
    tx: &Tx<'_>,
    channel: &Channel,
    expired: u64,
    now_ms: u64,
) -> Result<u64, DeliveryError> {
    let unread = expiry::inbox_acked(tx, channel.no)?.saturating_add(1);
    let outlived_ms = now_ms.saturating_sub(UNREAD_KEPT_MS);
    let range = (channel.first_seq, expired);
    let outlived = expiry::first_after(tx, channel.no, range, outlived_ms)?;
    Ok(expired.min(unread).max(outlived))
}
