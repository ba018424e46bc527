//! Upkeep of own leaves and KeyPackages, what operations set in a group's context, and the end of
//! operations.

use std::collections::BTreeSet;

use qpc_proto::{AccountId, ChannelId, Digest};
use qpc_storage::sql::{self, OptionalExtension as _, params};

use super::message::TIME_MAX;
use super::{Db, IntentKind, IntentState};

/// The own leaf in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UpkeepRow {
    /// The Commit since which messages are counted.
    pub(crate) base_commit: u64,
    /// Own messages sealed since.
    pub(crate) sealed: u64,
    /// Server time at which its keys are to be renewed.
    pub(crate) update_at_ms: u64,
}

/// What an operation sets in a group's context; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ContextChange {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    /// An account, and whether it is to be an admin.
    pub(crate) role: Option<(AccountId, bool)>,
}

/// A KeyPackage whose private part is here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnKeyPackage {
    pub(crate) reference: Digest,
    pub(crate) last_resort: bool,
    pub(crate) made_at_ms: u64,
}

/// What belongs to an operation, by its number.
const PARTS: [&str; 4] =
    ["intent_account", "intent_device", "intent_key_package", "intent_context"];

impl Db<'_> {
    /// Notes which operations have ended since it was looked last, and forgets those of which that
    /// was noted before `before_ms`. A removal of revoked devices that failed stays: it is not
    /// tried again for the same list.
    pub(crate) fn forget_ended(&self, (now_ms, before_ms): (u64, u64)) -> sql::Result<()> {
        let (now_ms, before_ms) = (now_ms.min(TIME_MAX), before_ms.min(TIME_MAX));
        // A time to come is of a clock that was ahead.
        self.0
            .prepare_cached(
                "UPDATE intent SET ended_at_ms = ?1
                 WHERE state >= 3 AND (ended_at_ms IS NULL OR ended_at_ms > ?1)",
            )?
            .execute([now_ms])?;
        let (revoke, failed) = (IntentKind::Revoke.code(), IntentState::Failed.code());
        let gone = self
            .0
            .prepare_cached(
                "SELECT id FROM intent
                 WHERE state >= 3 AND ended_at_ms < ?1 AND NOT (kind = ?2 AND state = ?3)
                    AND id NOT IN (SELECT intent FROM sealed_commit)",
            )?
            .query_map(params![before_ms, revoke, failed], |row| row.get(0))?
            .collect::<sql::Result<Vec<u64>>>()?;
        for id in gone {
            for table in PARTS {
                let statement = format!("DELETE FROM {table} WHERE intent = ?1");
                self.0.prepare_cached(&statement)?.execute([id])?;
            }
            self.0.prepare_cached("DELETE FROM intent WHERE id = ?1")?.execute([id])?;
        }
        Ok(())
    }

    pub(crate) fn upkeep(&self, channel: &ChannelId) -> sql::Result<Option<UpkeepRow>> {
        self.0
            .prepare_cached(
                "SELECT base_commit, sealed, update_at_ms FROM upkeep WHERE channel = ?1",
            )?
            .query_row([channel.0], |row| {
                Ok(UpkeepRow {
                    base_commit: row.get(0)?,
                    sealed: row.get(1)?,
                    update_at_ms: row.get(2)?,
                })
            })
            .optional()
    }

    pub(crate) fn put_upkeep(&self, channel: &ChannelId, row: &UpkeepRow) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO upkeep (channel, base_commit, sealed, update_at_ms)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![channel.0, row.base_commit, row.sealed, row.update_at_ms])?;
        Ok(())
    }

    pub(crate) fn put_context_change(
        &self,
        intent: u64,
        change: &ContextChange,
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO intent_context (intent, title, description, account, admin)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                intent,
                change.title,
                change.description,
                change.role.map(|(account, _)| account.0),
                change.role.map(|(_, admin)| admin),
            ])?;
        Ok(())
    }

    pub(crate) fn context_change(&self, intent: u64) -> sql::Result<ContextChange> {
        let found = self
            .0
            .prepare_cached(
                "SELECT title, description, account, admin FROM intent_context WHERE intent = ?1",
            )?
            .query_row([intent], |row| {
                let account = row.get::<_, Option<[u8; 16]>>(2)?.map(AccountId);
                let admin: Option<bool> = row.get(3)?;
                Ok(ContextChange {
                    title: row.get(0)?,
                    description: row.get(1)?,
                    role: account.zip(admin),
                })
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    pub(crate) fn put_own_key_package(&self, key_package: &OwnKeyPackage) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR IGNORE INTO key_package (reference, last_resort, made_at_ms)
                 VALUES (?1, ?2, ?3)",
            )?
            .execute(params![
                key_package.reference.0,
                key_package.last_resort,
                key_package.made_at_ms
            ])?;
        Ok(())
    }

    pub(crate) fn own_key_package(&self, reference: &Digest) -> sql::Result<Option<OwnKeyPackage>> {
        self.0
            .prepare_cached("SELECT last_resort, made_at_ms FROM key_package WHERE reference = ?1")?
            .query_row([reference.0], |row| {
                let (last_resort, made_at_ms) = (row.get(0)?, row.get(1)?);
                Ok(OwnKeyPackage { reference: *reference, last_resort, made_at_ms })
            })
            .optional()
    }

    pub(crate) fn drop_own_key_package(&self, reference: &Digest) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM key_package WHERE reference = ?1")?
            .execute([reference.0])?;
        Ok(())
    }

    /// KeyPackages of a kind that were made before a time.
    pub(crate) fn own_key_packages_before(
        &self,
        (last_resort, made_at_ms): (bool, u64),
    ) -> sql::Result<BTreeSet<Digest>> {
        self.0
            .prepare_cached(
                "SELECT reference FROM key_package WHERE last_resort = ?1 AND made_at_ms < ?2",
            )?
            .query_map(params![last_resort, made_at_ms], |row| row.get(0).map(Digest))?
            .collect()
    }

    /// How many KeyPackages of a kind were made at a time or later.
    pub(crate) fn own_key_packages_since(
        &self,
        (last_resort, made_at_ms): (bool, u64),
    ) -> sql::Result<u32> {
        self.0
            .prepare_cached(
                "SELECT count(*) FROM key_package WHERE last_resort = ?1 AND made_at_ms >= ?2",
            )?
            .query_row(params![last_resort, made_at_ms], |row| row.get(0))
    }
}
