//! The hash chain over a channel's log: every accept returns its head, every fetch is checked
//! against it.
//!
//! Both sides compute it with the same function; neither ever trusts a head it has not computed.

use sha2::{Digest as _, Sha256};

use crate::codec::Writer;
use crate::ids::{ChannelId, Digest, Incarnation, MessageId};
use crate::message::{Entry, EntryKind};

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// What a head covers besides its predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Sequence number, from 1.
    pub seq: u64,
    /// Kind of entry.
    pub kind: EntryKind,
    /// The last Commit its sender had read.
    pub after_commit: u64,
    /// Server time of acceptance, Unix milliseconds.
    pub accepted_at_ms: u64,
    /// Client-made id.
    pub message_id: MessageId,
    /// SHA-256 of the payload.
    pub payload: Digest,
    /// [`bundle_digest`] of a Commit; zeros for other kinds.
    pub bundle: Digest,
}

/// The log that a chain belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The server database's life.
    pub incarnation: Incarnation,
    /// The channel.
    pub channel: ChannelId,
}

impl Log {
    /// The head after `link`, given the head before it (zeros before the first entry).
    pub fn next(&self, previous: &Digest, link: &Link) -> Digest {
        let bytes = Writer::with_label("qpc/v1 log")
            .fixed(self.incarnation)
            .fixed(previous)
            .fixed(self.channel)
            .u64(link.seq)
            .u8(link.kind.code())
            .u64(link.after_commit)
            .u64(link.accepted_at_ms)
            .fixed(link.message_id)
            .fixed(link.payload)
            .fixed(link.bundle)
            .finish();
        sha256(&bytes)
    }
}

/// Digest of all that a Commit carries beside its payload: the declared change, the statements
/// relied on and the Welcome by its digest (zeros without one), so that members who never see the
/// Welcome can check the chain.
pub fn bundle_digest(
    roster_change: &[u8],
    statements: &[bytes::Bytes],
    welcome: &Digest,
) -> Digest {
    let head = Writer::with_label("qpc/v1 bundle").var(roster_change).fixed(welcome);
    sha256(&statements.iter().fold(head, |writer, statement| writer.var(statement)).finish())
}

/// Digest of a Commit's statements, as its authenticated data names them.
pub fn statements_digest(statements: &[bytes::Bytes]) -> Digest {
    let head = Writer::with_label("qpc/v1 statements");
    sha256(&statements.iter().fold(head, |writer, statement| writer.var(statement)).finish())
}

impl Link {
    /// The link of an entry as it was fetched.
    pub fn of(entry: &Entry) -> Self {
        let bundle = match entry.kind {
            EntryKind::Commit => {
                bundle_digest(&entry.roster_change, &entry.statements, &entry.welcome_hash)
            }
            EntryKind::Application
            | EntryKind::Statement
            | EntryKind::Welcome
            | EntryKind::Notice => Digest::ZERO,
        };
        Self {
            seq: entry.seq,
            kind: entry.kind,
            after_commit: entry.after_commit,
            accepted_at_ms: entry.accepted_at_ms,
            message_id: entry.message_id,
            payload: sha256(&entry.payload),
            bundle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            seq: 1,
            kind: EntryKind::Application,
            after_commit: 0,
            accepted_at_ms: 5,
            message_id: MessageId([3; 16]),
            payload: sha256(b"p"),
            bundle: Digest::ZERO,
        }
    }

    #[test]
    fn every_field_changes_the_head() {
        let log = Log { incarnation: Incarnation([1; 16]), channel: ChannelId([2; 16]) };
        let head = log.next(&Digest::ZERO, &link());
        let changed = [
            log.next(&Digest([9; 32]), &link()),
            Log { channel: ChannelId([3; 16]), ..log }.next(&Digest::ZERO, &link()),
            Log { incarnation: Incarnation([3; 16]), ..log }.next(&Digest::ZERO, &link()),
            log.next(&Digest::ZERO, &Link { seq: 2, ..link() }),
            log.next(&Digest::ZERO, &Link { kind: EntryKind::Commit, ..link() }),
            log.next(&Digest::ZERO, &Link { after_commit: 1, ..link() }),
            log.next(&Digest::ZERO, &Link { accepted_at_ms: 6, ..link() }),
            log.next(&Digest::ZERO, &Link { message_id: MessageId([4; 16]), ..link() }),
            log.next(&Digest::ZERO, &Link { payload: sha256(b"q"), ..link() }),
            log.next(&Digest::ZERO, &Link { bundle: Digest([1; 32]), ..link() }),
        ];
        assert!(changed.iter().all(|other| *other != head));
    }

    #[test]
    fn the_head_has_its_published_value() {
        let log = Log { incarnation: Incarnation([1; 16]), channel: ChannelId([2; 16]) };
        let head = log.next(&Digest::ZERO, &link()).to_string();
        let vectors = include_str!("../../../docs/protocol/vectors/chain.txt");
        assert_eq!(vectors.lines().find(|line| !line.starts_with('#')), Some(head.as_str()));
    }
}
