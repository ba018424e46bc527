//! Conversions between validated types and generated ones. Checks lengths and required choices, no
//! policy.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{
    Accepted, ChannelKind, ChannelState, CommitBundle, Cursor, Entry, EntryKind, Identity,
    NewEntry, Page,
};
use crate::error::{Malformed, UNSUPPORTED_VALUE};
use crate::ids::{AccountId, ChannelId, DeviceId, Digest, Incarnation, MessageId};
use crate::{limits, wire};

/// A fixed-length id as a protobuf field.
pub(crate) fn raw(id: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(id.as_ref())
}

/// A field that must be there.
pub(crate) fn required<T>(field: Option<T>) -> Result<T, Malformed> {
    field.ok_or(Malformed("a required field is missing"))
}

pub(crate) fn channel_id(bytes: &Bytes) -> Result<ChannelId, Malformed> {
    ChannelId::try_from(bytes.as_ref())
}

pub(crate) fn device_id(bytes: &Bytes) -> Result<DeviceId, Malformed> {
    DeviceId::try_from(bytes.as_ref())
}

pub(crate) fn account_id(bytes: &Bytes) -> Result<AccountId, Malformed> {
    AccountId::try_from(bytes.as_ref())
}

fn message_id(bytes: &Bytes) -> Result<MessageId, Malformed> {
    MessageId::try_from(bytes.as_ref())
}

fn payload(bytes: Bytes) -> Result<Bytes, Malformed> {
    if bytes.is_empty() || bytes.len() > limits::PAYLOAD_BYTES_MAX {
        return Err(Malformed("the payload is empty or above the limit"));
    }
    Ok(bytes)
}

/// An empty digest stands for zeros.
fn digest_or_zero(bytes: &Bytes) -> Result<Digest, Malformed> {
    if bytes.is_empty() { Ok(Digest::ZERO) } else { Digest::try_from(bytes.as_ref()) }
}

impl ChannelKind {
    pub(crate) fn to_wire(self) -> i32 {
        match self {
            Self::Direct => wire::ChannelKind::Direct,
            Self::Group => wire::ChannelKind::Group,
            Self::Inbox => wire::ChannelKind::Inbox,
        }
        .into()
    }

    pub(crate) fn from_wire(kind: i32) -> Result<Self, Malformed> {
        match wire::ChannelKind::try_from(kind) {
            Ok(wire::ChannelKind::Direct) => Ok(Self::Direct),
            Ok(wire::ChannelKind::Group) => Ok(Self::Group),
            Ok(wire::ChannelKind::Inbox) => Ok(Self::Inbox),
            Ok(wire::ChannelKind::Unspecified) | Err(_) => Err(Malformed(UNSUPPORTED_VALUE)),
        }
    }
}

impl EntryKind {
    pub(crate) fn to_wire(self) -> i32 {
        i32::from(self.code())
    }

    pub(crate) fn from_wire(kind: i32) -> Result<Self, Malformed> {
        let code = u8::try_from(kind).map_err(|_| Malformed(UNSUPPORTED_VALUE))?;
        Self::from_code(code).ok_or(Malformed(UNSUPPORTED_VALUE))
    }
}

impl Identity {
    pub(crate) fn to_wire(&self) -> wire::Identity {
        wire::Identity {
            account_id: raw(self.account),
            account_key: self.account_key.clone(),
            device_list: self.device_list.clone(),
        }
    }

    pub(crate) fn from_wire(wire: wire::Identity) -> Result<Self, Malformed> {
        Ok(Self {
            account: account_id(&wire.account_id)?,
            account_key: wire.account_key,
            device_list: wire.device_list,
        })
    }
}

impl Accepted {
    pub(crate) fn to_wire(self) -> wire::Accepted {
        wire::Accepted {
            seq: self.seq,
            head: raw(self.head),
            accepted_at_ms: self.accepted_at_ms,
            duplicate: self.duplicate,
        }
    }

    pub(crate) fn from_wire(wire: wire::Accepted) -> Result<Self, Malformed> {
        Ok(Self {
            seq: wire.seq,
            head: Digest::try_from(wire.head.as_ref())?,
            accepted_at_ms: wire.accepted_at_ms,
            duplicate: wire.duplicate,
        })
    }
}

impl CommitBundle {
    pub(crate) fn to_wire(&self) -> wire::CommitBundle {
        wire::CommitBundle {
            message_id: raw(self.message_id),
            after_commit: self.after_commit,
            payload: self.payload.clone(),
            roster_change: self.roster_change.clone(),
            welcome: self.welcome.clone(),
            statements: self.statements.clone(),
        }
    }

    pub(crate) fn from_wire(wire: wire::CommitBundle) -> Result<Self, Malformed> {
        if wire.statements.len() > limits::COMMIT_STATEMENTS_MAX {
            return Err(Malformed("too many statements"));
        }
        Ok(Self {
            message_id: message_id(&wire.message_id)?,
            after_commit: wire.after_commit,
            payload: payload(wire.payload)?,
            roster_change: wire.roster_change,
            welcome: wire.welcome,
            statements: wire.statements,
        })
    }
}

impl NewEntry {
    pub(crate) fn to_wire(&self) -> wire::NewEntry {
        wire::NewEntry {
            message_id: raw(self.message_id),
            after_commit: self.after_commit,
            payload: self.payload.clone(),
        }
    }

    pub(crate) fn from_wire(wire: wire::NewEntry) -> Result<Self, Malformed> {
        Ok(Self {
            message_id: message_id(&wire.message_id)?,
            after_commit: wire.after_commit,
            payload: payload(wire.payload)?,
        })
    }
}

impl Cursor {
    pub(crate) fn to_wire(self) -> wire::Cursor {
        wire::Cursor { channel_id: raw(self.channel), seq: self.seq }
    }

    pub(crate) fn from_wire(wire: wire::Cursor) -> Result<Self, Malformed> {
        Ok(Self { channel: channel_id(&wire.channel_id)?, seq: wire.seq })
    }
}

impl ChannelState {
    pub(crate) fn to_wire(&self) -> wire::ChannelState {
        wire::ChannelState {
            channel_id: raw(self.channel),
            kind: self.kind.to_wire(),
            head_seq: self.head_seq,
            join_seq: self.join_seq,
            acked_seq: self.acked_seq,
            removal_seq: self.removal_seq.unwrap_or(0),
            last_message_id: self.last_message_id.map(raw).unwrap_or_default(),
            retention_ms: self.retention_ms,
            added_seq: self.added_seq,
            incarnation: raw(self.incarnation),
            successor: self.successor.map(raw).unwrap_or_default(),
        }
    }

    pub(crate) fn from_wire(wire: wire::ChannelState) -> Result<Self, Malformed> {
        let (id, successor) = (&wire.last_message_id, &wire.successor);
        Ok(Self {
            channel: channel_id(&wire.channel_id)?,
            kind: ChannelKind::from_wire(wire.kind)?,
            head_seq: wire.head_seq,
            join_seq: wire.join_seq,
            acked_seq: wire.acked_seq,
            removal_seq: (wire.removal_seq != 0).then_some(wire.removal_seq),
            last_message_id: if id.is_empty() { None } else { Some(message_id(id)?) },
            retention_ms: wire.retention_ms,
            added_seq: wire.added_seq,
            incarnation: Incarnation::try_from(wire.incarnation.as_ref())?,
            successor: if successor.is_empty() { None } else { Some(channel_id(successor)?) },
        })
    }
}

impl Entry {
    pub(crate) fn to_wire(&self) -> wire::Entry {
        let commit = self.kind == EntryKind::Commit;
        wire::Entry {
            seq: self.seq,
            kind: self.kind.to_wire(),
            after_commit: self.after_commit,
            accepted_at_ms: self.accepted_at_ms,
            message_id: raw(self.message_id),
            payload: self.payload.clone(),
            roster_change: self.roster_change.clone(),
            statements: self.statements.clone(),
            welcome_hash: if commit { raw(self.welcome_hash) } else { Bytes::new() },
            head: raw(self.head),
            welcome: self.welcome.clone(),
        }
    }

    pub(crate) fn from_wire(wire: wire::Entry) -> Result<Self, Malformed> {
        Ok(Self {
            seq: wire.seq,
            kind: EntryKind::from_wire(wire.kind)?,
            after_commit: wire.after_commit,
            accepted_at_ms: wire.accepted_at_ms,
            message_id: message_id(&wire.message_id)?,
            payload: wire.payload,
            roster_change: wire.roster_change,
            statements: wire.statements,
            welcome_hash: digest_or_zero(&wire.welcome_hash)?,
            head: Digest::try_from(wire.head.as_ref())?,
            welcome: wire.welcome,
        })
    }
}

impl Page {
    /// The body of a page that has one entry and says nothing else: for [`Page::joined`].
    pub fn piece(entry: &Entry) -> Bytes {
        let page = wire::Page { entries: vec![entry.to_wire()], ..wire::Page::default() };
        page.encode_to_vec().into()
    }

    /// The body of a page of these entries, in their order. Of a message that is encoded in pieces
    /// protobuf makes the whole of them: what is repeated follows on, and fields come in any order.
    pub fn joined(channel: &ChannelId, head_seq: u64, pieces: &[Bytes]) -> Bytes {
        let rest = wire::Page { channel_id: raw(*channel), head_seq, ..wire::Page::default() };
        let all = pieces.iter().map(Bytes::len).fold(rest.encoded_len(), usize::saturating_add);
        let mut body = BytesMut::with_capacity(all);
        pieces.iter().for_each(|piece| body.extend_from_slice(piece));
        body.extend_from_slice(&rest.encode_to_vec());
        body.freeze()
    }

    pub(crate) fn to_wire(&self) -> wire::Page {
        wire::Page {
            channel_id: raw(self.channel),
            entries: self.entries.iter().map(Entry::to_wire).collect(),
            head_seq: self.head_seq,
            published: self.published.clone(),
        }
    }

    pub(crate) fn from_wire(wire: wire::Page) -> Result<Self, Malformed> {
        Ok(Self {
            channel: channel_id(&wire.channel_id)?,
            entries: wire.entries.into_iter().map(Entry::from_wire).collect::<Result<_, _>>()?,
            head_seq: wire.head_seq,
            published: wire.published,
        })
    }
}
