//! Compares the leaves of each channel with the newest device lists: what a list took off is to be
//! removed, what the own list holds is to come in. Notes operations, seals nothing.

use std::collections::{BTreeMap, BTreeSet};

use qpc_credential::RejoinReason;
use qpc_mls::MlsError;
use qpc_mls::engine::MemberLeaf;
use qpc_proto::message::{ChannelKind, DeviceRef};
use qpc_proto::{AccountId, ChannelId, DeviceId, RequestId};

use super::store::{ChannelRow, IntentKind, IntentRow, IntentState, Status};
use super::{Machine, Step, Work};
use crate::error::ClientError;

/// Members act one after the other, this far apart, in milliseconds.
const TURN_MS: u64 = 2_000;
/// Members behind this many act in this turn, too.
const TURNS_MAX: u64 = 30;

impl Machine {
    /// Surveys every channel that was not since something changed.
    pub(super) fn survey(&mut self, step: &mut Step<'_>) -> Result<(), ClientError> {
        for mut row in step.db.channels()? {
            // Who is leaving may be the only one left who can take a recovered account in.
            let due = row.kind != ChannelKind::Inbox
                && (row.status.seals() || row.status == Status::Leaving)
                && row.in_step()
                && self.compared
                && !self.surveyed.contains(&row.channel);
            if !due {
                continue;
            }
            let members = match self.engine.view(step.db.0, &row.group) {
                Ok(view) => view.members,
                Err(MlsError::UnknownGroup) => {
                    self.want_rejoin(step, &mut row, RejoinReason::Damaged)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.surveyed.insert(row.channel);
            self.survey_revoked(step, &mut row, &members)?;
            // Who is leaving may be the only one left who can.
            self.survey_rejoins(step, &row, &members)?;
            if row.status.seals() {
                self.survey_siblings(step, &row, &members)?;
            }
        }
        Ok(())
    }

    /// Open operations of a kind in a channel.
    pub(super) fn open_of(
        &self,
        step: &Step<'_>,
        (channel, kind): (&ChannelId, IntentKind),
    ) -> Result<Vec<IntentRow>, ClientError> {
        let mut open = step.db.open_in(channel)?;
        open.retain(|intent| intent.kind == kind);
        Ok(open)
    }

    /// Leaves that the newest list of their account took off.
    pub(super) fn revoked<'a>(
        &self,
        step: &Step<'_>,
        members: &'a [MemberLeaf],
    ) -> Result<BTreeMap<AccountId, Vec<&'a MemberLeaf>>, ClientError> {
        let own = self.profile.identity.device.account;
        let mut newest = BTreeMap::new();
        let mut revoked: BTreeMap<AccountId, Vec<&MemberLeaf>> = BTreeMap::new();
        for leaf in members {
            let account = leaf.certificate.device().account;
            if let std::collections::btree_map::Entry::Vacant(vacant) = newest.entry(account) {
                let contact = step.db.contact(&account)?.map(|contact| contact.newest);
                vacant.insert(contact.unwrap_or_default());
            }
            let number = leaf.certificate.list_number();
            // Parsing a list costs two signatures: only one that may say something is.
            let older = newest.get(&account).is_some_and(|newest| *newest <= number);
            if account != own && older {
                continue;
            }
            let list = self.newest_of(step, &account)?;
            if list.is_some_and(|identity| identity.list.revokes(&leaf.certificate)) {
                revoked.entry(account).or_default().push(leaf);
            }
        }
        Ok(revoked)
    }

    fn survey_revoked(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        members: &[MemberLeaf],
    ) -> Result<(), ClientError> {
        let revoked = self.revoked(step, members)?;
        let mut wanted: BTreeSet<AccountId> = revoked.keys().copied().collect();
        for intent in self.open_of(step, (&row.channel, IntentKind::Revoke))? {
            let account = step.db.intent_accounts(intent.id)?.first().map(|(account, ..)| *account);
            let needed = account.is_some_and(|account| wanted.remove(&account));
            if !needed && intent.state != IntentState::Sealed {
                // Another member did it.
                step.db.set_intent(intent.id, (IntentState::Done, None))?;
            }
        }
        for account in wanted {
            let gone: Vec<DeviceRef> = revoked
                .get(&account)
                .map(|leaves| leaves.iter().map(|leaf| leaf.certificate.device()).collect())
                .unwrap_or_default();
            self.want_revoked(step, row, (&account, members, &gone))?;
        }
        Ok(())
    }

    /// This device's turn among those who may act: devices of `first` go before others.
    fn turn(
        &self,
        step: &mut Step<'_>,
        (first, members, gone): (&AccountId, &[MemberLeaf], &[DeviceRef]),
    ) -> u64 {
        let own = self.profile.identity.device;
        let mut order: Vec<(bool, DeviceRef)> = Vec::new();
        for device in members.iter().map(|leaf| leaf.certificate.device()) {
            if !gone.contains(&device) {
                order.push((device.account != *first, device));
            }
        }
        // Stable: leaves keep their order.
        order.sort_by_key(|(other, _)| *other);
        let position = order.iter().position(|(_, device)| *device == own).unwrap_or(0);
        let turns = u64::try_from(position).unwrap_or(TURNS_MAX).min(TURNS_MAX);
        let wait = turns.saturating_mul(TURN_MS).saturating_add(step.below(TURN_MS));
        step.now_ms.saturating_add(wait)
    }

    /// When this device acts on a list: the primary at once for its own account.
    pub(super) fn turn_of(
        &self,
        step: &mut Step<'_>,
        who: (&AccountId, &[MemberLeaf], &[DeviceRef]),
    ) -> u64 {
        if *who.0 == self.profile.identity.device.account && self.is_primary() {
            return step.now_ms;
        }
        self.turn(step, who)
    }

    fn survey_siblings(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        members: &[MemberLeaf],
    ) -> Result<(), ClientError> {
        let missing = self.missing(step, members);
        let open = self.open_of(step, (&row.channel, IntentKind::Sibling))?;
        if let Some(intent) = open.first() {
            return self.renew(step, intent, &missing);
        }
        if missing.is_empty() {
            return Ok(());
        }
        let own = self.profile.identity.device.account;
        let mut at = self.turn_of(step, (&own, members, &[]));
        if !self.is_primary() {
            at = at.saturating_add(TURN_MS);
        }
        let intent = self.intend(step, &row.channel, (IntentKind::Sibling, &[own], at))?;
        Ok(step.db.set_intent_devices(intent, &missing)?)
    }

    /// An addition of siblings that waits for their KeyPackages goes with the list.
    fn renew(
        &self,
        step: &mut Step<'_>,
        intent: &IntentRow,
        missing: &[DeviceId],
    ) -> Result<(), ClientError> {
        let own = self.profile.identity.device.account;
        if intent.state != IntentState::Claiming {
            return Ok(());
        }
        if missing.is_empty() {
            return Ok(step.db.set_intent(intent.id, (IntentState::Done, None))?);
        }
        let asked = self.in_flight.contains(&Work::Claim(intent.id, own));
        if !asked && step.db.intent_devices(intent.id)? != missing {
            self.claim_for(step, (intent.id, &own), missing)?;
        }
        Ok(())
    }

    /// Has KeyPackages of these devices claimed, under a new request id.
    pub(super) fn claim_for(
        &self,
        step: &mut Step<'_>,
        (intent, account): (u64, &AccountId),
        devices: &[DeviceId],
    ) -> Result<(), ClientError> {
        step.db.set_intent_devices(intent, devices)?;
        let request_id = RequestId(step.random());
        step.db.claim_again(intent, (account, &request_id))?;
        Ok(step.db.set_intent(intent, (IntentState::Claiming, None))?)
    }

    /// Devices of the own list without a leaf.
    fn missing(&self, step: &Step<'_>, members: &[MemberLeaf]) -> Vec<DeviceId> {
        let own = self.profile.identity.device;
        let present: BTreeSet<DeviceId> = members
            .iter()
            .map(|leaf| leaf.certificate.device())
            .filter(|device| device.account == own.account)
            .map(|device| device.device)
            .collect();
        let mut missing = self.own_devices(step.now_ms);
        missing.retain(|device| !present.contains(device));
        missing.sort_unstable();
        missing
    }

    /// What is still to be claimed for an operation that waits for KeyPackages.
    pub(super) fn still_missing(
        &self,
        step: &Step<'_>,
        intent: &IntentRow,
    ) -> Result<Vec<DeviceId>, ClientError> {
        let Some(row) = step.db.channel(&intent.channel)? else { return Ok(Vec::new()) };
        if !matches!(row.status, Status::Active | Status::Unconfirmed | Status::Held) {
            return Ok(Vec::new());
        }
        let members = self.engine.view(step.db.0, &row.group)?.members;
        Ok(self.missing(step, &members))
    }
}
