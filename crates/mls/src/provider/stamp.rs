//! The value of a group that each message writes, and the stamp of all that is stored of the group:
//! random bytes that stand for it until the next write. Whoever keeps a group in memory compares
//! the stamp before each use.
//!
//! Never says that two states are equal unless they are: every write of a group gives it another
//! stamp, and a stamp is never given twice.

use qpc_storage::sql::{OptionalExtension as _, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Provider, ProviderError, Store, codec};

/// Stands for the stored state of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([u8; 16]);

/// A row is a multiple of this long: where the length stays, SQLite writes over the row in its
/// place, and of a long one only the pages that differ.
const ROW_BYTES: usize = 512;

const PUT: &str = "INSERT INTO mls_message_secrets (group_id, stamp, value)
    VALUES (?1, randomblob(16), ?2)
    ON CONFLICT (group_id) DO UPDATE SET stamp = excluded.stamp, value = excluded.value";
const GET: &str = "SELECT value FROM mls_message_secrets WHERE group_id = ?1";
const ERASE: &str = "DELETE FROM mls_message_secrets WHERE group_id = ?1";
const STAMP: &str = "SELECT stamp FROM mls_message_secrets WHERE group_id = ?1";
const RENEW: &str = "UPDATE mls_message_secrets SET stamp = randomblob(16) WHERE group_id = ?1";

impl Provider<'_> {
    /// The stamp of what is stored; none of what is no group.
    pub(crate) fn stamp(&self, group_id: &impl Serialize) -> Result<Option<Stamp>, ProviderError> {
        let key = codec::encode(group_id)?;
        let mut statement = self.storage.tx.prepare_cached(STAMP)?;
        let stamp = statement.query_row([key.as_slice()], |row| row.get(0)).optional()?;
        Ok(stamp.map(Stamp))
    }
}

impl Store<'_> {
    /// What is written has another stamp than what was there.
    pub(super) fn renew_stamp(&self, key: &[u8]) -> Result<(), ProviderError> {
        self.execute(RENEW, [key])
    }

    /// One upsert of the whole value: one with a hole would be a key used twice.
    pub(super) fn put_message_secrets(
        &self,
        group_id: &impl Serialize,
        value: &impl Serialize,
    ) -> Result<(), ProviderError> {
        let (key, value) = (codec::encode(group_id)?, codec::encode_padded(value, ROW_BYTES)?);
        self.execute(PUT, params![key.as_slice(), value.as_slice()])
    }

    pub(super) fn get_message_secrets<T: DeserializeOwned>(
        &self,
        group_id: &impl Serialize,
    ) -> Result<Option<T>, ProviderError> {
        let key = codec::encode(group_id)?;
        self.one(GET, [key.as_slice()])
    }

    pub(super) fn erase_message_secrets(
        &self,
        group_id: &impl Serialize,
    ) -> Result<(), ProviderError> {
        let key = codec::encode(group_id)?;
        self.execute(ERASE, [key.as_slice()])
    }
}
