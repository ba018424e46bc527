//! All SQL of the Delivery Service. Decides nothing.

pub(crate) mod account;
pub(crate) mod channels;
mod column;
pub(crate) mod commits;
pub(crate) mod entries;
pub(crate) mod expiry;
pub(crate) mod key_packages;
pub(crate) mod life;
pub(crate) mod members;
mod payloads;
mod recent;
pub(crate) mod revoked;
pub(crate) mod standing;

pub use recent::RecentIds;
