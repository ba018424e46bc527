//! What travels between `qpc` and `qpc-server`: frames, messages, limits, error codes, the log's
//! hash chain and the bytes that members sign or authenticate.
//!
//! Generated protobuf types stay private; everything public has been validated, so the rest of the
//! workspace never sees a wrong length or an unset field. This crate does no I/O, reads no clock
//! and knows no policy beyond [`limits`].
//!
//! Where to look: [`frame`] for the bytes on a stream, [`message`] for requests and responses,
//! [`chain`] for the log's hash chain, [`aad`] and [`roster`] for what a Commit binds.
#![warn(clippy::arithmetic_side_effects)]

pub mod aad;
pub mod binding;
pub mod chain;
pub mod codec;
pub mod content;
pub mod error;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod message;
pub mod roster;
mod wire;

pub use error::{ErrorBody, ErrorCode, ErrorDetail, ExpiredRange, Malformed};
pub use ids::{
    AccountId, ChannelId, DeviceId, Digest, Incarnation, MessageId, PublicKey, RequestId,
    Signature, Token,
};
