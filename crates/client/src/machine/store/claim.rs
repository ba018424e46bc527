//! What operations claim: accounts, devices, and the KeyPackages that were handed out.

use qpc_proto::{AccountId, DeviceId, RequestId};
use qpc_storage::sql::{self, params};

use super::Db;
use super::intent::IntentState;

impl Db<'_> {
    /// The devices to claim for; none stands for all.
    pub(crate) fn intent_devices(&self, intent: u64) -> sql::Result<Vec<DeviceId>> {
        self.0
            .prepare_cached("SELECT device FROM intent_device WHERE intent = ?1 ORDER BY device")?
            .query_map([intent], |row| row.get(0).map(DeviceId))?
            .collect()
    }

    pub(crate) fn set_intent_devices(&self, intent: u64, devices: &[DeviceId]) -> sql::Result<()> {
        self.0.prepare_cached("DELETE FROM intent_device WHERE intent = ?1")?.execute([intent])?;
        let mut insert = self.0.prepare_cached(
            "INSERT OR IGNORE INTO intent_device (intent, device) VALUES (?1, ?2)",
        )?;
        for device in devices {
            insert.execute(params![intent, device.0])?;
        }
        Ok(())
    }

    /// Accounts of an operation: id, claim's request id, claimed.
    pub(crate) fn intent_accounts(
        &self,
        intent: u64,
    ) -> sql::Result<Vec<(AccountId, RequestId, bool)>> {
        self.0
            .prepare_cached(
                "SELECT account, request_id, claimed FROM intent_account
                 WHERE intent = ?1 ORDER BY account",
            )?
            .query_map([intent], |row| {
                Ok((AccountId(row.get(0)?), RequestId(row.get(1)?), row.get(2)?))
            })?
            .collect()
    }

    /// What was claimed for an account is of no use any more.
    pub(crate) fn claim_again(
        &self,
        intent: u64,
        (account, request_id): (&AccountId, &RequestId),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE intent_account SET claimed = 0, request_id = ?3
                 WHERE intent = ?1 AND account = ?2",
            )?
            .execute(params![intent, account.0, request_id.0])?;
        self.0
            .prepare_cached("DELETE FROM intent_key_package WHERE intent = ?1")?
            .execute([intent])?;
        Ok(())
    }

    /// Operations that still claim for an account.
    pub(crate) fn claims_of(&self, account: &AccountId) -> sql::Result<Vec<u64>> {
        self.0
            .prepare_cached(
                "SELECT a.intent FROM intent_account a JOIN intent i ON i.id = a.intent
                 WHERE a.account = ?1 AND a.claimed = 0 AND i.state = ?2",
            )?
            .query_map(params![account.0, IntentState::Claiming.code()], |row| row.get(0))?
            .collect()
    }

    /// An account is claimed for under another request id.
    pub(crate) fn renew_claim(
        &self,
        intent: u64,
        (account, request_id): (&AccountId, &RequestId),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE intent_account SET request_id = ?3 WHERE intent = ?1 AND account = ?2",
            )?
            .execute(params![intent, account.0, request_id.0])?;
        Ok(())
    }

    pub(crate) fn set_claimed(&self, intent: u64, account: &AccountId) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE intent_account SET claimed = 1 WHERE intent = ?1 AND account = ?2",
            )?
            .execute(params![intent, account.0])?;
        Ok(())
    }

    pub(crate) fn put_key_package(
        &self,
        intent: u64,
        (device, key_package): (&DeviceId, &[u8]),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO intent_key_package (intent, device, key_package)
                 VALUES (?1, ?2, ?3)",
            )?
            .execute(params![intent, device.0, key_package])?;
        Ok(())
    }

    pub(crate) fn key_packages(&self, intent: u64) -> sql::Result<Vec<Vec<u8>>> {
        self.0
            .prepare_cached(
                "SELECT key_package FROM intent_key_package WHERE intent = ?1 ORDER BY device",
            )?
            .query_map([intent], |row| row.get(0))?
            .collect()
    }
}
