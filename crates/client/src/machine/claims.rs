//! Claimed KeyPackages: checked against the newest device list ever seen, asked for again when they
//! cannot be had.

use qpc_credential::{PublicIdentity, admit_key_package};
use qpc_proto::message::{ChannelKind, Claims, DeviceRef};
use qpc_proto::{AccountId, DeviceId, ErrorBody, ErrorCode, RequestId};

use super::store::{IntentKind, IntentRow, IntentState};
use super::{Machine, Step, Work};
use crate::error::ClientError;

/// Claims for a swap in a group before its account is removed without one.
pub(super) const SWAP_CLAIMS_MAX: u32 = 6;
/// Attempts at a Commit after which what it adds is not claimed anew.
const CLAIMS_ANEW_MAX: u32 = 8;
/// The longest wait for KeyPackages, in milliseconds.
const CLAIM_WAIT_MS_MAX: u64 = 600_000;

impl Machine {
    /// Takes claimed KeyPackages, checked against the newest device list ever seen.
    pub(super) fn claimed(
        &mut self,
        step: &mut Step<'_>,
        (intent, account, excused): (u64, AccountId, bool),
        claims: &Claims,
    ) -> Result<(), ClientError> {
        let open = step.db.intent(intent)?.filter(|row| row.state == IntentState::Claiming);
        let Some(open) = open else { return Ok(()) };
        let identity = match self.check_identity(step, (&account, excused), &claims.identity) {
            Ok(identity) => identity,
            Err(ClientError::Alarm(reason)) => {
                return self.claim_untrue(step, (&open, &account), &reason);
            }
            Err(error) => return Err(error),
        };
        let mut kept = false;
        for claimed in &claims.claimed {
            let admitted = admit_key_package(&claimed.key_package, step.now_ms);
            let device = DeviceRef { account, device: claimed.device };
            let admitted = admitted.ok().filter(|admitted| admitted.device == device);
            let held = admitted.map(|admitted| identity.list.holds(&admitted.certificate));
            if excused && held == Some(false) {
                // Handed out before a list took the device off.
                continue;
            }
            if held != Some(true) {
                let reason = "the server handed out a KeyPackage that does not belong there";
                return self.claim_untrue(step, (&open, &account), reason);
            }
            step.db.put_key_package(intent, (&claimed.device, &claimed.key_package))?;
            kept = true;
        }
        if !kept {
            self.pause(step, (Work::Claim(intent, account), None));
            let request_id = RequestId(step.random());
            return Ok(step.db.renew_claim(intent, (&account, &request_id))?);
        }
        if open.kind == IntentKind::Create || open.kind == IntentKind::Add {
            self.refuse_unaccepted(step, (intent, &account))?;
        }
        step.db.set_claimed(intent, &account)?;
        if step.db.intent(intent)?.is_some_and(|row| row.state == IntentState::Failed) {
            return Ok(());
        }
        if step.db.intent_accounts(intent)?.iter().all(|(_, _, claimed)| *claimed) {
            step.db.set_intent(intent, (IntentState::Ready, None))?;
        }
        Ok(())
    }

    /// The server lied about what was claimed. What no user watches goes on without.
    fn claim_untrue(
        &self,
        step: &mut Step<'_>,
        (intent, account): (&IntentRow, &AccountId),
        reason: &str,
    ) -> Result<(), ClientError> {
        self.alarm(step, None, reason.to_owned())?;
        let body = ErrorBody::new(ErrorCode::NoKeyPackage, reason);
        if self.claim_later(step, (intent, account), &body)? {
            return Ok(());
        }
        self.fail_intent(step, (intent.id, reason))
    }

    /// An account whose name was another's is met first when it is claimed for: it is not added
    /// before the user has accepted it.
    fn refuse_unaccepted(
        &self,
        step: &mut Step<'_>,
        (intent, account): (u64, &AccountId),
    ) -> Result<(), ClientError> {
        match self.refuse_held(step, account) {
            Err(ClientError::KeyChanged(reason)) => self.fail_intent(step, (intent, &reason)),
            other => other,
        }
    }

    pub(super) fn claim_refused(
        &mut self,
        step: &mut Step<'_>,
        (intent, account): (u64, AccountId),
        body: ErrorBody,
    ) -> Result<(), ClientError> {
        let work = Work::Claim(intent, account);
        let Some(row) = step.db.intent(intent)?.filter(|row| row.state == IntentState::Claiming)
        else {
            return Ok(());
        };
        if self.claim_later(step, (&row, &account), &body)?
            || self.successor_waits(step, (&row, &account), &body)?
        {
            return Ok(());
        }
        // Who adds many is slowed down more often.
        let waits = u32::try_from(step.db.intent_accounts(intent)?.len()).unwrap_or(0).max(6);
        if body.code.retryable() && self.pause(step, (work, body.retry_after_ms)) <= waits {
            return Ok(());
        }
        let name = self.name_of(step, &account)?;
        let reason = if body.code == ErrorCode::NoKeyPackage {
            format!("{name} has no device that can be added now: try again when they were online")
        } else {
            format!("{name} cannot be added: {}", body.code.as_str())
        };
        self.fail_intent(step, (intent, &reason))
    }

    /// A Commit was refused that adds devices: one may have been revoked since it was claimed for.
    /// False when nothing was claimed, or that was tried often enough.
    pub(super) fn claim_anew(
        &mut self,
        step: &mut Step<'_>,
        intent: &IntentRow,
    ) -> Result<bool, ClientError> {
        if intent.attempts >= CLAIMS_ANEW_MAX || step.db.key_packages(intent.id)?.is_empty() {
            return Ok(false);
        }
        for (account, ..) in step.db.intent_accounts(intent.id)? {
            let devices = step.db.intent_devices(intent.id)?;
            self.claim_for(step, (intent.id, &account), &devices)?;
        }
        Ok(true)
    }

    /// KeyPackages that cannot be had now are asked for again later, longer each time. False when
    /// the operation is one that the user watches.
    pub(super) fn claim_later(
        &self,
        step: &mut Step<'_>,
        (intent, account): (&IntentRow, &AccountId),
        body: &ErrorBody,
    ) -> Result<bool, ClientError> {
        let devices = match intent.kind {
            IntentKind::Sibling => self.still_missing(step, intent)?,
            IntentKind::Revoke => {
                let newest = self.newest_of(step, account)?;
                newest.map(|identity| heirs(&identity, step.now_ms)).unwrap_or_default()
            }
            IntentKind::Create
            | IntentKind::Add
            | IntentKind::Remove
            | IntentKind::Update
            | IntentKind::Context
            | IntentKind::Leave
            | IntentKind::Rejoin
            | IntentKind::TakeBack
            | IntentKind::Verdict => return Ok(false),
        };
        let ceiling = 1_000_u64.saturating_mul(1 << intent.claims.min(10)).min(CLAIM_WAIT_MS_MAX);
        let wait = (ceiling / 2).saturating_add(step.below(ceiling / 2).max(50));
        let at = step.now_ms.saturating_add(wait.max(body.retry_after_ms.unwrap_or(0)));
        self.claim_for(step, (intent.id, account), &devices)?;
        step.db.wait_for_claim(intent.id, (step.now_ms, at))?;
        let gives_up = intent.claims.saturating_add(1) >= SWAP_CLAIMS_MAX;
        let group = step.db.channel(&intent.channel)?.map(|row| row.kind);
        if devices.is_empty()
            || (intent.kind == IntentKind::Revoke && gives_up && group == Some(ChannelKind::Group))
        {
            step.db.set_intent(intent.id, (IntentState::Ready, None))?;
        }
        Ok(true)
    }
}

/// Devices of a list that may come in for those that it took off.
pub(super) fn heirs(identity: &PublicIdentity, now_ms: u64) -> Vec<DeviceId> {
    let lives = identity.list.devices.iter().filter(|entry| entry.not_after_ms > now_ms);
    lives.map(|entry| entry.device).collect()
}
