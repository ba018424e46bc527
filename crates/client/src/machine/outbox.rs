//! Own messages: sealed under the epoch in force, sent in batches, resent as they are until
//! settled.

use qpc_mls::MlsError;
use qpc_mls::engine::Place;
use qpc_proto::content::{Body, Content};
use qpc_proto::message::{Enqueue, EnqueueAnswer, NewEntry, Request};
use qpc_proto::{ErrorCode, ErrorDetail, MessageId, limits};

use super::store::{ChannelRow, OutboxRow};
use super::{Machine, Step, Work};
use crate::error::ClientError;

/// Messages sealed and sent at once.
const BATCH_MAX: u64 = 64;
/// Bytes sent at once: a frame must hold them with their envelopes.
const BATCH_BYTES_MAX: usize = limits::PAYLOAD_BYTES_MAX;

/// Sealed bytes are sent no longer than this, in milliseconds: a server forgets a message id so
/// long after the entry itself (`outbox_days`), and would then take the same bytes a second time.
const OUTBOX_AGE_MS: u64 = 7 * 24 * 3_600_000;

/// A sealed message that no frame holds. As the server would say it.
const TOO_LARGE: &str = "FRAME_TOO_LARGE";
/// A message that was sent without an answer, until this device was out of its channel.
const UNANSWERED: &str = "UNANSWERED";
/// A message that the group engine does not seal.
const NOT_SEALED: &str = "SEAL_FAILED";

/// The id of an entry that is sealed now: the cursor (u64, big-endian), then 8 random bytes. Ids
/// that grow with their log lie side by side at the server. The cursor is in the authenticated
/// data, too.
pub(super) fn new_message_id(step: &mut Step<'_>, row: &ChannelRow) -> MessageId {
    let random = u64::from_be_bytes(step.random());
    MessageId(((u128::from(row.cursor) << 64) | u128::from(random)).to_be_bytes())
}

impl Machine {
    /// The next batch of a channel: what is sealed already, else what can be sealed now.
    pub(super) fn next_batch(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        may_seal: bool,
    ) -> Result<Option<Request>, ClientError> {
        // Who seals many again and again spends generations that others cannot skip.
        let overtaken = self.overtaken.get(&row.channel).copied().unwrap_or(0);
        let most = BATCH_MAX.checked_shr(overtaken).unwrap_or(0).max(1);
        let before_ms = step.now_ms.saturating_sub(OUTBOX_AGE_MS);
        let aged = step.db.sealed_before(&row.channel, before_ms)?;
        if !aged.is_empty() {
            // Once everything known is read, what the log would have shown is settled.
            let is_settled = row.in_step() || !row.status.reads();
            match row.status.seals() {
                true if may_seal => aged.iter().try_for_each(|id| step.db.unseal(*id))?,
                false if row.status.is_over() && is_settled => {
                    for id in aged {
                        step.db.refuse(id, UNANSWERED)?;
                        self.show_own(step, id)?;
                    }
                }
                true | false => return Ok(None),
            }
        }
        let pending = step.db.outbox(&row.channel, most)?;
        // What is sealed goes first, wherever it stands: it may be at the server already, and
        // sealing it anew would send it twice.
        let mut rows: Vec<OutboxRow> =
            pending.iter().filter(|row| row.sealed.is_some()).cloned().collect();
        if rows.is_empty() {
            if !may_seal || pending.is_empty() {
                return Ok(None);
            }
            rows = self.seal_batch(step, row, pending)?;
        }
        let mut entries = Vec::new();
        let mut ids = Vec::new();
        let mut bytes = 0_usize;
        for row in rows {
            let Some((message_id, after_commit, payload)) = row.sealed else { continue };
            bytes = bytes.saturating_add(payload.len());
            if !entries.is_empty() && bytes > BATCH_BYTES_MAX {
                break;
            }
            entries.push(NewEntry { message_id, after_commit, payload: payload.into() });
            ids.push(row.id);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        self.batches.insert(row.channel, ids);
        Ok(Some(Request::Enqueue(Enqueue { channel: row.channel, entries })))
    }

    fn seal_batch(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        waiting: Vec<OutboxRow>,
    ) -> Result<Vec<OutboxRow>, ClientError> {
        let place = Place {
            channel: row.channel,
            base_commit: row.base_commit,
            head_seq: row.cursor,
            head: row.head,
        };
        let own_devices = Some(self.own.digest());
        let room = usize::try_from(self.epoch_room(step, row)?).unwrap_or(usize::MAX);
        let mut sealed = Vec::with_capacity(waiting.len());
        for mut message in waiting.into_iter().take(room) {
            let Some(line) = step.db.message(message.id)? else { continue };
            let content = Content {
                content_id: line.content_id,
                sent_at_ms: line.sent_at_ms,
                own_devices,
                body: Body::Text(line.text),
            };
            let plaintext = zeroize::Zeroizing::new(content.encode());
            let payload = match self.engine.seal(step.db.0, &row.group, (&place, &plaintext)) {
                Ok(payload) if payload.len() <= limits::PAYLOAD_BYTES_MAX => payload,
                Ok(_) => {
                    self.set_aside(step, (message.id, TOO_LARGE))?;
                    continue;
                }
                Err(MlsError::Library(_)) => {
                    self.set_aside(step, (message.id, NOT_SEALED))?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let message_id = new_message_id(step, row);
            step.db.seal((message.id, step.now_ms), (&message_id, row.last_commit, &payload))?;
            message.sealed = Some((message_id, row.last_commit, payload));
            sealed.push(message);
        }
        self.note_sealed(step, (row, sealed.len()))?;
        Ok(sealed)
    }

    /// One message is refused for good; those behind it go on.
    fn set_aside(&self, step: &mut Step<'_>, (id, why): (u64, &str)) -> Result<(), ClientError> {
        step.db.refuse(id, why)?;
        self.show_own(step, id)
    }

    /// What became of a batch: the accepted prefix has its place; the first refused is sealed anew
    /// or set aside; those behind it go again.
    pub(super) fn enqueued(
        &mut self,
        step: &mut Step<'_>,
        channel: &qpc_proto::ChannelId,
        answer: EnqueueAnswer,
    ) -> Result<(), ClientError> {
        let Some(ids) = self.batches.remove(channel) else { return Ok(()) };
        let Some(mut row) = step.db.channel(channel)? else { return Ok(()) };
        for (id, accepted) in ids.iter().zip(&answer.accepted) {
            row.known_head = row.known_head.max(accepted.seq);
            // The log may have shown it before the answer came.
            if !step.db.is_queued(*id)? {
                continue;
            }
            let place = (accepted.seq, accepted.accepted_at_ms);
            if accepted.seq > row.cursor {
                step.db.accept(*id, place)?;
            } else if step.db.head_at(channel, accepted.seq)?.is_none() {
                // Accepted in an earlier membership, whose end this device has not read.
                step.db.settle(*id, place)?;
            } else {
                // Something else is there: the answer was not for this message, or the server has
                // another log now.
                self.contradicts(step, &mut row, (accepted.seq, &accepted.head))?;
                self.pause(step, (Work::Outbox(*channel), None));
                continue;
            }
            self.show_own(step, *id)?;
        }
        if let Some(refusal) = answer.refusal {
            let rest = ids.get(answer.accepted.len()..).unwrap_or_default();
            if refusal.code == ErrorCode::StaleCommit {
                if let Some(ErrorDetail::LastCommit(seq)) = refusal.detail {
                    row.known_head = row.known_head.max(seq);
                    self.missed_commit(step, &mut row, seq)?;
                }
                let count = self.overtaken.entry(*channel).or_default();
                *count = count.saturating_add(1);
                for id in rest {
                    step.db.unseal(*id)?;
                }
                if row.status.is_over() {
                    self.refuse_outbox(step, &row, "you left")?;
                }
            } else if refusal.code == ErrorCode::ChannelClosed {
                return self.channel_closed(step, channel, &refusal);
            } else if refusal.code.retryable() {
                self.pause(step, (Work::Outbox(*channel), refusal.retry_after_ms));
            } else if let Some(id) = rest.first() {
                step.db.refuse(*id, refusal.code.as_str())?;
                self.show_own(step, *id)?;
            }
        } else {
            self.pauses.remove(&Work::Outbox(*channel));
            self.overtaken.remove(channel);
        }
        Ok(step.db.put_channel(&row)?)
    }

    /// Sets aside everything that waits in a channel, visibly. What is sealed may be at the server
    /// already: an answer or the log settles it.
    pub(super) fn refuse_outbox(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        reason: &str,
    ) -> Result<(), ClientError> {
        let all = step.db.outbox(&row.channel, u64::from(u32::MAX))?;
        for message in all.into_iter().filter(|message| message.sealed.is_none()) {
            step.db.refuse(message.id, reason)?;
            self.show_own(step, message.id)?;
        }
        Ok(())
    }
}
