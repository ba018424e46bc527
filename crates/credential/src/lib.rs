//! Public objects only: account keys, device lists, certificates, statements, and what a server may
//! know of MLS (KeyPackage admission, message headers, Welcome recipients).
//!
//! Holds no private key: who signs passes a closure. Reads no clock: `now_ms` (Unix milliseconds)
//! is an argument. Everything signed is canonical bytes of [`qpc_proto::codec`] under its own
//! label, followed by a 64-byte Ed25519 signature (RFC 8032).

mod account;
mod batch;
mod certificate;
mod device_list;
mod error;
mod hpke_key;
mod identity;
mod key_package;
pub mod lifetime;
mod mls_message;
mod safety_number;
mod signature;
mod statement;
mod tls;

pub use account::{AccountKey, account_id};
pub use batch::{Certificates, Signatures};
pub use certificate::{Certificate, CertificateBody};
pub use device_list::{DeviceEntry, DeviceList};
pub use error::CredentialError;
pub use hpke_key::takes_secrets;
pub use identity::PublicIdentity;
pub use key_package::{AdmittedKeyPackage, admit_key_package, key_package_ref};
pub use mls_message::{MlsContent, MlsHeader, mls_header, welcome_references};
pub use safety_number::safety_number;
pub use signature::{verify, verify_binding};
pub use statement::{
    Posted, Rejoin, RejoinReason, Said, Statement, StatementBody, devices_statement,
};

/// The allowlist of MLS cipher suites (RFC 9420 section 17.1):
/// `MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519`. It grows by decision.
pub const SUITES: &[u16] = &[1];
