//! The client's check of a server certificate: its public key is the pinned one, its signature over
//! the handshake is good, and it is within its validity. There is no way around it.
//!
//! The server's name is not compared: the pin names the key, which says more than a name would.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::error::TransportError;

/// Why a certificate was refused; rustls itself carries no such detail to the caller.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    PinChanged([u8; 32]),
    Expired(i64),
    NotYetValid(i64),
}

/// The verifier of one connection attempt.
#[derive(Debug)]
pub(crate) struct PinnedKey {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
    refusal: OnceLock<Refusal>,
}

impl PinnedKey {
    pub(crate) fn new(fingerprint: [u8; 32], provider: Arc<CryptoProvider>) -> Self {
        Self { fingerprint, provider, refusal: OnceLock::new() }
    }

    /// Why this verifier refused, if it did.
    pub(crate) fn refusal(&self) -> Option<TransportError> {
        self.refusal.get().map(|refusal| match *refusal {
            Refusal::PinChanged(seen) => TransportError::PinChanged { seen },
            Refusal::Expired(at) => TransportError::CertificateExpired(at),
            Refusal::NotYetValid(at) => TransportError::CertificateNotYetValid(at),
        })
    }

    fn refuse(&self, refusal: Refusal, error: CertificateError) -> rustls::Error {
        self.refusal.get_or_init(|| refusal);
        error.into()
    }

    fn check_validity(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let (not_before, not_after) = validity(certificate)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now > not_after {
            return Err(self.refuse(Refusal::Expired(not_after), CertificateError::Expired));
        }
        if now < not_before {
            let refusal = Refusal::NotYetValid(not_before);
            return Err(self.refuse(refusal, CertificateError::NotValidYet));
        }
        Ok(())
    }
}

/// SHA-256 of the certificate's public key. Taken by the parser that checks the handshake's
/// signature too, so that both see one key.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Result<[u8; 32], rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(Sha256::digest(parsed.subject_public_key_info()).into())
}

/// First and last second of validity, Unix time.
pub(crate) fn validity(certificate: &CertificateDer<'_>) -> Result<(i64, i64), rustls::Error> {
    let (rest, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| CertificateError::BadEncoding)?;
    if !rest.is_empty() {
        return Err(CertificateError::BadEncoding.into());
    }
    let validity = parsed.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = fingerprint(end_entity)?;
        if !bool::from(seen.ct_eq(&self.fingerprint)) {
            let error = CertificateError::ApplicationVerificationFailure;
            return Err(self.refuse(Refusal::PinChanged(seen), error));
        }
        self.check_validity(end_entity, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
