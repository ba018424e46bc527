//! KeyPackages of this device, and joining by a Welcome (RFC 9420 sections 10 and 12.4.3.1).

use std::collections::BTreeSet;

use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{
    GroupId, KeyPackage, MlsGroup, MlsMessageBodyIn, MlsMessageIn, StagedWelcome,
    tls_codec::Serialize as _,
};
use openmls_traits::OpenMlsProvider as _;
use qpc_credential::{AccountKeys, Certificate};
use qpc_proto::message::WelcomePointer;
use qpc_proto::{AccountId, Digest};
use qpc_storage::Tx;

use super::kept::Kept;
use super::{
    Engine, GroupView, MemberLeaf, Members, MlsGroupId, is_certificate, known_certificate,
    named_by, verified_among,
};
use crate::context::ChannelContext;
use crate::device::{self, SUITE};
use crate::error::MlsError;

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
    /// the pointer's channel and kind. A refusal keeps the init key.
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
        let (stamp, kept, joined) = tx.savepoint(|tx| {
            let provider = self.provider(tx);
            let message = MlsMessageIn::tls_deserialize_exact(welcome)
                .map_err(|_| MlsError::Refused("the Welcome does not parse"))?;
            let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
                return Err(MlsError::Refused("it is no Welcome"));
            };
            // Leaves of long-standing members may have outlived their first lifetime; certificates
            // are judged by `now` below instead.
            let staged =
                StagedWelcome::build_from_welcome(&provider, &device::join_config(), welcome)
                    .map_err(join_error)?
                    .skip_lifetime_validation()
                    .replace_old_group()
                    .build()
                    .map_err(join_error)?;
            self.check_group_id(tx, staged.group_context().group_id(), pointer)?;
            let inviter = staged.welcome_sender_index();
            // The library leaves the HPKE keys of the group that this one takes the place of.
            provider.storage().erase_group(staged.group_context().group_id())?;
            let group = staged.into_group(&provider).map_err(join_error)?;
            let members = self.verified_members(&group)?;
            let inviter = members.iter().find(|member| member.index == inviter.u32());
            let inviter = inviter.ok_or(MlsError::Refused("nobody made the Welcome"))?;
            let inviter = inviter.certificate.clone();
            let id = MlsGroupId::try_from(group.group_id().as_slice())
                .map_err(|_| MlsError::Refused("the group id has a wrong length"))?;
            let mut kept = Kept::of(group, members);
            let view = kept.view()?;
            check_roster(&view.context, pointer, &view.members)?;
            let joined = Joined { group: id, inviter, view };
            Ok::<_, MlsError>((self.stamp(tx, &id)?, kept, joined))
        })?;
        self.keep(&joined.group, stamp, kept);
        Ok(joined)
    }

    /// The members, each with its certificate verified. The own one is known where it is the bytes
    /// that this device has: those were verified when they came.
    fn verified_members(&self, group: &MlsGroup) -> Result<Members, MlsError> {
        let mut known = AccountKeys::default();
        group
            .members()
            .map(|member| {
                let place = (&member.credential, member.signature_key.as_slice());
                let own = member.index == group.own_leaf_index()
                    && is_certificate(&member.credential, &self.device.certificate);
                let certificate = match own {
                    true => named_by(known_certificate(place.0)?, place.1)?,
                    false => verified_among(place, &mut known)?,
                };
                Ok(MemberLeaf { index: member.index.u32(), certificate })
            })
            .collect()
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
