//! One line of the audit log, and the chain that ties it to the line before it.
//!
//! A line's hash is SHA-256 of its bytes without the line feed. Never touches a file.

use qpc_proto::{Digest, Malformed, chain};

use super::event::{AuditEvent, Network};

/// Bytes of one line, its line feed included.
pub(super) const LINE_BYTES_MAX: u64 = 4 * 1_024;

/// The end of the log as far as it is known: the last line's sequence number and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// From 1; 0 before the first line.
    pub seq: u64,
    /// SHA-256 of that line; zeros before the first.
    pub hash: Digest,
}

impl Default for Head {
    fn default() -> Self {
        Self::START
    }
}

impl Head {
    /// Before the first line.
    pub(crate) const START: Self = Self { seq: 0, hash: Digest::ZERO };

    /// Big-endian number (8 bytes) and hash (32).
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.seq.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.hash.as_bytes());
        bytes
    }

    /// A head whose hash stands in hexadecimal.
    pub(crate) fn parse(seq: u64, hash: &str) -> Option<Self> {
        Digest::from_hex(hash).ok().map(|hash| Self { seq, hash })
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let (seq, hash) = bytes.split_first_chunk().ok_or(Malformed("an audit head"))?;
        Ok(Self { seq: u64::from_be_bytes(*seq), hash: hash.try_into()? })
    }
}

/// What a line is made of besides its place in the chain.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at_ms: u64,
    pub(super) event: AuditEvent,
    pub(super) network: Option<Network>,
}

#[derive(serde::Serialize)]
struct Written<'a> {
    seq: u64,
    at_ms: u64,
    #[serde(flatten)]
    event: &'a AuditEvent,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    prev: String,
}

/// Appends the line that follows `head` to `buffer`, with its line feed; returns the head after it.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    head: Head,
    entry: &Entry,
) -> Result<Head, serde_json::Error> {
    let begin = buffer.len();
    let seq = head.seq.saturating_add(1);
    let line = Written {
        seq,
        at_ms: entry.at_ms,
        event: &entry.event,
        network: entry.network.map(|network| network.to_string()),
        prev: head.hash.to_string(),
    };
    serde_json::to_writer(&mut *buffer, &line)?;
    let hash = chain::sha256(buffer.get(begin..).unwrap_or_default());
    buffer.push(b'\n');
    Ok(Head { seq, hash })
}

/// What a reader of the log needs to know of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) at_ms: u64,
    /// This line as the end of the log.
    pub(super) head: Head,
    /// The hash that it names as that of the line before it.
    pub(super) prev: Digest,
    pub(super) says: Says,
}

/// What a line says about the log itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    /// All up to this line was deleted on purpose.
    Expired(Head),
    /// Lines were altered, as the server found at a start.
    Altered(u64, u64),
}

#[derive(serde::Deserialize)]
struct Read {
    seq: u64,
    at_ms: u64,
    event: String,
    prev: String,
    last_seq: Option<u64>,
    last_hash: Option<String>,
    from_seq: Option<u64>,
    to_seq: Option<u64>,
}

/// Reads one line, without its line feed; `None` when it is none.
pub(super) fn read(bytes: &[u8]) -> Option<Line> {
    let read: Read = serde_json::from_slice(bytes).ok()?;
    let says = match read.event.as_str() {
        "expired" => {
            let hash = Digest::from_hex(&read.last_hash?).ok()?;
            Says::Expired(Head { seq: read.last_seq?, hash })
        }
        "altered" => Says::Altered(read.from_seq?, read.to_seq?),
        _ => Says::Nothing,
    };
    Some(Line {
        at_ms: read.at_ms,
        head: Head { seq: read.seq, hash: chain::sha256(bytes) },
        prev: Digest::from_hex(&read.prev).ok()?,
        says,
    })
}
