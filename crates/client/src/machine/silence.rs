//! Who is in a channel, and whose devices nothing is heard of any more (RFC 9750 section 7): a
//! device that is lost, or whose state somebody took, keeps what it can open until it is removed.
//!
//! Every client that is used gives its leaf new keys each week: whoever is silent for months is not
//! used. Reckoned from the log alone, so that all who read it see the same. Removes nobody.

use std::collections::{BTreeMap, BTreeSet};

use qpc_mls::MlsError;
use qpc_mls::engine::MemberLeaf;
use qpc_proto::message::DeviceRef;
use qpc_proto::roster::RosterChange;
use qpc_proto::{AccountId, ChannelId, DeviceId};

use super::metadata::role;
use super::store::Status;
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view;

/// A device of which nothing was heard for longer is flagged, in milliseconds of accept time.
const SILENT_MS: u64 = 90 * DAY_MS;
const DAY_MS: u64 = 24 * 3_600_000;
/// A device's messages are noted once in this time: reading one mostly writes nothing here.
const NOTED_EVERY_MS: u64 = DAY_MS;
/// Stands for whoever has not been heard of yet.
const NOBODY: DeviceRef = DeviceRef { account: AccountId::ZERO, device: DeviceId::ZERO };

impl Machine {
    /// This device came in by a Welcome: what was said before it did not hear.
    pub(super) fn listen(
        &self,
        step: &Step<'_>,
        (channel, at_ms): (&ChannelId, u64),
    ) -> Result<(), ClientError> {
        step.db.forget_heard(channel)?;
        Ok(step.db.put_heard(channel, (&NOBODY, at_ms))?)
    }

    /// A message of a device was opened.
    pub(super) fn heard(
        &self,
        step: &Step<'_>,
        (channel, device, at_ms): (&ChannelId, &DeviceRef, u64),
    ) -> Result<(), ClientError> {
        let last = step.db.heard(channel, device)?;
        if last.is_some_and(|last| at_ms < last.saturating_add(NOTED_EVERY_MS)) {
            return Ok(());
        }
        Ok(step.db.put_heard(channel, (device, at_ms))?)
    }

    /// A Commit is in force: its maker was heard of, and who came in begins with it.
    pub(super) fn heard_commit(
        &self,
        step: &Step<'_>,
        (channel, at_ms): (&ChannelId, u64),
        (committer, change): (&DeviceRef, &RosterChange),
    ) -> Result<(), ClientError> {
        if step.db.heard(channel, &NOBODY)?.is_none() {
            // The channel was made here, or an earlier version noted nothing.
            step.db.put_heard(channel, (&NOBODY, at_ms))?;
        }
        for gone in &change.removes {
            step.db.drop_heard(channel, gone)?;
        }
        for device in change.adds.iter().chain([committer]) {
            step.db.put_heard(channel, (device, at_ms))?;
        }
        Ok(())
    }

    /// Devices of others, and other devices of this account, that were silent for too long before
    /// the latest entry that is known here: where nobody says anything, nobody is flagged.
    pub(super) fn silent(
        &self,
        step: &Step<'_>,
        (channel, members): (&ChannelId, &[MemberLeaf]),
    ) -> Result<BTreeSet<DeviceRef>, ClientError> {
        let heard = step.db.all_heard(channel)?;
        let latest = heard.values().max().copied().unwrap_or_default();
        let since = heard.get(&NOBODY).copied().unwrap_or(latest);
        let own = self.profile.identity.device;
        let devices = members.iter().map(|leaf| leaf.certificate.device());
        let is_silent = |device: &DeviceRef| {
            let last = heard.get(device).copied().unwrap_or(since);
            *device != own && latest.saturating_sub(last) > SILENT_MS
        };
        Ok(devices.filter(is_silent).collect())
    }

    /// The members of a channel, by account.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] before it is created.
    pub fn members(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
    ) -> Result<Vec<view::Member>, ClientError> {
        let row = step.db.channel(channel)?;
        let row = row.ok_or_else(|| ClientError::NotFound("no such channel".into()))?;
        let group = match self.engine.view(step.db.0, &row.group) {
            Ok(group) => group,
            Err(MlsError::UnknownGroup) if row.status == Status::Left => return Ok(Vec::new()),
            Err(MlsError::UnknownGroup) => {
                return Err(ClientError::NotFound("the channel is not created yet".into()));
            }
            Err(error) => return Err(error.into()),
        };
        let own = self.profile.identity.device.account;
        let silent = self.silent(step, (channel, &group.members))?;
        let mut members: BTreeMap<AccountId, view::Member> = BTreeMap::new();
        for leaf in &group.members {
            let of = leaf.certificate.device();
            let DeviceRef { account, device } = of;
            let name = self.name_of(step, &account)?;
            let member = members.entry(account).or_insert_with(|| view::Member {
                name,
                account: account.to_string(),
                role: role(group.context.role(&account)),
                devices: Vec::new(),
                silent: Vec::new(),
                me: account == own,
            });
            member.devices.push(device.to_string());
            if silent.contains(&of) {
                member.silent.push(device.to_string());
            }
        }
        Ok(members.into_values().collect())
    }
}
