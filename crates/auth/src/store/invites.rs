//! Rows of invites, by the hash of their code.

use qpc_proto::Digest;
use qpc_storage::{Number, Tx, sql};

/// Invites that one listing shows at most.
const LISTED_MAX: u32 = 1_000;

/// An invite as its operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteSummary {
    /// The first 8 hexadecimal digits of its hash.
    pub id: String,
    /// Unix milliseconds.
    pub expires_at_ms: u64,
}

pub(crate) fn insert(tx: &Tx<'_>, hash: &Digest, expires_at_ms: u64) -> sql::Result<()> {
    tx.prepare_cached("INSERT INTO invites (hash, expires_at_ms) VALUES (?1, ?2)")?
        .execute((hash.as_bytes(), Number(expires_at_ms)))
        .map(drop)
}

/// Takes an invite out; whether there was one that has not expired.
pub(crate) fn take(tx: &Tx<'_>, hash: &Digest, now_ms: u64) -> sql::Result<bool> {
    tx.prepare_cached("DELETE FROM invites WHERE hash = ?1 AND expires_at_ms > ?2")?
        .execute((hash.as_bytes(), Number(now_ms)))
        .map(|taken| taken == 1)
}

/// Invites that have not expired, the first to end first.
pub(crate) fn list(tx: &Tx<'_>, now_ms: u64) -> sql::Result<Vec<InviteSummary>> {
    tx.prepare_cached(
        "SELECT lower(hex(substr(hash, 1, 4))), expires_at_ms FROM invites
         WHERE expires_at_ms > ?1 ORDER BY expires_at_ms, hash LIMIT ?2",
    )?
    .query_map((Number(now_ms), LISTED_MAX), |row| {
        Ok(InviteSummary { id: row.get(0)?, expires_at_ms: row.get::<_, Number>(1)?.0 })
    })?
    .collect()
}

/// Deletes what an id names, in either case; whether there was one.
pub(crate) fn revoke(tx: &Tx<'_>, id: &str) -> sql::Result<bool> {
    tx.prepare_cached("DELETE FROM invites WHERE hex(substr(hash, 1, 4)) = upper(?1)")?
        .execute([id])
        .map(|gone| gone > 0)
}
