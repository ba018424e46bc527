//! The group engine over OpenMLS (RFC 9420): bytes in, effects and verdicts out.
//!
//! Every call runs in a SAVEPOINT of the caller's transaction, so that MLS state and the
//! application's rows are one commit, and a refusal leaves no trace. What it keeps in memory counts
//! only while the database holds the same. It never touches the network, the outbox or the history,
//! and takes `now` as an argument; OpenMLS itself reads the system clock when it checks lifetimes
//! of received Adds and the system's randomness for HPKE.
#![warn(clippy::arithmetic_side_effects)]

pub mod context;
mod device;
pub mod engine;
mod error;
pub mod provider;
mod verdict;

pub use device::{Device, PADDING_BYTES};
pub use engine::Engine;
pub use error::MlsError;
pub use provider::schema;
pub use verdict::{Applied, Unjudged, Verdict, VoidReason};
