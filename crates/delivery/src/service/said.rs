//! What a device may say in a log: that its account leaves, that it wants its place back, what it
//! made of a Commit. Judges it and notes it; never acts on it. An error leaves nothing: the caller
//! rolls back.

use bytes::Bytes;
use qpc_credential::{
    AdmittedKeyPackage, CredentialError, Posted, Rejoin, Said, Statement, StatementBody,
    admit_key_package,
};
use qpc_proto::ErrorCode;
use qpc_proto::message::{Accepted, ChannelKind};

use super::standing::REJOIN_STANDS_MS;
use super::writing::Writing;
use crate::DeliveryError;
use crate::store::standing as rows;
use crate::store::{channels, commits, key_packages};

/// How long after a device's rejoin its next is refused, whatever the join.
const REJOIN_EVERY_MS: u64 = 3_600 * 1_000;

/// What is to be noted of a statement once it has its place.
pub(super) enum Note {
    Leave,
    Rejoin(u64, Box<AdmittedKeyPackage>),
    Nothing,
}

impl Writing<'_> {
    /// A device speaks for itself; a list is of use while a device is here that it doesn't hold.
    ///
    /// # Errors
    /// `STATEMENT_INVALID`, and what [`admit_key_package`] says of a rejoin's KeyPackage.
    pub(super) fn check_statement(&self, posted: &Posted) -> Result<Note, DeliveryError> {
        let said = match posted {
            Posted::Said(said) => said,
            Posted::Devices(identity) => {
                let (tx, channel) = (self.call.tx, &self.channel);
                let roster = commits::roster(tx, channel.no, channel.last_commit)?;
                let account = identity.account();
                let mut here = roster.devices().filter(|(d, _)| d.account == account);
                let of_use = here.any(|(d, _)| identity.list.get(&d.device).is_none());
                let why = "the list takes no device of this channel off";
                return if of_use { Ok(Note::Nothing) } else { Err(invalid(why)) };
            }
        };
        if said.certificate.device() != self.call.caller {
            return Err(invalid("signed by another device"));
        }
        match &said.body {
            StatementBody::Leave if self.channel.kind == ChannelKind::Direct => {
                Err(invalid("a direct channel has the same two accounts for ever"))
            }
            StatementBody::Leave => Ok(Note::Leave),
            StatementBody::Rejoin(rejoin) => self.check_rejoin(said, rejoin),
            StatementBody::Verdict(said) => self.check_verdict(said),
            StatementBody::Reset(_) => Err(invalid("a reset comes with CreateChannel")),
        }
    }

    /// Its numbers are those that the server knows, nothing of the device stands yet, and its
    /// KeyPackage is one that nobody has seen.
    fn check_rejoin(&self, said: &Statement, rejoin: &Rejoin) -> Result<Note, DeliveryError> {
        if rejoin.incarnation != self.delivery.incarnation {
            return Err(invalid("of another life of the server: log in, then sign anew"));
        }
        if rejoin.join_seq != self.member.join_seq {
            let why = "not the device's latest join: read the inbox, join or sign anew";
            return Err(invalid(why));
        }
        self.check_earlier(said, rejoin)?;
        let admitted = admit_key_package(&rejoin.key_package, self.call.now_ms)?;
        if admitted.device != self.call.caller {
            return Err(CredentialError::CredentialMismatch.into());
        }
        // Only a last resort is admitted for as long as a rejoin stands, and only its private part
        // outlives a Welcome that leads nowhere.
        if !admitted.last_resort {
            return Err(CredentialError::KeyPackage("a rejoin's must be a last resort").into());
        }
        Ok(Note::Rejoin(rejoin.join_seq, Box::new(admitted)))
    }

    /// None of this device stands for that join, or one with a certificate that ends sooner; and
    /// its last one, for whatever join, is a while ago: each makes work for all members.
    fn check_earlier(&self, said: &Statement, rejoin: &Rejoin) -> Result<(), DeliveryError> {
        let Some(earlier) = rows::rejoin_of(self.call.tx, (self.channel.no, &self.call.caller))?
        else {
            return Ok(());
        };
        let ends_ms = earlier.accepted_at_ms.saturating_add(REJOIN_STANDS_MS);
        let stands = earlier.join_seq == rejoin.join_seq && self.call.now_ms < ends_ms;
        if stands && !self.is_renewed(said, &earlier)? {
            return Err(invalid("one of this device stands already: wait for the Commit"));
        }
        let next_ms = earlier.accepted_at_ms.saturating_add(REJOIN_EVERY_MS);
        match next_ms.saturating_sub(self.call.now_ms) {
            0 => Ok(()),
            wait_ms => Err(DeliveryError::RejoinedLately(wait_ms)),
        }
    }

    /// Whether a statement's certificate ends later than that of an earlier rejoin: once that has
    /// ended, nobody can add its KeyPackage.
    fn is_renewed(&self, said: &Statement, earlier: &rows::Rejoin) -> Result<bool, DeliveryError> {
        let Some(payload) = rows::payload(self.call.tx, self.channel.no, earlier.seq)? else {
            return Ok(false);
        };
        let Ok(Posted::Said(earlier)) = Posted::verify(&payload, &self.channel.id) else {
            return Ok(false);
        };
        let end = |statement: &Statement| statement.certificate.entry.not_after_ms;
        Ok(end(said) > end(&earlier))
    }

    /// The first verdict of a device on a Commit whose entry is still there.
    fn check_verdict(&self, said: &Said) -> Result<Note, DeliveryError> {
        let (tx, channel, seq) = (self.call.tx, &self.channel, said.commit_seq);
        if seq < channel.first_seq || commits::find(tx, channel.no, seq)?.is_none() {
            return Err(invalid("a verdict on no Commit of this log, or one that has expired"));
        }
        if !rows::put_verdict(tx, (channel.no, &self.call.caller.device), seq)? {
            return Err(invalid("this device has given its verdict on that Commit"));
        }
        Ok(Note::Nothing)
    }

    /// Notes what was said, which has its place now.
    ///
    /// # Errors
    /// `KEY_PACKAGE_REUSED`, [`DeliveryError::Store`].
    pub(super) fn note(&self, note: Note, accepted: &Accepted) -> Result<(), DeliveryError> {
        let (tx, no, caller) = (self.call.tx, self.channel.no, self.call.caller);
        match note {
            Note::Nothing => {}
            Note::Leave => channels::put_leave(tx, no, &caller.account, accepted.seq)?,
            Note::Rejoin(join_seq, admitted) => {
                if !key_packages::insert_only_in(tx, &admitted, (no, self.call.now_ms))? {
                    let why = "this KeyPackage was used before; make another, and sign anew";
                    return Err(DeliveryError::Refused(ErrorCode::KeyPackageReused, why));
                }
                let rejoin = rows::Rejoin {
                    device: caller,
                    join_seq,
                    reference: admitted.reference,
                    accepted_at_ms: accepted.accepted_at_ms,
                    seq: accepted.seq,
                };
                rows::put_rejoin(tx, no, &rejoin)?;
            }
        }
        Ok(())
    }
}

/// The reset that a new channel brings, and who signed it.
pub(super) fn reset(statement: &Bytes) -> Result<Statement, DeliveryError> {
    match Posted::verify_signed(statement)? {
        Posted::Said(said) => Ok(said),
        Posted::Devices(_) => Err(invalid("not a reset")),
    }
}

/// `STATEMENT_INVALID` with what to do.
pub(super) fn invalid(why: &'static str) -> DeliveryError {
    CredentialError::Statement(why).into()
}
