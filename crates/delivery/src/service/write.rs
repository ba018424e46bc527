//! Application entries and statements.

use std::collections::BTreeSet;

use qpc_credential::Posted;
use qpc_proto::message::{Accepted, Enqueue, EnqueueAnswer, EntryKind, Statement};
use qpc_proto::{AccountId, MessageId};

use super::writing::{Draft, Writing};
use super::{Call, Delivery, Written, standing};
use crate::DeliveryError;
use crate::roster::Roster;

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
    /// [`DeliveryError::ChannelClosed`], `QUOTA`, `STATEMENT_INVALID`; for a rejoin's KeyPackage
    /// what [`Self::upload`] says; [`DeliveryError::Store`].
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
        let note = writing.check_statement(&posted)?;
        let accepted = writing.append_new(&draft)?;
        writing.note(note, &accepted)?;
        Ok(Written::waking(accepted, vec![writing.finish()?]))
    }
}

impl Writing<'_> {
    /// Accounts that have said they leave since they are in this roster.
    pub(super) fn leavers(&self, roster: &Roster) -> Result<BTreeSet<AccountId>, DeliveryError> {
        let leaves = standing::leaves(self.call.tx, &self.channel)?;
        let standing = leaves.into_iter().filter(|leave| roster.leaves(&leave.account, leave.seq));
        Ok(standing.map(|leave| leave.account).collect())
    }
}
