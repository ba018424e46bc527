//! Later ends for devices of an account: the list that moves them, and the certificates that it
//! calls for, each kept for its device alone. Never changes which devices an account has.

use bytes::Bytes;
use qpc_credential::{Certificate, DeviceEntry, DeviceList, PublicIdentity};
use qpc_proto::DeviceId;
use qpc_proto::message::{DeviceRef, Identity, RenewDevices};
use qpc_storage::Tx;

use super::devices::{newest_of_caller, next_list};
use super::{Auth, Call, contradiction};
use crate::AuthError;
use crate::store::accounts;

impl Auth {
    /// Publishes the next list of the caller's account, with later ends and the certificates of the
    /// devices that get them. Returns these; the newest list again changes nothing.
    ///
    /// # Errors
    /// [`AuthError::DeviceListStale`]; [`AuthError::IdentityMismatch`] for a device with another
    /// key; [`AuthError::Identity`] for any other change, and for certificates that are not exactly
    /// those of the renewed entries; [`AuthError::DeletionPending`];
    /// [`AuthError::Unauthenticated`] without a bound device, [`AuthError::DeviceRevoked`],
    /// [`AuthError::AccountSuspended`]; [`AuthError::Store`].
    pub fn renew_devices(
        &self,
        call: &Call<'_>,
        renew: &RenewDevices,
    ) -> Result<Vec<DeviceId>, AuthError> {
        let newest = newest_of_caller(call)?;
        if renew.device_list == newest.list_bytes {
            return Ok(Vec::new());
        }
        let list = next_list(call.tx, &newest, &renew.device_list)?;
        let renewed = renewed(&newest.list, &list, call.now_ms)?;
        let certificates = certificates(&newest, (&list, &renewed), &renew.certificates)?;
        accounts::insert_list(call.tx, &list, &renew.device_list)?;
        for certificate in &certificates {
            accounts::set_certificate(call.tx, &certificate.device(), certificate.as_bytes())?;
        }
        Ok(certificates.iter().map(|certificate| certificate.entry.device).collect())
    }

    /// A device's own certificate, as it was renewed last.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn certificate(&self, tx: &Tx<'_>, device: &DeviceRef) -> Result<Option<Bytes>, AuthError> {
        Ok(accounts::certificate(tx, device)?)
    }

    /// The newest identity of an account, as [`Auth::identity`], and to one of its own devices that
    /// device's certificate.
    ///
    /// # Errors
    /// As [`Auth::identity`].
    pub fn devices_of(
        &self,
        (tx, caller): (&Tx<'_>, Option<DeviceRef>),
        account: &qpc_proto::AccountId,
    ) -> Result<(Identity, Option<Bytes>), AuthError> {
        let identity = self.identity(tx, account)?;
        let own = caller.filter(|caller| caller.account == *account);
        let certificate = own.map(|own| self.certificate(tx, &own)).transpose()?.flatten();
        Ok((identity, certificate))
    }
}

/// The entries that end later than before; all others are as they were.
fn renewed(old: &DeviceList, new: &DeviceList, now_ms: u64) -> Result<Vec<DeviceEntry>, AuthError> {
    let mut renewed = Vec::new();
    for entry in &new.devices {
        let held = old.get(&entry.device);
        let held = held.ok_or(contradiction("a renewal adds no device"))?;
        if held.key != entry.key {
            return Err(AuthError::IdentityMismatch);
        }
        if entry.not_after_ms < held.not_after_ms {
            return Err(contradiction("a renewal moves an end to a later time"));
        }
        if entry != held {
            if entry.not_after_ms <= now_ms {
                return Err(contradiction("the device's entry has ended"));
            }
            renewed.push(*entry);
        }
    }
    if old.devices.len() != new.devices.len() || renewed.is_empty() {
        return Err(contradiction("a renewal takes no device off and moves one end at least"));
    }
    Ok(renewed)
}

/// One for each renewed entry and no other: no device would know of its renewal without, and
/// nothing else may be left here.
fn certificates(
    newest: &PublicIdentity,
    (list, renewed): (&DeviceList, &[DeviceEntry]),
    signed: &[Bytes],
) -> Result<Vec<Certificate>, AuthError> {
    let mut found = Vec::new();
    for bytes in signed {
        let certificate = Certificate::verify(bytes)?;
        let of_list = certificate.account_key == newest.account_key
            && certificate.list_version == list.version
            && certificate.name == list.name;
        if !of_list || !renewed.contains(&certificate.entry) {
            return Err(contradiction("a certificate that the list does not renew"));
        }
        found.push(certificate);
    }
    let has = |entry: &DeviceEntry| found.iter().filter(|found| found.entry == *entry).count() == 1;
    if !renewed.iter().all(has) {
        return Err(contradiction("a renewed device has one certificate"));
    }
    Ok(found)
}
