//! The offer of a device that waits to be linked, and the versions of lists that were signed here.

use qpc_proto::DeviceId;
use qpc_storage::sql::{self, OptionalExtension as _, params};
use zeroize::Zeroizing;

use super::Db;
use crate::keys::Seed;

/// An offer as it was made and is repeated.
#[derive(Clone)]
pub(crate) struct LinkRow {
    pub(crate) server: String,
    pub(crate) code: Zeroizing<[u8; 16]>,
    pub(crate) device: DeviceId,
    pub(crate) seed: Seed,
    pub(crate) sealed: Vec<u8>,
    pub(crate) made_at_ms: u64,
}

impl Db<'_> {
    pub(crate) fn link_offer(&self) -> sql::Result<Option<LinkRow>> {
        let mut statement = self.0.prepare_cached(
            "SELECT server, code, device, device_seed, sealed, made_at_ms FROM link_offer",
        )?;
        statement
            .query_row([], |row| {
                Ok(LinkRow {
                    server: row.get(0)?,
                    code: Zeroizing::new(row.get(1)?),
                    device: DeviceId(row.get(2)?),
                    seed: Zeroizing::new(row.get(3)?),
                    sealed: row.get(4)?,
                    made_at_ms: row.get(5)?,
                })
            })
            .optional()
    }

    pub(crate) fn put_link_offer(&self, row: &LinkRow) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO link_offer
                    (id, server, code, device, device_seed, sealed, made_at_ms)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                row.server,
                row.code.as_slice(),
                row.device.0,
                row.seed.as_slice(),
                row.sealed,
                row.made_at_ms,
            ])?;
        Ok(())
    }

    pub(crate) fn delete_link_offer(&self) -> sql::Result<()> {
        self.0.prepare_cached("DELETE FROM link_offer")?.execute([])?;
        Ok(())
    }

    /// The next version that no list of this device has had, above `newest`; it counts as used.
    pub(crate) fn take_list_version(&self, newest: u64) -> sql::Result<u64> {
        self.0
            .prepare_cached(
                "UPDATE profile SET list_signed = max(list_signed, ?1) + 1 RETURNING list_signed",
            )?
            .query_row([newest], |row| row.get(0))
    }
}
