//! The first thing that was decrypted: of a PrivateMessage that is the sender data, which the
//! library tells nobody of when it refuses the message afterwards.

use std::sync::OnceLock;

use super::listening::Ear;

/// Leaf index u32, generation u32, reuse guard 4.
const SENDER_DATA_BYTES: usize = 12;

/// Listens to one message.
#[derive(Default)]
pub(crate) struct Overheard {
    first: OnceLock<Option<u32>>,
}

impl Overheard {
    /// The leaf that the message named as its sender.
    pub(crate) fn sender(self) -> Option<u32> {
        self.first.into_inner()?
    }
}

impl Ear for Overheard {
    fn decrypted(&self, plaintext: &[u8]) {
        self.first.get_or_init(|| leaf_index(plaintext));
    }
}

fn leaf_index(sender_data: &[u8]) -> Option<u32> {
    let bytes = sender_data.get(..4).filter(|_| sender_data.len() == SENDER_DATA_BYTES)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}
