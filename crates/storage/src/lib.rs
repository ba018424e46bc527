//! One encrypted SQLite file: opened, keyed, migrated, written in group commits and read beside them.
//!
//! Knows no tables but its own `storage_meta`, holds no thread and no clock. An answer leaves
//! [`Store::apply`] only after the batch is on disk.
//!
//! ```
//! use qpc_storage::{Durability, Key, Migration, Options, Outcome, Schema, Store};
//! # let dir = tempfile::tempdir()?;
//! const NOTES: &[Migration] =
//!     &[Migration { name: "notes", sql: "CREATE TABLE note (text TEXT NOT NULL)" }];
//! let schema = Schema { name: "notes", migrations: NOTES };
//! let options = Options::new(Key::from_bytes([7; 32]), vec![schema]);
//! let mut store = Store::open(&dir.path().join("notes.db"), &options)?;
//! let outcome = store.transact(|tx| {
//!     tx.execute("INSERT INTO note VALUES (?1)", ["kept"])?;
//!     Ok::<_, qpc_storage::sql::Error>(())
//! })?;
//! assert!(matches!(outcome, Outcome::Done(())));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod key;
mod lock;
mod open;
mod schema;
mod store;

pub use error::StorageError;
pub use key::Key;
pub use open::{Durability, Options};
/// SQLite, for the `store.rs` files of the crates that own tables.
pub use rusqlite as sql;
pub use schema::{Migration, Schema};
pub use store::{Job, Outcome, Reader, Store, Tx};
