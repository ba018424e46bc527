//! How a request is refused: the body that travels, and the cause that stays in the log.
//!
//! Gives every refusal its correlation id. Never lets a cause out on the wire.

use std::error::Error;

use qpc_auth::AuthError;
use qpc_delivery::DeliveryError;
use qpc_proto::frame::Frame;
use qpc_proto::{ErrorBody, ErrorCode, Malformed, RequestId};
use qpc_storage::{StorageError, sql};
use rand_core::RngCore;

/// A refusal on its way to the wire.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Boxed, so that results stay small.
    body: Box<ErrorBody>,
    /// What the operator needs to know beside the code.
    cause: Option<Cause>,
}

/// Why the server itself failed.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

impl Refusal {
    /// The stable code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.body.code
    }

    /// Whether the server itself failed.
    pub(crate) fn is_own(&self) -> bool {
        self.cause.is_some()
    }

    /// The code, if it says that the caller has no session any more; an expired token's can still
    /// be refreshed.
    pub(crate) fn ends_session(&self) -> Option<ErrorCode> {
        let code = self.body.code;
        let ends = matches!(
            code,
            ErrorCode::Unauthenticated | ErrorCode::DeviceRevoked | ErrorCode::AccountSuspended
        );
        ends.then_some(code)
    }

    /// A bug of the server; the cause goes to the log alone.
    pub(crate) fn internal(cause: impl Into<Cause>) -> Self {
        let text = "the server failed; retry, and name the correlation id to its operator";
        let body = Box::new(ErrorBody::new(ErrorCode::Internal, text));
        Self { body, cause: Some(cause.into()) }
    }

    /// No room on the disk: the same request may succeed later.
    fn full(cause: Cause) -> Self {
        let text = "the server's disk is full; retry later";
        let body = Box::new(ErrorBody::new(ErrorCode::StoreFull, text));
        Self { body, cause: Some(cause) }
    }

    /// What every request of a group commit hears when the commit failed.
    pub(crate) fn storage(error: &StorageError) -> Self {
        if error.is_full() {
            Self::full(error.to_string().into())
        } else {
            Self::internal(error.to_string())
        }
    }

    /// The body under a fresh correlation id, logged, and its cause.
    pub(crate) fn log(mut self, rng: &mut impl RngCore) -> (ErrorBody, Option<Cause>) {
        rng.fill_bytes(&mut self.body.correlation_id);
        let correlation = RequestId(self.body.correlation_id);
        let code = self.body.code.as_str();
        match &self.cause {
            Some(cause) => {
                let deeper = cause.source().map(ToString::to_string).unwrap_or_default();
                tracing::error!(code, %correlation, %cause, deeper, "request failed");
            }
            None => tracing::debug!(code, %correlation, "request refused"),
        }
        (*self.body, self.cause)
    }

    /// The body alone.
    pub(crate) fn into_body(self, rng: &mut impl RngCore) -> ErrorBody {
        self.log(rng).0
    }

    /// The error frame alone.
    pub(crate) fn into_frame(self, rng: &mut impl RngCore) -> Frame {
        Frame::refusal(&self.into_body(rng))
    }
}

impl From<ErrorBody> for Refusal {
    fn from(body: ErrorBody) -> Self {
        Self { body: Box::new(body), cause: None }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        ErrorBody::from(malformed).into()
    }
}

impl From<sql::Error> for Refusal {
    fn from(error: sql::Error) -> Self {
        let error = StorageError::from_sql(error);
        if error.is_full() { Self::full(error.into()) } else { Self::internal(error) }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        Self::service(error.to_body(), error)
    }
}

impl From<DeliveryError> for Refusal {
    fn from(error: DeliveryError) -> Self {
        Self::service(error.to_body(), error)
    }
}

impl Refusal {
    /// A service's refusal; it is a cause only where the fault is the server's own.
    fn service(body: ErrorBody, error: impl Into<Cause>) -> Self {
        let own = matches!(body.code, ErrorCode::Internal | ErrorCode::StoreFull);
        Self { body: Box::new(body), cause: own.then(|| error.into()) }
    }
}
