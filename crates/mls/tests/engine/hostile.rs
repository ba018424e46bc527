//! A member whose engine was modified: the same state, but proposals, authenticated data and even
//! ciphertexts as the attacker likes. Built directly on OpenMLS over the same tables.

use std::sync::atomic::{AtomicUsize, Ordering};

use openmls::prelude::*;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::{
    AeadType, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig, HpkeKeyPair,
    KemOutput,
};
use qpc_mls::provider::{Provider, Store};
use qpc_mls::{Engine, MlsError};
use qpc_proto::aad::Aad;
use qpc_storage::Tx;
use tls_codec::SecretVLBytes;

use super::support::{Party, crypto};

/// What the attacker's cryptography does otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) enum Lie {
    /// Nothing.
    #[default]
    None,
    /// Seals rubbish to this HPKE key.
    RubbishFor(Vec<u8>),
    /// Seals rubbish to these HPKE keys.
    RubbishForAll(Vec<Vec<u8>>),
    /// Seals another secret to this HPKE key.
    OtherSecretFor(Vec<u8>),
    /// Rewrites the 12 bytes of sender data: leaf index, generation, reuse guard.
    SenderData(fn(&mut [u8])),
    /// Rewrites the content of the PrivateMessage before it is sealed.
    Content(fn(&mut [u8])),
    /// Signs and seals the second bytes wherever the first stand.
    Swap(Vec<u8>, Vec<u8>),
    /// Makes the HPKE key pairs with these numbers public points of low order.
    WeakKeys(&'static [usize]),
}

/// What the attacker commits.
#[derive(Default)]
pub(crate) struct Attack {
    pub(crate) adds: Vec<KeyPackage>,
    pub(crate) removes: Vec<u32>,
    pub(crate) context: Option<Extensions<GroupContext>>,
    pub(crate) leaf: Option<LeafNodeParameters>,
    pub(crate) lie: Lie,
}

pub(crate) struct Crooked {
    real: RustCrypto,
    lie: Lie,
    /// HPKE key pairs made so far.
    pairs: AtomicUsize,
}

/// The member's key, which signs what the lie makes of the bytes.
struct CrookedSigner<'a>(&'a qpc_mls::Device, &'a Lie);

impl Signer for CrookedSigner<'_> {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        let mut payload = payload.to_vec();
        if let Lie::Swap(from, to) = self.1 {
            swap(&mut payload, (from, to));
        }
        self.0.sign(&payload)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        self.0.signature_scheme()
    }
}

fn swap(bytes: &mut [u8], (from, to): (&[u8], &[u8])) {
    assert_eq!(from.len(), to.len());
    if let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

/// The real tables under crooked cryptography.
pub(crate) struct Hostile<'t> {
    crypto: Crooked,
    real: Provider<'t>,
}

impl<'t> OpenMlsProvider for Hostile<'t> {
    type CryptoProvider = Crooked;
    type RandProvider = RustCrypto;
    type StorageProvider = Store<'t>;

    fn storage(&self) -> &Store<'t> {
        self.real.storage()
    }

    fn crypto(&self) -> &Crooked {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        self.real.rand()
    }
}

/// The last byte that is no padding.
pub(crate) fn last_byte(content: &mut [u8]) -> usize {
    content.iter().rposition(|byte| *byte != 0).unwrap()
}

impl Party {
    /// Works on the group without the engine.
    pub(crate) fn bare<T: Send>(
        &mut self,
        lie: Lie,
        work: impl FnOnce(&mut MlsGroup, &Hostile<'_>, &Engine) -> T + Send,
    ) -> T {
        let id = GroupId::from_slice(&self.group);
        self.run(|engine, tx: &Tx<'_>| {
            let real = crypto();
            let crypto = Crooked { real: crypto(), lie, pairs: AtomicUsize::new(0) };
            let hostile = Hostile { crypto, real: Provider::new(&real, tx) };
            let mut group = MlsGroup::load(hostile.storage(), &id).unwrap().unwrap();
            Ok::<T, MlsError>(work(&mut group, &hostile, engine))
        })
        .unwrap()
    }

    /// The payload of a hostile Commit; nothing of it is left pending.
    pub(crate) fn attack(&mut self, aad: &Aad, attack: Attack) -> Vec<u8> {
        self.attack_with_welcome(aad, attack).0
    }

    /// The same with the Welcome.
    pub(crate) fn attack_with_welcome(
        &mut self,
        aad: &Aad,
        attack: Attack,
    ) -> (Vec<u8>, Option<Vec<u8>>) {
        let aad = aad.encode();
        let sealed = self.bare(attack.lie.clone(), |group, provider, engine| {
            let signer = CrookedSigner(engine.device(), &attack.lie);
            group.set_aad(aad);
            let mut builder = group
                .commit_builder()
                .consume_proposal_store(true)
                .force_self_update(true)
                .propose_adds(attack.adds)
                .propose_removals(attack.removes.into_iter().map(LeafNodeIndex::new));
            if let Some(context) = attack.context {
                builder = builder.propose_group_context_extensions(context).unwrap();
            }
            if let Some(leaf) = attack.leaf {
                builder = builder.leaf_node_parameters(leaf);
            }
            let bundle = builder
                .load_psks(provider.storage())
                .unwrap()
                .build(provider.rand(), provider.crypto(), &signer, |_| true)
                .unwrap()
                .stage_commit(provider)
                .unwrap();
            let (commit, welcome, _) = bundle.into_messages();
            (commit.to_bytes().unwrap(), welcome.map(|welcome| welcome.to_bytes().unwrap()))
        });
        self.clear();
        sealed
    }

    /// An application message from crooked cryptography.
    pub(crate) fn crooked_seal(&mut self, (aad, text): (&Aad, &[u8]), lie: Lie) -> Vec<u8> {
        let aad = aad.encode();
        self.bare(lie, |group, provider, engine| {
            group.set_aad(aad);
            let message = group.create_message(provider, engine.device(), text).unwrap();
            message.to_bytes().unwrap()
        })
    }

    /// The HPKE key of a member's leaf.
    pub(crate) fn leaf_key_of(&mut self, member: &Party) -> Vec<u8> {
        let certificate = member.certificate.as_bytes().to_vec();
        self.bare(Lie::None, |group, _, _| {
            let found = group
                .members()
                .find(|member| member.credential.serialized_content() == certificate.as_slice());
            found.unwrap().encryption_key
        })
    }

    /// The place of a member in the tree.
    pub(crate) fn leaf_of(&mut self, member: &Party) -> u32 {
        let device = member.id();
        let members = self.view().members;
        members.iter().find(|leaf| leaf.certificate.device() == device).unwrap().index
    }
}

impl OpenMlsCrypto for Crooked {
    fn aead_encrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let mut data = data.to_vec();
        match &self.lie {
            Lie::SenderData(rewrite) if data.len() == 12 => rewrite(&mut data),
            Lie::Content(rewrite) if data.len() > 12 => rewrite(&mut data),
            Lie::Swap(from, to) => swap(&mut data, (from, to)),
            Lie::SenderData(_)
            | Lie::Content(_)
            | Lie::None
            | Lie::RubbishFor(_)
            | Lie::RubbishForAll(_)
            | Lie::WeakKeys(_)
            | Lie::OtherSecretFor(_) => {}
        }
        self.real.aead_encrypt(alg, key, &data, nonce, aad)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        aad: &[u8],
        ptxt: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        let mut secret = ptxt.to_vec();
        if matches!(&self.lie, Lie::OtherSecretFor(key) if key == pk_r) {
            secret[0] ^= 1;
        }
        let sealed = self.real.hpke_seal(config, pk_r, info, aad, &secret)?;
        let spoilt = match &self.lie {
            Lie::RubbishFor(key) => key == pk_r,
            Lie::RubbishForAll(keys) => keys.iter().any(|key| key == pk_r),
            Lie::None
            | Lie::OtherSecretFor(_)
            | Lie::SenderData(_)
            | Lie::Content(_)
            | Lie::WeakKeys(_)
            | Lie::Swap(..) => false,
        };
        if !spoilt {
            return Ok(sealed);
        }
        let mut rubbish = sealed.ciphertext.as_slice().to_vec();
        rubbish[0] ^= 1;
        Ok(HpkeCiphertext { kem_output: sealed.kem_output, ciphertext: rubbish.into() })
    }

    fn supports(&self, ciphersuite: Ciphersuite) -> Result<(), CryptoError> {
        self.real.supports(ciphersuite)
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        self.real.supported_ciphersuites()
    }

    fn hkdf_extract(
        &self,
        hash_type: HashType,
        salt: &[u8],
        ikm: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        self.real.hkdf_extract(hash_type, salt, ikm)
    }

    fn hmac(
        &self,
        hash_type: HashType,
        key: &[u8],
        message: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        self.real.hmac(hash_type, key, message)
    }

    fn hkdf_expand(
        &self,
        hash_type: HashType,
        prk: &[u8],
        info: &[u8],
        okm_len: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        self.real.hkdf_expand(hash_type, prk, info, okm_len)
    }

    fn hash(&self, hash_type: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.real.hash(hash_type, data)
    }

    fn aead_decrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        ct_tag: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.real.aead_decrypt(alg, key, ct_tag, nonce, aad)
    }

    fn signature_key_gen(&self, alg: SignatureScheme) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        self.real.signature_key_gen(alg)
    }

    fn verify_signature(
        &self,
        alg: SignatureScheme,
        data: &[u8],
        pk: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.real.verify_signature(alg, data, pk, signature)
    }

    fn sign(&self, alg: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.real.sign(alg, data, key)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        sk_r: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.real.hpke_open(config, input, sk_r, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        self.real.hpke_setup_sender_and_export(
            config,
            pk_r,
            info,
            exporter_context,
            exporter_length,
        )
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        sk_r: &[u8],
        info: &[u8],
        exporter_context: &[u8],
        exporter_length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        let real = &self.real;
        real.hpke_setup_receiver_and_export(
            config,
            enc,
            sk_r,
            info,
            exporter_context,
            exporter_length,
        )
    }

    fn derive_hpke_keypair(
        &self,
        config: HpkeConfig,
        ikm: &[u8],
    ) -> Result<HpkeKeyPair, CryptoError> {
        let mut pair = self.real.derive_hpke_keypair(config, ikm)?;
        let number = self.pairs.fetch_add(1, Ordering::Relaxed);
        if matches!(&self.lie, Lie::WeakKeys(weak) if weak.contains(&number)) {
            pair.public = vec![0; 32];
        }
        Ok(pair)
    }
}
