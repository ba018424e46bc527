//! All SQL of the Authentication Service. Decides nothing.

pub(crate) mod accounts;
pub(crate) mod deletions;
pub(crate) mod erasure;
pub(crate) mod export;
pub(crate) mod invites;
pub(crate) mod links;
pub(crate) mod sessions;

use qpc_storage::{Number, Tx, sql};

/// Deletes expired rows, at most `limit` of each kind.
pub(crate) fn sweep(tx: &Tx<'_>, now_ms: u64, limit: u32) -> sql::Result<usize> {
    let statements = [
        (
            // Access tokens of sessions that can't be refreshed any more; before what shows that.
            "DELETE FROM tokens WHERE kind = 1
             AND device_id IN (SELECT device_id FROM tokens
                 WHERE kind = 2 AND expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)
             AND (device_id, session) IN (SELECT device_id, session FROM tokens
                 WHERE kind = 2 AND expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)
             AND NOT EXISTS (SELECT 1 FROM tokens live
                 WHERE live.device_id = tokens.device_id AND live.kind = 2
                 AND live.session = tokens.session AND live.expires_at_ms > ?1)",
            now_ms,
        ),
        (
            "DELETE FROM tokens WHERE (device_id, kind, hash) IN (
             SELECT device_id, kind, hash FROM tokens
             WHERE kind = 2 AND expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)",
            now_ms,
        ),
        (
            "DELETE FROM invites WHERE hash IN (SELECT hash FROM invites
             WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)",
            now_ms,
        ),
        (
            "DELETE FROM links WHERE rendezvous IN (SELECT rendezvous FROM links
             WHERE expires_at_ms <= ?1 ORDER BY expires_at_ms LIMIT ?2)",
            now_ms,
        ),
    ];
    statements.iter().try_fold(0_usize, |swept, (sql, before)| {
        let gone = tx.prepare_cached(sql)?.execute((Number(*before), limit))?;
        Ok(swept.saturating_add(gone))
    })
}
