//! Rows of invites, by the hash of their code.

use qpc_proto::Digest;
use qpc_storage::{Number, Tx, sql};

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
