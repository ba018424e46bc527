//! Why a connection, stream, address or identity cannot be used, sorted by who must act.
//! Messages say what to do next and never show an invite or a key.

use std::io;
use std::path::PathBuf;

use qpc_proto::frame::FrameError;

use crate::address::UrlFault;
use crate::connection::CloseReason;

/// Everything this crate can fail with.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    // The peer's fault.
    /// The bytes on the stream are no frame; a server answers with this error's `ErrorBody`.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer gave this stream up (RESET_STREAM or STOP_SENDING, RFC 9000 section 3.5) with an
    /// application error code.
    #[error("the peer gave the stream up with code {0}; send the request again on a new stream")]
    Reset(u32),
    /// The peer does not speak `qpc` (RFC 7301; alert 120).
    #[error("the peer does not speak qpc; check the address and its port")]
    Alpn,
    /// The peer speaks no TLS 1.3 (alert 70).
    #[error("the peer does not speak TLS 1.3; nothing older is accepted here")]
    TlsVersion,
    /// The server has another key than the address names: another server answers, or its key was
    /// replaced.
    #[error(
        "the server's key has changed (it shows {}); ask its operator for the new address, and do \
         not go on before you have compared it",
        hex(seen)
    )]
    PinChanged {
        /// SHA-256 of the public key (SPKI) that the server showed.
        seen: [u8; 32],
    },
    /// The server's certificate ended at this Unix time in seconds.
    #[error(
        "the server's certificate expired at {0} (Unix time); its operator has to renew it, or \
         this device's clock is wrong"
    )]
    CertificateExpired(i64),
    /// The server's certificate begins at this Unix time in seconds.
    #[error("the server's certificate is valid only from {0} (Unix time); check the clock here")]
    CertificateNotYetValid(i64),
    /// The handshake failed for another reason.
    #[error("the TLS or QUIC handshake failed: {0}")]
    Handshake(String),

    // Time and the network: try again.
    /// The host name has no address.
    #[error("no address for {host}; check the name and the network")]
    Resolve {
        /// The name asked for.
        host: String,
        /// What the resolver said; `None` where it answered with nothing.
        source: Option<io::Error>,
    },
    /// No answer in the time allowed.
    #[error("no answer in time; check that the server runs and that UDP reaches it")]
    Timeout,
    /// The connection is over.
    #[error("the connection is closed: {0}")]
    Closed(CloseReason),

    // The operator or user here.
    /// A UDP socket could not be opened or used.
    #[error("cannot use a UDP socket; check that the address is free and belongs to this machine")]
    Socket(#[source] io::Error),
    /// The text is no server address.
    #[error(transparent)]
    Url(#[from] UrlFault),
    /// A file of the server's identity cannot be used.
    #[error("cannot use {}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why: also `InvalidData` for contents and `PermissionDenied` for a key others may read.
        source: io::Error,
    },
    /// No certificate or TLS configuration can be made of what was given.
    #[error("cannot make the server's certificate: {0}; check the host names")]
    Certificate(String),
}

fn hex(bytes: &[u8; 32]) -> String {
    qpc_proto::Digest(*bytes).to_string()
}
