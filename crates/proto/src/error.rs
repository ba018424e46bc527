//! What goes wrong on the wire: stable codes, their bodies, and malformed input.
//!
//! Codes are a contract: a number is never reused. Messages say what to do and hold no secret, key
//! or address.

use bytes::Bytes;

use crate::ids::{ChannelId, DeviceId, Digest};
use crate::message::ProofOfWork;
use crate::wire;

/// Input that is not what the protocol says. Holds a fixed text, never the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $retry:literal;)*) => {
        /// Why a request was refused. The number goes on the wire; `as_str` is for people and JSON.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum ErrorCode { $($(#[$doc])* $name = $code,)* }

        impl ErrorCode {
            /// Every code, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code of a number, if this version knows it.
            pub fn from_u16(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// The number on the wire.
            pub fn as_u16(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The stable name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether the same request may succeed later.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }
        }
    };
}

codes! {
    /// The stream ended inside a frame.
    FrameTruncated = 1, "FRAME_TRUNCATED", true;
    /// The announced length is above the limit.
    FrameTooLarge = 2, "FRAME_TOO_LARGE", false;
    /// The frame has no body where one is required.
    FrameEmpty = 3, "FRAME_EMPTY", false;
    /// The frame version is not spoken here; the detail has the range.
    VersionUnsupported = 4, "VERSION_UNSUPPORTED", false;
    /// No such method.
    UnknownMethod = 5, "UNKNOWN_METHOD", false;
    /// A field has a wrong length, form or value.
    InvalidArgument = 6, "INVALID_ARGUMENT", false;
    /// A required choice has a value this version does not know.
    UnsupportedValue = 7, "UNSUPPORTED_VALUE", false;
    /// The same request id came before with other bytes.
    RequestIdConflict = 8, "REQUEST_ID_CONFLICT", false;
    /// The request did not arrive whole in time.
    Deadline = 9, "DEADLINE", true;

    /// No token, a wrong one, or one of another device's connection.
    Unauthenticated = 20, "UNAUTHENTICATED", false;
    /// The access token has expired: refresh, then try again.
    TokenExpired = 21, "TOKEN_EXPIRED", true;
    /// The connection was not opened by a device in time.
    AuthTimeout = 22, "AUTH_TIMEOUT", true;
    /// The device is no longer in its account's device list.
    DeviceRevoked = 23, "DEVICE_REVOKED", false;
    /// The account may not do this.
    PermissionDenied = 24, "PERMISSION_DENIED", false;
    /// The operator has suspended the account.
    AccountSuspended = 25, "ACCOUNT_SUSPENDED", false;

    /// No account of that name or id.
    AccountNotFound = 40, "ACCOUNT_NOT_FOUND", false;
    /// The name belongs to another account.
    NameTaken = 41, "NAME_TAKEN", false;
    /// The name breaks the rules for names.
    NameInvalid = 42, "NAME_INVALID", false;
    /// Registration needs an invite, or the invite is wrong, used or expired.
    InviteRequired = 43, "INVITE_REQUIRED", false;
    /// This server takes no new accounts.
    RegistrationClosed = 44, "REGISTRATION_CLOSED", false;
    /// A signed identity object does not verify.
    IdentityInvalid = 45, "IDENTITY_INVALID", false;
    /// The device or its key already belongs to an account.
    DuplicateKey = 46, "DUPLICATE_KEY", false;
    /// The account would have too many devices.
    DeviceLimit = 47, "DEVICE_LIMIT", false;
    /// A device is known with another key.
    IdentityMismatch = 48, "IDENTITY_MISMATCH", false;
    /// A device list is not the one that follows the newest: read that and make another.
    DeviceListStale = 49, "DEVICE_LIST_STALE", true;
    /// A link's code is unknown, used or expired.
    LinkCodeInvalid = 50, "LINK_CODE_INVALID", false;
    /// Registration needs a proof of work; the detail says which.
    ProofOfWorkRequired = 51, "PROOF_OF_WORK_REQUIRED", true;

    /// A KeyPackage does not verify.
    KeyPackageInvalid = 60, "KEY_PACKAGE_INVALID", false;
    /// A KeyPackage was uploaded or claimed before.
    KeyPackageReused = 61, "KEY_PACKAGE_REUSED", false;
    /// A KeyPackage does not belong to the calling device.
    CredentialMismatch = 62, "CREDENTIAL_MISMATCH", false;
    /// A cipher suite outside the allowlist in the detail.
    UnsupportedCiphersuite = 63, "UNSUPPORTED_CIPHERSUITE", false;
    /// The account has no KeyPackage to give.
    NoKeyPackage = 64, "NO_KEY_PACKAGE", true;

    /// No such channel, or the caller was never in it.
    ChannelNotFound = 80, "CHANNEL_NOT_FOUND", false;
    /// The caller was removed; the detail says where.
    NotMember = 81, "NOT_MEMBER", false;
    /// The pair has a live direct channel; the detail names it.
    ChannelExists = 82, "CHANNEL_EXISTS", false;
    /// Another Commit came first; the detail has its number.
    StaleCommit = 83, "STALE_COMMIT", true;
    /// The same message id came before with other bytes.
    MessageIdConflict = 84, "MESSAGE_ID_CONFLICT", false;
    /// The payload is not the MLS message its kind needs.
    InvalidMlsType = 85, "INVALID_MLS_TYPE", false;
    /// The entry's authenticated data contradicts the request.
    AadMismatch = 86, "AAD_MISMATCH", false;
    /// The declared change of the roster is not allowed.
    RosterRefused = 87, "ROSTER_REFUSED", false;
    /// Entries asked for have expired; the detail says where the log begins now.
    GapExpired = 88, "GAP_EXPIRED", false;
    /// The channel would have too many devices.
    GroupTooLarge = 89, "GROUP_TOO_LARGE", false;
    /// A signed statement does not verify, or is not allowed.
    StatementInvalid = 90, "STATEMENT_INVALID", false;
    /// The channel is closed.
    ChannelClosed = 91, "CHANNEL_CLOSED", false;
    /// A newer wait of the same device for the same channel took this one's place.
    Superseded = 92, "SUPERSEDED", false;

    /// Too many requests; wait as told.
    RateLimited = 100, "RATE_LIMITED", true;
    /// A share of a quota is used up.
    Quota = 101, "QUOTA", true;
    /// The server is short of room or hands.
    Overloaded = 102, "OVERLOADED", true;
    /// The server's disk is full.
    StoreFull = 103, "STORE_FULL", true;
    /// The server is stopping.
    ShuttingDown = 104, "SHUTTING_DOWN", true;
    /// A bug in the server; the correlation id finds it in the log.
    Internal = 105, "INTERNAL", true;
}

/// Typed detail of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorDetail {
    /// The frame versions spoken, both ends included.
    Versions(u8, u8),
    /// Sequence number of the last Commit in the log.
    LastCommit(u64),
    /// Where the log begins now.
    Expired(ExpiredRange),
    /// The live direct channel of the pair.
    Channel(ChannelId),
    /// Accepted MLS cipher suites.
    Ciphersuites(Vec<u16>),
    /// Devices without a KeyPackage.
    Devices(Vec<DeviceId>),
    /// Sequence number of the caller's removal.
    Removal(u64),
    /// What a registration must prove now.
    ProofOfWork(ProofOfWork),
}

/// The front of a log that is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiredRange {
    /// The first sequence number still in the log.
    pub first_available: u64,
    /// The hash chain's head after the last expired entry: a reader continues the chain from it.
    pub boundary_head: Digest,
}

/// A refusal as it travels: a code and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ErrorBody {
    /// The stable code.
    pub code: ErrorCode,
    /// What to do; no secret, key or address.
    pub message: String,
    /// Milliseconds to wait before a retry.
    pub retry_after_ms: Option<u64>,
    /// Names the event in the server's log.
    pub correlation_id: [u8; 16],
    /// Typed detail, where the code has one.
    pub detail: Option<ErrorDetail>,
}

impl ErrorBody {
    /// A refusal without detail; the server adds the correlation id where one is kept.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, retry_after_ms: None, correlation_id: [0; 16], detail: None }
    }

    /// The same with typed detail.
    pub fn with_detail(mut self, detail: ErrorDetail) -> Self {
        self.detail = Some(detail);
        self
    }

    /// Encodes the body; the code goes into the frame header.
    pub fn encode(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.to_wire())
    }

    /// Decodes the body of an error frame. A code this version does not know becomes
    /// [`ErrorCode::Internal`] with the server's message kept.
    ///
    /// # Errors
    /// [`Malformed`] when it is not a protobuf `Error`.
    pub fn decode(code: u16, body: &[u8]) -> Result<Self, Malformed> {
        let wire = <wire::Error as prost::Message>::decode(body).map_err(|_| Malformed("Error"))?;
        Self::from_wire(code, wire)
    }

    pub(crate) fn to_wire(&self) -> wire::Error {
        wire::Error {
            message: self.message.clone(),
            retryable: self.code.retryable(),
            retry_after_ms: self.retry_after_ms,
            correlation_id: Bytes::copy_from_slice(&self.correlation_id),
            detail: self.detail.as_ref().map(detail_to_wire),
        }
    }

    pub(crate) fn from_wire(code: u16, wire: wire::Error) -> Result<Self, Malformed> {
        Ok(Self {
            code: ErrorCode::from_u16(code).unwrap_or(ErrorCode::Internal),
            message: wire.message,
            retry_after_ms: wire.retry_after_ms,
            correlation_id: wire.correlation_id.as_ref().try_into().unwrap_or_default(),
            detail: wire.detail.and_then(|d| d.kind).map(detail_from_wire).transpose()?,
        })
    }
}

impl From<Malformed> for ErrorBody {
    fn from(malformed: Malformed) -> Self {
        let code = match malformed.0 {
            UNSUPPORTED_VALUE => ErrorCode::UnsupportedValue,
            _ => ErrorCode::InvalidArgument,
        };
        Self::new(code, malformed.0)
    }
}

/// The text of a [`Malformed`] that stands for a required choice with an unknown value.
pub(crate) const UNSUPPORTED_VALUE: &str = "a required choice has an unknown value";

fn detail_to_wire(detail: &ErrorDetail) -> wire::ErrorDetail {
    use wire::error_detail::Kind;
    let kind = match detail {
        ErrorDetail::Versions(min, max) => {
            Kind::Versions(wire::VersionRange { min: (*min).into(), max: (*max).into() })
        }
        ErrorDetail::LastCommit(seq) => Kind::LastCommitSeq(*seq),
        ErrorDetail::Expired(range) => Kind::ExpiredRange(wire::ExpiredRange {
            first_available_seq: range.first_available,
            boundary_head: Bytes::copy_from_slice(&range.boundary_head.0),
        }),
        ErrorDetail::Channel(id) => Kind::ChannelId(Bytes::copy_from_slice(&id.0)),
        ErrorDetail::Ciphersuites(suites) => Kind::Ciphersuites(wire::Ciphersuites {
            suites: suites.iter().map(|suite| u32::from(*suite)).collect(),
        }),
        ErrorDetail::Devices(ids) => Kind::Devices(wire::Devices {
            device_ids: ids.iter().map(|id| Bytes::copy_from_slice(&id.0)).collect(),
        }),
        ErrorDetail::Removal(seq) => Kind::RemovalSeq(*seq),
        ErrorDetail::ProofOfWork(work) => Kind::ProofOfWork(work.to_wire()),
    };
    wire::ErrorDetail { kind: Some(kind) }
}

fn detail_from_wire(kind: wire::error_detail::Kind) -> Result<ErrorDetail, Malformed> {
    use wire::error_detail::Kind;
    let version = |v: u32| u8::try_from(v).map_err(|_| Malformed("VersionRange"));
    Ok(match kind {
        Kind::Versions(range) => ErrorDetail::Versions(version(range.min)?, version(range.max)?),
        Kind::LastCommitSeq(seq) => ErrorDetail::LastCommit(seq),
        Kind::ExpiredRange(range) => ErrorDetail::Expired(ExpiredRange {
            first_available: range.first_available_seq,
            boundary_head: Digest::try_from(range.boundary_head.as_ref())?,
        }),
        Kind::ChannelId(id) => ErrorDetail::Channel(ChannelId::try_from(id.as_ref())?),
        Kind::Ciphersuites(list) => {
            ErrorDetail::Ciphersuites(list.suites.into_iter().flat_map(u16::try_from).collect())
        }
        Kind::Devices(list) => ErrorDetail::Devices(
            list.device_ids
                .iter()
                .map(|id| DeviceId::try_from(id.as_ref()))
                .collect::<Result<_, _>>()?,
        ),
        Kind::RemovalSeq(seq) => ErrorDetail::Removal(seq),
        Kind::ProofOfWork(work) => ErrorDetail::ProofOfWork(ProofOfWork::from_wire(&work)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_round_trips_with_its_detail() {
        let details = [
            None,
            Some(ErrorDetail::Versions(1, 2)),
            Some(ErrorDetail::LastCommit(9)),
            Some(ErrorDetail::Expired(ExpiredRange {
                first_available: 3,
                boundary_head: Digest([6; 32]),
            })),
            Some(ErrorDetail::Channel(ChannelId([1; 16]))),
            Some(ErrorDetail::Ciphersuites(vec![1, 3])),
            Some(ErrorDetail::Devices(vec![DeviceId([2; 16])])),
            Some(ErrorDetail::Removal(4)),
            Some(ErrorDetail::ProofOfWork(ProofOfWork { seed: [5; 32], bits: 20 })),
        ];
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_u16(code.as_u16()), Some(*code));
            for detail in &details {
                let mut body = ErrorBody::new(*code, "do this");
                body.detail.clone_from(detail);
                assert_eq!(ErrorBody::decode(code.as_u16(), &body.encode()), Ok(body));
            }
        }
    }

    #[test]
    fn an_expired_range_without_a_whole_head_is_refused() {
        let head = |bytes| wire::ExpiredRange { first_available_seq: 3, boundary_head: bytes };
        let read = |head| detail_from_wire(wire::error_detail::Kind::ExpiredRange(head));
        assert!(read(head(Bytes::from_static(&[6; 32]))).is_ok());
        assert!(read(head(Bytes::from_static(&[6; 31]))).is_err());
        assert!(read(head(Bytes::new())).is_err());
    }

    #[test]
    fn an_unknown_code_is_internal() {
        let body = ErrorBody::new(ErrorCode::Quota, "m").encode();
        assert_eq!(ErrorBody::decode(60_000, &body).map(|b| b.code), Ok(ErrorCode::Internal));
    }
}
