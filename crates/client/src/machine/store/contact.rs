//! Accounts this client has met, trusted on first use.

use qpc_credential::PublicIdentity;
use qpc_proto::message::Identity;
use qpc_proto::{AccountId, DeviceId, PublicKey};
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
    /// The name was another account's before, and the user has not accepted this one.
    pub(crate) held: bool,
    /// What the user is to be told before the next message.
    pub(crate) changed: Option<String>,
}

const COLUMNS: &str = "account, name, root, verified, generation, version, held, changed";

fn read(row: &Row<'_>) -> sql::Result<ContactRow> {
    Ok(ContactRow {
        account: AccountId(row.get(0)?),
        name: row.get(1)?,
        root: PublicKey(row.get(2)?),
        verified: row.get(3)?,
        newest: (row.get(4)?, row.get(5)?),
        held: row.get(6)?,
        changed: row.get(7)?,
    })
}

impl Db<'_> {
    pub(crate) fn contact(&self, account: &AccountId) -> sql::Result<Option<ContactRow>> {
        let query = format!("SELECT {COLUMNS} FROM contact WHERE account = ?1");
        self.0.prepare_cached(&query)?.query_row([account.0], read).optional()
    }

    /// Contacts of a name; more than one when it changed hands and the user has not decided.
    pub(crate) fn contacts_named(&self, name: &str) -> sql::Result<Vec<ContactRow>> {
        let query = format!(
            "SELECT {COLUMNS} FROM contact WHERE name = ?1 AND former = 0 ORDER BY account"
        );
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

    pub(crate) fn set_held(&self, account: &AccountId, held: bool) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE contact SET held = ?2 WHERE account = ?1")?
            .execute(params![account.0, held])?;
        Ok(())
    }

    /// Contacts of whom no list was seen, and the list that a certificate of theirs names.
    pub(crate) fn contacts_without_list(&self) -> sql::Result<Vec<(AccountId, (u32, u64))>> {
        self.0
            .prepare_cached(
                "SELECT account, generation, version FROM contact WHERE device_list IS NULL",
            )?
            .query_map([], |row| Ok((AccountId(row.get(0)?), (row.get(1)?, row.get(2)?))))?
            .collect()
    }

    pub(crate) fn rename(&self, account: &AccountId, name: &str) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE contact SET name = ?2, former = 0 WHERE account = ?1")?
            .execute(params![account.0, name])?;
        Ok(())
    }

    /// A name is an account's alone: others of the name had it formerly.
    pub(crate) fn give_name(&self, name: &str, account: &AccountId) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE contact SET former = (account <> ?2) WHERE name = ?1")?
            .execute(params![name, account.0])?;
        Ok(())
    }

    /// What the user is to be told of a contact before the next message.
    pub(crate) fn set_changed(&self, account: &AccountId, text: Option<&str>) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE contact SET changed = ?2 WHERE account = ?1")?
            .execute(params![account.0, text])?;
        Ok(())
    }

    /// Contacts of whom the user is to be told something.
    pub(crate) fn changed_contacts(&self) -> sql::Result<Vec<ContactRow>> {
        let query = format!("SELECT {COLUMNS} FROM contact WHERE changed IS NOT NULL");
        self.0.prepare_cached(&query)?.query_map([], read)?.collect()
    }

    /// Keeps the newest identity seen of a contact.
    pub(crate) fn set_identity(&self, identity: &PublicIdentity) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE contact SET generation = ?2, version = ?3, account_key = ?4,
                    device_list = ?5
                 WHERE account = ?1",
            )?
            .execute(params![
                identity.account().0,
                identity.list.generation,
                identity.list.version,
                identity.account_key_bytes.as_ref(),
                identity.list_bytes.as_ref(),
            ])?;
        Ok(())
    }

    /// Notes the number of a list that a certificate names, of a contact without a list.
    pub(crate) fn note_number(
        &self,
        account: &AccountId,
        (generation, version): (u32, u64),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE contact SET generation = ?2, version = ?3
                 WHERE account = ?1 AND device_list IS NULL AND (generation, version) < (?2, ?3)",
            )?
            .execute(params![account.0, generation, version])?;
        Ok(())
    }

    /// The newest identity seen of a contact; it was verified when it came in.
    pub(crate) fn identity(&self, account: &AccountId) -> sql::Result<Option<Identity>> {
        let row = self
            .0
            .prepare_cached("SELECT account_key, device_list FROM contact WHERE account = ?1")?
            .query_row([account.0], |row| {
                let bytes = |index| row.get::<_, Option<Vec<u8>>>(index);
                Ok((bytes(0)?, bytes(1)?))
            })
            .optional()?;
        let Some((Some(account_key), Some(device_list))) = row else { return Ok(None) };
        let (account_key, device_list) = (account_key.into(), device_list.into());
        Ok(Some(Identity { account: *account, account_key, device_list }))
    }

    /// Notes a device of a contact; false when it was seen before.
    pub(crate) fn note_device(&self, account: &AccountId, device: &DeviceId) -> sql::Result<bool> {
        let added = self
            .0
            .prepare_cached(
                "INSERT OR IGNORE INTO contact_device (account, device) VALUES (?1, ?2)",
            )?
            .execute(params![account.0, device.0])?;
        Ok(added > 0)
    }
}
