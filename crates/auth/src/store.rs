//! All SQL of the Authentication Service. Decides nothing.

pub(crate) mod accounts;
pub(crate) mod invites;
pub(crate) mod sessions;

use qpc_storage::{Number, Tx, sql};

/// How long an expired access token is still told from an unknown one.
const EXPIRED_KEPT_MS: u64 = 24 * 3_600 * 1_000;

/// Deletes expired rows, at most `limit` of each kind.
pub(crate) fn sweep(tx: &Tx<'_>, now_ms: u64, limit: u32) -> sql::Result<usize> {
    let long_ago = now_ms.saturating_sub(EXPIRED_KEPT_MS);
    let statements = [
        (
            "DELETE FROM access_tokens WHERE hash IN (SELECT hash FROM access_tokens
             WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)",
            long_ago,
        ),
        (
            "DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens
             WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)",
            now_ms,
        ),
        (
            "DELETE FROM sessions WHERE session IN (SELECT session FROM sessions
             WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)",
            long_ago,
        ),
        (
            "DELETE FROM invites WHERE hash IN (SELECT hash FROM invites
             WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)",
            now_ms,
        ),
    ];
    statements.iter().try_fold(0_usize, |swept, (sql, before)| {
        let gone = tx.prepare_cached(sql)?.execute((Number(*before), limit))?;
        Ok(swept.saturating_add(gone))
    })
}
