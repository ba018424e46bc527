//! KeyPackages on their way to the server.

use qpc_proto::RequestId;
use qpc_storage::sql::{self, OptionalExtension as _, params};

use super::{Db, pack, unpack};

/// One upload.
#[derive(Debug, Clone)]
pub(crate) struct UploadRow {
    pub(crate) request_id: RequestId,
    pub(crate) key_packages: Vec<Vec<u8>>,
    pub(crate) last_resort: Option<Vec<u8>>,
}

impl Db<'_> {
    pub(crate) fn put_upload(&self, upload: &UploadRow) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO upload (request_id, key_packages, last_resort) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![
                upload.request_id.0,
                pack(&upload.key_packages),
                upload.last_resort
            ])?;
        Ok(())
    }

    /// The oldest upload that is not known to have arrived.
    pub(crate) fn upload(&self) -> sql::Result<Option<UploadRow>> {
        self.0
            .prepare_cached(
                "SELECT request_id, key_packages, last_resort FROM upload
                 ORDER BY request_id LIMIT 1",
            )?
            .query_row([], |row| {
                let packed: Vec<u8> = row.get(1)?;
                Ok(UploadRow {
                    request_id: RequestId(row.get(0)?),
                    key_packages: unpack(&packed),
                    last_resort: row.get(2)?,
                })
            })
            .optional()
    }

    pub(crate) fn drop_upload(&self, request_id: &RequestId) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM upload WHERE request_id = ?1")?
            .execute([request_id.0])?;
        Ok(())
    }
}
