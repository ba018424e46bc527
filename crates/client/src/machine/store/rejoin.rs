//! How this device and others come back to channels: what was asked, and what stands.

use std::collections::BTreeSet;

use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, ChannelId, DeviceId, MessageId};
use qpc_storage::sql::{self, OptionalExtension as _, params};

use super::Db;
use super::message::TIME_MAX;

/// How this device stands to a channel that it may have to rejoin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RejoinRow {
    /// The Commit by which this device is in; 0 if that is not known.
    pub(crate) joined_seq: u64,
    /// The last Commit that added it, as the server says.
    pub(crate) latest_seq: u64,
    /// The join for which it has asked to be taken in again.
    pub(crate) asked_seq: u64,
    /// When that was taken.
    pub(crate) asked_ms: u64,
    /// The reason's number while it wants to be taken in again.
    pub(crate) wanted: Option<u8>,
    /// The cursor behind expired entries, until it is known whether a Commit was among them.
    pub(crate) gap_at: Option<u64>,
}

/// A standing rejoin of another device.
#[derive(Debug, Clone)]
pub(crate) struct StandingRejoin {
    pub(crate) device: DeviceRef,
    pub(crate) statement: Vec<u8>,
}

impl Db<'_> {
    pub(crate) fn rejoin(&self, channel: &ChannelId) -> sql::Result<RejoinRow> {
        let found = self
            .0
            .prepare_cached(
                "SELECT joined_seq, latest_seq, asked_seq, asked_ms, wanted, gap_at
                 FROM rejoin WHERE channel = ?1",
            )?
            .query_row([channel.0], |row| {
                Ok(RejoinRow {
                    joined_seq: row.get(0)?,
                    latest_seq: row.get(1)?,
                    asked_seq: row.get(2)?,
                    asked_ms: row.get(3)?,
                    wanted: row.get(4)?,
                    gap_at: row.get(5)?,
                })
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    pub(crate) fn put_rejoin(&self, channel: &ChannelId, row: &RejoinRow) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO rejoin
                    (channel, joined_seq, latest_seq, asked_seq, asked_ms, wanted, gap_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                channel.0,
                row.joined_seq,
                row.latest_seq,
                row.asked_seq,
                row.asked_ms,
                row.wanted,
                row.gap_at,
            ])?;
        Ok(())
    }

    /// Channels that this device wants to be taken into again.
    pub(crate) fn rejoins_wanted(&self) -> sql::Result<Vec<ChannelId>> {
        self.0
            .prepare_cached("SELECT channel FROM rejoin WHERE wanted IS NOT NULL")?
            .query_map([], |row| row.get(0).map(ChannelId))?
            .collect()
    }

    /// An id that the server accepted from this device counts as one of this home from now on.
    pub(crate) fn note_sealed(
        &self,
        channel: &ChannelId,
        (message_id, now_ms): (&MessageId, u64),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR IGNORE INTO sealed_id (channel, message_id, sealed_at_ms)
                 VALUES (?1, ?2, ?3)",
            )?
            .execute(params![channel.0, message_id.0, now_ms.min(TIME_MAX)])?;
        Ok(())
    }

    /// Who was in a channel as this device knew it before a stranger took it in.
    pub(crate) fn vouchers(&self, channel: &ChannelId) -> sql::Result<BTreeSet<AccountId>> {
        self.0
            .prepare_cached("SELECT account FROM voucher WHERE channel = ?1")?
            .query_map([channel.0], |row| row.get(0).map(AccountId))?
            .collect()
    }

    pub(crate) fn put_voucher(&self, channel: &ChannelId, account: &AccountId) -> sql::Result<()> {
        self.0
            .prepare_cached("INSERT OR IGNORE INTO voucher (channel, account) VALUES (?1, ?2)")?
            .execute(params![channel.0, account.0])?;
        Ok(())
    }

    pub(crate) fn drop_vouchers(&self, channel: &ChannelId) -> sql::Result<()> {
        self.0.prepare_cached("DELETE FROM voucher WHERE channel = ?1")?.execute([channel.0])?;
        Ok(())
    }

    pub(crate) fn put_standing_rejoin(
        &self,
        channel: &ChannelId,
        (seq, standing): (u64, &StandingRejoin),
    ) -> sql::Result<()> {
        let StandingRejoin { device, statement } = standing;
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO standing_rejoin (channel, account, device, seq, statement)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![channel.0, device.account.0, device.device.0, seq, statement])?;
        Ok(())
    }

    /// What stands in a channel, oldest first.
    pub(crate) fn standing_rejoins(&self, channel: &ChannelId) -> sql::Result<Vec<StandingRejoin>> {
        self.0
            .prepare_cached(
                "SELECT account, device, statement FROM standing_rejoin
                 WHERE channel = ?1 ORDER BY seq",
            )?
            .query_map([channel.0], |row| {
                let (account, device) = (AccountId(row.get(0)?), DeviceId(row.get(1)?));
                Ok(StandingRejoin { device: DeviceRef { account, device }, statement: row.get(2)? })
            })?
            .collect()
    }

    pub(crate) fn drop_standing_rejoin(
        &self,
        channel: &ChannelId,
        device: &DeviceRef,
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "DELETE FROM standing_rejoin
                 WHERE channel = ?1 AND account = ?2 AND device = ?3",
            )?
            .execute(params![channel.0, device.account.0, device.device.0])?;
        Ok(())
    }
}
