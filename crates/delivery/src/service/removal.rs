//! When a removal takes effect. A Commit that the members judge void removes nobody, and a server
//! can't tell: so a removed device keeps every right until somebody else has built on its removal.

use std::collections::BTreeMap;

use qpc_proto::AccountId;
use qpc_proto::message::DeviceRef;

use super::Delivery;
use super::writing::Writing;
use crate::DeliveryError;
use crate::roster::Roster;
use crate::store::members::{Member, Removal};
use crate::store::{commits, members};

/// The removal that has taken a member's rights: confirmed, or older than the retention.
pub(super) fn effective(delivery: &Delivery, now_ms: u64, member: &Member) -> Option<Removal> {
    member.removal.filter(|removal| {
        let ends_at = removal.at_ms.saturating_add(delivery.config.retention_ms);
        removal.confirmed || ends_at <= now_ms
    })
}

/// Whether nobody is left to confirm what the Commit from `before` to `after` removes: it then
/// takes effect at once.
pub(super) fn is_lone(committer: &DeviceRef, before: &Roster, after: &Roster) -> bool {
    let other = |account: &AccountId| *account != committer.account && before.has_account(account);
    !after.accounts().any(other)
}

impl Writing<'_> {
    /// Confirms the removals that the caller's newly accepted base builds on. An account other
    /// than the committer's, with devices before and after the removing Commit, confirms. A base
    /// after a removal is without the device: a Commit that had it again would have undone that.
    /// Returns whether it confirmed any.
    pub(super) fn confirm_removals(&self) -> Result<bool, DeliveryError> {
        let (tx, no, base) = (self.call.tx, self.channel.no, self.member.last_base);
        let leaving = members::leaving(tx, no, base)?;
        if leaving.is_empty() {
            return Ok(false);
        }
        let roster = commits::roster(tx, no, base)?;
        if !roster.has(&self.call.caller) {
            return Ok(false);
        }
        let mut confirmed = false;
        let mut verdicts = BTreeMap::new();
        for (device, seq) in leaving {
            let may = match verdicts.get(&seq) {
                Some(may) => *may,
                None => {
                    let may = self.may_confirm(seq)?;
                    verdicts.insert(seq, may);
                    may
                }
            };
            if may {
                members::confirm_removal(tx, no, &device)?;
                confirmed = true;
            }
        }
        Ok(confirmed)
    }

    fn may_confirm(&self, seq: u64) -> Result<bool, DeliveryError> {
        let (tx, no) = (self.call.tx, self.channel.no);
        let account = &self.call.caller.account;
        let Some(commit) = commits::find(tx, no, seq)? else {
            return Ok(false);
        };
        Ok(commit.committer != *account
            && commits::roster(tx, no, commit.base_commit)?.has_account(account)
            && commits::roster(tx, no, seq)?.has_account(account))
    }
}
