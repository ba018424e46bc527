//! A seeded simulation of the whole system: the real server node, real client machines, real
//! OpenMLS and SQLCipher in one thread; one seed decides the order of everything, the faults, our
//! clock and our randomness.
//!
//! OpenMLS reads the system's clock and randomness, so a replay repeats the events, not the
//! ciphertext; the trace leaves bytes out. Development only: never linked into what ships.

mod invariants;
mod scenario;
mod server;
mod tamper;
mod trace;
mod world;

pub use invariants::check;
pub use scenario::{Failure, Report, run};
pub use tamper::{Chain, Lie, Tamper};
pub use trace::Trace;
pub use world::{Liar, Raw, World};
