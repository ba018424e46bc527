//! Device certificates before they end: the primary signs later ends for all devices of the
//! account, and each device goes on under the certificate that this brings. Decides by this
//! machine's clock: no server may have an end moved by telling another time. Sends nothing itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use qpc_credential::{Certificate, CertificateBody, DeviceEntry};
use qpc_proto::message::{ChannelKind, DeviceRef, RenewDevices, Request};
use qpc_proto::{ChannelId, RequestId};

use super::store::{RejoinRow, RenewalRow};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::keys::{NextList, entry};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// An entry is renewed when it ends within this time.
const NEAR_MS: u64 = 30 * DAY_MS;
/// How often is looked.
const LOOK_MS: u64 = HOUR_MS;
/// A primary signs, and another device asks for what was signed, at most so often.
const AGAIN_MS: u64 = DAY_MS;

/// What a restart may forget.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    look_at_ms: u64,
    /// When the own list is asked for again by a device whose entry is near its end.
    ask_at_ms: u64,
}

impl Renewal {
    /// This machine's clock was set back: look, and ask, by what it shows now.
    pub(super) fn set_back(&mut self) {
        *self = Self::default();
    }

    /// Nothing of a step was kept: look again.
    pub(super) fn look_now(&mut self) {
        self.look_at_ms = 0;
    }
}

impl Machine {
    /// Signs what is due, and asks for what others may have signed. Goes by the newest list as the
    /// server shows it on this connection.
    pub(super) fn look_after_entries(&mut self, step: &mut Step<'_>) -> Result<(), ClientError> {
        if !self.compared || self.asks_for_own() || step.now_ms < self.renewal.look_at_ms {
            return Ok(());
        }
        self.put_off_renewal(step);
        if self.is_primary() {
            self.sign_renewal(step)?;
        }
        if self.lacks_renewal(step)? && step.now_ms >= self.renewal.ask_at_ms {
            self.renewal.ask_at_ms = step.now_ms.saturating_add(AGAIN_MS);
            self.own_due = true;
        }
        Ok(())
    }

    /// Another list is about to be signed and published: none is signed meanwhile, for it would
    /// hold what that one takes off.
    pub(crate) fn put_off_renewal(&mut self, step: &Step<'_>) {
        self.renewal.look_at_ms = step.now_ms.saturating_add(LOOK_MS);
    }

    /// Whether this device's certificate ends soon, or sooner than its entry in the newest list.
    fn lacks_renewal(&self, step: &Step<'_>) -> Result<bool, ClientError> {
        let held = self.held_certificate()?.entry;
        let listed = self.own.list.get(&held.device);
        let ends_sooner = listed.is_some_and(|entry| entry.not_after_ms > held.not_after_ms);
        Ok(ends_sooner || is_near(&held, step.now_ms))
    }

    /// Whether this device's certificate has ended: no KeyPackage that it makes counts.
    pub(super) fn has_ended(&self, step: &Step<'_>) -> Result<bool, ClientError> {
        Ok(self.held_certificate()?.entry.not_after_ms <= step.now_ms)
    }

    pub(super) fn held_certificate(&self) -> Result<Certificate, ClientError> {
        Certificate::read_verified(&self.profile.identity.certificate)
            .map_err(|_| ClientError::Internal("the own certificate does not parse"))
    }

    /// When this device's certificate ends, Unix milliseconds.
    ///
    /// # Errors
    /// When it does not parse: the database is damaged.
    pub fn certificate_ends(&self) -> Result<u64, ClientError> {
        Ok(self.held_certificate()?.entry.not_after_ms)
    }

    fn sign_renewal(&self, step: &mut Step<'_>) -> Result<(), ClientError> {
        let list = &self.own.list;
        let lately = |row: RenewalRow| step.now_ms.abs_diff(row.signed_at_ms) < AGAIN_MS;
        if !list.devices.iter().any(|entry| is_near(entry, step.now_ms))
            || step.db.renewal()?.is_some_and(|row| row.open || lately(row))
        {
            return Ok(());
        }
        let later = |held: &DeviceEntry| {
            let fresh = entry(held.device, held.key, step.now_ms);
            if fresh.not_after_ms > held.not_after_ms { fresh } else { *held }
        };
        let devices: Vec<_> = list.devices.iter().map(later).collect();
        let renewed = devices.iter().filter(|entry| list.get(&entry.device) != Some(*entry));
        let version = step.db.take_list_version(list.version)?;
        let certify = |entry: &DeviceEntry| {
            let (entry, name) = (*entry, list.name.clone());
            let body = CertificateBody { list_version: version, entry, name };
            let signed = self.profile.keys.certify(&self.own.account_key_bytes, &body);
            signed.map(|bytes| bytes.to_vec()).ok_or(ClientError::NotPrimary)
        };
        let certificates = renewed.map(certify).collect::<Result<_, _>>()?;
        let next = NextList { name: &list.name, generation: list.generation, version, devices };
        let signed = self.profile.keys.sign_list(list.account, next);
        let device_list = signed.ok_or(ClientError::NotPrimary)?.to_vec();
        let (request_id, signed_at_ms) = (RequestId(step.random()), step.now_ms);
        let row = RenewalRow { request_id, device_list, certificates, open: true, signed_at_ms };
        Ok(step.db.put_renewal(&row)?)
    }

    /// When the certificates in a channel's leaves end, Unix milliseconds, as this device sees it.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] for an unknown channel.
    pub fn leaf_ends(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
    ) -> Result<BTreeMap<DeviceRef, u64>, ClientError> {
        let row = step.db.channel(channel)?;
        let row = row.ok_or_else(|| ClientError::NotFound("no such channel".into()))?;
        let view = self.engine.view(step.db.0, &row.group)?;
        let leaves = view.members.iter().map(|leaf| &leaf.certificate);
        Ok(leaves.map(|leaf| (leaf.device(), leaf.entry.not_after_ms)).collect())
    }

    /// The signed list that waits for the server's answer.
    pub(super) fn next_renewal(
        &self,
        step: &Step<'_>,
    ) -> Result<Option<(RequestId, Request)>, ClientError> {
        let open = step.db.renewal()?.filter(|row| row.open);
        Ok(open.map(|row| {
            let renew = RenewDevices {
                device_list: row.device_list.into(),
                certificates: row.certificates.into_iter().map(Bytes::from).collect(),
            };
            (row.request_id, Request::RenewDevices(renew))
        }))
    }

    /// The server took the list, or never will; what is newest now is asked for.
    pub(super) fn renewal_answered(&mut self, step: &Step<'_>) -> Result<(), ClientError> {
        self.own_due = true;
        Ok(step.db.close_renewal()?)
    }

    /// Takes the certificate that the server shows this device as its own: only one of the
    /// account's root over exactly the entry in the newest list, and that ends later. It may be of
    /// an account key before the one in force: who recovers an account keeps entries as they were
    /// renewed, and signs no certificates for them.
    pub(super) fn take_certificate(
        &mut self,
        step: &mut Step<'_>,
        shown: &[u8],
    ) -> Result<(), ClientError> {
        if shown.is_empty() || shown == self.profile.identity.certificate {
            return Ok(());
        }
        let Ok(certificate) = Certificate::verify(shown) else {
            let text = "the server shows a certificate of this device that does not verify";
            return self.alarm(step, None, text.to_owned());
        };
        let held = self.held_certificate()?;
        let (key, newest) = (&certificate.account_key, &self.own.account_key);
        let right = key.root == newest.root
            && key.generation <= newest.generation
            && certificate.device() == held.device()
            && certificate.entry.key == held.entry.key
            && self.own.list.get(&held.entry.device) == Some(&certificate.entry)
            && certificate.entry.not_after_ms > held.entry.not_after_ms;
        // One that says something else than the newest list has nothing to say.
        if right { self.go_by(step, shown) } else { Ok(()) }
    }

    fn go_by(&mut self, step: &mut Step<'_>, certificate: &[u8]) -> Result<(), ClientError> {
        self.profile.identity.certificate = certificate.to_vec();
        step.db.replace_identity(&self.profile.identity)?;
        self.engine.renew(certificate.to_vec());
        step.db.set_renewed(self.server_now(step))?;
        // KeyPackages that name the old certificate are replaced.
        self.status_due = true;
        // A rejoin that stands brings a package with the old one: it is asked anew with this.
        for channel in step.db.rejoins_wanted()? {
            let rejoin = RejoinRow { asked_seq: 0, ..step.db.rejoin(&channel)? };
            step.db.put_rejoin(&channel, &rejoin)?;
        }
        for row in step.db.channels()? {
            if row.kind != ChannelKind::Inbox && row.status.seals() {
                self.update_soon(step, &row)?;
            }
        }
        Ok(())
    }
}

fn is_near(entry: &DeviceEntry, now_ms: u64) -> bool {
    entry.not_after_ms < now_ms.saturating_add(NEAR_MS)
}
