//! Messages with the framing of MLS around bytes that are no ciphertext: the server never opens
//! one. Keeps no group.

use bytes::Bytes;
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::message::{ChannelKind, CommitBundle, CreateChannel, Enqueue, NewEntry, Request};
use qpc_proto::roster::RosterChange;
use qpc_proto::{ChannelId, MessageId, chain};

/// RFC 9420 section 6: `ContentType` application and commit.
const APPLICATION: u8 = 1;
const COMMIT: u8 = 3;
/// Sequence number of the Commit that creates a channel.
pub(crate) const FIRST_COMMIT: u64 = 1;
/// Messages that a client seals at once.
const BATCH: u64 = 64;

/// A group of the caller alone.
pub(crate) fn create_channel(channel: ChannelId) -> Request {
    let change = RosterChange::default();
    let commit =
        CommitBinding { roster_change: change.digest(), statements: chain::statements_digest(&[]) };
    let aad = Aad { channel, base_commit: 0, head_seq: 0, head: [0; 16], commit: Some(commit) };
    Request::CreateChannel(CreateChannel {
        channel,
        retention_ms: 0,
        reset: None,
        kind: ChannelKind::Group,
        bundle: CommitBundle {
            // At no cursor yet.
            message_id: MessageId([0; 16]),
            after_commit: 0,
            payload: private_message(COMMIT, &aad, &[0; 64]),
            roster_change: change.encode().into(),
            welcome: None,
            statements: Vec::new(),
        },
    })
}

/// Application entries after the Commit that created the channel, of which `number` is the first.
pub(crate) fn enqueue(channel: ChannelId, number: u64, contents: &[Bytes]) -> Request {
    let entry = |(content, number): (&Bytes, u64)| NewEntry {
        message_id: message_id(number),
        after_commit: FIRST_COMMIT,
        payload: message(channel, content),
    };
    let entries = contents.iter().zip(number..).map(entry).collect();
    Request::Enqueue(Enqueue { channel, entries })
}

/// An application message as it travels and is stored.
pub(crate) fn message(channel: ChannelId, content: &[u8]) -> Bytes {
    let base_commit = FIRST_COMMIT;
    let aad = Aad { channel, base_commit, head_seq: base_commit, head: [0; 16], commit: None };
    private_message(APPLICATION, &aad, content)
}

/// As clients make them, for where an id lands in an index has a cost: the cursor that the batch
/// was sealed at, with one batch on its way, and behind it bytes without an order.
fn message_id(number: u64) -> MessageId {
    let read = number.saturating_sub(number % BATCH).saturating_sub(BATCH);
    let cursor = u128::from(FIRST_COMMIT.saturating_add(read));
    let hashed = u128::from_be_bytes(chain::sha256(&number.to_be_bytes()).short());
    MessageId(((cursor << 64) | (hashed >> 64)).to_be_bytes())
}

/// An `MLSMessage` with a PrivateMessage (RFC 9420 sections 6 and 6.3.1); its ciphertext is last.
fn private_message(content_type: u8, aad: &Aad, ciphertext: &[u8]) -> Bytes {
    let mut bytes = vec![0, 1, 0, 2];
    put_vector(&mut bytes, &[7; 32]);
    bytes.extend_from_slice(&0_u64.to_be_bytes());
    bytes.push(content_type);
    put_vector(&mut bytes, &aad.encode());
    put_vector(&mut bytes, &[0; 28]);
    put_vector(&mut bytes, ciphertext);
    bytes.into()
}

/// A vector below 2^14 bytes with its length as RFC 9420 section 2.1.2 writes it.
fn put_vector(bytes: &mut Vec<u8>, content: &[u8]) {
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x3f) => bytes.push(short),
        Ok(_) | Err(_) => {
            let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&(len | 0x4000).to_be_bytes());
        }
    }
    bytes.extend_from_slice(content);
}
