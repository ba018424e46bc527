//! Takes every row of an ended account out, and keeps the hashes that stand for it.

use qpc_proto::AccountId;
use qpc_proto::chain::sha256;
use qpc_storage::{Tx, sql};

/// Deletes at most `limit` tokens; whether there may be more.
pub(crate) fn tokens(tx: &Tx<'_>, account: &AccountId, limit: u32) -> sql::Result<bool> {
    let gone = tx
        .prepare_cached(
            "DELETE FROM tokens WHERE (device_id, kind, hash) IN (
             SELECT device_id, kind, hash FROM devices JOIN tokens USING (device_id)
             WHERE account_id = ?1 LIMIT ?2)",
        )?
        .execute((account.as_bytes(), limit))?;
    Ok(gone >= usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Deletes all other rows.
pub(crate) fn account(tx: &Tx<'_>, account: &AccountId) -> sql::Result<()> {
    for public in public_values(tx, account)? {
        tx.prepare_cached("INSERT OR IGNORE INTO spent (hash) VALUES (?1)")?
            .execute([sha256(&public).as_bytes()])?;
    }
    let statements = [
        "DELETE FROM tokens
         WHERE device_id IN (SELECT device_id FROM devices WHERE account_id = ?1)",
        "DELETE FROM devices WHERE account_id = ?1",
        "DELETE FROM deletions WHERE account_id = ?1",
        "DELETE FROM device_lists WHERE account_id = ?1",
        "DELETE FROM account_keys WHERE account_id = ?1",
        "DELETE FROM accounts WHERE account_id = ?1",
    ];
    statements
        .iter()
        .try_for_each(|sql| tx.prepare_cached(sql)?.execute([account.as_bytes()]).map(drop))
}

/// The root, device ids and device keys.
fn public_values(tx: &Tx<'_>, account: &AccountId) -> sql::Result<Vec<Vec<u8>>> {
    tx.prepare_cached(
        "SELECT root FROM accounts WHERE account_id = ?1
         UNION ALL SELECT device_id FROM devices WHERE account_id = ?1
         UNION ALL SELECT key FROM devices WHERE account_id = ?1",
    )?
    .query_map([account.as_bytes()], |row| row.get(0))?
    .collect()
}
