//! The Authentication Service (RFC 9750 section 4.2): accounts, their signed identity objects,
//! devices, sessions and invites.
//!
//! Every call runs in a transaction that its caller owns: an error means that the caller rolls back
//! what the call wrote. Reads no clock, makes no randomness, opens no database, and never holds a
//! password, a private key or an unhashed token on disk.

mod error;
mod name;
mod service;
mod store;

pub use error::AuthError;
pub use name::normalise;
pub use service::{
    AccountSummary, Auth, Call, Config, Grant, InviteSummary, PowSecret, Published, Refreshed,
    SessionSummary, Standing,
};

/// The tables of this crate, for [`qpc_storage::Options`]. A program that knows fewer migrations
/// would let suspended accounts in, hand out erased names and find no tokens, so it may not open
/// the file.
pub fn schema() -> qpc_storage::Schema {
    qpc_storage::Schema {
        name: "auth",
        oldest_reader: 3,
        migrations: &[
            qpc_storage::Migration {
                name: "accounts",
                sql: include_str!("../migrations/0001_accounts.sql"),
            },
            qpc_storage::Migration {
                name: "lifecycle",
                sql: include_str!("../migrations/0002_lifecycle.sql"),
            },
            qpc_storage::Migration {
                name: "tokens",
                sql: include_str!("../migrations/0003_tokens.sql"),
            },
            qpc_storage::Migration {
                name: "renewal",
                sql: include_str!("../migrations/0004_renewal.sql"),
            },
        ],
    }
}
