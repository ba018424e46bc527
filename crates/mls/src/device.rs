//! This device as a group member: its signature key, its certificate and the MLS profile it speaks.
//!
//! Holds the device's private key for signing; never shows it.

use ed25519_dalek::{Signer as _, SigningKey};
use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialType, CredentialWithKey, ExtensionType,
    Lifetime, MlsGroupCreateConfig, MlsGroupJoinConfig, PURE_CIPHERTEXT_WIRE_FORMAT_POLICY,
    ProtocolVersion, SenderRatchetConfiguration, SignatureScheme,
};
use openmls_traits::signatures::{Signer, SignerError};
use qpc_credential::lifetime;
use qpc_proto::message::DeviceRef;

use crate::context::{CHANNEL_EXTENSION, ChannelContext};
use crate::error::MlsError;

/// The one suite of this profile.
pub(crate) const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// Application messages are padded to a multiple of this many bytes.
pub const PADDING_BYTES: usize = 128;
/// Messages of one sender that may arrive out of order.
const OUT_OF_ORDER: u32 = 100;
/// Messages of one sender that may be skipped.
const FORWARD: u32 = 4_000;

/// This device.
#[derive(Clone)]
pub struct Device {
    /// Who it is.
    pub id: DeviceRef,
    /// Its certificate's bytes: the content of its MLS credential.
    pub certificate: Vec<u8>,
    key: SigningKey,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Device {
    /// A device that signs with `key`, whose public half its certificate names.
    pub fn new(id: DeviceRef, certificate: Vec<u8>, key: SigningKey) -> Self {
        Self { id, certificate, key }
    }

    pub(crate) fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.certificate.clone()).into(),
            signature_key: self.key.verifying_key().as_bytes().as_slice().into(),
        }
    }
}

impl Signer for Device {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.key.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// What every leaf of this profile can do; a KeyPackage without it cannot join.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities::builder()
        .versions(vec![ProtocolVersion::Mls10])
        .ciphersuites(vec![SUITE])
        .extensions(vec![ExtensionType::LastResort, ExtensionType::Unknown(CHANNEL_EXTENSION)])
        .credentials(vec![CredentialType::Basic])
        .build()
}

/// The lifetime of a leaf made at `now_ms`: a day back, and ahead far enough for the directory, the
/// longest retention and a margin, because OpenMLS judges received Adds by the local clock.
pub(crate) fn leaf_lifetime(now_ms: u64) -> Lifetime {
    let now = now_ms / 1_000;
    Lifetime::init(now.saturating_sub(lifetime::BACK), now.saturating_add(lifetime::AHEAD))
}

pub(crate) fn create_config(
    context: &ChannelContext,
    now_ms: u64,
) -> Result<MlsGroupCreateConfig, MlsError> {
    Ok(MlsGroupCreateConfig::builder()
        .ciphersuite(SUITE)
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(PADDING_BYTES)
        .max_past_epochs(0)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(SenderRatchetConfiguration::new(OUT_OF_ORDER, FORWARD))
        .capabilities(capabilities())
        .lifetime(leaf_lifetime(now_ms))
        .with_group_context_extensions(context.extensions()?)
        .build())
}

pub(crate) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(PADDING_BYTES)
        .max_past_epochs(0)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(SenderRatchetConfiguration::new(OUT_OF_ORDER, FORWARD))
        .build()
}
