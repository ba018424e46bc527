//! What stops a server or one of its commands, sorted by who must act.
//!
//! Refusals of requests are `qpc_proto::ErrorBody`, not these.

use std::io;
use std::path::PathBuf;

use qpc_storage::StorageError;
use qpc_transport::TransportError;

use crate::audit::Break;

/// Why a command failed. The text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    // The operator must act.
    /// The configuration file is wrong; the detail names line and key.
    #[error("{}: {detail}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// Line, column and reason.
        detail: String,
    },
    /// `init` overwrites nothing.
    #[error("{} exists already, and nothing was changed; choose another directory", .0.display())]
    Exists(PathBuf),
    /// The directory holds no server.
    #[error("{} holds no server; run `qpc-server init` for this directory first", .0.display())]
    NotInitialised(PathBuf),
    /// The directory holds some files of a server, and no database.
    #[error(
        "{} has keys of a server, but no server.db; if an `init` was interrupted there, delete \
         server.key, tls.key, tls.crt and config.toml and run it again; if the database was \
         moved away, put it back", .0.display()
    )]
    Unfinished(PathBuf),
    /// `--dev` is for this machine alone.
    #[error("--dev listens on loopback only; give --listen 127.0.0.1:PORT or leave --dev out")]
    DevNotLoopback,
    /// A host or listen address that cannot be part of a URL.
    #[error("{0:?} is no address; use HOST or HOST:PORT, with IPv6 in brackets")]
    Address(String),
    /// Another process has the database open.
    #[error("STORE_LOCKED: another process has this data directory's database; stop it first")]
    Locked,
    /// The store is locked, but nobody answers on the socket.
    #[error(
        "STORE_LOCKED: another process has the database, but it does not answer; stop it first"
    )]
    NoAnswer,
    /// Only a running server knows.
    #[error("no server runs on this data directory, and only a running one knows; start it first")]
    NotRunning,
    /// The audit log is not what was written.
    #[error("the audit log is broken: {0}")]
    AuditBroken(Break),
    /// The running server refused.
    #[error("refused: {0}")]
    Refused(String),
    // Storage.
    /// The database cannot be opened, read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    // The network.
    /// The listener, certificate or TLS key.
    #[error(transparent)]
    Transport(#[from] TransportError),
    // Our bug.
    /// The writer's thread has panicked outside any request.
    #[error("the writer panicked; restart the server, and report this as a bug")]
    WriterPanicked,
    // The machine.
    /// A file, socket or thread of the system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl ServerError {
    /// Names what was tried when the system refused it.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}
