//! Whether a file is whole: what SQLite and SQLCipher say about its pages and its tables.
//! Changes nothing.

use std::time::Instant;

use crate::{StorageError, sql};

/// Reads every page that is in use, with what the log holds, and checks its MAC and the trees.
/// What an index says of its table is not compared: damage breaks a MAC before that.
pub(super) fn quick(conn: &sql::Connection) -> Result<(), StorageError> {
    #[expect(clippy::disallowed_methods, reason = "a duration for the log, decides nothing")]
    let began = Instant::now();
    tracing::info!("the last process did not close the store; checking it");
    says_ok(conn, "PRAGMA quick_check(1)")?;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(took_ms, "the store is whole");
    Ok(())
}

/// Checks every page of a file without a log, free ones too, and each index against its table.
pub(super) fn full(conn: &sql::Connection) -> Result<(), StorageError> {
    // Has a row for each page whose MAC is wrong, and none if all is well.
    let mut pages = conn.prepare("PRAGMA cipher_integrity_check")?;
    if let Some(row) = pages.query([])?.next()? {
        return Err(damage(&row.get::<_, String>(0)?));
    }
    says_ok(conn, "PRAGMA integrity_check(1)")
}

fn says_ok(conn: &sql::Connection, check: &str) -> Result<(), StorageError> {
    let finding: String = conn.query_row(check, [], |row| row.get(0))?;
    if finding == "ok" { Ok(()) } else { Err(damage(&finding)) }
}

/// Findings name pages, tables and indexes, never a value.
fn damage(finding: &str) -> StorageError {
    tracing::error!(finding, "the store is damaged");
    StorageError::from_code(sql::ffi::SQLITE_CORRUPT)
}
