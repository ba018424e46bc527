//! The end of a channel that goes on as another, made in the same transaction. Never moves a member
//! or an entry: who made the new channel has added whom it knows.

use std::collections::BTreeSet;

use bytes::Bytes;
use qpc_credential::StatementBody;
use qpc_proto::message::{ChannelKind, CreateChannel, DeviceRef, EntryKind};
use qpc_proto::{ChannelId, Malformed, MessageId};

use super::said::{self, invalid};
use super::writing::{Draft, Writing};
use super::{Call, Delivery};
use crate::DeliveryError;
use crate::roster::{Roster, refused};
use crate::store::{channels, commits};

/// A channel that a reset ends.
pub(super) struct Ending<'a> {
    old: Writing<'a>,
    roster: Roster,
    statement: &'a Bytes,
    message_id: MessageId,
    successor: ChannelId,
}

impl<'a> Ending<'a> {
    /// The channel that a new one takes the place of, if it names one and the caller may end that.
    /// Writes nothing.
    ///
    /// # Errors
    /// `STATEMENT_INVALID`, [`DeliveryError::ChannelNotFound`], [`DeliveryError::NotMember`],
    /// [`DeliveryError::ChannelClosed`] where another reset came first, `MESSAGE_ID_CONFLICT`,
    /// `INVALID_ARGUMENT` for another kind of channel, `ROSTER_REFUSED` for who may not.
    pub(super) fn of(
        delivery: &'a Delivery,
        call: &'a Call<'a>,
        create: &'a CreateChannel,
    ) -> Result<Option<Self>, DeliveryError> {
        let Some(statement) = &create.reset else { return Ok(None) };
        let said = said::reset(statement)?;
        if said.body != StatementBody::Reset(create.channel) {
            return Err(invalid("not a reset to the channel that is made"));
        }
        if said.certificate.device() != call.caller {
            return Err(invalid("signed by another device"));
        }
        let old = Writing::open(delivery, call, &said.channel)?;
        old.check_member()?;
        if let Some(successor) = old.channel.successor {
            return Err(DeliveryError::ChannelClosed(successor));
        }
        let message_id = create.bundle.message_id;
        old.replay(&Draft::plain(EntryKind::Statement, message_id, statement))?;
        if old.channel.kind != create.kind {
            return Err(Malformed("a channel goes on as one of its own kind").into());
        }
        let roster = commits::roster(call.tx, old.channel.no, old.channel.last_commit)?;
        let ending = Self { old, roster, statement, message_id, successor: create.channel };
        ending.check_right(&call.caller)?;
        Ok(Some(ending))
    }

    /// An admin may, and either side of a direct channel, where both are; and anybody once no
    /// device of an admin has been able to commit for a day.
    fn check_right(&self, caller: &DeviceRef) -> Result<(), DeliveryError> {
        if !self.roster.has(caller) {
            return Err(refused("this device is not in the roster of the channel that ends"));
        }
        if self.roster.is_admin(&caller.account) || self.old.has_lost_its_admins(&self.roster)? {
            return Ok(());
        }
        Err(refused("only an admin ends a channel while one of theirs can commit"))
    }

    /// Ends the channel, whose place one with this roster takes; returns its id, to wake.
    pub(super) fn close(mut self, successor: &Roster) -> Result<ChannelId, DeliveryError> {
        let (tx, no) = (self.old.call.tx, self.old.channel.no);
        if self.old.channel.kind == ChannelKind::Direct {
            let accounts = |roster: &Roster| roster.accounts().copied().collect::<BTreeSet<_>>();
            if accounts(successor) != accounts(&self.roster) {
                return Err(refused("a direct channel goes on with the same two accounts"));
            }
            channels::free_pair(tx, no)?;
        }
        let draft = Draft::plain(EntryKind::Statement, self.message_id, self.statement);
        self.old.append_new(&draft)?;
        channels::set_successor(tx, no, &self.successor)?;
        self.old.finish()
    }
}
