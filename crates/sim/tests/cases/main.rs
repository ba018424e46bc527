//! The whole system in one thread: the real server node, real client machines and databases, and
//! connections that break where a test says so. No network, no clock but the world's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "Clippy excuses test functions, not the functions they share"
)]

mod absence;
mod commits;
mod crashes;
mod devices;
mod hostile;
mod joins;
mod key_packages;
mod large;
mod lies;
mod limited;
mod losses;
#[expect(dead_code, reason = "shared with the simulation, which uses the rest")]
mod members;
mod messages;
mod metadata;
mod names;
mod outbox;
mod pacing;
mod regressions;
mod rejoin;
mod renewal;
mod restored;
mod retention;
mod split;
mod successors;
mod support;
mod tampering;
mod torn;
mod upkeep;
mod way_back;
