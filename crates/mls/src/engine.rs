//! One group operation at a time: bytes in, effects and verdicts out, inside a SAVEPOINT of the
//! caller's transaction. A refusal leaves no trace. Groups that were used are kept in memory, and
//! read anew if the database holds anything else: a rollback needs no repair.
//!
//! Never sends, stores a message or reads a clock of its own; `now_ms` is an argument.

mod commit;
mod committer;
mod judge;
mod kept;
mod message;
mod own;
mod roles;
mod size;
mod welcome;

pub use commit::{CommitPlan, SealedCommit};
pub use judge::CommitEntry;
pub use kept::Members;
pub use message::Opened;
pub use size::bytes_of_add;
pub use welcome::{Joined, NewKeyPackage};

use openmls::prelude::{BasicCredential, Credential, GroupId, LeafNodeIndex, MlsGroup};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider as _;
use qpc_credential::Certificate;
use qpc_proto::aad::Aad;
use qpc_proto::{ChannelId, Digest};
use qpc_storage::{Tx, sql};

use self::kept::{Groups, Kept};
use crate::context::ChannelContext;
use crate::device::{self, Device};
use crate::error::MlsError;
use crate::provider::{Provider, ProviderError, Stamp};

/// MLS group id: 32 bytes.
pub type MlsGroupId = [u8; 32];

/// The engine of one device. Cheap to make; the crypto provider is shared.
#[derive(Debug)]
pub struct Engine {
    crypto: RustCrypto,
    device: Device,
    groups: Groups,
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
    pub members: Members,
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
        Self { crypto: RustCrypto::default(), device, groups: Groups::default() }
    }

    /// This device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Goes on with a renewed certificate of the same device and key: it is in the KeyPackages made
    /// from here on, and comes into each group with this device's next Commit there.
    pub fn renew(&mut self, certificate: Vec<u8>) {
        self.device.certificate = certificate;
    }

    pub(crate) fn provider<'t>(&'t self, tx: &'t Tx<'_>) -> Provider<'t> {
        Provider::new(&self.crypto, tx)
    }

    /// A group, from memory if what is kept there is what the database holds. Nothing is kept
    /// until it is given back: `look` and `change` do that.
    fn load(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<(Option<Stamp>, Kept), MlsError> {
        let (provider, group_id) = (self.provider(tx), GroupId::from_slice(id));
        let stamp = provider.stamp(&group_id).map_err(gone)?;
        if let Some(kept) = self.groups.take(id, stamp.as_ref()) {
            return Ok((stamp, kept));
        }
        let group = MlsGroup::load(provider.storage(), &group_id).map_err(gone)?;
        Ok((stamp, Kept::new(group.ok_or(MlsError::UnknownGroup)?)))
    }

    /// Reads a group.
    fn look<T, E: From<MlsError>>(
        &self,
        tx: &Tx<'_>,
        id: &MlsGroupId,
        read: impl FnOnce(&mut Kept) -> Result<T, E>,
    ) -> Result<T, E> {
        let (stamp, mut kept) = self.load(tx, id)?;
        let value = read(&mut kept);
        self.keep(id, stamp, kept);
        value
    }

    /// Changes a group in a SAVEPOINT: on an error neither the database nor the memory keeps
    /// anything of it.
    fn change<T, E: From<MlsError> + From<sql::Error>>(
        &self,
        tx: &Tx<'_>,
        id: &MlsGroupId,
        write: impl FnOnce(&Tx<'_>, &mut Kept) -> Result<T, E>,
    ) -> Result<T, E> {
        let (value, stamp, kept) = tx.savepoint(|tx| {
            let (before, mut kept) = self.load(tx, id)?;
            let value = write(tx, &mut kept)?;
            // Under the stamp that was there, a rollback of the caller would not be seen.
            let stamp = self.stamp(tx, id)?.filter(|stamp| Some(stamp) != before.as_ref());
            Ok::<_, E>((value, stamp, kept))
        })?;
        self.keep(id, stamp, kept);
        Ok(value)
    }

    /// The stamp of what an operation wrote.
    fn stamp(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<Option<Stamp>, MlsError> {
        Ok(self.provider(tx).stamp(&GroupId::from_slice(id))?)
    }

    fn keep(&self, id: &MlsGroupId, stamp: Option<Stamp>, kept: Kept) {
        if let Some(stamp) = stamp {
            self.groups.keep(id, stamp, kept);
        }
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
        let (stamp, group) = tx.savepoint(|tx| {
            let config = device::create_config(context, now_ms)?;
            let group_id = GroupId::from_slice(id);
            let provider = self.provider(tx);
            let credential = self.device.credential();
            let group =
                MlsGroup::new_with_group_id(&provider, &self.device, &config, group_id, credential)
                    .map_err(|_| MlsError::Library("create"))?;
            Ok::<_, MlsError>((self.stamp(tx, id)?, group))
        })?;
        self.keep(id, stamp, Kept::new(group));
        Ok(())
    }

    /// How the group stands.
    ///
    /// # Errors
    /// [`MlsError::UnknownGroup`], or the database.
    pub fn view(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<GroupView, MlsError> {
        self.look(tx, id, Kept::view)
    }

    /// Forgets a group: its secrets are gone.
    ///
    /// # Errors
    /// The database.
    pub fn forget(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<(), MlsError> {
        tx.savepoint(|tx| {
            match self.load(tx, id) {
                Ok((_, mut kept)) => kept.group.delete(self.provider(tx).storage())?,
                Err(MlsError::UnknownGroup) => {}
                Err(error) => return Err(error),
            }
            // What of it does not decode goes, too, and the HPKE keys that the library leaves.
            Ok(self.provider(tx).storage().erase_group(&GroupId::from_slice(id))?)
        })
    }

    /// Puts a pending Commit of this device in force: the log reached it.
    ///
    /// # Errors
    /// [`MlsError`]; nothing is kept.
    pub fn merge_pending(&self, tx: &Tx<'_>, id: &MlsGroupId) -> Result<(), MlsError> {
        self.change(tx, id, |tx, Kept { group, .. }| {
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
        let none = |kept: &mut Kept| Ok::<_, MlsError>(kept.group.pending_commit().is_none());
        if self.look(tx, id, none)? {
            return Ok(());
        }
        self.change(tx, id, |tx, Kept { group, .. }| {
            Ok(group.clear_pending_commit(self.provider(tx).storage())?)
        })
    }
}

/// A group that does not decode is none: no later attempt does better.
fn gone(error: ProviderError) -> MlsError {
    match error {
        ProviderError::Decode => MlsError::UnknownGroup,
        error @ (ProviderError::Sql(_) | ProviderError::Encode) => error.into(),
    }
}

fn basic(credential: &Credential) -> Result<BasicCredential, MlsError> {
    BasicCredential::try_from(credential.clone())
        .map_err(|_| MlsError::Refused("the credential is not of the basic type"))
}

/// Whether a credential holds exactly this certificate.
pub(crate) fn is_certificate(credential: &Credential, certificate: &[u8]) -> bool {
    basic(credential).is_ok_and(|basic| basic.identity() == certificate)
}

/// The certificate in a credential, verified when the leaf came in.
pub(crate) fn known_certificate(credential: &Credential) -> Result<Certificate, MlsError> {
    Ok(Certificate::read_verified(basic(credential)?.identity())?)
}

/// Verifies the certificate of a leaf that comes in, and that it names the leaf's signature key.
pub(crate) fn verified_certificate(
    credential: &Credential,
    signature_key: &[u8],
) -> Result<Certificate, MlsError> {
    named_by(Certificate::verify(basic(credential)?.identity())?, signature_key)
}

/// The certificate, if the signature key is the one that it names.
pub(crate) fn named_by(
    certificate: Certificate,
    signature_key: &[u8],
) -> Result<Certificate, MlsError> {
    if certificate.entry.key.as_bytes().as_slice() != signature_key {
        return Err(MlsError::Refused("the certificate names another signature key"));
    }
    Ok(certificate)
}

pub(crate) fn members(group: &MlsGroup) -> Result<Members, MlsError> {
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
