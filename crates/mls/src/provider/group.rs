//! The values that belong to one group: its single values, its own leaf nodes and the HPKE key
//! pairs of an epoch. Never touches another group's rows, nor more of this one than asked.

use qpc_storage::sql::params;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ProviderError, Store, codec, decode};

/// Which single value of a group a row holds. The numbers are on disk: never reuse one.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    JoinConfig = 1,
    GroupState = 2,
    OwnLeafIndex = 3,
    Tree = 4,
    GroupContext = 5,
    InterimTranscriptHash = 6,
    ConfirmationTag = 7,
    EpochSecrets = 8,
    // 9 was the message secrets: they have a table of their own, see `Stamp`. 11 was the stamp.
    ResumptionPskStore = 10,
}

const PUT: &str = "INSERT INTO mls_group (group_id, kind, value) VALUES (?1, ?2, ?3)
    ON CONFLICT (group_id, kind) DO UPDATE SET value = excluded.value";
const GET: &str = "SELECT value FROM mls_group WHERE group_id = ?1 AND kind = ?2";
const ERASE: &str = "DELETE FROM mls_group WHERE group_id = ?1 AND kind = ?2";

const PUSH_LEAF: &str = "INSERT INTO mls_own_leaf_node (group_id, value) VALUES (?1, ?2)";
const LEAVES: &str = "SELECT value FROM mls_own_leaf_node WHERE group_id = ?1 ORDER BY position";
const ERASE_LEAVES: &str = "DELETE FROM mls_own_leaf_node WHERE group_id = ?1";

const PUT_EPOCH_KEYS: &str =
    "INSERT INTO mls_epoch_key_pairs (group_id, epoch, leaf_index, value) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (group_id, epoch, leaf_index) DO UPDATE SET value = excluded.value";
const EPOCH_KEYS: &str = "SELECT value FROM mls_epoch_key_pairs
    WHERE group_id = ?1 AND epoch = ?2 AND leaf_index = ?3";
const ERASE_EPOCH_KEYS: &str = "DELETE FROM mls_epoch_key_pairs
    WHERE group_id = ?1 AND epoch = ?2 AND leaf_index = ?3";

const ERASE_GROUP: [&str; 5] = [
    "DELETE FROM mls_message_secrets WHERE group_id = ?1",
    "DELETE FROM mls_group WHERE group_id = ?1",
    "DELETE FROM mls_own_leaf_node WHERE group_id = ?1",
    "DELETE FROM mls_proposal WHERE group_id = ?1",
    "DELETE FROM mls_epoch_key_pairs WHERE group_id = ?1",
];

/// One member's key pairs in one epoch of one group.
pub(super) struct EpochSlot<'a, G, E> {
    pub(super) group_id: &'a G,
    pub(super) epoch: &'a E,
    pub(super) leaf_index: u32,
}

impl Store<'_> {
    pub(super) fn put(
        &self,
        kind: Kind,
        group_id: &impl Serialize,
        value: &impl Serialize,
    ) -> Result<(), ProviderError> {
        let (key, value) = (codec::encode(group_id)?, codec::encode(value)?);
        self.renew_stamp(&key)?;
        self.execute(PUT, params![key.as_slice(), kind as i64, value.as_slice()])
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        group_id: &impl Serialize,
    ) -> Result<Option<T>, ProviderError> {
        let key = codec::encode(group_id)?;
        self.one(GET, params![key.as_slice(), kind as i64])
    }

    pub(super) fn erase(&self, kind: Kind, group_id: &impl Serialize) -> Result<(), ProviderError> {
        let key = codec::encode(group_id)?;
        self.renew_stamp(&key)?;
        self.execute(ERASE, params![key.as_slice(), kind as i64])
    }

    /// Erases everything of a group without reading it.
    pub(crate) fn erase_group(&self, group_id: &impl Serialize) -> Result<(), ProviderError> {
        let key = codec::encode(group_id)?;
        for statement in ERASE_GROUP {
            self.execute(statement, params![key.as_slice()])?;
        }
        Ok(())
    }

    pub(super) fn push_leaf(
        &self,
        group_id: &impl Serialize,
        leaf: &impl Serialize,
    ) -> Result<(), ProviderError> {
        let (key, value) = (codec::encode(group_id)?, codec::encode(leaf)?);
        self.renew_stamp(&key)?;
        self.execute(PUSH_LEAF, params![key.as_slice(), value.as_slice()])
    }

    pub(super) fn leaves<T: DeserializeOwned>(
        &self,
        group_id: &impl Serialize,
    ) -> Result<Vec<T>, ProviderError> {
        let key = codec::encode(group_id)?;
        self.all(LEAVES, params![key.as_slice()], |row| decode(row, 0))
    }

    pub(super) fn erase_leaves(&self, group_id: &impl Serialize) -> Result<(), ProviderError> {
        let key = codec::encode(group_id)?;
        self.renew_stamp(&key)?;
        self.execute(ERASE_LEAVES, params![key.as_slice()])
    }

    // The list is one value because OpenMLS only ever writes and reads it whole.
    pub(super) fn put_epoch_keys(
        &self,
        slot: &EpochSlot<'_, impl Serialize, impl Serialize>,
        pairs: &[impl Serialize],
    ) -> Result<(), ProviderError> {
        let (group, epoch) = (codec::encode(slot.group_id)?, codec::encode(slot.epoch)?);
        let value = codec::encode(pairs)?;
        let (group, epoch, value) = (group.as_slice(), epoch.as_slice(), value.as_slice());
        self.execute(PUT_EPOCH_KEYS, params![group, epoch, slot.leaf_index, value])
    }

    pub(super) fn epoch_keys<T: DeserializeOwned>(
        &self,
        slot: &EpochSlot<'_, impl Serialize, impl Serialize>,
    ) -> Result<Vec<T>, ProviderError> {
        let (group, epoch) = (codec::encode(slot.group_id)?, codec::encode(slot.epoch)?);
        let key = params![group.as_slice(), epoch.as_slice(), slot.leaf_index];
        Ok(self.one(EPOCH_KEYS, key)?.unwrap_or_default())
    }

    pub(super) fn erase_epoch_keys(
        &self,
        slot: &EpochSlot<'_, impl Serialize, impl Serialize>,
    ) -> Result<(), ProviderError> {
        let (group, epoch) = (codec::encode(slot.group_id)?, codec::encode(slot.epoch)?);
        let key = params![group.as_slice(), epoch.as_slice(), slot.leaf_index];
        self.execute(ERASE_EPOCH_KEYS, key)
    }
}
