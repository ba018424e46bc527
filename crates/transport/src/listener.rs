//! The server's end: a UDP socket that takes QUIC connections under one identity.
//! Handshakes run in the caller's tasks; it never spawns and never limits who may connect.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use quinn::TokioRuntime;
use tokio::time::timeout;

use crate::connection::{self, Connection};
use crate::error::TransportError;
use crate::identity::ServerIdentity;
use crate::limits::Limits;
use crate::{reset, socket, tls};

/// What new connections are taken with.
#[derive(Debug, Clone)]
struct Terms {
    config: Arc<quinn::ServerConfig>,
    fingerprint: [u8; 32],
}

/// A bound server socket.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    terms: RwLock<Terms>,
    limits: Limits,
}

impl Listener {
    /// Binds a UDP socket (port 0: any free one). Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// [`TransportError::Socket`] when the address cannot be bound,
    /// [`TransportError::Certificate`] when the identity is of no use.
    pub fn bind(
        addr: SocketAddr,
        identity: &ServerIdentity,
        limits: Limits,
    ) -> Result<Self, TransportError> {
        let config = tls::server(identity, &limits)?;
        let endpoint = socket::bind(addr)
            .and_then(|socket| {
                let (ours, runtime) = (reset::endpoint(identity), Arc::new(TokioRuntime));
                quinn::Endpoint::new(ours, Some(config.clone()), socket, runtime)
            })
            .map_err(TransportError::Socket)?;
        Ok(Self {
            endpoint,
            terms: RwLock::new(Terms {
                config: Arc::new(config),
                fingerprint: identity.fingerprint(),
            }),
            limits,
        })
    }

    /// The bound address, with the port that port 0 became.
    ///
    /// # Errors
    /// [`TransportError::Socket`] when the system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        self.endpoint.local_addr().map_err(TransportError::Socket)
    }

    /// Shows another certificate from now on; connections that stand are not touched.
    ///
    /// # Errors
    /// [`TransportError::Certificate`] when the identity is of no use; the old one then stays.
    pub fn set_identity(&self, identity: &ServerIdentity) -> Result<(), TransportError> {
        let config = tls::server(identity, &self.limits)?;
        let mut terms = self.terms.write().unwrap_or_else(PoisonError::into_inner);
        self.endpoint.set_server_config(Some(config.clone()));
        *terms = Terms { config: Arc::new(config), fingerprint: identity.fingerprint() };
        Ok(())
    }

    /// The next client that asks to connect; `None` once the listener is closed. Cancel-safe.
    pub async fn accept(&self) -> Option<Incoming> {
        let incoming = self.endpoint.accept().await?;
        let terms = self.terms.read().unwrap_or_else(PoisonError::into_inner);
        Some(Incoming {
            incoming,
            terms: terms.clone(),
            handshake_timeout: self.limits.handshake_timeout,
        })
    }

    /// Connections that are open, handshakes included.
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Closes every connection at once with an application code, and takes no more.
    pub fn close(&self, code: u32, reason: &str) {
        self.endpoint.close(code.into(), reason.as_bytes());
    }

    /// Waits until every connection has ended and its end has been told to the peer. It ends only
    /// if the connections are closed or time out.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// A client that asks to connect; nothing has been spent on it but its first datagram.
/// Dropping it refuses the client.
#[derive(Debug)]
pub struct Incoming {
    incoming: quinn::Incoming,
    terms: Terms,
    handshake_timeout: Duration,
}

impl Incoming {
    /// Where it comes from; forgeable unless [`Incoming::is_validated`].
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Whether the client has shown that it receives at its address (RFC 9000 section 8.1).
    pub fn is_validated(&self) -> bool {
        self.incoming.remote_address_validated()
    }

    /// Demands that proof by a Retry packet (RFC 9000 section 8.1.2); the client comes back as
    /// another `Incoming`. Gives this one back if it has shown it already.
    pub fn retry(self) -> Option<Self> {
        let (terms, handshake_timeout) = (self.terms, self.handshake_timeout);
        let back = self.incoming.retry().err()?;
        Some(Self { incoming: back.into_incoming(), terms, handshake_timeout })
    }

    /// Refuses the client with CONNECTION_REFUSED.
    pub fn refuse(self) {
        self.incoming.refuse();
    }

    /// Runs the handshake, in at most [`Limits::handshake_timeout`].
    ///
    /// # Errors
    /// [`TransportError::Alpn`], [`TransportError::TlsVersion`], [`TransportError::Handshake`],
    /// [`TransportError::Timeout`] or [`TransportError::Closed`]; the client then knows too.
    pub async fn establish(self) -> Result<Connection, TransportError> {
        let connecting =
            self.incoming.accept_with(self.terms.config).map_err(connection::handshake_error)?;
        let established = timeout(self.handshake_timeout, connecting)
            .await
            .map_err(|_| TransportError::Timeout)?
            .map_err(connection::handshake_error)?;
        Connection::quic(established, None, self.terms.fingerprint)
    }
}
