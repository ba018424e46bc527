//! Why a public object is refused. Texts are fixed: no key, name or input is ever in one.

use qpc_proto::{ErrorBody, ErrorCode, ErrorDetail};

/// A refusal. All are the peer's fault: the same bytes are refused again, unless time decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A bare signature does not verify, or its key is weak or no curve point.
    #[error("the signature does not verify")]
    Signature,
    /// A device's signature over the channel binding does not verify.
    #[error("the device's proof does not verify on this connection")]
    Proof,
    /// An account key statement, device list or certificate; the text says what is wrong.
    #[error("signed identity object refused: {0}")]
    Identity(&'static str),
    /// A device list with more devices than an account may have.
    #[error("an account has at most 10 devices: revoke one first")]
    DeviceLimit,
    /// A signed statement; the text says what is wrong.
    #[error("signed statement refused: {0}")]
    Statement(&'static str),
    /// A KeyPackage that is malformed or breaks RFC 9420 section 10.1; the text says how.
    #[error("KeyPackage refused: {0}")]
    KeyPackage(&'static str),
    /// A KeyPackage whose Lifetime is outside of policy at this time.
    #[error("the KeyPackage's Lifetime is outside of policy")]
    Lifetime,
    /// The certified device is past its `not_after_ms`.
    #[error("the device's certificate has ended")]
    DeviceExpired,
    /// The leaf's signature key is not the certified device key.
    #[error("the KeyPackage is not of the device that its certificate names")]
    CredentialMismatch,
    /// Protocol version, cipher suite or credential type outside the allowlist.
    #[error("MLS version, cipher suite or credential type is not supported")]
    UnsupportedCiphersuite,
    /// Not the MLS message that belongs here.
    #[error("not the MLS message that is needed here")]
    InvalidMlsType,
    /// The authenticated data is malformed, or of the other kind than its content.
    #[error("the authenticated data does not fit the MLS message")]
    AadMismatch,
}

impl CredentialError {
    /// The stable code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Signature | Self::Identity(_) => ErrorCode::IdentityInvalid,
            Self::DeviceLimit => ErrorCode::DeviceLimit,
            Self::Proof => ErrorCode::Unauthenticated,
            Self::Statement(_) => ErrorCode::StatementInvalid,
            Self::KeyPackage(_) | Self::Lifetime | Self::DeviceExpired => {
                ErrorCode::KeyPackageInvalid
            }
            Self::CredentialMismatch => ErrorCode::CredentialMismatch,
            Self::UnsupportedCiphersuite => ErrorCode::UnsupportedCiphersuite,
            Self::InvalidMlsType => ErrorCode::InvalidMlsType,
            Self::AadMismatch => ErrorCode::AadMismatch,
        }
    }
}

impl From<CredentialError> for ErrorBody {
    /// The refusal as it travels; an unsupported cipher suite is answered with the allowlist.
    fn from(error: CredentialError) -> Self {
        let body = Self::new(error.code(), error.to_string());
        if error == CredentialError::UnsupportedCiphersuite {
            return body.with_detail(ErrorDetail::Ciphersuites(crate::SUITES.to_vec()));
        }
        body
    }
}
