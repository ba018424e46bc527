//! The server through its connections, over memory and over QUIC, and the program as it is started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "Clippy excuses test functions, not the functions they share"
)]

mod access;
mod greed;
mod idempotence;
mod program;
mod quic;

mod streams;
mod subscribe;
mod support;
