//! Device lists in channels, and the Commits that carry them: what a list took off goes out, and an
//! account that would be gone with it comes back with what the list holds.

use std::collections::BTreeSet;

use qpc_credential::{PublicIdentity, admit_key_package, devices_statement};
use qpc_mls::engine::{CommitPlan, MemberLeaf};
use qpc_proto::message::{ChannelKind, DeviceRef, Entry};
use qpc_proto::{AccountId, ChannelId, DeviceId};

use super::claims::{SWAP_CLAIMS_MAX, heirs};
use super::inbox::Progress;
use super::store::{ChannelRow, IntentKind, IntentRow, Status};
use super::{Machine, Step};
use crate::error::ClientError;

impl Machine {
    /// The newest identity known of an account.
    pub(super) fn newest_of(
        &self,
        step: &Step<'_>,
        account: &AccountId,
    ) -> Result<Option<PublicIdentity>, ClientError> {
        if *account == self.profile.identity.device.account {
            return Ok(Some(self.own.clone()));
        }
        let newest = step.db.identity(account)?;
        newest
            .map(|newest| PublicIdentity::verify(&newest))
            .transpose()
            .map_err(|_| ClientError::Internal("a stored device list does not verify"))
    }

    /// A device list in the log: it supersedes what is known; an older one is passed over.
    pub(super) fn devices_entry(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        (entry, identity): (&Entry, PublicIdentity),
    ) -> Result<Progress, ClientError> {
        let own = identity.account() == self.profile.identity.device.account;
        let seen = match own {
            true => self.see_own(step, (identity, true)).map(drop),
            // One that was never met has no leaf here, and is nobody's business.
            false => self.see_list(step, (identity, true)).map(drop),
        };
        match seen {
            Ok(()) => {}
            Err(ClientError::Alarm(text)) => {
                self.alarm(step, Some((row.channel, entry.seq)), text)?;
            }
            Err(error) => return Err(error),
        }
        Ok(Progress::Advance)
    }

    /// Revoked leaves are in a channel and nothing is being done about it yet.
    pub(super) fn want_revoked(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (account, members, gone): (&AccountId, &[MemberLeaf], &[DeviceRef]),
    ) -> Result<(), ClientError> {
        let Some(identity) = self.newest_of(step, account)? else { return Ok(()) };
        let statement = devices_statement(&identity.to_message());
        if step.db.gave_up(&row.channel, &statement)? {
            return Ok(());
        }
        if identity.list.devices.is_empty() && row.kind == ChannelKind::Direct {
            return self.end_direct(step, row, account);
        }
        let at = self.turn_of(step, (account, members, gone));
        let intent = self.intend(step, &row.channel, (IntentKind::Revoke, &[*account], at))?;
        Ok(step.db.rely_on(intent, &statement)?)
    }

    /// The other account of a direct channel is gone for good.
    fn end_direct(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        account: &AccountId,
    ) -> Result<(), ClientError> {
        let text = format!("{} deleted the account", self.name_of(step, account)?);
        row.status = Status::Left;
        row.reason = Some(text.clone());
        step.db.put_channel(row)?;
        self.refuse_outbox(step, row, &text)?;
        let view = self.channel_view(step, row)?;
        step.events.push(crate::view::Event::Channel(view));
        Ok(())
    }

    /// Removes what the newest list of an account took off. If no leaf of it would be left, devices
    /// that the list holds come in by the same Commit: in a direct channel always, in a group if
    /// they can be reached.
    pub(super) fn plan_revoke(
        &self,
        step: &mut Step<'_>,
        intent: &IntentRow,
        row: &ChannelRow,
    ) -> Result<Option<CommitPlan>, ClientError> {
        let accounts = step.db.intent_accounts(intent.id)?;
        let Some(account) = accounts.first().map(|(account, ..)| *account) else { return Ok(None) };
        let Some(identity) = self.newest_of(step, &account)? else { return Ok(None) };
        let members = self.engine.view(step.db.0, &row.group)?.members;
        let (gone, left): (Vec<_>, Vec<_>) = members
            .iter()
            .filter(|leaf| leaf.certificate.device().account == account)
            .partition(|leaf| identity.list.revokes(&leaf.certificate));
        if gone.is_empty() {
            return Ok(None);
        }
        let removes: BTreeSet<_> = gone.iter().map(|leaf| leaf.certificate.device()).collect();
        let mut adds = Vec::new();
        if left.is_empty() {
            adds = self.swapped_in(step, intent, (&identity, &members))?;
            let wanted = heirs(&identity, step.now_ms);
            let waits = row.kind == ChannelKind::Direct || intent.claims < SWAP_CLAIMS_MAX;
            if adds.is_empty() && waits && !wanted.is_empty() {
                self.claim_for(step, (intent.id, &account), &wanted)?;
                return Ok(None);
            }
        }
        let statements = vec![devices_statement(&identity.to_message())];
        Ok(Some(CommitPlan { adds, removes, statements, ..CommitPlan::default() }))
    }

    /// Claimed KeyPackages that may come in.
    fn swapped_in(
        &self,
        step: &Step<'_>,
        intent: &IntentRow,
        (identity, members): (&PublicIdentity, &[MemberLeaf]),
    ) -> Result<Vec<Vec<u8>>, ClientError> {
        let mut adds = step.db.key_packages(intent.id)?;
        adds.retain(|bytes| {
            admit_key_package(bytes, step.now_ms).is_ok_and(|admitted| {
                let is_in = |leaf: &MemberLeaf| leaf.certificate.device() == admitted.device;
                identity.list.holds(&admitted.certificate) && !members.iter().any(is_in)
            })
        });
        Ok(adds)
    }

    /// Whether what is written waits: a revoked device is in the channel, or it is held by an
    /// account that the user has not accepted.
    pub(super) fn withheld(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<String>, ClientError> {
        if let Some(account) = row.held_by
            && let Some(contact) = step.db.contact(&account)?.filter(|contact| contact.held)
        {
            return Ok(Some(super::contacts::key_changed(&contact.name)));
        }
        if let Some(text) = self.withheld_from_stranger(step, row)? {
            return Ok(Some(text));
        }
        let open = self.open_of(step, (&row.channel, IntentKind::Revoke))?;
        let Some(intent) = open.first() else { return self.withheld_by_split(step, row) };
        let accounts = step.db.intent_accounts(intent.id)?;
        let Some((account, ..)) = accounts.first() else { return Ok(None) };
        let name = self.name_of(step, account)?;
        Ok(Some(format!("a device of {name} was revoked: what you write waits until it is out")))
    }

    /// The removal of revoked devices failed for good: sending goes on, and that is said.
    pub(super) fn revoke_failed(
        &self,
        step: &mut Step<'_>,
        (intent, channel): (u64, &ChannelId),
        reason: &str,
    ) -> Result<(), ClientError> {
        let Some(row) = step.db.channel(channel)? else { return Ok(()) };
        let accounts = step.db.intent_accounts(intent)?;
        let Some((account, ..)) = accounts.first() else { return Ok(()) };
        let name = self.name_of(step, account)?;
        let about = DeviceRef { account: *account, device: DeviceId::ZERO };
        let text = format!(
            "ALARM: a revoked device of {name} is still in here and reads what is sent: {reason}"
        );
        self.notice(step, &row, (about, row.cursor, text))
    }
}
