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
mod acks;
mod addresses;
mod admin;
mod audit;
mod cases;
mod claims;
mod clock;
mod deletion;
mod devices;
mod faults;
mod greed;
mod idempotence;
mod limits;
mod members;
mod metrics;
mod program;
mod publish;
mod quic;
mod reset;
mod restore;
mod streams;
mod subscribe;
mod support;
mod tend;
mod turns;
mod wait;
