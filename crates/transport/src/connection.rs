//! One connection, over QUIC or in memory, and why it ended. Opens and takes streams;
//! never reads one.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use qpc_proto::binding::{ChannelBinding, EXPORTER_LABEL};
use quinn::ConnectionError;

use crate::error::TransportError;
use crate::memory::Side;
use crate::stream::{FrameReceiver, FrameSender};

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer's application closed it.
    Peer {
        /// Application error code; 0 is an end in order.
        code: u32,
        /// What the peer says about it: to be logged, not obeyed.
        reason: String,
    },
    /// This side closed it.
    Local,
    /// Nothing came for the idle timeout.
    TimedOut,
    /// The transport gave it up: a restarted peer, or a violation of QUIC.
    Lost(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { code, reason } => {
                write!(f, "the peer closed it with code {code}: {}", reason.escape_debug())
            }
            Self::Local => f.write_str("closed here"),
            Self::TimedOut => f.write_str("the peer was silent for too long"),
            Self::Lost(why) => write!(f, "lost: {why}"),
        }
    }
}

impl CloseReason {
    /// Whether one of the two applications ended it.
    pub(crate) fn is_in_order(&self) -> bool {
        match self {
            Self::Peer { .. } | Self::Local => true,
            Self::TimedOut | Self::Lost(_) => false,
        }
    }
}

/// A connection; a clone is the same one. It is closed with code 0 once every clone, sender and
/// receiver of it has been dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Inner,
    binding: ChannelBinding,
}

#[derive(Debug, Clone)]
enum Inner {
    Quic {
        connection: quinn::Connection,
        /// The endpoint that a client made for this connection alone.
        endpoint: Option<quinn::Endpoint>,
    },
    Memory(Arc<Side>),
}

impl Connection {
    pub(crate) fn quic(
        connection: quinn::Connection,
        endpoint: Option<quinn::Endpoint>,
        fingerprint: [u8; 32],
    ) -> Result<Self, TransportError> {
        let mut exporter = [0; 32];
        connection
            .export_keying_material(&mut exporter, EXPORTER_LABEL, &[])
            .map_err(|_| TransportError::Handshake("no keying material".to_owned()))?;
        Ok(Self {
            inner: Inner::Quic { connection, endpoint },
            binding: ChannelBinding { exporter, fingerprint },
        })
    }

    pub(crate) fn memory(side: Arc<Side>, binding: ChannelBinding) -> Self {
        Self { inner: Inner::Memory(side), binding }
    }

    /// What only the two ends of this connection know (RFC 9266), the same at both.
    pub fn binding(&self) -> ChannelBinding {
        self.binding
    }

    /// The peer's UDP address; it may change when the peer moves (RFC 9000 section 9). In memory
    /// what the pair was made with, else `[::1]:0`.
    pub fn remote_address(&self) -> SocketAddr {
        match &self.inner {
            Inner::Quic { connection, .. } => connection.remote_address(),
            Inner::Memory(side) => side.remote,
        }
    }

    /// Opens a bidirectional stream; waits while the peer's limit of open streams is reached. The
    /// peer sees it with its first frame. Cancel-safe.
    ///
    /// # Errors
    /// [`TransportError::Closed`].
    pub async fn open_stream(&self) -> Result<(FrameSender, FrameReceiver), TransportError> {
        match &self.inner {
            Inner::Quic { connection, .. } => {
                let (send, recv) = connection.open_bi().await.map_err(closed)?;
                Ok((FrameSender::quic(send), FrameReceiver::quic(recv)))
            }
            Inner::Memory(side) => {
                let (send, recv) = side.open().await.map_err(TransportError::Closed)?;
                Ok((FrameSender::memory(send), FrameReceiver::memory(recv)))
            }
        }
    }

    /// From now on the peer may have so many streams open at once. quinn holds some memory for each
    /// that may be opened, so allow more only to who uses them. In memory all are allowed.
    pub fn allow_streams(&self, streams: u32) {
        if let Inner::Quic { connection, .. } = &self.inner {
            connection.set_max_concurrent_bi_streams(streams.into());
        }
    }

    /// The next stream that the peer opened; `None` once either application has closed the
    /// connection ([`Connection::closed`] has the code). Cancel-safe.
    ///
    /// # Errors
    /// [`TransportError::Closed`] when the connection timed out or was lost.
    pub async fn accept_stream(
        &self,
    ) -> Result<Option<(FrameSender, FrameReceiver)>, TransportError> {
        let reason = match &self.inner {
            Inner::Quic { connection, .. } => match connection.accept_bi().await {
                Ok((send, recv)) => {
                    return Ok(Some((FrameSender::quic(send), FrameReceiver::quic(recv))));
                }
                Err(error) => close_reason(error),
            },
            Inner::Memory(side) => match side.accept().await {
                Ok((send, recv)) => {
                    return Ok(Some((FrameSender::memory(send), FrameReceiver::memory(recv))));
                }
                Err(reason) => reason,
            },
        };
        if reason.is_in_order() { Ok(None) } else { Err(TransportError::Closed(reason)) }
    }

    /// Closes the connection at once; what was sent and not yet received may be lost. The first
    /// close counts.
    pub fn close(&self, code: u32, reason: &str) {
        match &self.inner {
            Inner::Quic { connection, .. } if connection.close_reason().is_none() => {
                connection.close(code.into(), reason.as_bytes());
            }
            Inner::Quic { .. } => {}
            Inner::Memory(side) => side.close(code, reason),
        }
    }

    /// Waits for the end of the connection. Cancel-safe.
    pub async fn closed(&self) -> CloseReason {
        match &self.inner {
            Inner::Quic { connection, .. } => close_reason(connection.closed().await),
            Inner::Memory(side) => side.closed().await,
        }
    }

    /// After [`Connection::close`], waits until the peer has been told; a client calls it before
    /// its process ends. Ends at once on a server's side, where [`crate::Listener::wait_idle`]
    /// does it for all, and in memory.
    pub async fn wait_idle(&self) {
        match &self.inner {
            Inner::Quic { endpoint: Some(endpoint), .. } => endpoint.wait_idle().await,
            Inner::Quic { endpoint: None, .. } | Inner::Memory(_) => {}
        }
    }
}

/// A QUIC application error code as ours, which have 32 bits.
pub(crate) fn code(code: quinn::VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}

pub(crate) fn closed(error: ConnectionError) -> TransportError {
    TransportError::Closed(close_reason(error))
}

fn close_reason(error: ConnectionError) -> CloseReason {
    match error {
        ConnectionError::ApplicationClosed(close) => CloseReason::Peer {
            code: code(close.error_code),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        ConnectionError::LocallyClosed => CloseReason::Local,
        ConnectionError::TimedOut => CloseReason::TimedOut,
        ConnectionError::Reset
        | ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::CidsExhausted => CloseReason::Lost(error.to_string()),
    }
}

/// CRYPTO_ERROR with `no_application_protocol` (RFC 9001 section 8.1).
const ALERT_ALPN: u64 = 0x178;
/// CRYPTO_ERROR with `protocol_version` (RFC 9001 section 4.2).
const ALERT_VERSION: u64 = 0x146;

/// Names what ended a handshake, whichever side found it.
pub(crate) fn handshake_error(error: ConnectionError) -> TransportError {
    let alert = match &error {
        ConnectionError::TransportError(own) => u64::from(own.code),
        ConnectionError::ConnectionClosed(peers) => u64::from(peers.error_code),
        ConnectionError::TimedOut => return TransportError::Timeout,
        ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
            return TransportError::Handshake(error.to_string());
        }
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed => return closed(error),
    };
    match alert {
        ALERT_ALPN => TransportError::Alpn,
        ALERT_VERSION => TransportError::TlsVersion,
        _ => TransportError::Handshake(error.to_string()),
    }
}
