//! Acknowledgements that wait to be written: of one device and channel the highest alone. They are
//! written from time to time, not in the commit of each; one that a crash loses costs a redelivery.
//!
//! Forgets none before it is on disk, whatever becomes of an attempt to write it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use qpc_proto::frame::Frame;
use qpc_proto::message::{Cursor, DeviceRef};
use qpc_proto::{ChannelId, ErrorBody};
use tokio::sync::oneshot;

use crate::node::{Outputs, Refused, Task, Work};
use crate::refusal::Refusal;
use crate::server::Shared;

/// Pairs of a device and a channel that wait. One more and acknowledgements wait for the writer.
const WAITING_MAX: usize = 65_536;

/// Pairs that one job of the writer takes, so that it never holds up a group commit for long.
const WRITTEN_AT_ONCE: usize = 1_024;
/// Channels that are remembered as acknowledged until the next sweep.
const ACKED_MAX: usize = 4_096;

/// Acknowledgements of all devices.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    seqs: BTreeMap<Place, u64>,
    /// Channels in which something was acknowledged lately.
    acked: BTreeSet<ChannelId>,
}

/// A device in a channel.
type Place = (DeviceRef, ChannelId);

/// How far a device has read a channel.
type Acked = (Place, u64);

impl Acks {
    /// Notes what a device has read; false when there is no room.
    pub(crate) fn note(&self, device: DeviceRef, cursors: &[Cursor]) -> bool {
        let mut waiting = self.locked();
        if waiting.seqs.len().saturating_add(cursors.len()) > WAITING_MAX {
            return false;
        }
        for cursor in cursors {
            let seq = waiting.seqs.entry((device, cursor.channel)).or_default();
            *seq = cursor.seq.max(*seq);
        }
        true
    }

    /// The next of what waits behind a place, at most [`WRITTEN_AT_ONCE`].
    fn behind(&self, last: Option<Place>) -> Vec<Acked> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.range((from, Bound::Unbounded))
    }

    /// The same of one device, behind a channel.
    fn of(&self, device: DeviceRef, last: Option<ChannelId>) -> Vec<Acked> {
        let first = Bound::Included((device, ChannelId([0; 16])));
        let from = last.map_or(first, |channel| Bound::Excluded((device, channel)));
        self.range((from, Bound::Included((device, ChannelId([0xff; 16])))))
    }

    fn range(&self, range: (Bound<Place>, Bound<Place>)) -> Vec<Acked> {
        let waiting = self.locked();
        let waiting = waiting.seqs.range(range).take(WRITTEN_AT_ONCE);
        waiting.map(|(place, seq)| (*place, *seq)).collect()
    }

    /// Forgets what is on disk, unless the device has read further meanwhile. In the channels
    /// `acked` it counted.
    fn written(&self, written: &[Acked], acked: BTreeSet<ChannelId>) {
        let mut waiting = self.locked();
        for (place, seq) in written {
            if waiting.seqs.get(place).is_some_and(|newest| newest <= seq) {
                waiting.seqs.remove(place);
            }
        }
        let room = ACKED_MAX.saturating_sub(waiting.acked.len());
        waiting.acked.extend(acked.into_iter().take(room));
    }

    /// Takes channels in which something was acknowledged since they were taken last, at most
    /// `limit`; whether there are more.
    pub(crate) fn channels(&self, limit: usize) -> (Vec<ChannelId>, bool) {
        let mut waiting = self.locked();
        let taken: Vec<_> = waiting.acked.iter().copied().take(limit).collect();
        for channel in &taken {
            waiting.acked.remove(channel);
        }
        (taken, !waiting.acked.is_empty())
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.locked().seqs.is_empty()
    }

    /// The map stays whole whatever panics, so a poisoned lock is as good as any.
    fn locked(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what one device has acknowledged.
///
/// # Errors
/// Why it could not; the rest waits for the next time.
pub(crate) async fn write_of(shared: &Shared, device: DeviceRef) -> Result<(), Refusal> {
    let mut last = None;
    loop {
        let some = shared.acks.of(device, last);
        let Some(((_, channel), _)) = some.last() else { return Ok(()) };
        last = Some(*channel);
        write(shared, some).await?;
    }
}

/// Writes what all devices have acknowledged, as far as it can: the rest waits for the next time.
pub(crate) async fn write_all(shared: &Shared) {
    let mut last = None;
    loop {
        let some = shared.acks.behind(last);
        let Some((place, _)) = some.last() else { return };
        last = Some(*place);
        if let Err(refusal) = write(shared, some).await {
            tracing::warn!(code = refusal.code().as_str(), "acknowledgements were not written");
        }
    }
}

async fn write(shared: &Shared, acked: Vec<Acked>) -> Result<(), Refusal> {
    let acked = Arc::new(acked);
    let (tell, counted) = oneshot::channel();
    let (node, now_ms, of_task) = (Arc::clone(&shared.node), shared.now_ms(), Arc::clone(&acked));
    let task: Task = Box::new(move |tx, mut rng| {
        let mut channels = BTreeSet::new();
        for ((device, channel), seq) in of_task.iter() {
            let cursor = Cursor { channel: *channel, seq: *seq };
            let counted = node.acknowledge((tx, now_ms), *device, &[cursor]);
            channels.extend(counted.map_err(|refusal| Refused::new(refusal, &mut rng))?);
        }
        // Nobody may be left to hear it; then it is written again.
        drop(tell.send(channels));
        Ok(Outputs::reply(Bytes::new()))
    });
    let outputs = shared.writer.run(Work::Task(task)).await?;
    if let Frame::Error(code, body) = outputs.frame {
        return Err(ErrorBody::decode(code, &body)?.into());
    }
    let channels = counted.await.map_err(Refusal::internal)?;
    shared.acks.written(&acked, channels);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_proto::{AccountId, DeviceId};

    fn device(n: u16) -> DeviceRef {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        DeviceRef { account: AccountId([7; 16]), device: DeviceId(id) }
    }

    fn cursor(channel: u8, seq: u64) -> Cursor {
        Cursor { channel: ChannelId([channel; 16]), seq }
    }

    fn channels(numbers: &[u8]) -> BTreeSet<ChannelId> {
        numbers.iter().map(|n| ChannelId([*n; 16])).collect()
    }

    fn at(device_number: u16, channel: u8, seq: u64) -> Acked {
        ((device(device_number), ChannelId([channel; 16])), seq)
    }

    #[test]
    fn of_a_device_and_channel_the_highest_waits_until_it_is_written() {
        let acks = Acks::default();
        assert!(acks.note(device(1), &[cursor(1, 5), cursor(0xff, 1)]));
        assert!(acks.note(device(1), &[cursor(1, 4)]));
        assert!(acks.note(device(2), &[cursor(1, 9)]));
        let all = [at(1, 1, 5), at(1, 0xff, 1), at(2, 1, 9)];
        // Asking takes nothing away.
        for _ in 0..2 {
            assert_eq!(acks.of(device(1), None), all[..2]);
            assert_eq!(acks.behind(None), all);
        }
        assert_eq!(acks.of(device(1), Some(ChannelId([1; 16]))), all[1..2]);
        assert!(acks.of(device(1), Some(ChannelId([0xff; 16]))).is_empty());
        assert_eq!(acks.behind(Some(all[1].0)), all[2..]);
        // It has read on while the rest was being written.
        assert!(acks.note(device(1), &[cursor(0xff, 7)]));
        acks.written(&all, channels(&[1]));
        assert_eq!(acks.behind(None), [at(1, 0xff, 7)]);
        acks.written(&[at(1, 0xff, 7)], channels(&[1, 2]));
        assert!(acks.behind(None).is_empty() && acks.of(device(1), None).is_empty());
        assert_eq!(acks.channels(1), (vec![ChannelId([1; 16])], true));
        assert_eq!(acks.channels(1), (vec![ChannelId([2; 16])], false));
        assert_eq!(acks.channels(1), (vec![], false));
    }

    #[test]
    fn there_is_room_for_so_many_and_jobs_take_them_in_parts() {
        let acks = Acks::default();
        for n in 0..WAITING_MAX {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(n as u64).to_be_bytes());
            // All of one device: no job gets larger for that.
            assert!(acks.note(device(1), &[Cursor { channel: ChannelId(id), seq: 1 }]));
        }
        assert!(!acks.note(device(2), &[cursor(1, 1)]));
        assert_eq!(acks.of(device(1), None).len(), WRITTEN_AT_ONCE);
        let (mut last, mut jobs) = (None, 0);
        loop {
            let some = acks.behind(last);
            let Some((place, _)) = some.last() else { break };
            assert_eq!(some.len(), WRITTEN_AT_ONCE);
            (last, jobs) = (Some(*place), jobs + 1);
            acks.written(&some, BTreeSet::new());
        }
        assert_eq!(jobs, WAITING_MAX / WRITTEN_AT_ONCE);
        assert!(acks.note(device(2), &[cursor(1, 1)]));
    }

    #[test]
    fn the_channels_for_the_next_sweep_are_bounded() {
        let acks = Acks::default();
        for n in 0..6_000_u16 {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&n.to_be_bytes());
            acks.written(&[], [ChannelId(id)].into());
        }
        assert_eq!(acks.channels(usize::MAX).0.len(), ACKED_MAX);
    }
}
