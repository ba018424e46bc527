//! The stamp of a group's stored state: random bytes that stand for it until the next write.
//! Whoever keeps a group in memory compares it before each use.
//!
//! Never says that two states are equal unless they are: every write of a group drops its stamp,
//! and a stamp is never given twice.

use openmls_traits::random::OpenMlsRand as _;
use qpc_storage::sql::{OptionalExtension as _, params};
use serde::Serialize;

use super::group::Kind;
use super::{Provider, ProviderError, Store, codec};

/// Stands for the stored state of one group, from the end of the operation that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([u8; 16]);

const PUT: &str = "INSERT INTO mls_group (group_id, kind, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (group_id, kind) DO UPDATE SET value = excluded.value";
const GET: &str = "SELECT value FROM mls_group WHERE group_id = ?1 AND kind = ?2";
const DROP: &str = "DELETE FROM mls_group WHERE group_id = ?1 AND kind = ?2";

impl Provider<'_> {
    /// Stamps the state that an operation leaves behind.
    pub(crate) fn put_stamp(&self, group_id: &impl Serialize) -> Result<Stamp, ProviderError> {
        let stamp = self.crypto.random_array().map_err(|_| ProviderError::Encode)?;
        let key = codec::encode(group_id)?;
        let row = params![key.as_slice(), Kind::Stamp as i64, stamp.as_slice()];
        self.storage.execute(PUT, row)?;
        Ok(Stamp(stamp))
    }

    /// The stamp of the stored state, if the last operation on it was finished.
    pub(crate) fn stamp(&self, group_id: &impl Serialize) -> Result<Option<Stamp>, ProviderError> {
        let key = codec::encode(group_id)?;
        let mut statement = self.storage.tx.prepare_cached(GET)?;
        let stamp = statement
            .query_row(params![key.as_slice(), Kind::Stamp as i64], |row| row.get(0))
            .optional()?;
        Ok(stamp.map(Stamp))
    }
}

impl Store<'_> {
    /// What is about to be written has no stamp yet.
    pub(super) fn drop_stamp(&self, key: &[u8]) -> Result<(), ProviderError> {
        self.execute(DROP, params![key, Kind::Stamp as i64])
    }
}
