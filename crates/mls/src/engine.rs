//! One group operation at a time: bytes in, effects and verdicts out, inside a SAVEPOINT of the
//! caller's transaction. A refusal leaves no trace. Holds nothing between calls, so a rollback
//! needs no repair.
//!
//! Never sends, stores a message or reads a clock of its own; `now_ms` is an argument.

mod commit;
mod judge;
mod message;
mod roles;
mod welcome;

pub use commit::{CommitPlan, SealedCommit};
pub use judge::CommitEntry;
pub use message::Opened;
pub use welcome::{Joined, NewKeyPackage};

use openmls::prelude::{BasicCredential, GroupId, LeafNodeIndex, MlsGroup};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider as _;
use qpc_credential::Certificate;
use qpc_proto::aad::Aad;
use qpc_proto::{ChannelId, Digest};
use qpc_storage::Tx;

use crate::context::ChannelContext;
use crate::device::{self, Device};
use crate::error::MlsError;
use crate::provider::Provider;

/// MLS group id: 32 bytes.
pub type MlsGroupId = [u8; 32];

/// The engine of one device. Cheap to make; the crypto provider is shared.
#[derive(Debug)]
pub struct Engine {
    crypto: RustCrypto,
    device: Device,
}

/// One member leaf.
#[derive(Debug, Clone)]
pub struct MemberLeaf {
    /// Its place in the ratchet tree.
    pub index: u32,
    /// Its certificate, verified when it came in.
    pub certificate: Certificate,
}

impl MemberLeaf {
    /// Whether a certificate is of this leaf's device and names its key.
    pub fn is_of(&self, certificate: &Certificate) -> bool {
        self.certificate.device() == certificate.device()
            && self.certificate.entry.key == certificate.entry.key
    }
}

/// How a group stands.
#[derive(Debug, Clone)]
pub struct GroupView {
    /// MLS epoch.
    pub epoch: u64,
    /// What the group is.
    pub context: ChannelContext,
    /// Its members.
    pub members: Vec<MemberLeaf>,
    /// RFC 9420 section 8.7: equal for all members in step.
    pub epoch_authenticator: Vec<u8>,
}

/// What an entry about to be sealed says about its place.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The channel.
    pub channel: ChannelId,
    /// The last Commit applied.
    pub base_commit: u64,
    /// The last sequence number read.
    pub head_seq: u64,
    /// The hash chain's head there.
    pub head: Digest,
}

impl Place {
    pub(crate) fn aad(&self) -> Aad {
        Aad {
            channel: self.channel,
            base_commit: self.base_commit,
            head_seq: self.head_seq,
            head: self.head.short(),
            commit: None,
        }
    }
}

impl Engine {
    /// The engine of `device`.
    pub fn new(device: Device) -> Self {
        Self { crypto: RustCrypto::default(), device }
    }

    /// This device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) fn provider<'t>(&'t self, tx: &'t Tx<'_>) -> Provider<'t> {
        Provider::new(&self.crypto, tx)
    }

    pub(crate) fn load(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<MlsGroup, MlsError> {
        let provider = self.provider(tx);
        MlsGroup::load(provider.storage(), &GroupId::from_slice(id))?.ok_or(MlsError::UnknownGroup)
    }

    /// Makes a group with this device alone, at epoch 0. Its first Commit makes the channel.
    ///
    /// # Errors
    /// [`MlsError`]; nothing is kept.
    pub fn create(
        &self,
        tx: &Tx<'_>,
        id: &MlsGroupId,
        (context, now_ms): (&ChannelContext, u64),
    ) -> Result<(), MlsError> {
        tx.savepoint(|tx| {
            let config = device::create_config(context, now_ms)?;
            let id = GroupId::from_slice(id);
            let provider = self.provider(tx);
            let credential = self.device.credential();
            MlsGroup::new_with_group_id(&provider, &self.device, &config, id, credential)
                .map_err(|_| MlsError::Library("create"))?;
            Ok(())
        })
    }

    /// How the group stands.
    ///
    /// # Errors
    /// [`MlsError::UnknownGroup`], or the database.
    pub fn view(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<GroupView, MlsError> {
        let group = self.load(tx, id)?;
        Ok(GroupView {
            epoch: group.epoch().as_u64(),
            context: ChannelContext::from_extensions(group.extensions())?,
            members: members(&group)?,
            epoch_authenticator: group.epoch_authenticator().as_slice().to_vec(),
        })
    }

    /// Forgets a group: its secrets are gone.
    ///
    /// # Errors
    /// The database.
    pub fn forget(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<(), MlsError> {
        tx.savepoint(|tx| match self.load(tx, id) {
            Ok(mut group) => Ok(group.delete(self.provider(tx).storage())?),
            Err(MlsError::UnknownGroup) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Puts a pending Commit of this device in force: the log reached it.
    ///
    /// # Errors
    /// [`MlsError`]; nothing is kept.
    pub fn merge_pending(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<(), MlsError> {
        tx.savepoint(|tx| {
            let mut group = self.load(tx, id)?;
            if group.pending_commit().is_none() {
                return Err(MlsError::Library("no pending Commit"));
            }
            group.merge_pending_commit(&self.provider(tx)).map_err(|_| MlsError::Library("merge"))
        })
    }

    /// Drops a pending Commit of this device, if there is one: another came first.
    ///
    /// # Errors
    /// The database.
    pub fn clear_pending(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<(), MlsError> {
        tx.savepoint(|tx| {
            let mut group = self.load(tx, id)?;
            Ok(group.clear_pending_commit(self.provider(tx).storage())?)
        })
    }
}

/// The certificate in a credential, verified when the leaf came in.
pub(crate) fn known_certificate(
    credential: &openmls::prelude::Credential,
) -> Result<Certificate, MlsError> {
    let basic = BasicCredential::try_from(credential.clone())
        .map_err(|_| MlsError::Refused("the credential is not of the basic type"))?;
    Ok(Certificate::read_verified(basic.identity())?)
}

/// Verifies the certificate of a leaf that comes in, and that it names the leaf's signature key.
pub(crate) fn verified_certificate(
    credential: &openmls::prelude::Credential,
    signature_key: &[u8],
) -> Result<Certificate, MlsError> {
    let basic = BasicCredential::try_from(credential.clone())
        .map_err(|_| MlsError::Refused("the credential is not of the basic type"))?;
    let certificate = Certificate::verify(basic.identity())?;
    if certificate.entry.key.as_bytes().as_slice() != signature_key {
        return Err(MlsError::Refused("the certificate names another signature key"));
    }
    Ok(certificate)
}

pub(crate) fn members(group: &MlsGroup) -> Result<Vec<MemberLeaf>, MlsError> {
    group
        .members()
        .map(|member| {
            let certificate = known_certificate(&member.credential)?;
            Ok(MemberLeaf { index: member.index.u32(), certificate })
        })
        .collect()
}

pub(crate) fn leaf_certificate(
    group: &MlsGroup,
    index: LeafNodeIndex,
) -> Result<Certificate, MlsError> {
    let credential = group.member(index).ok_or(MlsError::Refused("no such leaf"))?;
    known_certificate(credential)
}
