//! One device writing to one channel: the checks that every entry passes, in their order, and the
//! append. Holds the channel and member as they will be; [`Writing::finish`] stores them.

use qpc_credential::{MlsContent, MlsHeader, mls_header};
use qpc_proto::chain::{Link, Log, bundle_digest, sha256};
use qpc_proto::codec::Writer;
use qpc_proto::message::{Accepted, CommitBundle, EntryKind, NewEntry};
use qpc_proto::{ChannelId, DeviceId, Digest, ErrorCode, MessageId};
use qpc_storage::sql;

use super::quota::{self, long};
use super::{Call, Delivery, removal};
use crate::DeliveryError;
use crate::store::channels::{self, Channel};
use crate::store::commits;
use crate::store::entries::{self, Inserts, NewRow, SEQ_MAX};
use crate::store::members::{self, Member};

/// An entry before it has a place.
pub(super) struct Draft<'a> {
    pub(super) kind: EntryKind,
    pub(super) after_commit: u64,
    pub(super) message_id: MessageId,
    payload: &'a [u8],
    payload_digest: Digest,
    bundle: Digest,
    /// Bytes that count towards the quota: the payload, and what a Commit declares and carries.
    pub(super) bytes: u64,
    /// In an inbox: the Welcome's row.
    welcome: Option<i64>,
}

impl<'a> Draft<'a> {
    /// An entry without a bundle, which names no Commit.
    pub(super) fn plain(kind: EntryKind, message_id: MessageId, payload: &'a [u8]) -> Self {
        Self {
            kind,
            after_commit: 0,
            message_id,
            payload,
            payload_digest: sha256(payload),
            bundle: Digest::ZERO,
            bytes: long(payload.len()),
            welcome: None,
        }
    }

    /// A pointer to the Welcome in row `welcome`.
    pub(super) fn pointer(message_id: MessageId, pointer: &'a [u8], welcome: i64) -> Self {
        Self { welcome: Some(welcome), ..Self::plain(EntryKind::Welcome, message_id, pointer) }
    }

    pub(super) fn application(entry: &'a NewEntry) -> Self {
        Self {
            after_commit: entry.after_commit,
            ..Self::plain(EntryKind::Application, entry.message_id, &entry.payload)
        }
    }

    pub(super) fn commit(bundle: &'a CommitBundle, welcome_hash: &Digest) -> Self {
        let beside = bundle.statements.iter().map(quota::carried_bytes).sum::<u64>();
        let beside = beside.saturating_add(long(bundle.roster_change.len()));
        let plain = Self::plain(EntryKind::Commit, bundle.message_id, &bundle.payload);
        Self {
            after_commit: bundle.after_commit,
            bundle: bundle_digest(&bundle.roster_change, &bundle.statements, welcome_hash),
            bytes: plain.bytes.saturating_add(beside),
            ..plain
        }
    }

    /// What a message id stands for: a retry must be of the same bytes. Digests are on disk.
    fn digest(&self) -> [u8; 16] {
        let bytes = Writer::default()
            .u8(self.kind.code())
            .u64(self.after_commit)
            .fixed(self.payload_digest)
            .fixed(self.bundle)
            .finish();
        sha256(&bytes).short()
    }
}

/// A device at work in a channel.
pub(super) struct Writing<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) call: &'a Call<'a>,
    pub(super) channel: Channel,
    pub(super) member: Member,
    /// The base that was found in the log last: a batch mostly names one.
    pub(super) known_base: u64,
}

impl<'a> Writing<'a> {
    pub(super) fn new(
        delivery: &'a Delivery,
        call: &'a Call<'a>,
        channel: Channel,
        member: Member,
    ) -> Self {
        let known_base = channel.last_commit;
        Self { delivery, call, channel, member, known_base }
    }

    /// Opens a channel for the calling device. Inboxes have no writers.
    ///
    /// # Errors
    /// [`DeliveryError::ChannelNotFound`] alike for an unknown channel and one it was never in.
    pub(super) fn open(
        delivery: &'a Delivery,
        call: &'a Call<'a>,
        id: &ChannelId,
    ) -> Result<Self, DeliveryError> {
        let channel = channels::find(call.tx, id, false)?;
        let channel = channel.ok_or(DeliveryError::ChannelNotFound)?;
        let member = members::find(call.tx, channel.no, &call.caller)?;
        let member = member.ok_or(DeliveryError::ChannelNotFound)?;
        Ok(Self::new(delivery, call, channel, member))
    }

    /// First check: the first answer again, if the message id was accepted with the same bytes.
    ///
    /// # Errors
    /// `MESSAGE_ID_CONFLICT` if it was accepted with others.
    pub(super) fn replay(&self, draft: &Draft<'_>) -> Result<Option<Accepted>, DeliveryError> {
        let scope = (self.channel.no, &self.call.caller);
        let accepted = (self.call.tx, &self.delivery.recent);
        let Some(first) = entries::remembered(accepted, scope, &draft.message_id)? else {
            return Ok(None);
        };
        if first.digest != draft.digest() {
            let why = "this message id was accepted with other bytes";
            return Err(DeliveryError::Refused(ErrorCode::MessageIdConflict, why));
        }
        Ok(Some(first.accepted))
    }

    /// Second check: the device is in the channel, which goes on.
    ///
    /// # Errors
    /// [`DeliveryError::NotMember`]; [`DeliveryError::ChannelClosed`], or `CHANNEL_CLOSED` alone
    /// where nobody has made a successor yet.
    pub(super) fn check_rights(&self) -> Result<(), DeliveryError> {
        self.check_member()?;
        if let Some(successor) = self.channel.successor {
            return Err(DeliveryError::ChannelClosed(successor));
        }
        if self.channel.lived_in.is_some() {
            let why = "the server was restored from a backup, and this channel ended there: go on \
                       in another, made with a reset of this one";
            return Err(DeliveryError::Refused(ErrorCode::ChannelClosed, why));
        }
        Ok(())
    }

    /// The device is in the channel, or its removal is still open.
    pub(super) fn check_member(&self) -> Result<(), DeliveryError> {
        match removal::effective(self.delivery, self.call.now_ms, &self.member) {
            Some(removal) => Err(DeliveryError::NotMember(removal.seq)),
            None => Ok(()),
        }
    }

    /// Third check: the sender had read the last Commit.
    pub(super) fn check_current(&self, after_commit: u64) -> Result<(), DeliveryError> {
        (after_commit == self.channel.last_commit)
            .then_some(())
            .ok_or(DeliveryError::StaleCommit(self.channel.last_commit))
    }

    /// Last check: the MLS header fits the entry, names no entry that is not in the log yet, and
    /// its base is a Commit of this log, no older than the one that this device last named or
    /// joined at.
    pub(super) fn check_header(&mut self, draft: &Draft<'_>) -> Result<MlsHeader, DeliveryError> {
        let header = mls_header(draft.payload)?;
        let fits = match header.content {
            MlsContent::Application => draft.kind == EntryKind::Application,
            MlsContent::Commit => draft.kind == EntryKind::Commit,
        };
        if !fits {
            let why = "the MLS content type is not that of the entry";
            return Err(DeliveryError::Refused(ErrorCode::InvalidMlsType, why));
        }
        if header.aad.channel != self.channel.id {
            return Err(mismatch("sealed for another channel"));
        }
        if header.aad.head_seq > self.channel.head_seq {
            return Err(mismatch("it names an entry that is not in the log yet"));
        }
        self.check_base(header.aad.base_commit)?;
        Ok(header)
    }

    /// Notes an entry's base; `messages` is how many accepted messages name it, if it is a new one.
    pub(super) fn note_base(&mut self, base: u64, messages: u64) {
        if base != self.member.last_base {
            self.member.last_base = base;
            self.member.base_entries = messages;
        }
    }

    fn check_base(&mut self, base: u64) -> Result<(), DeliveryError> {
        if base > self.channel.last_commit {
            return Err(mismatch("the base is not in the log yet"));
        }
        // Before the first Commit there is no base, and nobody has joined.
        if self.channel.last_commit == 0 {
            return Ok(());
        }
        if base < self.member.last_base.max(self.member.join_seq) {
            return Err(mismatch("the base is older than one named before"));
        }
        if base != self.known_base {
            let commit = commits::find(self.call.tx, self.channel.no, base)?;
            commit.ok_or(mismatch("the base is not a Commit"))?;
            self.known_base = base;
        }
        Ok(())
    }

    /// The next entry's sequence number.
    pub(super) fn next_seq(&self) -> Result<u64, DeliveryError> {
        let full = DeliveryError::Refused(ErrorCode::ChannelClosed, "the channel's log is full");
        let next = self.channel.head_seq.checked_add(1);
        next.filter(|seq| *seq <= SEQ_MAX).ok_or(full)
    }

    /// Appends an entry that has passed all checks and whose id is new, and remembers the id.
    pub(super) fn append_new(&mut self, draft: &Draft<'_>) -> Result<Accepted, DeliveryError> {
        let mut inserts = Inserts::new(self.call.tx, &self.delivery.recent)?;
        self.append(&mut inserts, draft)?.ok_or_else(known_but_unknown)
    }

    /// Appends an entry that has passed all checks, and remembers its id; none, and nothing is
    /// written, if the id was accepted before.
    pub(super) fn append(
        &mut self,
        inserts: &mut Inserts<'_>,
        draft: &Draft<'_>,
    ) -> Result<Option<Accepted>, DeliveryError> {
        let place = Place { seq: self.next_seq()?, sender: Some(self.call.caller.device) };
        let at = (inserts, self.call.now_ms);
        let appended = append(self.delivery, at, &mut self.channel, (place, draft))?;
        let Some(accepted) = appended else { return Ok(None) };
        if draft.kind == EntryKind::Commit {
            self.channel.last_commit = accepted.seq;
            self.known_base = accepted.seq;
        }
        let member = &mut self.member;
        quota::count(&mut member.held, draft);
        member.last_message_id = Some(draft.message_id);
        match draft.kind {
            EntryKind::Application => {
                member.last_seq = accepted.seq;
                member.base_entries = member.base_entries.saturating_add(1);
            }
            EntryKind::Commit => member.last_seq = accepted.seq,
            EntryKind::Statement | EntryKind::Welcome | EntryKind::Notice => {}
        }
        Ok(Some(accepted))
    }

    /// Stores how far the channel and the member have moved.
    pub(super) fn finish(self) -> Result<ChannelId, DeliveryError> {
        channels::save(self.call.tx, &self.channel)?;
        members::save(self.call.tx, self.channel.no, &self.member)?;
        Ok(self.channel.id)
    }
}

/// Where an entry goes, and who posted it; the server's own have no sender.
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) sender: Option<DeviceId>,
}

/// Gives a draft its place in the log and in the hash chain. Accept times never run backwards in a
/// channel. The channel's row is the caller's to save. None, and nothing is written, if the sender
/// has an entry of that message id.
pub(super) fn append(
    delivery: &Delivery,
    (inserts, now_ms): (&mut Inserts<'_>, u64),
    channel: &mut Channel,
    (place, draft): (Place, &Draft<'_>),
) -> Result<Option<Accepted>, DeliveryError> {
    let seq = place.seq;
    let incarnation = channel.lived_in.unwrap_or(delivery.incarnation);
    let log = Log { incarnation, channel: channel.id };
    let link = Link {
        seq,
        kind: draft.kind,
        after_commit: draft.after_commit,
        accepted_at_ms: now_ms.max(channel.head_at_ms),
        message_id: draft.message_id,
        payload: draft.payload_digest,
        bundle: draft.bundle,
    };
    let accepted = Accepted {
        seq,
        head: log.next(&channel.head, &link),
        accepted_at_ms: link.accepted_at_ms,
        duplicate: false,
    };
    let row = NewRow {
        kind: draft.kind,
        after_commit: draft.after_commit,
        accepted,
        message_id: draft.message_id,
        sender: place.sender.map(|sender| (sender, draft.digest())),
        welcome: draft.welcome,
        payload: draft.payload,
    };
    if !inserts.put(channel.no, &row)? {
        return Ok(None);
    }
    channel.head_seq = seq;
    channel.head = accepted.head;
    channel.head_at_ms = accepted.accepted_at_ms;
    quota::count(&mut channel.held, draft);
    let kept_ms = delivery.retention_ms(channel);
    channel.is_due(accepted.accepted_at_ms.saturating_add(kept_ms));
    Ok(Some(accepted))
}

/// The log's index has a message id that its rows don't have: the database is damaged.
pub(super) fn known_but_unknown() -> DeliveryError {
    DeliveryError::Store(sql::Error::QueryReturnedNoRows)
}

/// `AAD_MISMATCH` with what contradicts.
pub(super) fn mismatch(why: &'static str) -> DeliveryError {
    DeliveryError::Refused(ErrorCode::AadMismatch, why)
}
