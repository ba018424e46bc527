//! Application entries of many requests in one transaction: what the requests share is read once
//! and written once. Never outlives a change that is made past it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use qpc_proto::message::{Accepted, Enqueue, EnqueueAnswer, Entry, EntryKind, NewEntry};
use qpc_proto::{ChannelId, DeviceId, Digest};
use qpc_storage::Tx;

use super::writing::{Draft, Writing, known_but_unknown};
use super::{Call, Delivery, Written};
use crate::DeliveryError;
use crate::store::channels::{self, Channel};
use crate::store::entries::Inserts;
use crate::store::members::{self, Member};

/// `Enqueue`s that are answered one after the other within one transaction. All of them, and
/// nothing else, is written through it until [`Posts::finish`].
#[derive(Debug)]
pub struct Posts<'a> {
    delivery: &'a Delivery,
    tx: &'a Tx<'a>,
    /// From the first entry on.
    inserts: Option<Inserts<'a>>,
    channels: BTreeMap<ChannelId, Open>,
    members: BTreeMap<(i64, DeviceId), Member>,
    /// Channels in which no removal waits to be confirmed.
    settled: BTreeSet<i64>,
}

/// A channel with the base that was found in its log last: a batch mostly names one.
#[derive(Debug)]
struct Open {
    channel: Channel,
    known_base: u64,
}

impl Delivery {
    /// Begins a run of `Enqueue`s in `tx`.
    pub fn posts<'a>(&'a self, tx: &'a Tx<'a>) -> Posts<'a> {
        Posts {
            delivery: self,
            tx,
            inserts: None,
            channels: BTreeMap::new(),
            members: BTreeMap::new(),
            settled: BTreeSet::new(),
        }
    }
}

impl Posts<'_> {
    /// As [`Delivery::enqueue`], in the transaction that the run began with.
    ///
    /// # Errors
    /// [`DeliveryError::ChannelNotFound`], and the run goes on; [`DeliveryError::Store`]: roll back
    /// to before the run.
    pub fn enqueue(
        &mut self,
        call: &Call<'_>,
        enqueue: &Enqueue,
    ) -> Result<Written<EnqueueAnswer>, DeliveryError> {
        let call = Call { tx: self.tx, ..*call };
        let mut writing = self.open(&call, &enqueue.channel)?;
        let ready = self
            .inserts
            .take()
            .map_or_else(|| Inserts::of_messages(self.tx, &self.delivery.recent), Ok)?;
        let inserts = self.inserts.insert(ready);
        let (answer, mut posted) = writing.post(inserts, &enqueue.entries)?;
        if posted.is_empty() {
            self.keep(writing);
            return Ok(Written::silent(answer));
        }
        let no = writing.channel.no;
        let confirmed = !self.is_settled(no)? && writing.confirm_removals()?;
        self.keep(writing);
        if confirmed {
            // Rows of other members have changed, and with them what they may read.
            self.save()?;
            posted.clear();
        }
        Ok(Written { answer, wakes: vec![enqueue.channel], posted })
    }

    /// Stores how far channels and members have moved.
    ///
    /// # Errors
    /// [`DeliveryError::Store`]: roll back to before the run.
    pub fn finish(mut self) -> Result<(), DeliveryError> {
        if let Some(inserts) = &mut self.inserts {
            inserts.finish()?;
        }
        self.save()
    }

    fn save(&mut self) -> Result<(), DeliveryError> {
        for open in std::mem::take(&mut self.channels).into_values() {
            channels::save(self.tx, &open.channel)?;
        }
        for ((no, _), member) in std::mem::take(&mut self.members) {
            members::save(self.tx, no, &member)?;
        }
        self.settled.clear();
        Ok(())
    }

    /// Whether nobody's removal from a channel waits to be confirmed.
    fn is_settled(&mut self, no: i64) -> Result<bool, DeliveryError> {
        if self.settled.contains(&no) {
            return Ok(true);
        }
        let settled = !members::has_leaving(self.tx, no)?;
        if settled {
            self.settled.insert(no);
        }
        Ok(settled)
    }

    fn open<'c>(&mut self, call: &'c Call<'c>, id: &ChannelId) -> Result<Writing<'c>, DeliveryError>
    where
        Self: 'c,
    {
        let Some(Open { channel, known_base }) = self.channels.remove(id) else {
            return Writing::open(self.delivery, call, id);
        };
        let member = match self.members.remove(&(channel.no, call.caller.device)) {
            Some(member) if member.device == call.caller => Some(member),
            Some(_) | None => members::find(call.tx, channel.no, &call.caller)?,
        };
        let Some(member) = member else {
            self.channels.insert(*id, Open { channel, known_base });
            return Err(DeliveryError::ChannelNotFound);
        };
        let mut writing = Writing::new(self.delivery, call, channel, member);
        writing.known_base = known_base;
        Ok(writing)
    }

    fn keep(&mut self, writing: Writing<'_>) {
        let Writing { channel, member, known_base, .. } = writing;
        self.members.insert((channel.no, member.device.device), member);
        self.channels.insert(channel.id, Open { channel, known_base });
    }
}

impl Writing<'_> {
    /// Accepts the longest good prefix; returns what of it is new, too, as readers get it.
    fn post(
        &mut self,
        inserts: &mut Inserts<'_>,
        entries: &[NewEntry],
    ) -> Result<(EnqueueAnswer, Vec<Entry>), DeliveryError> {
        let mut answer =
            EnqueueAnswer { accepted: Vec::with_capacity(entries.len()), refusal: None };
        let mut posted = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.accept(inserts, entry) {
                Ok(accepted) => {
                    if !accepted.duplicate {
                        posted.push(read(entry, &accepted));
                    }
                    answer.accepted.push(accepted);
                }
                Err(DeliveryError::Store(error)) => return Err(error.into()),
                Err(refused) => {
                    answer.refusal = Some(refused.to_body());
                    break;
                }
            }
        }
        Ok((answer, posted))
    }

    /// All checks come before the first write, so that a refused entry leaves nothing behind.
    ///
    /// An id that was accepted before comes first, whatever else holds of the entry; but that is
    /// seldom, and the log's index finds it on the way.
    fn accept(
        &mut self,
        inserts: &mut Inserts<'_>,
        entry: &NewEntry,
    ) -> Result<Accepted, DeliveryError> {
        let draft = Draft::application(entry);
        let checked = self.check(&draft).and_then(|base| {
            let appended = self.append(inserts, &draft)?;
            Ok(appended.inspect(|_| self.note_base(base, 1)))
        });
        match checked {
            Ok(Some(accepted)) => Ok(accepted),
            Ok(None) => self.replay(&draft)?.ok_or_else(known_but_unknown),
            Err(DeliveryError::Store(error)) => Err(error.into()),
            Err(refused) => self.replay(&draft)?.ok_or(refused),
        }
    }

    /// Returns the entry's base.
    fn check(&mut self, draft: &Draft<'_>) -> Result<u64, DeliveryError> {
        self.check_rights()?;
        self.check_current(draft.after_commit)?;
        self.next_seq()?;
        self.check_room(draft)?;
        Ok(self.check_header(draft)?.aad.base_commit)
    }
}

/// An accepted entry as its readers get it.
fn read(entry: &NewEntry, accepted: &Accepted) -> Entry {
    Entry {
        seq: accepted.seq,
        kind: EntryKind::Application,
        after_commit: entry.after_commit,
        accepted_at_ms: accepted.accepted_at_ms,
        message_id: entry.message_id,
        payload: entry.payload.clone(),
        roster_change: Bytes::new(),
        statements: Vec::new(),
        welcome_hash: Digest::ZERO,
        head: accepted.head,
        welcome: None,
    }
}
