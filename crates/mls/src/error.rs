//! What can go wrong in the group engine, sorted by who must act. Never carries content or keys.

use crate::provider::ProviderError;

/// An operation that could not be done. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum MlsError {
    /// Somebody's bytes are not what they must be; leave them out and go on.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// A Welcome for a KeyPackage whose private part is not in this database.
    #[error("refused: its KeyPackage is not of this home")]
    UnknownKeyPackage,
    /// A Commit of this device is already waiting in this group.
    #[error("a Commit of this device is already pending in this group")]
    CommitPending,
    /// This device is no longer a member of the group.
    #[error("this device is not a member of the group")]
    NotMember,
    /// No such group in this database.
    #[error("the group is not in this database")]
    UnknownGroup,
    /// The credential of this device or of another does not verify.
    #[error(transparent)]
    Credential(#[from] qpc_credential::CredentialError),
    /// The database refused.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// OpenMLS refused for a reason that should not occur.
    #[error("the MLS library refused: {0}")]
    Library(&'static str),
}

impl From<qpc_storage::sql::Error> for MlsError {
    fn from(error: qpc_storage::sql::Error) -> Self {
        Self::Provider(ProviderError::Sql(error))
    }
}

impl From<qpc_proto::Malformed> for MlsError {
    fn from(malformed: qpc_proto::Malformed) -> Self {
        Self::Refused(malformed.0)
    }
}
