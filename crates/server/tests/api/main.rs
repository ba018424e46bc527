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
mod addresses;
mod admin;
mod audit;
mod deletion;
mod devices;
mod greed;
mod idempotence;
mod limits;
mod metrics;
mod program;
mod quic;

mod streams;
mod subscribe;
mod support;
