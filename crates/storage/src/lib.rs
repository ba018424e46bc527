//! Opens an encrypted database file, keys it, migrates it, applies batches in group commit and
//! hands out readers. Knows no tables but its own, starts no thread, and never lets anything
//! commit but [`Store::apply`] and [`Store::transact`].
//!
//! ```
//! use qpc_storage::{Key, Migration, Options, Outcome, Schema, StorageError, Store};
//!
//! const NOTES: Schema = Schema {
//!     name: "notes",
//!     migrations: &[Migration { name: "create", sql: "CREATE TABLE note(body TEXT NOT NULL)" }],
//!     oldest_reader: 1,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let options = Options::new(Key::from_bytes([7; 32]), vec![NOTES]);
//! let mut store = Store::open(&dir.path().join("notes.db"), &options)?;
//!
//! let outcome = store.transact(|tx| {
//!     tx.prepare_cached("INSERT INTO note(body) VALUES (?1)")?.execute(["hello"])?;
//!     Ok::<_, StorageError>(tx.last_insert_rowid())
//! })?;
//! assert!(matches!(outcome, Outcome::Done(1))); // on disk before it was returned
//!
//! let mut reader = store.reader()?;
//! let body: String = reader.read(|tx| tx.query_row("SELECT body FROM note", [], |r| r.get(0)))?;
//! assert_eq!(body, "hello");
//! # Ok(()) }
//! ```

mod error;
mod key;
mod number;
mod options;
mod store;

pub use error::{StorageError, is_of_value};
pub use key::Key;
pub use number::Number;
pub use options::{Durability, LOG_PAGES_MAX, Migration, Options, Schema};
/// For the `store.rs` files of other crates only: statements, parameters, rows and errors.
pub use rusqlite as sql;
pub use store::{
    Batch, Checkpoint, Job, Outcome, Reader, Store, Tx, Verified, rekey, restore, verify,
};
