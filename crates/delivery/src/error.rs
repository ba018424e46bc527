//! Why the Delivery Service refuses. No text holds an id, a key or a payload.

use qpc_credential::CredentialError;
use qpc_proto::{
    ChannelId, DeviceId, Digest, ErrorBody, ErrorCode, ErrorDetail, ExpiredRange, Malformed,
};
use qpc_storage::sql;

/// A refusal or failure, sorted by who must act.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    // The peer asked for what it cannot have.
    /// A field contradicts the contract.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A signed or MLS object that is not what is needed here.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A rule was broken that has no typed detail: its code and what to do.
    #[error("{1}")]
    Refused(ErrorCode, &'static str),
    /// No such channel, or the caller was never in it: all the same.
    #[error("no such channel")]
    ChannelNotFound,
    /// The caller was removed by the Commit at this sequence number.
    #[error("this device was removed from the channel")]
    NotMember(u64),
    /// A reset ended the channel; its successor.
    #[error("this channel has ended: read it to its end, and go on in its successor")]
    ChannelClosed(ChannelId),
    /// The pair's live direct channel.
    #[error("the pair has a direct channel; use it")]
    ChannelExists(ChannelId),

    // The peer reads on, then tries again.
    /// Another Commit came first: the last one in the log.
    #[error("another Commit came first; read the log and seal anew")]
    StaleCommit(u64),
    /// The first sequence number still in the log, and the chain's head before it.
    #[error("earlier entries have expired")]
    GapExpired(u64, Digest),
    /// Milliseconds until the device may commit.
    #[error("too many Commits here at once; wait as told, then send the same again")]
    Paced(u64),
    /// Milliseconds until the device may ask to come back again.
    #[error("this device asked to come back less than an hour ago; wait as told, then send again")]
    RejoinedLately(u64),
    /// Devices without a KeyPackage, which are all of the account's.
    #[error("the account has no KeyPackage now; try again later")]
    NoKeyPackage(Vec<DeviceId>),

    // The operator looks after the storage.
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] sql::Error),
}

impl DeliveryError {
    /// The stable code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed(malformed) => ErrorBody::from(*malformed).code,
            Self::Credential(error) => error.code(),
            Self::Refused(code, _) => *code,
            Self::ChannelNotFound => ErrorCode::ChannelNotFound,
            Self::NotMember(_) => ErrorCode::NotMember,
            Self::ChannelClosed(_) => ErrorCode::ChannelClosed,
            Self::ChannelExists(_) => ErrorCode::ChannelExists,
            Self::StaleCommit(_) => ErrorCode::StaleCommit,
            Self::GapExpired(..) => ErrorCode::GapExpired,
            Self::Paced(_) | Self::RejoinedLately(_) => ErrorCode::RateLimited,
            Self::NoKeyPackage(_) => ErrorCode::NoKeyPackage,
            Self::Store(error) => match error.sqlite_error_code() {
                Some(sql::ErrorCode::DiskFull) => ErrorCode::StoreFull,
                Some(_) | None => ErrorCode::Internal,
            },
        }
    }

    /// The refusal as it travels; the correlation id is the server's to add.
    pub fn to_body(&self) -> ErrorBody {
        let body = || ErrorBody::new(self.code(), self.to_string());
        match self {
            Self::Malformed(malformed) => ErrorBody::from(*malformed),
            Self::Credential(error) => ErrorBody::from(*error),
            Self::NotMember(seq) => body().with_detail(ErrorDetail::Removal(*seq)),
            Self::ChannelExists(id) | Self::ChannelClosed(id) => {
                body().with_detail(ErrorDetail::Channel(*id))
            }
            Self::StaleCommit(seq) => body().with_detail(ErrorDetail::LastCommit(*seq)),
            Self::GapExpired(first_available, boundary_head) => {
                let (first_available, boundary_head) = (*first_available, *boundary_head);
                let range = ExpiredRange { first_available, boundary_head };
                body().with_detail(ErrorDetail::Expired(range))
            }
            Self::Paced(wait_ms) | Self::RejoinedLately(wait_ms) => {
                ErrorBody { retry_after_ms: Some(*wait_ms), ..body() }
            }
            Self::NoKeyPackage(devices) => {
                body().with_detail(ErrorDetail::Devices(devices.clone()))
            }
            Self::Refused(..) | Self::ChannelNotFound | Self::Store(_) => body(),
        }
    }
}
