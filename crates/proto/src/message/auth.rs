//! Messages of the Authentication Service. Signed objects stay bytes: `credential` verifies them.

use bytes::Bytes;

use super::DeviceRef;
use crate::ids::{AccountId, DeviceId, Digest, Incarnation, PublicKey, Signature, Token};

/// How new accounts come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationMode {
    /// A one-use invite is required.
    Invite,
    /// Anybody who does a proof of work may register.
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
    /// What a registration must prove now.
    pub proof_of_work: Option<ProofOfWork>,
}

/// What a registration must prove: a nonce of 8 bytes such that SHA-256 over (label "qpc/v1 proof
/// of work", seed, account id, nonce) begins with `bits` zero bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofOfWork {
    /// Made by the server; good for this and the next ten minutes.
    pub seed: [u8; 32],
    /// Leading zero bits.
    pub bits: u8,
}

impl ProofOfWork {
    /// Whether a nonce answers it for an account. One hash.
    pub fn accepts(&self, account: &AccountId, nonce: [u8; 8]) -> bool {
        let input = crate::codec::Writer::with_label("qpc/v1 proof of work")
            .fixed(self.seed)
            .fixed(account)
            .fixed(nonce)
            .finish();
        let hash = crate::chain::sha256(&input);
        let zeros: u32 = hash
            .as_bytes()
            .iter()
            .scan(true, |all_zero, byte| {
                let zeros = if *all_zero { byte.leading_zeros() } else { 0 };
                *all_zero &= *byte == 0;
                Some(zeros)
            })
            .sum();
        zeros >= u32::from(self.bits)
    }

    /// The lowest nonce that answers it: `2^bits` hashes on average.
    pub fn solve(&self, account: &AccountId) -> [u8; 8] {
        let nonces = (0..u64::MAX).map(u64::to_be_bytes);
        nonces.into_iter().find(|nonce| self.accepts(account, *nonce)).unwrap_or_default()
    }
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

/// The newest device list of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// The identity with that list.
    pub identity: Identity,
    /// To a device of the account: its own certificate, renewed last; empty for none.
    pub certificate: Bytes,
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
    pub device: DeviceId,
    /// Signature over the channel binding, purpose register.
    pub proof: Signature,
    /// The invite's code, or empty.
    pub invite: Bytes,
    /// The answer to the server's proof of work.
    pub proof_of_work: Option<[u8; 8]>,
}

/// Which end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkSide {
    /// The device that is to be linked.
    New,
    /// A device of the account.
    Old,
}

/// A look into, or an offer for, the place that follows from a one-time code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRelay {
    /// Follows from the code.
    pub rendezvous: Digest,
    /// Who asks.
    pub side: LinkSide,
    /// What the new device offers, sealed under the code; empty to look only.
    pub offer: Bytes,
}

/// What the other side of a link has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// Sealed under the code; empty while there is nothing.
    pub sealed: Bytes,
    /// When the code ends, Unix milliseconds.
    pub expires_at_ms: u64,
}

/// Publishes a device list with one device more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkDevice {
    /// The next list of the same generation.
    pub device_list: Bytes,
    /// Where the offer was.
    pub rendezvous: Digest,
    /// For the new device, sealed under the code.
    pub answer: Bytes,
}

/// Publishes a device list with later ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewDevices {
    /// The next list of the same generation.
    pub device_list: Bytes,
    /// The certificate of each device whose end it moves.
    pub certificates: Vec<Bytes>,
}

/// A new generation of the account key, or the question for the newest identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recover {
    /// The root.
    pub root: PublicKey,
    /// The recovering device.
    pub device: DeviceId,
    /// Signature by the root over the channel binding, purpose recover.
    pub root_proof: Signature,
    /// What is to be published; `None` to ask only.
    pub publish: Option<RecoverPublish>,
}

/// The signed objects of a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverPublish {
    /// Account key statement of the next generation.
    pub account_key: Bytes,
    /// Its device list of version 1.
    pub device_list: Bytes,
    /// Signature by the recovering device's key over the channel binding, purpose recover.
    pub proof: Signature,
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
