//! What a caller decides when it opens a database: key, durability, schemas, sizes.
//! Holds values only; never touches a file.

use crate::Key;

/// How to open a database. Build it with [`Options::new`] and change fields where needed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Key of the file. The same key must be given on every open.
    pub key: Key,
    /// What a commit survives.
    pub durability: Durability,
    /// Tables of the crates that share the file; migrated in this order.
    pub schemas: Vec<Schema>,
    /// Page cache of each connection, in KiB.
    pub cache_kib: u32,
    /// Prepared statements that each connection keeps.
    pub statements: usize,
    /// The write-ahead log is copied back into the file once it has this many pages of 4 KiB.
    pub checkpoint_pages: u32,
    /// Above this many pages the log is cut back after each batch, as soon as no reader needs it.
    pub log_pages_max: u32,
    /// How long a statement waits for a lock of another connection, in milliseconds.
    pub busy_timeout_ms: u32,
    /// Name of a registered VFS of SQLite; `None` for the system's. For tests of storage faults.
    pub vfs: Option<&'static str>,
}

/// [`Options::log_pages_max`] unless changed: 16 MiB.
pub const LOG_PAGES_MAX: u32 = 4_096;

impl Options {
    /// [`Durability::Full`], 8 MiB of cache, 256 statements, a checkpoint every 4 MiB, a log of
    /// 16 MiB, 2 s of waiting for a lock.
    pub fn new(key: Key, schemas: Vec<Schema>) -> Options {
        Options {
            key,
            durability: Durability::Full,
            schemas,
            cache_kib: 8 * 1024,
            statements: 256,
            checkpoint_pages: 1_000,
            log_pages_max: LOG_PAGES_MAX,
            busy_timeout_ms: 2_000,
            vfs: None,
        }
    }

    /// The same options with another durability.
    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Options {
        Options { durability, ..self }
    }
}

/// What a returned commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: every commit is synced to the disk before it is reported.
    Full,
    /// A crash of this process only; nothing is synced. For simulation and tests.
    Process,
}

/// The tables of one crate inside a file that several crates share.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Lower-case letters, digits and `_`; unique in the file and never changed once released.
    /// The history is kept in the table `{name}_migrations`.
    pub name: &'static str,
    /// In order; the version of a migration is its place, counted from 1. A released migration
    /// is never edited: an edited one is refused on open.
    pub migrations: &'static [Migration],
    /// The lowest version (number of migrations) whose binary may still open a file migrated by
    /// this one. `1` while every migration only adds what older binaries ignore.
    pub oldest_reader: u32,
}

/// One step of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Letters, digits and `_`; recorded in the history.
    pub name: &'static str,
    /// One or more statements; without `BEGIN` or `COMMIT`.
    pub sql: &'static str,
}
