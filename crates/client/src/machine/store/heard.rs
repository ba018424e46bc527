//! When members' devices were last heard of.

use std::collections::BTreeMap;

use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, ChannelId, DeviceId};
use qpc_storage::sql::{self, OptionalExtension as _, params};

use super::Db;

impl Db<'_> {
    pub(crate) fn heard(
        &self,
        channel: &ChannelId,
        device: &DeviceRef,
    ) -> sql::Result<Option<u64>> {
        self.0
            .prepare_cached(
                "SELECT at_ms FROM heard WHERE channel = ?1 AND account = ?2 AND device = ?3",
            )?
            .query_row(params![channel.0, device.account.0, device.device.0], |row| row.get(0))
            .optional()
    }

    /// All that is known of a channel.
    pub(crate) fn all_heard(&self, channel: &ChannelId) -> sql::Result<BTreeMap<DeviceRef, u64>> {
        self.0
            .prepare_cached("SELECT account, device, at_ms FROM heard WHERE channel = ?1")?
            .query_map([channel.0], |row| {
                let (account, device) = (AccountId(row.get(0)?), DeviceId(row.get(1)?));
                Ok((DeviceRef { account, device }, row.get(2)?))
            })?
            .collect()
    }

    pub(crate) fn put_heard(
        &self,
        channel: &ChannelId,
        (device, at_ms): (&DeviceRef, u64),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO heard (channel, account, device, at_ms)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![channel.0, device.account.0, device.device.0, at_ms])?;
        Ok(())
    }

    pub(crate) fn drop_heard(&self, channel: &ChannelId, device: &DeviceRef) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "DELETE FROM heard WHERE channel = ?1 AND account = ?2 AND device = ?3",
            )?
            .execute(params![channel.0, device.account.0, device.device.0])?;
        Ok(())
    }

    /// Nothing is known of a channel any more.
    pub(crate) fn forget_heard(&self, channel: &ChannelId) -> sql::Result<()> {
        self.0.prepare_cached("DELETE FROM heard WHERE channel = ?1")?.execute([channel.0])?;
        Ok(())
    }
}
