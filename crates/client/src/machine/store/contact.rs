//! Accounts this client has met, trusted on first use.

use qpc_proto::{AccountId, PublicKey};
use qpc_storage::sql::{self, OptionalExtension as _, Row, params};

use super::Db;

/// One account.
#[derive(Debug, Clone)]
pub(crate) struct ContactRow {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    pub(crate) root: PublicKey,
    pub(crate) verified: bool,
    /// Generation and version of the newest device list seen.
    pub(crate) newest: (u32, u64),
}

const COLUMNS: &str = "account, name, root, verified, generation, version";

fn read(row: &Row<'_>) -> sql::Result<ContactRow> {
    Ok(ContactRow {
        account: AccountId(row.get(0)?),
        name: row.get(1)?,
        root: PublicKey(row.get(2)?),
        verified: row.get(3)?,
        newest: (row.get(4)?, row.get(5)?),
    })
}

impl Db<'_> {
    pub(crate) fn contact(&self, account: &AccountId) -> sql::Result<Option<ContactRow>> {
        let query = format!("SELECT {COLUMNS} FROM contact WHERE account = ?1");
        self.0.prepare_cached(&query)?.query_row([account.0], read).optional()
    }

    /// Contacts of a name; more than one when a name changed hands.
    pub(crate) fn contacts_named(&self, name: &str) -> sql::Result<Vec<ContactRow>> {
        let query = format!("SELECT {COLUMNS} FROM contact WHERE name = ?1 ORDER BY account");
        self.0.prepare_cached(&query)?.query_map([name], read)?.collect()
    }

    pub(crate) fn contacts(&self) -> sql::Result<Vec<ContactRow>> {
        let query = format!("SELECT {COLUMNS} FROM contact ORDER BY name, account");
        self.0.prepare_cached(&query)?.query_map([], read)?.collect()
    }

    /// Notes an account at first sight; an account known keeps its row, for its root is its id.
    pub(crate) fn meet(
        &self,
        account: &AccountId,
        (name, root): (&str, &PublicKey),
    ) -> sql::Result<bool> {
        let added = self
            .0
            .prepare_cached(
                "INSERT INTO contact (account, name, root) VALUES (?1, ?2, ?3)
                 ON CONFLICT (account) DO NOTHING",
            )?
            .execute(params![account.0, name, root.0])?;
        Ok(added > 0)
    }

    pub(crate) fn set_verified(&self, account: &AccountId, verified: bool) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE contact SET verified = ?2 WHERE account = ?1")?
            .execute(params![account.0, verified])?;
        Ok(())
    }

    pub(crate) fn set_device_list(
        &self,
        account: &AccountId,
        ((generation, version), bytes): ((u32, u64), &[u8]),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE contact SET generation = ?2, version = ?3, device_list = ?4
                 WHERE account = ?1",
            )?
            .execute(params![account.0, generation, version, bytes])?;
        Ok(())
    }

    /// The bytes of the newest device list seen.
    pub(crate) fn device_list(&self, account: &AccountId) -> sql::Result<Option<Vec<u8>>> {
        self.0
            .prepare_cached("SELECT device_list FROM contact WHERE account = ?1")?
            .query_row([account.0], |row| row.get(0))
            .optional()
            .map(Option::flatten)
    }
}
