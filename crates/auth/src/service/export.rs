//! Everything that this crate's tables hold about one account, for its owner. Tokens by number and
//! time alone: neither a secret nor its hash is ever in it.

use qpc_proto::AccountId;
use qpc_storage::Tx;
use serde_json::{Value, json};

use super::{Auth, Standing};
use crate::AuthError;
use crate::store::accounts::{self, AccountRow};
use crate::store::deletions;
use crate::store::export;
use crate::store::sessions;

impl Auth {
    /// The account as one JSON object: ids, keys and signed objects in hexadecimal, times in Unix
    /// milliseconds. A snapshot, because it is read in one transaction.
    ///
    /// # Errors
    /// [`AuthError::AccountNotFound`], [`AuthError::Store`].
    pub fn export(
        &self,
        tx: &Tx<'_>,
        account: &AccountId,
        now_ms: u64,
    ) -> Result<Value, AuthError> {
        let row = accounts::row(tx, account)?.ok_or(AuthError::AccountNotFound)?;
        Ok(json!({
            "at_ms": now_ms,
            "account": identity(account, &row),
            "account_keys": account_keys(tx, account)?,
            "device_lists": device_lists(tx, account)?,
            "devices": devices(tx, account)?,
            "sessions": sessions(tx, account)?,
            "deletion": deletion(tx, account)?,
        }))
    }
}

fn identity(account: &AccountId, row: &AccountRow) -> Value {
    json!({
        "id": account.to_string(),
        "root": row.root.to_string(),
        "name": row.name,
        "looks_like": row.skeleton,
        "standing": row.standing.as_str(),
        "created_at_ms": row.created_at_ms,
    })
}

fn account_keys(tx: &Tx<'_>, account: &AccountId) -> Result<Vec<Value>, AuthError> {
    let keys = export::account_keys(tx, account)?.into_iter().map(
        |(generation, statement)| json!({ "generation": generation, "statement": hex(&statement) }),
    );
    Ok(keys.collect())
}

fn device_lists(tx: &Tx<'_>, account: &AccountId) -> Result<Vec<Value>, AuthError> {
    let lists = export::device_lists(tx, account)?.into_iter();
    let lists = lists.map(|(generation, version, list)| {
        json!({ "generation": generation, "version": version, "list": hex(&list) })
    });
    Ok(lists.collect())
}

fn devices(tx: &Tx<'_>, account: &AccountId) -> Result<Vec<Value>, AuthError> {
    let devices = export::devices(tx, account)?.into_iter();
    let devices = devices.map(|(device, key, active, certificate)| {
        let (device, key) = (device.to_string(), key.to_string());
        let certificate = certificate.as_deref().map(hex);
        json!({ "device": device, "key": key, "revoked": !active, "certificate": certificate })
    });
    Ok(devices.collect())
}

fn sessions(tx: &Tx<'_>, account: &AccountId) -> Result<Vec<Value>, AuthError> {
    let sessions = sessions::list(tx, account)?.into_iter().map(|session| {
        json!({
            "device": session.device.to_string(),
            "began_at_ms": session.began_at_ms,
            "expires_at_ms": session.expires_at_ms,
            "access_tokens": session.access_tokens,
            "refresh_tokens": session.refresh_tokens,
        })
    });
    Ok(sessions.collect())
}

fn deletion(tx: &Tx<'_>, account: &AccountId) -> Result<Value, AuthError> {
    let deletion = deletions::of(tx, account)?.map(|deletion| {
        json!({
            "generation": deletion.generation,
            "version": deletion.version,
            "list": hex(&deletion.list),
            "delete_at_ms": deletion.delete_at_ms,
        })
    });
    Ok(deletion.unwrap_or(Value::Null))
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Standing {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Ended => "ended",
        }
    }
}
