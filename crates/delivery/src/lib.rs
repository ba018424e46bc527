//! The Delivery Service (RFC 9750 section 5): ordered, durable, opaque ciphertext, and the
//! KeyPackage directory.
//!
//! Every call runs in a transaction that its caller owns: an error means that the caller rolls back
//! what the call wrote. Reads no clock, makes no randomness, opens no database, decrypts nothing;
//! of MLS it reads a header's content type and authenticated data, and a Welcome's recipients.

mod error;
mod roster;
mod service;
mod store;
mod turns;

pub use error::DeliveryError;
pub use service::{Call, Config, Delivery, Pacing, Posts, Room, Written};
pub use store::RecentIds;

/// The tables of this crate, for [`qpc_storage::Options`].
pub fn schema() -> qpc_storage::Schema {
    qpc_storage::Schema {
        name: "delivery",
        // Older ones would take payloads that share a row for one.
        oldest_reader: 8,
        migrations: &[
            qpc_storage::Migration {
                name: "delivery",
                sql: include_str!("../migrations/0001_delivery.sql"),
            },
            qpc_storage::Migration {
                name: "revocation",
                sql: include_str!("../migrations/0002_revocation.sql"),
            },
            qpc_storage::Migration { name: "log", sql: include_str!("../migrations/0003_log.sql") },
            qpc_storage::Migration {
                name: "bounds",
                sql: include_str!("../migrations/0004_bounds.sql"),
            },
            qpc_storage::Migration {
                name: "standing",
                sql: include_str!("../migrations/0005_standing.sql"),
            },
            qpc_storage::Migration {
                name: "accepted_ids",
                sql: include_str!("../migrations/0006_accepted_ids.sql"),
            },
            qpc_storage::Migration {
                name: "since",
                sql: include_str!("../migrations/0007_since.sql"),
            },
            qpc_storage::Migration {
                name: "runs",
                sql: include_str!("../migrations/0008_runs.sql"),
            },
        ],
    }
}
