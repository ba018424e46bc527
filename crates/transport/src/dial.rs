//! The client's end: resolves a server's name, tries its addresses and checks the pinned key.
//! One attempt; trying again is the caller's, with [`crate::Backoff`].

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::{EndpointConfig, default_runtime};
use tokio::net::lookup_host;
use tokio::time::timeout;
use tracing::debug;

use crate::address::ServerUrl;
use crate::connection::{self, CloseReason, Connection};
use crate::error::TransportError;
use crate::limits::ClientLimits;
use crate::pin::PinnedKey;
use crate::{socket, tls};

/// Connects to a server, from any free UDP port. Its addresses are tried in turn, while the failure
/// is one of the network; an answer with a wrong key, certificate or protocol ends it at once.
///
/// # Errors
/// [`TransportError::PinChanged`], [`TransportError::CertificateExpired`],
/// [`TransportError::CertificateNotYetValid`], [`TransportError::Alpn`] and
/// [`TransportError::TlsVersion`] tell of the server; [`TransportError::Resolve`],
/// [`TransportError::Timeout`], [`TransportError::Socket`], [`TransportError::Closed`] and
/// [`TransportError::Handshake`] of the way to it.
pub async fn connect(url: &ServerUrl, limits: &ClientLimits) -> Result<Connection, TransportError> {
    dial(url, limits, None).await
}

/// One UDP socket from which many connections start. Dropping it ends none of them.
#[derive(Debug)]
pub struct Dialer(quinn::Endpoint);

impl Dialer {
    /// A socket at `local`; it reaches servers of that address family.
    ///
    /// # Errors
    /// [`TransportError::Socket`].
    pub fn bind(local: SocketAddr) -> Result<Self, TransportError> {
        endpoint(local).map(Self)
    }

    /// As [`connect`], from this socket.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(
        &self,
        url: &ServerUrl,
        limits: &ClientLimits,
    ) -> Result<Connection, TransportError> {
        dial(url, limits, Some(&self.0)).await
    }
}

fn endpoint(local: SocketAddr) -> Result<quinn::Endpoint, TransportError> {
    let runtime = default_runtime().ok_or_else(|| io::Error::other("no Tokio runtime here"));
    let bound = runtime.and_then(|runtime| {
        quinn::Endpoint::new(EndpointConfig::default(), None, socket::bind(local)?, runtime)
    });
    bound.map_err(TransportError::Socket)
}

async fn dial(
    url: &ServerUrl,
    limits: &ClientLimits,
    shared: Option<&quinn::Endpoint>,
) -> Result<Connection, TransportError> {
    let mut last = TransportError::Resolve { host: url.host.clone(), source: None };
    for address in resolve(url, limits).await? {
        match attempt((address, url.fingerprint), limits, shared).await {
            Ok(connection) => return Ok(connection),
            Err(error) if is_of_the_network(&error) => {
                debug!(%address, %error, "no connection");
                last = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn resolve(
    url: &ServerUrl,
    limits: &ClientLimits,
) -> Result<Vec<SocketAddr>, TransportError> {
    let lookup = lookup_host((url.host.as_str(), url.port));
    match timeout(limits.connect_timeout, lookup).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(source)) => {
            Err(TransportError::Resolve { host: url.host.clone(), source: Some(source) })
        }
        Err(_) => Err(TransportError::Timeout),
    }
}

async fn attempt(
    (address, fingerprint): (SocketAddr, [u8; 32]),
    limits: &ClientLimits,
    shared: Option<&quinn::Endpoint>,
) -> Result<Connection, TransportError> {
    let verifier = Arc::new(PinnedKey::new(fingerprint, tls::provider()));
    let config = tls::client(Arc::clone(&verifier), limits)?;
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let (endpoint, own) = match shared {
        Some(endpoint) => (endpoint.clone(), None),
        None => {
            let own = endpoint(any)?;
            (own.clone(), Some(own))
        }
    };
    let connecting = endpoint
        .connect_with(config, address, tls::UNUSED_NAME)
        .map_err(|error| TransportError::Socket(io::Error::other(error)))?;
    let established = timeout(limits.connect_timeout, connecting)
        .await
        .map_err(|_| TransportError::Timeout)?
        .map_err(|error| {
            let refusal = verifier.refusal();
            refusal.unwrap_or_else(|| connection::handshake_error(error))
        })?;
    Connection::quic(established, own, fingerprint)
}

fn is_of_the_network(error: &TransportError) -> bool {
    match error {
        TransportError::Timeout | TransportError::Socket(_) | TransportError::Handshake(_) => true,
        TransportError::Closed(reason) => match reason {
            CloseReason::TimedOut | CloseReason::Lost(_) => true,
            CloseReason::Peer { .. } | CloseReason::Local => false,
        },
        TransportError::Frame(_)
        | TransportError::Reset(_)
        | TransportError::Alpn
        | TransportError::TlsVersion
        | TransportError::PinChanged { .. }
        | TransportError::CertificateExpired(_)
        | TransportError::CertificateNotYetValid(_)
        | TransportError::Resolve { .. }
        | TransportError::Url(_)
        | TransportError::Identity { .. }
        | TransportError::Certificate(_) => false,
    }
}
