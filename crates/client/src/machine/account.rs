//! The own account as its newest device list has it: which devices it holds, whether this one
//! still is among them. Never goes back to an older list.

use std::collections::BTreeSet;

use qpc_credential::{Certificate, PublicIdentity};
use qpc_proto::message::{Devices, Identity};
use qpc_proto::{AccountId, DeviceId, ErrorCode, PublicKey};

use super::contacts::number_of;
use super::store::Profile;
use super::{Machine, Step, Work};
use crate::error::ClientError;
use crate::keys::public;
use crate::view::Event;

/// The signed objects of a profile.
pub(super) fn verified(profile: &Profile) -> Result<PublicIdentity, ClientError> {
    let identity = Identity {
        account: profile.identity.device.account,
        account_key: profile.identity.account_key.clone().into(),
        device_list: profile.identity.device_list.clone().into(),
    };
    PublicIdentity::verify(&identity)
        .map_err(|_| ClientError::Internal("the own device list does not verify"))
}

/// Whether the newest list has put this device out.
pub(super) fn stopped(profile: &Profile, own: &PublicIdentity) -> Option<ErrorCode> {
    let key = PublicKey(profile.keys.device_key().verifying_key().to_bytes());
    let entry = own.list.get(&profile.identity.device.device);
    entry.is_none_or(|entry| entry.key != key).then_some(ErrorCode::DeviceRevoked)
}

impl Machine {
    /// Why this device sends and reads nothing any more: `DEVICE_REVOKED` or `ACCOUNT_SUSPENDED`.
    /// A connection is of no use then.
    pub fn stopped_by(&self) -> Option<ErrorCode> {
        self.stopped
    }

    /// Whether the account key in force is here: this device links and revokes others.
    pub fn is_primary(&self) -> bool {
        let key = self.profile.keys.account.as_ref().map(public);
        key == Some(self.own.account_key.key)
    }

    /// The newest identity of the own account that is known here.
    pub fn own_identity(&self) -> &PublicIdentity {
        &self.own
    }

    /// Takes an identity of the own account, from whomever: what this device published, or was
    /// shown. Only a newer one changes anything.
    ///
    /// # Errors
    /// [`ClientError::Alarm`] when it does not verify, is another account's, older than the one
    /// known, or has its numbers and other bytes.
    pub fn take_identity(
        &mut self,
        step: &mut Step<'_>,
        shown: &Identity,
    ) -> Result<(), ClientError> {
        let identity = PublicIdentity::verify(shown)
            .map_err(|_| ClientError::Alarm("an identity that does not verify".into()))?;
        self.see_own(step, (identity, false)).map(drop)
    }

    /// As [`Self::take_identity`]; an excused one may be older. Returns the newest.
    pub(super) fn see_own(
        &mut self,
        step: &mut Step<'_>,
        (identity, excused): (PublicIdentity, bool),
    ) -> Result<PublicIdentity, ClientError> {
        if identity.account_key.root != self.profile.identity.root {
            return Err(ClientError::Alarm("the identity of another account".into()));
        }
        let (shown, known) = (number_of(&identity.list), number_of(&self.own.list));
        if shown == known && identity.list_bytes != self.own.list_bytes {
            let text = "there are two device lists of this account with one number: somebody has \
                        its account key; recover with the phrase";
            return Err(ClientError::Alarm(text.into()));
        }
        if shown < known && !excused {
            let text = "the server shows an old device list of this account";
            return Err(ClientError::Alarm(text.into()));
        }
        if shown > known {
            self.supersede_own(step, identity)?;
        }
        Ok(self.own.clone())
    }

    fn supersede_own(
        &mut self,
        step: &mut Step<'_>,
        identity: PublicIdentity,
    ) -> Result<(), ClientError> {
        self.profile.identity.account_key = identity.account_key_bytes.to_vec();
        self.profile.identity.device_list = identity.list_bytes.to_vec();
        step.db.replace_identity(&self.profile.identity)?;
        self.own = identity;
        if self.profile.keys.account.is_some() && !self.is_primary() {
            // A newer generation has ended it: what it signs counts nowhere.
            step.db.forget_account_key()?;
            self.profile.keys.account = None;
        }
        self.surveyed.clear();
        self.excuse(step, &self.profile.identity.device.account.clone())?;
        if let Some(code) = stopped(&self.profile, &self.own) {
            self.stop(step, code);
        }
        Ok(())
    }

    /// Nothing is sent or read from here on; said once.
    pub(crate) fn stop(&mut self, step: &mut Step<'_>, code: ErrorCode) {
        if self.stopped.replace(code) == Some(code) {
            return;
        }
        let text = if code == ErrorCode::AccountSuspended {
            "the operator of the server suspended this account"
        } else if self.own.list.devices.is_empty() {
            "this account was deleted"
        } else {
            "this device was revoked: it sends and reads nothing any more. To use the account here \
             again, link this machine anew in another --home"
        };
        let (code, text) = (code.as_str().to_owned(), text.to_owned());
        step.events.push(Event::Stopped { code, text });
    }

    /// The server refused this device's login: for good, or the connection is tried again.
    pub fn login_refused(&mut self, step: &mut Step<'_>, code: ErrorCode) {
        if matches!(code, ErrorCode::DeviceRevoked | ErrorCode::AccountSuspended) {
            self.stop(step, code);
        }
    }

    /// Takes the server's answer about the own list.
    pub(super) fn own_answer(
        &mut self,
        step: &mut Step<'_>,
        (shown, excused): (&Devices, &BTreeSet<AccountId>),
    ) -> Result<(), ClientError> {
        let Ok(identity) = PublicIdentity::verify(&shown.identity) else {
            let text = "the server shows a device list of this account that does not verify";
            return self.alarm(step, None, text.to_owned());
        };
        let excused = excused.contains(&self.profile.identity.device.account);
        match self.see_own(step, (identity, excused)) {
            Ok(_) => self.take_certificate(step, &shown.certificate),
            Err(ClientError::Alarm(text)) => self.alarm(step, None, text),
            Err(error) => Err(error),
        }
    }

    /// Whether the newest own list is yet to come on this connection.
    pub(super) fn asks_for_own(&self) -> bool {
        self.own_due || self.in_flight.contains(&Work::OwnDevices)
    }

    /// Whether the own newest list holds a certified device.
    pub(super) fn is_sibling(&self, certificate: &Certificate) -> bool {
        self.own.list.holds(certificate)
    }

    /// Devices of the own account that may join now.
    pub(super) fn own_devices(&self, now_ms: u64) -> Vec<DeviceId> {
        let lives = self.own.list.devices.iter().filter(|entry| entry.not_after_ms > now_ms);
        lives.map(|entry| entry.device).collect()
    }
}
