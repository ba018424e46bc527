//! A seeded simulation of the whole system: the real server node, real client machines, real
//! OpenMLS and SQLCipher in one thread; one seed decides the order of everything, the faults, our
//! clock and our randomness.
//!
//! OpenMLS reads the system's clock and randomness, so a replay repeats the events, not the
//! ciphertext; the trace leaves bytes out. Development only: never linked into what ships.

// What the tests share with the simulation names this crate as they do.
extern crate self as qpc_sim;

pub mod campaign;
mod counts;
mod invariants;
mod model;
mod only;
mod scenario;
mod server;
mod shrink;
mod tamper;
mod trace;
mod world;

pub use counts::Counts;
pub use invariants::check;
pub use only::Only;
pub use scenario::{Failure, Report, Run, run};
pub use shrink::{Shrunken, shrink};
pub use tamper::{Chain, Lie, Tamper};
pub use trace::Trace;
pub use world::{Liar, Raw, World};
