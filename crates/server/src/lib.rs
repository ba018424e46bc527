//! The server: both services behind QUIC sessions, over one encrypted database.
//!
//! [`node`] is the synchronous core, which the simulator drives without threads; [`server`] is the
//! shell of writer thread, readers and sessions around it; [`data_dir`], [`config`] and [`admin`]
//! are what the commands of `qpc-server` need. Holds no key of any group and links no MLS engine.

pub mod access;
mod acks;
pub mod admin;
pub mod audit;
mod bound;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod error;
pub mod limits;
mod metrics;
pub mod node;
mod notify;
mod reader;
mod redelivery;
mod refusal;
mod router;
pub mod sample;
pub mod server;
mod session;
mod store;
mod sweep;
mod tail;
mod writer;

pub use config::Config;
pub use data_dir::DataDir;
pub use error::ServerError;
pub use node::{Call, Node, Outputs, Peer, PeerChange, Policy, Refused, schemas};
pub use server::{Limits, Server, Settings};
