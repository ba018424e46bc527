//! Messages of the Authentication Service. Signed objects stay bytes: `credential` verifies them.

use bytes::Bytes;

use super::DeviceRef;
use crate::ids::{AccountId, Incarnation, Signature, Token};

/// How new accounts come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationMode {
    /// A one-use invite is required.
    Invite,
    /// Anybody may register.
    Open,
    /// Nobody may.
    Closed,
}

/// What a server is and speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Lowest and highest frame version.
    pub versions: (u8, u8),
    /// This life of the database.
    pub incarnation: Incarnation,
    /// The server's clock, Unix milliseconds.
    pub now_ms: u64,
    /// How new accounts come in.
    pub registration: RegistrationMode,
    /// Largest payload of one entry, in bytes.
    pub payload_bytes_max: u64,
    /// Largest frame behind its header, in bytes.
    pub frame_bytes_max: u64,
    /// How long entries are kept, in milliseconds.
    pub retention_ms: u64,
}

/// The public identity of an account, as its owner signed it; not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// Account key statement, signed by the root.
    pub account_key: Bytes,
    /// Device list, signed by the account key.
    pub device_list: Bytes,
}

/// Creates an account with its first device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The wished name.
    pub name: String,
    /// Account key statement of generation 1, signed by the root.
    pub account_key: Bytes,
    /// Device list of version 1 with this device alone.
    pub device_list: Bytes,
    /// The registering device; its account follows from the root.
    pub device: crate::ids::DeviceId,
    /// Signature over the channel binding, purpose register.
    pub proof: Signature,
    /// The invite's code, or empty.
    pub invite: Bytes,
}

/// Binds a connection to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The device and its account.
    pub device: DeviceRef,
    /// Signature over the channel binding, purpose login.
    pub proof: Signature,
}

/// Fresh tokens.
#[derive(Debug, Clone)]
pub struct LoginAnswer {
    /// Goes with every request.
    pub access_token: Token,
    /// Unix milliseconds.
    pub access_expires_at_ms: u64,
    /// One use.
    pub refresh_token: Token,
    /// Unix milliseconds.
    pub refresh_expires_at_ms: u64,
    /// The server's clock, Unix milliseconds.
    pub now_ms: u64,
    /// This life of the database.
    pub incarnation: Incarnation,
}
