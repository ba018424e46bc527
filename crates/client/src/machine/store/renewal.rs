//! The list with later ends that this device signed, and since when its own certificate is another.

use qpc_proto::RequestId;
use qpc_storage::sql::{self, OptionalExtension as _, params};

use super::{Db, pack, unpack};

/// A renewal of the account's devices.
#[derive(Debug, Clone)]
pub(crate) struct RenewalRow {
    pub(crate) request_id: RequestId,
    pub(crate) device_list: Vec<u8>,
    pub(crate) certificates: Vec<Vec<u8>>,
    /// Whether the server has yet to answer.
    pub(crate) open: bool,
    pub(crate) signed_at_ms: u64,
}

impl Db<'_> {
    /// Keeps a renewal in place of the one before it.
    pub(crate) fn put_renewal(&self, row: &RenewalRow) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO renewal
                    (id, request_id, device_list, certificates, open, signed_at_ms)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                row.request_id.0,
                row.device_list,
                pack(&row.certificates),
                row.open,
                row.signed_at_ms
            ])?;
        Ok(())
    }

    pub(crate) fn renewal(&self) -> sql::Result<Option<RenewalRow>> {
        self.0
            .prepare_cached(
                "SELECT request_id, device_list, certificates, open, signed_at_ms FROM renewal",
            )?
            .query_row([], |row| {
                Ok(RenewalRow {
                    request_id: RequestId(row.get(0)?),
                    device_list: row.get(1)?,
                    certificates: unpack(&row.get::<_, Vec<u8>>(2)?),
                    open: row.get(3)?,
                    signed_at_ms: row.get(4)?,
                })
            })
            .optional()
    }

    /// The server has answered.
    pub(crate) fn close_renewal(&self) -> sql::Result<()> {
        self.0.prepare_cached("UPDATE renewal SET open = 0")?.execute([])?;
        Ok(())
    }

    pub(crate) fn set_renewed(&self, at_ms: u64) -> sql::Result<()> {
        self.0
            .prepare_cached("INSERT OR REPLACE INTO renewed (id, at_ms) VALUES (1, ?1)")?
            .execute([at_ms])?;
        Ok(())
    }

    /// Since when the certificate is the one that it is; 0 when it was never renewed.
    pub(crate) fn renewed_at(&self) -> sql::Result<u64> {
        let at = self
            .0
            .prepare_cached("SELECT at_ms FROM renewed")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(at.unwrap_or(0))
    }
}
