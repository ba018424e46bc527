//! Application messages: sealing under the current epoch, opening in log order.

use openmls::group::ProcessMessageError;
use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{
    MlsMessageBodyIn, MlsMessageIn, ProcessedMessageContent, ProtocolMessage, Sender,
};
use qpc_credential::Certificate;
use qpc_storage::Tx;

use super::kept::Kept;
use super::{Engine, MlsGroupId, Place};
use crate::error::MlsError;
use crate::provider::ProviderError;

/// A decrypted application message.
pub struct Opened {
    /// Its sender's certificate.
    pub sender: Certificate,
    /// Content bytes.
    pub plaintext: zeroize::Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened(redacted)")
    }
}

impl Engine {
    /// Seals a message; the bytes may leave only after the transaction is on disk, and a retry
    /// repeats them (RFC 9420 section 6.3.1: a generation is used once).
    ///
    /// # Errors
    /// [`MlsError`]; nothing is kept.
    pub fn seal(
        &self,
        tx: &Tx<'_>,
        id: &MlsGroupId,
        (place, plaintext): (&Place, &[u8]),
    ) -> Result<Vec<u8>, MlsError> {
        self.change(tx, id, |tx, Kept { group, .. }| {
            if !group.is_active() {
                return Err(MlsError::NotMember);
            }
            group.set_aad(place.aad().encode());
            let message = group
                .create_message(&self.provider(tx), &self.device, plaintext)
                .map_err(|_| MlsError::Library("seal"))?;
            message.to_bytes().map_err(|_| MlsError::Library("encode a message"))
        })
    }

    /// Opens an application message of another member.
    ///
    /// # Errors
    /// [`MlsError::Refused`] when it cannot be opened in this epoch: it never will be.
    /// [`MlsError::Provider`] when the database refused: try again.
    pub fn open(&self, tx: &Tx<'_>, id: &MlsGroupId, payload: &[u8]) -> Result<Opened, MlsError> {
        self.change(tx, id, |tx, kept| {
            let message = private_message(payload)?;
            let processed =
                kept.group.process_message(&self.provider(tx), message).map_err(open_error)?;
            let Sender::Member(leaf) = processed.sender() else {
                return Err(MlsError::Refused("its sender is no member"));
            };
            let sender = kept.certificate(leaf.u32())?;
            // This device's own, which a copy of its home lacks; or one that only says so.
            if matches!(processed.content(), ProcessedMessageContent::OwnPrivateMessage) {
                return Err(MlsError::Refused(
                    "it does not decrypt: it names this device as its sender",
                ));
            }
            let ProcessedMessageContent::ApplicationMessage(message) = processed.into_content()
            else {
                return Err(MlsError::Refused("it is no application message"));
            };
            Ok(Opened { sender, plaintext: message.into_bytes().into() })
        })
    }
}

/// Parses an MLSMessage that must be a PrivateMessage.
pub(super) fn private_message(payload: &[u8]) -> Result<ProtocolMessage, MlsError> {
    let message = MlsMessageIn::tls_deserialize_exact(payload)
        .map_err(|_| MlsError::Refused("it is no MLS message"))?;
    let MlsMessageBodyIn::PrivateMessage(message) = message.extract() else {
        return Err(MlsError::Refused("it is no PrivateMessage"));
    };
    Ok(message.into())
}

/// Only the database may do better another time: a message that the library itself stumbles over
/// must not stop the reader for ever.
fn open_error(error: ProcessMessageError<ProviderError>) -> MlsError {
    if let ProcessMessageError::StorageError(error) = error {
        error.into()
    } else {
        MlsError::Refused("it does not decrypt in this epoch")
    }
}
