//! What a caller of this library must act on. One enum; each variant says what to do next.

use qpc_proto::{ErrorBody, ErrorCode};
use qpc_storage::StorageError;
use qpc_transport::TransportError;

/// Why a command failed. Nothing is half done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The caller asked for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// No contact, channel or account of that name.
    #[error("{0}")]
    NotFound(String),
    /// The server refused.
    #[error("the server refused: {0}")]
    Refused(ErrorBody),
    /// A group operation failed for good.
    #[error("{0}")]
    Failed(String),
    /// A name belongs to another key than before, and the user has not accepted it.
    #[error("{0}")]
    KeyChanged(String),
    /// Only the device with the account key signs device lists.
    #[error(
        "only the primary device can do this; if it is lost, run `qpc recover` on another device \
         with the recovery phrase"
    )]
    NotPrimary,
    /// The server cannot be reached, or is not the one that was pinned.
    #[error(transparent)]
    Network(#[from] TransportError),
    /// The server's answer is not what it must be, or lies.
    #[error("the server's answer cannot be trusted: {0}")]
    Alarm(String),
    /// The home folder has no account yet.
    #[error("there is no account here: run `qpc register NAME --server URL` first")]
    NoAccount,
    /// The home folder has an account already.
    #[error("this home has an account already; use another --home, or `qpc logout --wipe`")]
    AccountExists,
    /// The passphrase, key file or keyring entry is missing or wrong.
    #[error("{0}")]
    Key(String),
    /// Too many wrong passphrases in a row: none is tried for a while. Nothing is deleted.
    #[error("too many wrong passphrases: try again in {} s", .left_ms.div_ceil(1_000))]
    PassphraseWait {
        /// How long, in milliseconds.
        left_ms: u64,
    },
    /// The database refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The group engine refused.
    #[error(transparent)]
    Mls(#[from] qpc_mls::MlsError),
    /// Files of the home folder.
    #[error("the home folder: {0}")]
    Filesystem(#[from] std::io::Error),
    /// The client is stopping.
    #[error("the client is closed")]
    Closed,
    /// A bug: a state that must not be.
    #[error("internal: {0}")]
    Internal(&'static str),
}

/// What kind of failure it is, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitKind {
    /// The command line is wrong.
    Usage,
    /// Nothing of that name.
    NotFound,
    /// Refused for good.
    Refused,
    /// Not done yet; it goes on by itself.
    Waiting,
    /// Another process uses the home folder.
    Locked,
    /// Key or passphrase.
    Key,
    /// The server cannot be reached or is another.
    Network,
    /// A lie was seen.
    Alarm,
    /// This device was revoked, or its account suspended.
    Ended,
    /// A bug or a broken machine.
    Internal,
}

impl ClientError {
    /// The stable name of the failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "USAGE",
            Self::NotFound(_) => "NOT_FOUND",
            Self::Refused(body) => body.code.as_str(),
            Self::Failed(_) => "FAILED",
            Self::KeyChanged(_) => "KEY_CHANGED",
            Self::NotPrimary => "NOT_PRIMARY",
            Self::Network(TransportError::Url(_)) => "USAGE",
            Self::Network(_) => "NETWORK",
            Self::Alarm(_) => "ALARM",
            Self::NoAccount => "NO_ACCOUNT",
            Self::AccountExists => "ACCOUNT_EXISTS",
            Self::Key(_) | Self::Storage(StorageError::WrongKey) => "DB_KEY_WRONG",
            Self::PassphraseWait { .. } => "PASSPHRASE_WAIT",
            Self::Storage(StorageError::Locked) => "STORE_LOCKED",
            Self::Storage(_) => "STORAGE",
            Self::Mls(_) => "MLS",
            Self::Filesystem(_) => "FILESYSTEM",
            Self::Closed => "CLOSED",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// Whether the database can't hold a value of what was read: no later attempt does better.
    pub(crate) fn is_of_value(&self) -> bool {
        qpc_storage::is_of_value(self)
    }

    /// The kind of failure.
    pub fn exit(&self) -> ExitKind {
        match self {
            Self::Usage(_) | Self::NoAccount | Self::AccountExists => ExitKind::Usage,
            Self::NotFound(_) => ExitKind::NotFound,
            Self::Refused(body) if body.code == ErrorCode::AccountNotFound => ExitKind::NotFound,
            Self::Refused(body) if ends_use(body.code) => ExitKind::Ended,
            Self::Refused(_) | Self::Failed(_) | Self::KeyChanged(_) | Self::NotPrimary => {
                ExitKind::Refused
            }
            Self::Network(TransportError::Url(_)) => ExitKind::Usage,
            Self::Network(_) => ExitKind::Network,
            Self::Alarm(_) => ExitKind::Alarm,
            Self::Key(_) | Self::PassphraseWait { .. } | Self::Storage(StorageError::WrongKey) => {
                ExitKind::Key
            }
            Self::Storage(StorageError::Locked) => ExitKind::Locked,
            Self::Storage(_)
            | Self::Mls(_)
            | Self::Filesystem(_)
            | Self::Closed
            | Self::Internal(_) => ExitKind::Internal,
        }
    }
}

/// Whether a refusal ends this device's use of the server: asking again is of no use.
pub(crate) fn ends_use(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DeviceRevoked | ErrorCode::AccountSuspended)
}

impl From<qpc_storage::sql::Error> for ClientError {
    fn from(error: qpc_storage::sql::Error) -> Self {
        Self::Storage(StorageError::from_sql(error))
    }
}
