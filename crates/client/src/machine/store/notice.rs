//! What the server told of this account.

use qpc_proto::DeviceId;
use qpc_proto::message::{Notice, NoticeKind};
use qpc_storage::sql::{self, Row, params};

use super::Db;

/// In the order of their stored numbers.
const KINDS: [NoticeKind; 7] = [
    NoticeKind::Linked,
    NoticeKind::Revoked,
    NoticeKind::RefreshReused,
    NoticeKind::Exported,
    NoticeKind::DeletionRequested,
    NoticeKind::DeletionCancelled,
    NoticeKind::Recovered,
];

fn code(kind: NoticeKind) -> u8 {
    KINDS.iter().zip(0_u8..).find(|(k, _)| **k == kind).map_or(0, |(_, code)| code)
}

fn read(row: &Row<'_>) -> sql::Result<(u64, Notice)> {
    let code: u8 = row.get(1)?;
    let kind = KINDS.get(usize::from(code)).copied().unwrap_or(NoticeKind::Linked);
    Ok((row.get(0)?, Notice { kind, device: DeviceId(row.get(2)?), at_ms: row.get(3)? }))
}

impl Db<'_> {
    /// Keeps a notice; returns its number.
    pub(crate) fn insert_notice(&self, notice: &Notice) -> sql::Result<u64> {
        self.0
            .prepare_cached("INSERT INTO notice (kind, device, at_ms) VALUES (?1, ?2, ?3)")?
            .execute(params![code(notice.kind), notice.device.0, notice.at_ms])?;
        Ok(u64::try_from(self.0.last_insert_rowid()).unwrap_or(0))
    }

    /// Notices, oldest first.
    pub(crate) fn notices(&self, unseen_only: bool) -> sql::Result<Vec<(u64, Notice)>> {
        self.0
            .prepare_cached(
                "SELECT id, kind, device, at_ms FROM notice WHERE NOT ?1 OR seen = 0 ORDER BY id",
            )?
            .query_map([unseen_only], read)?
            .collect()
    }

    pub(crate) fn mark_notices_seen(&self, up_to: u64) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE notice SET seen = 1 WHERE seen = 0 AND id <= ?1")?
            .execute([up_to])?;
        Ok(())
    }
}
