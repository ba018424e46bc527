//! The queue of proposals of each group, one row a proposal, in the order in which they came.
//! Never reads the queue to change it.

use qpc_storage::sql::params;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ProviderError, Store, codec, decode};

// The same reference again keeps its place: a reference is a hash over the proposal (RFC 9420
// section 5.2), so both are the same proposal, and a list with it twice could not be cleared by
// removing it once.
const ENQUEUE: &str = "INSERT INTO mls_proposal (group_id, reference, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (group_id, reference) DO UPDATE SET value = excluded.value";
const REFERENCES: &str = "SELECT reference FROM mls_proposal WHERE group_id = ?1 ORDER BY position";
const PROPOSALS: &str =
    "SELECT reference, value FROM mls_proposal WHERE group_id = ?1 ORDER BY position";
const DEQUEUE: &str = "DELETE FROM mls_proposal WHERE group_id = ?1 AND reference = ?2";
const CLEAR: &str = "DELETE FROM mls_proposal WHERE group_id = ?1";

impl Store<'_> {
    pub(super) fn enqueue(
        &self,
        group_id: &impl Serialize,
        reference: &impl Serialize,
        proposal: &impl Serialize,
    ) -> Result<(), ProviderError> {
        let (group, reference) = (codec::encode(group_id)?, codec::encode(reference)?);
        let value = codec::encode(proposal)?;
        self.renew_stamp(&group)?;
        let row = params![group.as_slice(), reference.as_slice(), value.as_slice()];
        self.execute(ENQUEUE, row)
    }

    pub(super) fn references<R: DeserializeOwned>(
        &self,
        group_id: &impl Serialize,
    ) -> Result<Vec<R>, ProviderError> {
        let group = codec::encode(group_id)?;
        self.all(REFERENCES, params![group.as_slice()], |row| decode(row, 0))
    }

    pub(super) fn proposals<R: DeserializeOwned, P: DeserializeOwned>(
        &self,
        group_id: &impl Serialize,
    ) -> Result<Vec<(R, P)>, ProviderError> {
        let group = codec::encode(group_id)?;
        self.all(PROPOSALS, params![group.as_slice()], |row| Ok((decode(row, 0)?, decode(row, 1)?)))
    }

    pub(super) fn dequeue(
        &self,
        group_id: &impl Serialize,
        reference: &impl Serialize,
    ) -> Result<(), ProviderError> {
        let (group, reference) = (codec::encode(group_id)?, codec::encode(reference)?);
        self.renew_stamp(&group)?;
        self.execute(DEQUEUE, params![group.as_slice(), reference.as_slice()])
    }

    pub(super) fn clear_queue(&self, group_id: &impl Serialize) -> Result<(), ProviderError> {
        let group = codec::encode(group_id)?;
        self.renew_stamp(&group)?;
        self.execute(CLEAR, params![group.as_slice()])
    }
}
