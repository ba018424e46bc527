//! How a Commit is judged: applied, void for everybody alike, or unjudged by this device alone.
//!
//! Only classifies; the group engine acts on it.

use openmls::framing::errors::{MessageDecryptionError, SecretTreeError};
use openmls::group::{ProcessMessageError, StageCommitError};
use openmls::key_packages::errors::KeyPackageVerifyError;
use openmls::prelude::ValidationError;
use openmls::treesync::errors::{ApplyUpdatePathError, LeafNodeValidationError, LifetimeError};
use qpc_credential::lifetime::RETENTION_MAX;
use qpc_proto::message::DeviceRef;
use qpc_proto::roster::RosterChange;

use crate::context::ChannelContext;

/// What this device makes of a Commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one a Commit, and most are applied")]
pub enum Verdict {
    /// It is in force.
    Applied(Applied),
    /// Every undamaged member of the epoch skips it alike.
    Void(VoidReason),
    /// This device cannot tell; others may have applied it.
    Unjudged(Unjudged),
}

/// A Commit in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Whose it is.
    pub committer: DeviceRef,
    /// What it changed.
    pub change: RosterChange,
    /// The context before it.
    pub context_before: ChannelContext,
    /// The context after it.
    pub context: ChannelContext,
    /// This device was removed by it.
    pub self_removed: bool,
}

/// Why all members skip a Commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoidReason {
    /// Its bytes do not parse.
    Parse,
    /// It is for another epoch than its base says.
    Epoch,
    /// It is no Commit, or carries proposals that the profile does not allow.
    Kind,
    /// Its committer's role does not allow the change.
    Role,
    /// Its declared change is not what its proposals do.
    Roster,
    /// A certificate in it does not verify or has ended.
    Certificate,
    /// A signature does not verify.
    Signature,
    /// It does not decrypt under the epoch's keys.
    Aead,
    /// Its confirmation tag does not verify.
    ConfirmationTag,
}

impl VoidReason {
    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Epoch => "epoch",
            Self::Kind => "kind",
            Self::Role => "role",
            Self::Roster => "roster",
            Self::Certificate => "certificate",
            Self::Signature => "signature",
            Self::Aead => "aead",
            Self::ConfirmationTag => "confirmation_tag",
        }
    }
}

/// Why this device cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unjudged {
    /// The update path holds nothing that this device can open: the reader goes on from its own
    /// base.
    Path,
    /// The library refused by this machine's clock: the reader stops.
    Clock,
    /// This device's storage or keys: the reader stops.
    Local,
}

/// A verdict that is not `Applied`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declined {
    Void(VoidReason),
    Unjudged(Unjudged),
}

impl From<Declined> for Verdict {
    fn from(declined: Declined) -> Self {
        match declined {
            Declined::Void(reason) => Self::Void(reason),
            Declined::Unjudged(why) => Self::Unjudged(why),
        }
    }
}

/// Classifies OpenMLS's refusal of a Commit. What is not known to be computed alike by every member
/// is never called void.
pub(crate) fn classify<E>(error: &ProcessMessageError<E>, accepted_at_ms: u64) -> Declined {
    match error {
        ProcessMessageError::ValidationError(error) => validation(error, accepted_at_ms),
        ProcessMessageError::InvalidCommit(error) => staging(error, accepted_at_ms),
        ProcessMessageError::IncompatibleWireFormat
        | ProcessMessageError::UnauthorizedExternalApplicationMessage
        | ProcessMessageError::UnauthorizedExternalCommitMessage
        | ProcessMessageError::UnsupportedProposalType => Declined::Void(VoidReason::Kind),
        ProcessMessageError::LibraryError(_)
        | ProcessMessageError::StorageError(_)
        | ProcessMessageError::GroupStateError(_) => Declined::Unjudged(Unjudged::Local),
    }
}

fn validation(error: &ValidationError, accepted_at_ms: u64) -> Declined {
    use ValidationError as V;
    Declined::Void(match error {
        V::WrongGroupId | V::WrongEpoch => VoidReason::Epoch,
        V::InvalidSignature
        | V::InvalidLeafNodeSignature
        | V::InvalidMembershipTag
        | V::MissingMembershipTag => VoidReason::Signature,
        V::MissingConfirmationTag => VoidReason::ConfirmationTag,
        V::UnableToDecrypt(error) => return decryption(error),
        V::NotACommit
        | V::NotAnExternalAddProposal
        | V::NoPath
        | V::UnencryptedApplicationMessage
        | V::WrongWireFormat
        | V::NonMemberApplicationMessage
        | V::UnauthorizedExternalSender
        | V::NoExternalSendersExtension
        | V::InvalidLeafNodeSourceType
        | V::InvalidSenderType
        | V::CommitterIncludedOwnUpdate
        | V::InvalidAddProposalCiphersuite
        | V::InvalidExtension(_) => VoidReason::Kind,
        V::UnknownMember => VoidReason::Roster,
        V::KeyPackageVerifyError(KeyPackageVerifyError::LifetimeError(error)) => {
            return clock(error, accepted_at_ms);
        }
        V::KeyPackageVerifyError(KeyPackageVerifyError::LibraryError(_)) => {
            return Declined::Unjudged(Unjudged::Local);
        }
        V::KeyPackageVerifyError(_) | V::UpdatePathError(_) => VoidReason::Certificate,
        V::ExternalCommitValidation(_) => VoidReason::Kind,
        V::LibraryError(_) | V::NoPastEpochData => return Declined::Unjudged(Unjudged::Local),
    })
}

/// A ratchet of handshakes stands at its start in every member until a Commit is in force, for all
/// else is rolled back: a place outside it is outside for all. Secrets gone are this device's
/// matter.
fn decryption(error: &MessageDecryptionError) -> Declined {
    match error {
        MessageDecryptionError::AeadError
        | MessageDecryptionError::GenerationOutOfBound
        | MessageDecryptionError::SecretTreeError(
            SecretTreeError::TooDistantInTheFuture
            | SecretTreeError::IndexOutOfBounds
            | SecretTreeError::RatchetTooLong,
        ) => Declined::Void(VoidReason::Aead),
        MessageDecryptionError::MalformedContent | MessageDecryptionError::WrongWireFormat => {
            Declined::Void(VoidReason::Parse)
        }
        MessageDecryptionError::LibraryError(_) | MessageDecryptionError::SecretTreeError(_) => {
            Declined::Unjudged(Unjudged::Local)
        }
    }
}

fn staging(error: &StageCommitError, accepted_at_ms: u64) -> Declined {
    use StageCommitError as S;
    Declined::Void(match error {
        S::EpochMismatch => VoidReason::Epoch,
        S::WrongPlaintextContentType
        | S::RequiredPathNotFound
        | S::MissingProposal
        | S::InconsistentSenderIndex
        | S::SenderTypeExternal
        | S::SenderTypeNewMemberProposal
        | S::ExternalCommitValidation(_)
        | S::GroupContextExtensionsProposalValidationError(_)
        | S::DuplicatePskId(_)
        | S::PskError(_) => VoidReason::Kind,
        S::TooManyNewMembers | S::AttemptedSelfRemoval => VoidReason::Roster,
        S::PathLeafNodeVerificationFailure => VoidReason::Signature,
        S::ConfirmationTagMissing | S::ConfirmationTagMismatch => VoidReason::ConfirmationTag,
        S::ProposalValidationError(error) => return proposal(error, accepted_at_ms),
        S::LeafNodeValidation(error) => return leaf(error, accepted_at_ms),
        S::UpdatePathError(error) => return path(error),
        S::VerifiedUpdatePathError(_) => VoidReason::Certificate,
        S::LibraryError(_) | S::OwnCommitMismatch | S::OwnKeyNotFound | S::MissingDecryptionKey => {
            return Declined::Unjudged(Unjudged::Local);
        }
    })
}

fn proposal(error: &openmls::group::ProposalValidationError, accepted_at_ms: u64) -> Declined {
    use openmls::group::ProposalValidationError as P;
    match error {
        P::LeafNodeValidation(error) => leaf(error, accepted_at_ms),
        P::LibraryError(_) => Declined::Unjudged(Unjudged::Local),
        P::UnknownMember
        | P::DuplicateSignatureKey
        | P::DuplicateMemberRemoval
        | P::UnknownMemberRemoval
        | P::UpdateFromNonMember => Declined::Void(VoidReason::Roster),
        P::DuplicateEncryptionKey
        | P::DuplicateInitKey
        | P::InitEncryptionKeyCollision
        | P::CommitterIncludedOwnUpdate
        | P::InsufficientCapabilities
        | P::InvalidAddProposalCiphersuiteOrVersion
        | P::Psk(_)
        | P::UnsupportedProposalType
        | P::ExternalInitProposalInRegularCommit => Declined::Void(VoidReason::Kind),
    }
}

/// The library checks the lifetime of an added leaf by this machine's clock: nobody else's verdict.
/// One that should not have been added is void by the accept time, whatever the clock says.
fn clock(error: &LifetimeError, accepted_at_ms: u64) -> Declined {
    let allowed = match error {
        LifetimeError::Expired { not_after, .. } => lives((0, *not_after), accepted_at_ms),
        LifetimeError::NotValidYet { not_before, .. } => {
            lives((*not_before, u64::MAX), accepted_at_ms)
        }
        LifetimeError::SystemTimeBeforeUnixEpoch => true,
    };
    if allowed {
        Declined::Unjudged(Unjudged::Clock)
    } else {
        Declined::Void(VoidReason::Certificate)
    }
}

fn leaf(error: &LeafNodeValidationError, accepted_at_ms: u64) -> Declined {
    if let LeafNodeValidationError::Lifetime(error) = error {
        clock(error, accepted_at_ms)
    } else {
        Declined::Void(VoidReason::Certificate)
    }
}

/// Whether a leaf may be added at the accept time: its lifetime (Unix seconds) has begun and lasts
/// for as long as a member may take to read the Add.
pub(crate) fn lives((not_before, not_after): (u64, u64), accepted_at_ms: u64) -> bool {
    let accepted = accepted_at_ms / 1_000;
    not_before <= accepted && not_after >= accepted.saturating_add(RETENTION_MAX)
}

fn path(error: &ApplyUpdatePathError) -> Declined {
    match error {
        ApplyUpdatePathError::UnableToDecrypt | ApplyUpdatePathError::MissingCiphertext => {
            Declined::Unjudged(Unjudged::Path)
        }
        ApplyUpdatePathError::PathLengthMismatch
        | ApplyUpdatePathError::ParentHashMismatch
        | ApplyUpdatePathError::MissingParentHash => Declined::Void(VoidReason::Parse),
        // The public keys derived from a path secret differ from the path's: only those below the
        // node see it.
        ApplyUpdatePathError::PathMismatch => Declined::Unjudged(Unjudged::Path),
        ApplyUpdatePathError::InconsistentSenderIndex | ApplyUpdatePathError::TreeFull => {
            Declined::Void(VoidReason::Roster)
        }
        ApplyUpdatePathError::LibraryError(_)
        | ApplyUpdatePathError::MissingSender
        | ApplyUpdatePathError::MissingOwnLeaf => Declined::Unjudged(Unjudged::Local),
    }
}
