//! The crypto of OpenMLS with somebody who listens: hears what the library tells nobody of, and may
//! take over the check of signatures. Does nothing else than the real one.

use openmls::prelude::tls_codec::SecretVLBytes;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
    HpkeKeyPair, KemOutput, SignatureScheme,
};

use super::{Provider, Store};

/// Who listens.
pub(crate) trait Ear: Send + Sync {
    /// Something was decrypted.
    fn decrypted(&self, _plaintext: &[u8]) {}

    /// A signature over `data` is to be checked: the verdict of who takes that over.
    fn takes_over(
        &self,
        _alg: SignatureScheme,
        _data: &[u8],
        (_key, _signature): (&[u8], &[u8]),
    ) -> Option<Result<(), CryptoError>> {
        None
    }
}

/// A provider for one operation.
pub(crate) struct Listening<'t, E> {
    real: Provider<'t>,
    crypto: Heard<'t, E>,
}

impl<'t, E> Listening<'t, E> {
    pub(crate) fn new(real: Provider<'t>, ear: E) -> Self {
        let crypto = Heard { real: real.crypto, ear };
        Self { real, crypto }
    }

    /// Who has heard it.
    pub(crate) fn into_ear(self) -> E {
        self.crypto.ear
    }
}

impl<'t, E: Ear> OpenMlsProvider for Listening<'t, E> {
    type CryptoProvider = Heard<'t, E>;
    type RandProvider = RustCrypto;
    type StorageProvider = Store<'t>;

    fn storage(&self) -> &Store<'t> {
        self.real.storage()
    }

    fn crypto(&self) -> &Heard<'t, E> {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        self.real.rand()
    }
}

pub(crate) struct Heard<'t, E> {
    real: &'t RustCrypto,
    ear: E,
}

impl<E: Ear> OpenMlsCrypto for Heard<'_, E> {
    fn aead_decrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        ct_tag: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let plaintext = self.real.aead_decrypt(alg, key, ct_tag, nonce, aad)?;
        self.ear.decrypted(&plaintext);
        Ok(plaintext)
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

    fn aead_encrypt(
        &self,
        alg: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.real.aead_encrypt(alg, key, data, nonce, aad)
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
        match self.ear.takes_over(alg, data, (pk, signature)) {
            Some(verdict) => verdict,
            None => self.real.verify_signature(alg, data, pk, signature),
        }
    }

    fn sign(&self, alg: SignatureScheme, data: &[u8], key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.real.sign(alg, data, key)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        pk_r: &[u8],
        info: &[u8],
        aad: &[u8],
        ptxt: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        self.real.hpke_seal(config, pk_r, info, aad, ptxt)
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
        let (real, length) = (self.real, exporter_length);
        real.hpke_setup_sender_and_export(config, pk_r, info, exporter_context, length)
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
        let (real, length) = (self.real, exporter_length);
        real.hpke_setup_receiver_and_export(config, enc, sk_r, info, exporter_context, length)
    }

    fn derive_hpke_keypair(
        &self,
        config: HpkeConfig,
        ikm: &[u8],
    ) -> Result<HpkeKeyPair, CryptoError> {
        self.real.derive_hpke_keypair(config, ikm)
    }
}
