//! Adding many: one Commit takes so many devices that it and its Welcome fit a frame, all of an
//! account together; the rest follows in the next.

use std::collections::BTreeSet;

use qpc_mls::engine::CommitPlan;
use qpc_proto::AccountId;

use super::store::{ChannelRow, IntentKind, IntentState};
use super::{Machine, Step, Work};
use crate::error::ClientError;

/// Devices that one Commit adds at most: some 150 kB of proposals, and as much of a Welcome beside
/// the tree.
pub(super) const BATCH_DEVICES_MAX: usize = 100;
/// Claims on their way at a time: the server limits what one account claims.
const CLAIMS_AT_ONCE: usize = 16;

impl Machine {
    /// The Commit that adds as many of these as one may; `None` when there is nobody.
    pub(super) fn plan_batch(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        mut adds: Vec<(AccountId, Vec<u8>)>,
    ) -> Result<Option<CommitPlan>, ClientError> {
        adds.sort_by_key(|(account, _)| *account);
        let mut batch: Vec<(AccountId, Vec<u8>)> = Vec::new();
        for devices in adds.chunk_by(|(one, _), (other, _)| one == other) {
            let len = batch.len().saturating_add(devices.len());
            if !batch.is_empty() && len > BATCH_DEVICES_MAX {
                break;
            }
            batch.extend_from_slice(devices);
        }
        if batch.is_empty() {
            return Ok(None);
        }
        let accounts: BTreeSet<AccountId> = batch.iter().map(|(account, _)| *account).collect();
        let view = self.engine.view(step.db.0, &row.group)?;
        let context = self.without_former_admins(&view, &accounts);
        let adds = batch.into_iter().map(|(_, bytes)| bytes).collect();
        Ok(Some(CommitPlan { adds, context, ..CommitPlan::default() }))
    }

    /// The Commit of an operation is in force; one that adds more than a batch goes on.
    pub(super) fn commit_done(&self, step: &Step<'_>, intent: u64) -> Result<(), ClientError> {
        let adds = step.db.intent(intent)?.is_some_and(|row| row.kind == IntentKind::Add);
        let goes_on = adds && step.db.key_packages(intent)?.len() > BATCH_DEVICES_MAX;
        let state = if goes_on { IntentState::Ready } else { IntentState::Done };
        Ok(step.db.set_intent(intent, (state, None))?)
    }

    /// Whether another claim may be on its way.
    pub(super) fn may_claim_more(&self) -> bool {
        let claims = self.in_flight.iter().filter(|work| matches!(work, Work::Claim(..)));
        claims.count() < CLAIMS_AT_ONCE
    }
}
