//! Connections: the key, the probe that proves it, and the settings of writer and reader.
//! Never creates a file and leaves one untouched that the key does not open.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{OpenFlags, ffi};
use zeroize::Zeroizing;

use super::check;
use crate::error::failure_in;
use crate::{Durability, Options, StorageError, sql};

/// The oldest SQLite without the bug that corrupts a database when a write and a checkpoint
/// that resets the log meet.
const OLDEST_SQLITE: i32 = 3_051_003;

/// The log file is cut back to this size (bytes) after a checkpoint.
const LOG_BYTES: u32 = 16 * 1024 * 1024;

/// Prepares the linked library once for a process, and refuses one that corrupts files.
///
/// SQLite marks itself ready before SQLCipher's part of the start-up has run, so the key of a
/// second thread would be refused meanwhile: the first connection is opened alone.
pub(super) fn prepare_library() -> Result<(), StorageError> {
    static STARTED: Once = Once::new();
    // A failure is not lost: it comes back when the file is opened.
    STARTED.call_once(|| drop(sql::Connection::open_in_memory()));
    if is_old(sql::version_number()) {
        return Err(StorageError::SqliteTooOld { found: sql::version() });
    }
    Ok(())
}

/// `version` is SQLite's `X*1000000 + Y*1000 + Z`.
fn is_old(version: i32) -> bool {
    version < OLDEST_SQLITE
}

/// The writer's connection to an existing file, which is checked first if `suspect`.
pub(super) fn writer(
    path: &Path,
    options: &Options,
    suspect: bool,
) -> Result<sql::Connection, StorageError> {
    let conn = proven(path, options, suspect)?;
    if conn.is_readonly("main")? {
        let denied = io::Error::new(io::ErrorKind::PermissionDenied, "the file is read-only");
        return Err(StorageError::from_io(denied));
    }
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let unfit = io::Error::new(io::ErrorKind::Unsupported, "no shared memory for the log");
        return Err(StorageError::from_io(unfit));
    }
    // No automatic checkpoint: it would keep the failure of a sync to itself. See `log`.
    conn.execute_batch(&format!(
        "PRAGMA synchronous = {};
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = {LOG_BYTES};
         PRAGMA foreign_keys = ON;
         PRAGMA secure_delete = ON;",
        synchronous(options.durability),
    ))?;
    tune(&conn, options)?;
    Ok(conn)
}

/// A reader's connection. It needs write access to the shared memory of the log, so it is
/// `query_only` that keeps it from writing rows.
pub(super) fn reader(path: &Path, options: &Options) -> Result<sql::Connection, StorageError> {
    let conn = keyed(path, options)?;
    checkpoint_on_close(&conn, false)?;
    probe(&conn)?;
    conn.execute_batch("PRAGMA query_only = ON")?;
    tune(&conn, options)?;
    Ok(conn)
}

/// Writes the first page of a new file: what is fixed when a file is created.
pub(super) fn initialise(path: &Path, options: &Options) -> Result<(), StorageError> {
    let conn = keyed(path, options)?;
    conn.execute_batch(&format!(
        "PRAGMA synchronous = {}; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;",
        synchronous(options.durability)
    ))?;
    probe(&conn)?;
    conn.close().map_err(|(_, error)| StorageError::from_sql(error))
}

/// Fills the empty file `path` with what `from` sees now, under the key of `options`.
pub(super) fn copy(
    from: &sql::Connection,
    path: &Path,
    options: &Options,
) -> Result<(), StorageError> {
    let mut to = keyed(path, options)?;
    to.execute_batch(&format!("PRAGMA synchronous = {}", synchronous(options.durability)))?;
    // All pages in one step are one snapshot; the writer goes on meanwhile.
    match Backup::new(from, &mut to)?.step(-1)? {
        StepResult::Done => {}
        StepResult::More | StepResult::Busy | StepResult::Locked | _ => {
            return Err(StorageError::from_code(ffi::SQLITE_BUSY));
        }
    }
    to.close().map_err(|(_, error)| StorageError::from_sql(error))
}

/// Lets only commits through while `may_commit` is set; any other becomes a rollback. Without
/// this, a job that goes on after SQLite rolled its transaction back would store rows one by
/// one, outside of any batch.
pub(super) fn guard_commits(
    conn: &mut sql::Connection,
    may_commit: &Arc<AtomicBool>,
) -> Result<(), StorageError> {
    let may_commit = Arc::clone(may_commit);
    conn.commit_hook(Some(move || !may_commit.load(Ordering::Relaxed)))?;
    Ok(())
}

/// Whether closing the last connection copies the log into the file.
pub(super) fn checkpoint_on_close(
    conn: &sql::Connection,
    enabled: bool,
) -> Result<(), StorageError> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !enabled)?;
    Ok(())
}

/// `path` with `suffix` behind its file name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn synchronous(durability: Durability) -> &'static str {
    match durability {
        Durability::Full => "FULL",
        Durability::Process => "OFF",
    }
}

fn tune(conn: &sql::Connection, options: &Options) -> Result<(), StorageError> {
    conn.busy_timeout(Duration::from_millis(options.busy_timeout_ms.into()))?;
    conn.set_prepared_statement_cache_capacity(options.statements);
    // Plans don't look at bound values: without this, each `LIMIT ?` is parsed and planned again
    // at every use, because its value might have changed the plan.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.execute_batch(&format!(
        "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -{};",
        options.cache_kib
    ))?;
    Ok(())
}

/// A connection whose key is proven and, if `suspect`, every page. A refusal must leave no trace:
/// until then closing copies no log, and the shared-memory file that reading a left-over log
/// creates is removed again.
fn proven(path: &Path, options: &Options, suspect: bool) -> Result<sql::Connection, StorageError> {
    let shared_memory = beside(path, "-shm");
    let was_there = shared_memory.try_exists().map_err(StorageError::from_io)?;
    let conn = keyed(path, options)?;
    checkpoint_on_close(&conn, false)?;
    let checked = probe(&conn).and_then(|()| if suspect { check::quick(&conn) } else { Ok(()) });
    match checked {
        Ok(()) => checkpoint_on_close(&conn, true).map(|()| conn),
        Err(error) => {
            drop(conn);
            if !was_there && shared_memory.try_exists().unwrap_or(false) {
                fs::remove_file(&shared_memory).map_err(StorageError::from_io)?;
            }
            Err(error)
        }
    }
}

/// A read-only connection to a file that nobody writes: no locks, no log, no file beside it.
pub(super) fn sealed(path: &Path, options: &Options) -> Result<sql::Connection, StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let conn = unlocked((&immutable(path), flags), options)?;
    probe(&conn)?;
    tune(&conn, options)?;
    Ok(conn)
}

/// The URI of `path` as a file that does not change.
fn immutable(path: &Path) -> PathBuf {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?immutable=1");
    uri.into()
}

fn keyed(path: &Path, options: &Options) -> Result<sql::Connection, StorageError> {
    unlocked((path, OpenFlags::SQLITE_OPEN_READ_WRITE), options)
}

#[expect(clippy::disallowed_methods, reason = "the one place that opens and keys a file")]
fn unlocked(
    (path, flags): (&Path, OpenFlags),
    options: &Options,
) -> Result<sql::Connection, StorageError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = match options.vfs {
        None => sql::Connection::open_with_flags(path, flags)?,
        Some(vfs) => sql::Connection::open_with_flags_and_vfs(path, flags, vfs)?,
    };
    let literal = options.key.literal();
    let mut pragma = Zeroizing::new(String::with_capacity(literal.len() + 16));
    pragma.push_str("PRAGMA key = \"");
    pragma.push_str(&literal);
    pragma.push('"');
    // The key comes before anything else. The MAC is part of the format: SHA-256 is cheaper
    // than the default, and a file made with another cannot be read.
    conn.execute_batch(&pragma)?;
    conn.execute_batch(
        "PRAGMA cipher_log_level = NONE; PRAGMA cipher_hmac_algorithm = HMAC_SHA256;",
    )?;
    Ok(conn)
}

fn probe(conn: &sql::Connection) -> Result<(), StorageError> {
    let cipher = conn.query_row("PRAGMA cipher_version", [], |row| row.get::<_, String>(0));
    match cipher {
        Ok(_) => {}
        Err(sql::Error::QueryReturnedNoRows) => return Err(StorageError::NoCipher),
        Err(error) => return Err(error.into()),
    }
    let tables = conn.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()));
    tables.map_err(|error| match failure_in(&error) {
        Some(failure) if failure.extended_code == ffi::SQLITE_NOTADB => StorageError::WrongKey,
        Some(_) | None => StorageError::from_sql(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_168_sqlite_before_3_51_3_is_refused() {
        assert!(is_old(3_051_002));
        assert!(is_old(3_046_001));
        assert!(!is_old(3_051_003));
        assert!(!is_old(3_053_000));
        prepare_library().unwrap();
    }
}
