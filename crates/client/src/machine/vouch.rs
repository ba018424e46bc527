//! Who took this device back into a channel that it knows: an account of the roster as this device
//! last knew it, or a stranger, in whose group nothing is sealed until one of those builds on it.
//!
//! Whoever came in meanwhile is a stranger, too, and may well be honest: no invitation is refused.

use std::collections::BTreeSet;

use qpc_mls::engine::Joined;
use qpc_proto::{AccountId, ChannelId};

use super::store::{ChannelRow, Status};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view::Event;

impl Machine {
    /// The accounts of a channel as this device knows it; `None` where it knows none, or is none of
    /// them any more: who invites it there is as good as anybody who invites it anywhere.
    pub(super) fn known_accounts(
        &self,
        step: &Step<'_>,
        old: Option<&ChannelRow>,
    ) -> Result<Option<BTreeSet<AccountId>>, ClientError> {
        let Some(old) = old.filter(|old| !matches!(old.status, Status::Left | Status::Failed))
        else {
            return Ok(None);
        };
        let Some(view) = self.old_view(step, old)? else { return Ok(None) };
        let mut accounts: BTreeSet<_> =
            view.members.iter().map(|leaf| leaf.certificate.device().account).collect();
        // A copy from before the founding Commit was read knows with whom it was to be.
        accounts.extend(old.peer);
        if old.last_commit == 0 {
            accounts.extend(self.founded_with(step, old)?);
        }
        Ok(Some(accounts))
    }

    /// This device was taken back. A lying server can bring anybody's Welcome here, and the
    /// KeyPackage lies open in the log; but only who is in the group that it makes has signed it.
    pub(super) fn taken_back_by(
        &self,
        step: &mut Step<'_>,
        (channel, joined): (&ChannelId, &Joined),
        known: Option<BTreeSet<AccountId>>,
    ) -> Result<(), ClientError> {
        step.db.drop_vouchers(channel)?;
        let inviter = joined.inviter.device();
        let strange = known
            .filter(|known| !known.contains(&inviter.account) && !self.is_sibling(&joined.inviter));
        let (Some(known), Some(mut row)) = (strange, step.db.channel(channel)?) else {
            return Ok(());
        };
        let own = self.profile.identity.device.account;
        for account in known.iter().filter(|account| **account != own) {
            step.db.put_voucher(channel, account)?;
        }
        // Even with nobody left to vouch the user's own word is wanted.
        step.db.put_voucher(channel, &own)?;
        (row.status, row.inviter) = (Status::Unconfirmed, Some(inviter.account));
        step.db.put_channel(&row)?;
        let name = self.name_of(step, &inviter.account)?;
        let text = format!(
            "WARNING: {name} was not in this channel as this device knew it: {}",
            waits_for(&name)
        );
        self.notice(step, &row, (inviter, row.cursor, text))?;
        let view = self.channel_view(step, &row)?;
        step.events.push(Event::Channel(view));
        Ok(())
    }

    /// A join is confirmed when someone besides the inviter builds on it; one by a stranger, when
    /// someone does who was in before.
    pub(super) fn confirm_join(
        &self,
        step: &Step<'_>,
        row: &mut ChannelRow,
        sender: &AccountId,
    ) -> Result<(), ClientError> {
        let own = self.profile.identity.device.account;
        let another = row.inviter.is_some_and(|inviter| inviter != *sender) && *sender != own;
        if !another {
            return Ok(());
        }
        let vouchers = step.db.vouchers(&row.channel)?;
        if !vouchers.is_empty() && !vouchers.contains(sender) {
            return Ok(());
        }
        step.db.drop_vouchers(&row.channel)?;
        row.inviter = None;
        if row.status == Status::Unconfirmed {
            row.status = Status::Active;
        }
        Ok(())
    }

    /// Who took this device in, while nobody it knows vouches for that and the user has not
    /// compared the safety number with them.
    pub(super) fn unvouched(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<AccountId>, ClientError> {
        let Some(inviter) = row.inviter else { return Ok(None) };
        if step.db.vouchers(&row.channel)?.is_empty() {
            return Ok(None);
        }
        let contact = step.db.contact(&inviter)?;
        Ok(contact.is_none_or(|contact| !contact.verified).then_some(inviter))
    }

    /// Why what is written here waits: a stranger took this device in.
    pub(super) fn withheld_from_stranger(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<String>, ClientError> {
        let Some(inviter) = self.unvouched(step, row)? else { return Ok(None) };
        let name = self.name_of(step, &inviter)?;
        Ok(Some(format!("{name} took this device in, who was not in before: {}", waits_for(&name))))
    }
}

fn waits_for(name: &str) -> String {
    format!(
        "what you write waits until somebody who was in says something, or until you have compared \
         the safety number (`qpc verify {name} --yes`)"
    )
}
