//! What members tell each other inside MLS application messages; the server never sees it.
//!
//! Encodes and decodes; knows nothing of MLS.

use bytes::Bytes;
use prost::Message as _;

use crate::error::{Malformed, UNSUPPORTED_VALUE};
use crate::ids::Digest;
use crate::wire;

/// Names a device list, so that peers can tell a hidden or forked one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceListDigest {
    /// Generation of the account key that signed it.
    pub generation: u32,
    /// Version of the list.
    pub version: u64,
    /// SHA-256 of the signed bytes.
    pub hash: Digest,
}

/// One message as its sender wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// Receivers drop a second message of the same device with the same id.
    pub content_id: [u8; 16],
    /// The sender's clock, Unix milliseconds; for display only.
    pub sent_at_ms: u64,
    /// The newest list that the sender knows of its own account.
    pub own_devices: Option<DeviceListDigest>,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// Plain text.
    Text(String),
    /// A kind that this version does not know: shown as such, never dropped.
    Unknown,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content(redacted)")
    }
}

impl Content {
    /// Protobuf bytes.
    pub fn encode(&self) -> Vec<u8> {
        let body = match &self.body {
            Body::Text(text) => Some(wire::content::Body::Text(wire::Text { text: text.clone() })),
            Body::Unknown => None,
        };
        wire::Content {
            content_id: Bytes::copy_from_slice(&self.content_id),
            sent_at_ms: self.sent_at_ms,
            own_devices: self.own_devices.map(|digest| wire::DeviceListDigest {
                generation: digest.generation,
                version: digest.version,
                hash: Bytes::copy_from_slice(digest.hash.as_bytes()),
            }),
            body,
        }
        .encode_to_vec()
    }

    /// Parses protobuf bytes.
    ///
    /// # Errors
    /// [`Malformed`] when they are no content.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let wire = wire::Content::decode(bytes).map_err(|_| Malformed("Content"))?;
        let own_devices = wire.own_devices.map(|digest| {
            Ok::<_, Malformed>(DeviceListDigest {
                generation: digest.generation,
                version: digest.version,
                hash: Digest::try_from(digest.hash.as_ref())?,
            })
        });
        Ok(Self {
            content_id: wire
                .content_id
                .as_ref()
                .try_into()
                .map_err(|_| Malformed(UNSUPPORTED_VALUE))?,
            sent_at_ms: wire.sent_at_ms,
            own_devices: own_devices.transpose()?,
            body: match wire.body {
                Some(wire::content::Body::Text(text)) => Body::Text(text.text),
                None => Body::Unknown,
            },
        })
    }
}
