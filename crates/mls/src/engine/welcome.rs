//! KeyPackages of this device, and joining by a Welcome (RFC 9420 sections 10 and 12.4.3.1).

use std::collections::BTreeSet;

use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{
    GroupId, KeyPackage, LeafNodeIndex, Member, MlsGroup, MlsMessageBodyIn, MlsMessageIn,
    StagedWelcome, tls_codec::Serialize as _,
};
use openmls_traits::OpenMlsProvider;
use openmls_traits::random::OpenMlsRand as _;
use qpc_credential::{Certificate, Certificates, Signatures};
use qpc_proto::message::WelcomePointer;
use qpc_proto::{AccountId, Digest};
use qpc_storage::Tx;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::kept::Kept;
use super::{
    Engine, GroupView, MemberLeaf, Members, MlsGroupId, basic, is_certificate, known_certificate,
    named_by, verified_certificate,
};
use crate::context::ChannelContext;
use crate::device::{self, SUITE};
use crate::error::MlsError;
use crate::provider::listening::Listening;
use crate::provider::put_off::PutOff;
use crate::provider::{Stamp, Store};

/// A KeyPackage whose private part is in the database.
#[derive(Debug, Clone)]
pub struct NewKeyPackage {
    /// KeyPackageRef, 32 bytes.
    pub reference: Digest,
    /// TLS-serialized KeyPackage.
    pub bytes: Vec<u8>,
}

/// A group joined by a Welcome.
#[derive(Debug, Clone)]
pub struct Joined {
    /// MLS group id.
    pub group: MlsGroupId,
    /// Whose device made the Welcome.
    pub inviter: Certificate,
    /// How the group stands.
    pub view: GroupView,
}

impl Engine {
    /// Makes a KeyPackage; upload it only after the transaction is on disk.
    ///
    /// # Errors
    /// [`MlsError`]; nothing is kept.
    pub fn key_package(
        &self,
        tx: &Tx<'_>,
        last_resort: bool,
        now_ms: u64,
    ) -> Result<NewKeyPackage, MlsError> {
        tx.savepoint(|tx| {
            let provider = self.provider(tx);
            let builder = KeyPackage::builder()
                .leaf_node_capabilities(device::capabilities())
                .key_package_lifetime(device::leaf_lifetime(now_ms));
            let builder = if last_resort { builder.mark_as_last_resort() } else { builder };
            let bundle = builder
                .build(SUITE, &provider, &self.device, self.device.credential())
                .map_err(|_| MlsError::Library("make a KeyPackage"))?;
            let key_package = bundle.key_package();
            let reference = key_package
                .hash_ref(provider.crypto())
                .map_err(|_| MlsError::Library("hash a KeyPackage"))?;
            let bytes = key_package
                .tls_serialize_detached()
                .map_err(|_| MlsError::Library("encode a KeyPackage"))?;
            Ok(NewKeyPackage { reference: Digest::try_from(reference.as_slice())?, bytes })
        })
    }

    /// Joins the group of a Welcome: every leaf's certificate is verified, the context must name
    /// the pointer's channel and kind. A refusal keeps the init key. All signatures are checked
    /// together, by the rules of [`Signatures`].
    ///
    /// # Errors
    /// [`MlsError::Refused`] when the Welcome is no good; [`MlsError::Provider`] for the database.
    pub fn join(
        &self,
        tx: &Tx<'_>,
        pointer: &WelcomePointer,
        welcome: &[u8],
    ) -> Result<Joined, MlsError> {
        if qpc_proto::chain::sha256(welcome) != pointer.welcome_hash {
            return Err(MlsError::Refused("the Welcome is not the one the inbox names"));
        }
        let together = tx.savepoint(|tx| {
            let provider = Listening::new(self.provider(tx), PutOff::default());
            let (group, inviter) = self.entered((tx, &provider), pointer, welcome)?;
            let signatures = provider.into_ear().signatures();
            let members = self.members_verified_together(&group, signatures)?;
            self.admitted(tx, pointer, (group, inviter, members))
        });
        let (stamp, kept, joined) = match together {
            // One signature after the other: that says what is wrong, and the verdict is the strict
            // one.
            Err(MlsError::Refused(_) | MlsError::Credential(_)) => tx.savepoint(|tx| {
                let provider = self.provider(tx);
                let (group, inviter) = self.entered((tx, &provider), pointer, welcome)?;
                let members = self.members_verified(&group)?;
                self.admitted(tx, pointer, (group, inviter, members))
            })?,
            done => done?,
        };
        self.keep(&joined.group, stamp, kept);
        Ok(joined)
    }

    /// The group of a Welcome and the leaf of who made it, as far as OpenMLS checks them with this
    /// provider.
    fn entered<'t, P: OpenMlsProvider<StorageProvider = Store<'t>>>(
        &self,
        (tx, provider): (&Tx<'_>, &P),
        pointer: &WelcomePointer,
        welcome: &[u8],
    ) -> Result<(MlsGroup, LeafNodeIndex), MlsError> {
        let message = MlsMessageIn::tls_deserialize_exact(welcome)
            .map_err(|_| MlsError::Refused("the Welcome does not parse"))?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            return Err(MlsError::Refused("it is no Welcome"));
        };
        // Leaves of long-standing members may have outlived their first lifetime, and certificates
        // their end: who is in stays in.
        let staged = StagedWelcome::build_from_welcome(provider, &device::join_config(), welcome)
            .map_err(join_error)?
            .skip_lifetime_validation()
            .replace_old_group()
            .build()
            .map_err(join_error)?;
        self.check_group_id(tx, staged.group_context().group_id(), pointer)?;
        let inviter = staged.welcome_sender_index();
        // The library leaves the HPKE keys of the group that this one takes the place of.
        provider.storage().erase_group(staged.group_context().group_id())?;
        Ok((staged.into_group(provider).map_err(join_error)?, inviter))
    }

    /// The group, to be kept once the savepoint is over.
    fn admitted(
        &self,
        tx: &Tx<'_>,
        pointer: &WelcomePointer,
        (group, inviter, members): (MlsGroup, LeafNodeIndex, Members),
    ) -> Result<(Option<Stamp>, Kept, Joined), MlsError> {
        let inviter = members.iter().find(|member| member.index == inviter.u32());
        let inviter = inviter.ok_or(MlsError::Refused("nobody made the Welcome"))?;
        let inviter = inviter.certificate.clone();
        let id = MlsGroupId::try_from(group.group_id().as_slice())
            .map_err(|_| MlsError::Refused("the group id has a wrong length"))?;
        let mut kept = Kept::of(group, members);
        let view = kept.view()?;
        check_roster(&view.context, pointer, &view.members)?;
        Ok((self.stamp(tx, &id)?, kept, Joined { group: id, inviter, view }))
    }

    /// The members, each with its certificate verified.
    fn members_verified(&self, group: &MlsGroup) -> Result<Members, MlsError> {
        group
            .members()
            .map(|member| {
                let certificate = match self.own_certificate(group, &member)? {
                    Some(own) => named_by(own, &member.signature_key)?,
                    None => verified_certificate(&member.credential, &member.signature_key)?,
                };
                Ok(MemberLeaf { index: member.index.u32(), certificate })
            })
            .collect()
    }

    /// As above, by one check of all signatures: those of the certificates and `signatures`.
    fn members_verified_together(
        &self,
        group: &MlsGroup,
        signatures: Signatures,
    ) -> Result<Members, MlsError> {
        let mut others = Certificates::with(signatures);
        let mut places = Vec::new();
        for member in group.members() {
            let own = self.own_certificate(group, &member)?;
            if own.is_none() {
                others.push(basic(&member.credential)?.identity())?;
            }
            places.push((member.index.u32(), member.signature_key, own));
        }
        let seed = self.crypto.random_array();
        let seed = seed.map_err(|_| MlsError::Library("make random bytes"))?;
        let mut verified = others.verify(&mut ChaCha20Rng::from_seed(seed))?.into_iter();
        places
            .into_iter()
            .map(|(index, key, own)| {
                let certificate = own.or_else(|| verified.next());
                let certificate = certificate.ok_or(MlsError::Refused("a leaf has none"))?;
                Ok(MemberLeaf { index, certificate: named_by(certificate, &key)? })
            })
            .collect()
    }

    /// The certificate of the own leaf is known where it is the bytes that this device has: those
    /// were verified when they came.
    fn own_certificate(
        &self,
        group: &MlsGroup,
        member: &Member,
    ) -> Result<Option<Certificate>, MlsError> {
        let own = member.index == group.own_leaf_index()
            && is_certificate(&member.credential, &self.device.certificate);
        own.then(|| known_certificate(&member.credential)).transpose()
    }

    /// Whoever makes a group chooses its id: one that another channel's group has here would
    /// overwrite that group's keys.
    fn check_group_id(
        &self,
        tx: &Tx<'_>,
        id: &GroupId,
        pointer: &WelcomePointer,
    ) -> Result<(), MlsError> {
        let id = MlsGroupId::try_from(id.as_slice())
            .map_err(|_| MlsError::Refused("the group id has a wrong length"))?;
        let channel =
            |kept: &mut Kept| Ok(ChannelContext::from_extensions(kept.group.extensions())?.channel);
        let same = match self.look(tx, &id, channel) {
            Ok(channel) => channel == pointer.channel,
            Err(MlsError::UnknownGroup) => true,
            Err(error) => return Err(error),
        };
        same.then_some(()).ok_or(MlsError::Refused("the group id is that of another channel"))
    }
}

fn check_roster(
    context: &ChannelContext,
    pointer: &WelcomePointer,
    members: &[MemberLeaf],
) -> Result<(), MlsError> {
    if context.channel != pointer.channel || context.kind != pointer.kind {
        return Err(MlsError::Refused("the Welcome is for another channel"));
    }
    let devices: BTreeSet<_> = members.iter().map(|m| m.certificate.device()).collect();
    if devices.len() != members.len() {
        return Err(MlsError::Refused("a device has two leaves"));
    }
    let accounts: BTreeSet<AccountId> = devices.iter().map(|device| device.account).collect();
    let direct = context.kind == qpc_proto::message::ChannelKind::Direct;
    if direct && accounts.len() != 2 {
        return Err(MlsError::Refused("a direct channel has exactly two accounts"));
    }
    Ok(())
}

fn join_error(error: openmls::group::WelcomeError<crate::provider::ProviderError>) -> MlsError {
    use openmls::group::WelcomeError;
    if matches!(error, WelcomeError::NoMatchingKeyPackage) {
        return MlsError::UnknownKeyPackage;
    }
    if let WelcomeError::StorageError(error) = error {
        error.into()
    } else {
        MlsError::Refused("the Welcome does not verify")
    }
}
