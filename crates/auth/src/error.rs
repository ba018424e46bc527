//! Why the Authentication Service refuses. No text holds a name, key, token or id.

use qpc_credential::CredentialError;
use qpc_proto::message::ProofOfWork;
use qpc_proto::{ErrorBody, ErrorCode, ErrorDetail};
use qpc_storage::sql;

/// When to ask again for room for a link, in milliseconds.
const LINKS_RETRY_MS: u64 = 60 * 1_000;

/// A refusal or failure, sorted by who must act.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    // The peer asked for what it cannot have.
    /// The name breaks the rules of [`crate::normalise`].
    #[error("a name has 1 to 32 of the characters a-z, 0-9, '.', '_' and '-'")]
    NameInvalid,
    /// The name belongs to another account, or looks like one that does.
    #[error("the name is taken, or looks like one that is; choose another")]
    NameTaken,
    /// No invite, or one that is wrong, used or expired: all the same to the peer.
    #[error("a valid invite is required; ask the operator for one")]
    InviteRequired,
    /// This server takes no new accounts.
    #[error("this server takes no new accounts")]
    RegistrationClosed,
    /// No proof of work, or one for other bits or an earlier time.
    #[error("solve the proof of work in the detail, then register again")]
    ProofOfWorkRequired(ProofOfWork),
    /// The root, the device id or the device key is known already, perhaps of an account or device
    /// that is gone.
    #[error("the device, its key or the root already belongs to an account; make others")]
    DuplicateKey,
    /// No account of that name or id.
    #[error("no such account")]
    AccountNotFound,
    /// A signed object does not verify or contradicts the request.
    #[error(transparent)]
    Identity(#[from] CredentialError),
    /// A device of the newest list with another key.
    #[error("a device keeps its key; make a new device id for a new key")]
    IdentityMismatch,
    /// The list's version is not above the newest one, or above one that a deletion used.
    #[error("read the newest device list and sign one with a higher version")]
    DeviceListStale,
    /// The account's devices can't change while it waits for its deletion.
    #[error("the account is to be deleted; take that back first")]
    DeletionPending,
    /// A link's code that is unknown, used or expired: all the same to the peer.
    #[error("the link code is unknown, used or expired; make another")]
    LinkCodeInvalid,
    /// A missing, unknown or foreign token, or a proof that does not verify: all the same.
    #[error("log in with this device's key")]
    Unauthenticated,
    /// The device is no longer in its account's newest device list.
    #[error("this device was removed from its account")]
    DeviceRevoked,
    /// The operator has suspended the account.
    #[error("this account is suspended; ask the operator")]
    AccountSuspended,

    // The peer waits, then asks again.
    /// As many links are under way as the server keeps.
    #[error("too many devices are being linked; try again in a minute")]
    TooManyLinks,

    // The peer refreshes, then asks again.
    /// The access token has expired.
    #[error("the access token has expired; refresh it")]
    TokenExpired,

    // The operator looks after the storage.
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] sql::Error),
}

impl AuthError {
    /// The stable code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NameInvalid => ErrorCode::NameInvalid,
            Self::NameTaken => ErrorCode::NameTaken,
            Self::InviteRequired => ErrorCode::InviteRequired,
            Self::RegistrationClosed => ErrorCode::RegistrationClosed,
            Self::ProofOfWorkRequired(_) => ErrorCode::ProofOfWorkRequired,
            Self::DuplicateKey => ErrorCode::DuplicateKey,
            Self::AccountNotFound => ErrorCode::AccountNotFound,
            Self::Identity(error) => error.code(),
            Self::IdentityMismatch => ErrorCode::IdentityMismatch,
            Self::DeviceListStale => ErrorCode::DeviceListStale,
            Self::DeletionPending => ErrorCode::PermissionDenied,
            Self::LinkCodeInvalid => ErrorCode::LinkCodeInvalid,
            Self::Unauthenticated => ErrorCode::Unauthenticated,
            Self::DeviceRevoked => ErrorCode::DeviceRevoked,
            Self::AccountSuspended => ErrorCode::AccountSuspended,
            Self::TooManyLinks => ErrorCode::RateLimited,
            Self::TokenExpired => ErrorCode::TokenExpired,
            Self::Store(error) => match error.sqlite_error_code() {
                Some(sql::ErrorCode::DiskFull) => ErrorCode::StoreFull,
                Some(_) | None => ErrorCode::Internal,
            },
        }
    }

    /// The refusal as it travels; the correlation id is the server's to add.
    pub fn to_body(&self) -> ErrorBody {
        let body = ErrorBody::new(self.code(), self.to_string());
        #[expect(clippy::wildcard_enum_match_arm, reason = "most refusals have no detail")]
        match self {
            Self::Identity(error) => ErrorBody::from(*error),
            Self::ProofOfWorkRequired(work) => body.with_detail(ErrorDetail::ProofOfWork(*work)),
            Self::TooManyLinks => ErrorBody { retry_after_ms: Some(LINKS_RETRY_MS), ..body },
            _ => body,
        }
    }
}
