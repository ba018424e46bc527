//! The OpenMLS `StorageProvider` trait, method by method, over the tables. Only names the row each
//! method means; the statements are in the sibling files.

use openmls_traits::storage::{CURRENT_VERSION as V, StorageProvider, traits as of};

use super::group::{EpochSlot, Kind};
use super::keys::{ENCRYPTION_KEY_PAIR, KEY_PACKAGE, PSK, SIGNATURE_KEY_PAIR};
use super::{ProviderError as Error, Store};

impl StorageProvider<V> for Store<'_> {
    type Error = Error;

    fn write_mls_join_config<G: of::GroupId<V>, T: of::MlsGroupJoinConfig<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Kind::JoinConfig, group_id, value)
    }

    fn mls_group_join_config<G: of::GroupId<V>, T: of::MlsGroupJoinConfig<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get(Kind::JoinConfig, group_id)
    }

    fn delete_group_config<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase(Kind::JoinConfig, group_id)
    }

    fn write_group_state<T: of::GroupState<V>, G: of::GroupId<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Kind::GroupState, group_id, value)
    }

    fn group_state<T: of::GroupState<V>, G: of::GroupId<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get(Kind::GroupState, group_id)
    }

    fn delete_group_state<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase(Kind::GroupState, group_id)
    }

    fn write_own_leaf_index<G: of::GroupId<V>, T: of::LeafNodeIndex<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Kind::OwnLeafIndex, group_id, value)
    }

    fn own_leaf_index<G: of::GroupId<V>, T: of::LeafNodeIndex<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get(Kind::OwnLeafIndex, group_id)
    }

    fn delete_own_leaf_index<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase(Kind::OwnLeafIndex, group_id)
    }

    fn write_tree<G: of::GroupId<V>, T: of::TreeSync<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Kind::Tree, group_id, value)
    }

    fn tree<G: of::GroupId<V>, T: of::TreeSync<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get(Kind::Tree, group_id)
    }

    fn delete_tree<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase(Kind::Tree, group_id)
    }

    fn write_context<G: of::GroupId<V>, T: of::GroupContext<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Kind::GroupContext, group_id, value)
    }

    fn group_context<G: of::GroupId<V>, T: of::GroupContext<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get(Kind::GroupContext, group_id)
    }

    fn delete_context<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase(Kind::GroupContext, group_id)
    }

    fn write_interim_transcript_hash<G: of::GroupId<V>, T: of::InterimTranscriptHash<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Kind::InterimTranscriptHash, group_id, value)
    }

    fn interim_transcript_hash<G: of::GroupId<V>, T: of::InterimTranscriptHash<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get(Kind::InterimTranscriptHash, group_id)
    }

    fn delete_interim_transcript_hash<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase(Kind::InterimTranscriptHash, group_id)
    }

    fn write_confirmation_tag<G: of::GroupId<V>, T: of::ConfirmationTag<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Kind::ConfirmationTag, group_id, value)
    }

    fn confirmation_tag<G: of::GroupId<V>, T: of::ConfirmationTag<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get(Kind::ConfirmationTag, group_id)
    }

    fn delete_confirmation_tag<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase(Kind::ConfirmationTag, group_id)
    }

    fn write_group_epoch_secrets<G: of::GroupId<V>, T: of::GroupEpochSecrets<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Kind::EpochSecrets, group_id, value)
    }

    fn group_epoch_secrets<G: of::GroupId<V>, T: of::GroupEpochSecrets<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get(Kind::EpochSecrets, group_id)
    }

    fn delete_group_epoch_secrets<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase(Kind::EpochSecrets, group_id)
    }

    fn write_message_secrets<G: of::GroupId<V>, T: of::MessageSecrets<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put_message_secrets(group_id, value)
    }

    fn message_secrets<G: of::GroupId<V>, T: of::MessageSecrets<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get_message_secrets(group_id)
    }

    fn delete_message_secrets<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase_message_secrets(group_id)
    }

    fn write_resumption_psk_store<G: of::GroupId<V>, T: of::ResumptionPskStore<V>>(
        &self,
        group_id: &G,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Kind::ResumptionPskStore, group_id, value)
    }

    fn resumption_psk_store<G: of::GroupId<V>, T: of::ResumptionPskStore<V>>(
        &self,
        group_id: &G,
    ) -> Result<Option<T>, Error> {
        self.get(Kind::ResumptionPskStore, group_id)
    }

    fn delete_all_resumption_psk_secrets<G: of::GroupId<V>>(
        &self,
        group_id: &G,
    ) -> Result<(), Error> {
        self.erase(Kind::ResumptionPskStore, group_id)
    }

    fn append_own_leaf_node<G: of::GroupId<V>, L: of::LeafNode<V>>(
        &self,
        group_id: &G,
        leaf: &L,
    ) -> Result<(), Error> {
        self.push_leaf(group_id, leaf)
    }

    fn own_leaf_nodes<G: of::GroupId<V>, L: of::LeafNode<V>>(
        &self,
        group_id: &G,
    ) -> Result<Vec<L>, Error> {
        self.leaves(group_id)
    }

    fn delete_own_leaf_nodes<G: of::GroupId<V>>(&self, group_id: &G) -> Result<(), Error> {
        self.erase_leaves(group_id)
    }

    fn queue_proposal<G: of::GroupId<V>, R: of::ProposalRef<V>, P: of::QueuedProposal<V>>(
        &self,
        group_id: &G,
        reference: &R,
        proposal: &P,
    ) -> Result<(), Error> {
        self.enqueue(group_id, reference, proposal)
    }

    fn queued_proposal_refs<G: of::GroupId<V>, R: of::ProposalRef<V>>(
        &self,
        group_id: &G,
    ) -> Result<Vec<R>, Error> {
        self.references(group_id)
    }

    fn queued_proposals<G: of::GroupId<V>, R: of::ProposalRef<V>, P: of::QueuedProposal<V>>(
        &self,
        group_id: &G,
    ) -> Result<Vec<(R, P)>, Error> {
        self.proposals(group_id)
    }

    fn remove_proposal<G: of::GroupId<V>, R: of::ProposalRef<V>>(
        &self,
        group_id: &G,
        reference: &R,
    ) -> Result<(), Error> {
        self.dequeue(group_id, reference)
    }

    fn clear_proposal_queue<G: of::GroupId<V>, R: of::ProposalRef<V>>(
        &self,
        group_id: &G,
    ) -> Result<(), Error> {
        self.clear_queue(group_id)
    }

    fn write_encryption_epoch_key_pairs<
        G: of::GroupId<V>,
        E: of::EpochKey<V>,
        P: of::HpkeKeyPair<V>,
    >(
        &self,
        group_id: &G,
        epoch: &E,
        leaf_index: u32,
        key_pairs: &[P],
    ) -> Result<(), Error> {
        let slot = EpochSlot { group_id, epoch, leaf_index };
        self.put_epoch_keys(&slot, key_pairs)
    }

    fn encryption_epoch_key_pairs<G: of::GroupId<V>, E: of::EpochKey<V>, P: of::HpkeKeyPair<V>>(
        &self,
        group_id: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Result<Vec<P>, Error> {
        self.epoch_keys(&EpochSlot { group_id, epoch, leaf_index })
    }

    fn delete_encryption_epoch_key_pairs<G: of::GroupId<V>, E: of::EpochKey<V>>(
        &self,
        group_id: &G,
        epoch: &E,
        leaf_index: u32,
    ) -> Result<(), Error> {
        self.erase_epoch_keys(&EpochSlot { group_id, epoch, leaf_index })
    }

    fn write_signature_key_pair<K: of::SignaturePublicKey<V>, T: of::SignatureKeyPair<V>>(
        &self,
        key: &K,
        value: &T,
    ) -> Result<(), Error> {
        self.put_keyed(&SIGNATURE_KEY_PAIR, key, value)
    }

    fn signature_key_pair<K: of::SignaturePublicKey<V>, T: of::SignatureKeyPair<V>>(
        &self,
        key: &K,
    ) -> Result<Option<T>, Error> {
        self.get_keyed(&SIGNATURE_KEY_PAIR, key)
    }

    fn delete_signature_key_pair<K: of::SignaturePublicKey<V>>(
        &self,
        key: &K,
    ) -> Result<(), Error> {
        self.erase_keyed(&SIGNATURE_KEY_PAIR, key)
    }

    fn write_encryption_key_pair<K: of::EncryptionKey<V>, T: of::HpkeKeyPair<V>>(
        &self,
        key: &K,
        value: &T,
    ) -> Result<(), Error> {
        self.put_keyed(&ENCRYPTION_KEY_PAIR, key, value)
    }

    fn encryption_key_pair<T: of::HpkeKeyPair<V>, K: of::EncryptionKey<V>>(
        &self,
        key: &K,
    ) -> Result<Option<T>, Error> {
        self.get_keyed(&ENCRYPTION_KEY_PAIR, key)
    }

    fn delete_encryption_key_pair<K: of::EncryptionKey<V>>(&self, key: &K) -> Result<(), Error> {
        self.erase_keyed(&ENCRYPTION_KEY_PAIR, key)
    }

    fn write_key_package<K: of::HashReference<V>, T: of::KeyPackage<V>>(
        &self,
        key: &K,
        value: &T,
    ) -> Result<(), Error> {
        self.put_keyed(&KEY_PACKAGE, key, value)
    }

    fn key_package<K: of::HashReference<V>, T: of::KeyPackage<V>>(
        &self,
        key: &K,
    ) -> Result<Option<T>, Error> {
        self.get_keyed(&KEY_PACKAGE, key)
    }

    fn delete_key_package<K: of::HashReference<V>>(&self, key: &K) -> Result<(), Error> {
        self.erase_keyed(&KEY_PACKAGE, key)
    }

    fn write_psk<K: of::PskId<V>, T: of::PskBundle<V>>(
        &self,
        key: &K,
        value: &T,
    ) -> Result<(), Error> {
        self.put_keyed(&PSK, key, value)
    }

    fn psk<T: of::PskBundle<V>, K: of::PskId<V>>(&self, key: &K) -> Result<Option<T>, Error> {
        self.get_keyed(&PSK, key)
    }

    fn delete_psk<K: of::PskId<V>>(&self, key: &K) -> Result<(), Error> {
        self.erase_keyed(&PSK, key)
    }
}
