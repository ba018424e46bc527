//! What a device signs to open a connection: nothing in it can be replayed elsewhere (RFC 9266).
//!
//! Never signs or verifies; `credential` does.

use crate::codec::Writer;
use crate::message::DeviceRef;

/// What a device's proof over the channel binding is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Creating the account.
    Register,
    /// Opening the connection.
    Login,
    /// A new generation of the account key.
    Recover,
}

/// Label for the TLS exporter (RFC 5705) that both sides take their 32 bytes under.
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL-qpc-v1-login";

/// One connection as both of its ends know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelBinding {
    /// 32 bytes of TLS exporter under [`EXPORTER_LABEL`] with an empty context.
    pub exporter: [u8; 32],
    /// SHA-256 of the server certificate's public key (SPKI).
    pub fingerprint: [u8; 32],
}

impl ChannelBinding {
    /// The bytes to sign: a label no MLS signature can have (RFC 9420 section 5.1.2 labels all
    /// begin with "MLS 1.0 "), exporter (32), fingerprint (32), account (16), device (16), purpose
    /// (1).
    pub fn to_be_signed(&self, device: &DeviceRef, purpose: Purpose) -> Vec<u8> {
        Writer::with_label("qpc/v1 channel binding")
            .fixed(self.exporter)
            .fixed(self.fingerprint)
            .fixed(device.account)
            .fixed(device.device)
            .u8(match purpose {
                Purpose::Register => 1,
                Purpose::Login => 2,
                Purpose::Recover => 3,
            })
            .finish()
    }
}
