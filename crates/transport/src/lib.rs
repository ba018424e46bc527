//! QUIC endpoints, the server's TLS identity and its pin, framed streams, reconnect delays and an
//! in-memory twin of a connection.
//!
//! The only crate that sees quinn and rustls; neither shows in its public API. It moves frames and
//! never looks inside them, keeps no state beyond a connection and knows no request.
#![warn(clippy::arithmetic_side_effects)]

mod address;
mod backoff;
mod connection;
mod dial;
mod error;
mod identity;
mod limits;
mod listener;
pub mod memory;
mod pin;
mod reset;
mod socket;
mod stream;
mod tls;

pub use address::{LinkUrl, ServerUrl, UrlFault};
pub use backoff::{Backoff, BackoffPolicy};
pub use connection::{CloseReason, Connection};
pub use dial::{Dialer, connect};
pub use error::TransportError;
pub use identity::{CERTIFICATE_FILE, KEY_FILE, ServerIdentity, VALIDITY_DAYS};
pub use limits::{ClientLimits, Limits};
pub use listener::{Incoming, Listener};
pub use stream::{FrameReceiver, FrameSender, READ_BYTES_MAX};
