//! TLS 1.3 configurations for both sides (RFC 8446, RFC 9001): ALPN `qpc`, X25519MLKEM768 first,
//! no resumption and no 0-RTT, so that every connection proves its key anew. Makes no sockets.

use std::sync::Arc;

use qpc_proto::limits::ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;

use crate::error::TransportError;
use crate::identity::ServerIdentity;
use crate::limits::{ClientLimits, Limits};
use crate::pin::PinnedKey;

/// The name given to rustls, which demands one; it is neither sent (no SNI) nor compared.
pub(crate) const UNUSED_NAME: &str = "qpc.invalid";

/// Bytes kept of what one client sends before it is accepted: a hybrid ClientHello, sent twice.
const INCOMING_BYTES_MAX: u64 = 8 * 1024;
/// The same, of all such clients together.
const INCOMING_TOTAL_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

pub(crate) fn server(
    identity: &ServerIdentity,
    limits: &Limits,
) -> Result<quinn::ServerConfig, TransportError> {
    let tls = server_tls(identity)?;
    let crypto = QuicServerConfig::try_from(tls).map_err(certificate)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(limits.transport())
        .max_incoming(limits.incoming)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_TOTAL_BYTES_MAX);
    Ok(config)
}

fn server_tls(identity: &ServerIdentity) -> Result<rustls::ServerConfig, TransportError> {
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).map_err(certificate)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(certificate)?
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate().clone()], key)
        .map_err(certificate)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    Ok(tls)
}

pub(crate) fn client(
    verifier: Arc<PinnedKey>,
    limits: &ClientLimits,
) -> Result<quinn::ClientConfig, TransportError> {
    let handshake = |error: &dyn std::error::Error| TransportError::Handshake(error.to_string());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| handshake(&error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_sni = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| handshake(&error))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(limits.transport());
    Ok(config)
}

fn certificate(error: impl std::error::Error) -> TransportError {
    TransportError::Certificate(error.to_string())
}
