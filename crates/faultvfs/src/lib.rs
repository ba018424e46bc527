//! A VFS of SQLite that fails on purpose. It wraps the system's: each test registers one of its
//! own, opens its database through it, and decides which call fails and how. It also writes down
//! what was written and what was synced, and shows what a cut of the power would have left.
//!
//! For tests only: nothing that ships depends on it. It never touches a call that it has no order
//! for, except that it syncs nothing: what counts as synced is the journal's to say. Files that
//! are made, renamed or synced without SQLite are outside.
//!
//! ```
//! use qpc_faultvfs::{Fault, FaultVfs, Op, Plan};
//! use rusqlite::{Connection, OpenFlags};
//!
//! let vfs = FaultVfs::register()?;
//! let dir = tempfile::tempdir()?;
//! let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
//! let conn = Connection::open_with_flags_and_vfs(dir.path().join("a.db"), flags, vfs.name())?;
//! vfs.set(Plan::from(Op::Write, 0, Fault::NoSpace));
//! assert!(conn.execute_batch("CREATE TABLE a(b)").is_err());
//! vfs.heal();
//! conn.execute_batch("CREATE TABLE a(b)")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod journal;
mod plan;
mod shim;
mod vfs;

pub use clock::WallClock;
pub use plan::{Fault, Op, Plan};
pub use vfs::{Cut, FaultVfs};
