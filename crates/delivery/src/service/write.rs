//! Application entries and statements.

use std::collections::BTreeSet;

use qpc_credential::{CredentialError, Posted, Statement as SignedStatement, StatementBody};
use qpc_proto::message::{Accepted, Enqueue, EnqueueAnswer, EntryKind, Statement};
use qpc_proto::{AccountId, MessageId};

use super::writing::{Draft, Writing};
use super::{Call, Delivery, Written};
use crate::DeliveryError;
use crate::roster::Roster;
use crate::store::{channels, commits};

impl Delivery {
    /// Appends the longest good prefix of a batch; a duplicate is good. Why the next entry was
    /// refused is in the answer.
    ///
    /// # Errors
    /// [`DeliveryError::ChannelNotFound`], [`DeliveryError::Store`]; nothing is to be kept then.
    pub fn enqueue(
        &self,
        call: &Call<'_>,
        enqueue: &Enqueue,
    ) -> Result<Written<EnqueueAnswer>, DeliveryError> {
        let mut posts = self.posts(call.tx);
        let written = posts.enqueue(call, enqueue)?;
        posts.finish()?;
        Ok(written)
    }

    /// Appends a signed statement of the calling device, or the device list of an account that has
    /// a device here which the list doesn't hold. It names no Commit: its `after_commit` is 0.
    /// `message_id` is the request's id. What a list says of a device counts only once
    /// [`Self::revoke_devices`] has said it.
    ///
    /// # Errors
    /// [`DeliveryError::ChannelNotFound`], `MESSAGE_ID_CONFLICT`, [`DeliveryError::NotMember`],
    /// `QUOTA`, `STATEMENT_INVALID`, [`DeliveryError::Store`].
    pub fn statement(
        &self,
        call: &Call<'_>,
        statement: &Statement,
        message_id: MessageId,
    ) -> Result<Written<Accepted>, DeliveryError> {
        let mut writing = Writing::open(self, call, &statement.channel)?;
        let draft = Draft::plain(EntryKind::Statement, message_id, &statement.statement);
        if let Some(first) = writing.replay(&draft)? {
            return Ok(Written::silent(first));
        }
        writing.check_rights()?;
        writing.check_room(&draft)?;
        let posted = Posted::verify(&statement.statement, &statement.channel)?;
        writing.check_statement(&posted)?;
        let accepted = writing.append_new(&draft)?;
        match posted {
            Posted::Said(SignedStatement { body: StatementBody::Leave, .. }) => {
                let account = &call.caller.account;
                channels::put_leave(call.tx, writing.channel.no, account, accepted.seq)?;
            }
            Posted::Said(_) | Posted::Devices(_) => {}
        }
        Ok(Written::waking(accepted, vec![writing.finish()?]))
    }
}

impl Writing<'_> {
    /// A device speaks for itself; a list is of use while a device is here that it doesn't hold.
    fn check_statement(&self, posted: &Posted) -> Result<(), DeliveryError> {
        let refusal = match posted {
            Posted::Said(said) => {
                let own = said.certificate.device() == self.call.caller;
                (!own).then_some("signed by another device")
            }
            Posted::Devices(identity) => {
                let roster =
                    commits::roster(self.call.tx, self.channel.no, self.channel.last_commit)?;
                let account = identity.account();
                let mut here = roster.devices().filter(|(d, _)| d.account == account);
                let of_use = here.any(|(d, _)| identity.list.get(&d.device).is_none());
                (!of_use).then_some("the list takes no device of this channel off")
            }
        };
        refusal.map_or(Ok(()), |why| Err(CredentialError::Statement(why).into()))
    }

    /// Accounts that have said they leave since they are in this roster.
    pub(super) fn leavers(&self, roster: &Roster) -> Result<BTreeSet<AccountId>, DeliveryError> {
        let leaves = channels::leaves(self.call.tx, self.channel.no)?;
        let standing = leaves.into_iter().filter(|(account, seq)| roster.leaves(account, *seq));
        Ok(standing.map(|(account, _)| account).collect())
    }
}
