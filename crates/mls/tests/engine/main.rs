//! The group engine through its public face: members with real databases, a log of bytes between
//! them, and a member with a modified engine who lies in every way that OpenMLS can be made to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "Clippy excuses test functions, not the functions they share"
)]

mod hostile;
mod kept;
mod members;
mod message;
mod outside;
mod rejoin;
mod renewal;
mod revocation;
mod size;
mod support;
mod unjudged;
mod void;
mod welcome;
