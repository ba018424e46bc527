//! Why the Authentication Service refuses. No text holds a name, key, token or id.

use qpc_credential::CredentialError;
use qpc_proto::{ErrorBody, ErrorCode};
use qpc_storage::sql;

/// A refusal or failure, sorted by who must act.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    // The peer asked for what it cannot have.
    /// The name breaks the rules of [`crate::normalise`].
    #[error("a name has 1 to 32 of the characters a-z, 0-9, '.', '_' and '-'")]
    NameInvalid,
    /// The name belongs to another account.
    #[error("the name is taken; choose another")]
    NameTaken,
    /// No invite, or one that is wrong, used or expired: all the same to the peer.
    #[error("a valid invite is required; ask the operator for one")]
    InviteRequired,
    /// This server takes no new accounts.
    #[error("this server takes no new accounts")]
    RegistrationClosed,
    /// The root, the device id or the device key is known already.
    #[error("the device, its key or the root already belongs to an account")]
    DuplicateKey,
    /// No account of that name or id.
    #[error("no such account")]
    AccountNotFound,
    /// A signed object does not verify or contradicts the request.
    #[error(transparent)]
    Identity(#[from] CredentialError),
    /// A missing, unknown or foreign token, or a proof that does not verify: all the same.
    #[error("log in with this device's key")]
    Unauthenticated,
    /// The device is no longer in its account's newest device list.
    #[error("this device was removed from its account")]
    DeviceRevoked,

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
            Self::DuplicateKey => ErrorCode::DuplicateKey,
            Self::AccountNotFound => ErrorCode::AccountNotFound,
            Self::Identity(error) => error.code(),
            Self::Unauthenticated => ErrorCode::Unauthenticated,
            Self::DeviceRevoked => ErrorCode::DeviceRevoked,
            Self::TokenExpired => ErrorCode::TokenExpired,
            Self::Store(error) => match error.sqlite_error_code() {
                Some(sql::ErrorCode::DiskFull) => ErrorCode::StoreFull,
                Some(_) | None => ErrorCode::Internal,
            },
        }
    }

    /// The refusal as it travels; the correlation id is the server's to add.
    pub fn to_body(&self) -> ErrorBody {
        if let Self::Identity(error) = self {
            return ErrorBody::from(*error);
        }
        ErrorBody::new(self.code(), self.to_string())
    }
}
