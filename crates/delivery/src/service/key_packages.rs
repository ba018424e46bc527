//! The KeyPackage directory (RFC 9750 section 5.1): each package is served once.

use bytes::Bytes;
use qpc_credential::{CredentialError, admit_key_package};
use qpc_proto::limits::{KEY_PACKAGES_PER_DEVICE_MAX, UPLOAD_KEY_PACKAGES_MAX};
use qpc_proto::message::{
    ClaimedKeyPackage, Claims, DeviceRef, Identity, KeyPackageStatus, UploadKeyPackages,
};
use qpc_proto::{DeviceId, ErrorCode};
use qpc_storage::Tx;

use super::{Call, Delivery};
use crate::DeliveryError;
use crate::store::key_packages::{self, Pool};

impl Delivery {
    /// Adds KeyPackages of the calling device, all or none; returns how many single-use ones it
    /// has.
    ///
    /// # Errors
    /// `QUOTA`, `CREDENTIAL_MISMATCH` for a package of another device, `KEY_PACKAGE_REUSED` for one
    /// that was here before, what [`admit_key_package`] refuses, [`DeliveryError::Store`].
    pub fn upload(
        &self,
        call: &Call<'_>,
        upload: &UploadKeyPackages,
    ) -> Result<u32, DeliveryError> {
        let pool = self.pool(call, &call.caller, false);
        pool.bury_older(call.tx)?;
        let (available, _) = pool.count(call.tx)?;
        let added = upload.key_packages.len();
        let total = usize::try_from(available).unwrap_or(usize::MAX).saturating_add(added);
        if added > UPLOAD_KEY_PACKAGES_MAX || total > KEY_PACKAGES_PER_DEVICE_MAX {
            let why = "too many KeyPackages in the request or the directory";
            return Err(DeliveryError::Refused(ErrorCode::Quota, why));
        }
        for key_package in &upload.key_packages {
            put(call, key_package, false)?;
        }
        if let Some(last_resort) = &upload.last_resort {
            key_packages::bury_last_resort(call.tx, &call.caller)?;
            put(call, last_resort, true)?;
        }
        Ok(u32::try_from(total).unwrap_or(u32::MAX))
    }

    /// Takes one KeyPackage of each of an account's devices: the oldest that is fresh, else the
    /// last resort.
    ///
    /// # Errors
    /// [`DeliveryError::NoKeyPackage`] when none has any, [`DeliveryError::Store`].
    pub fn claim(
        &self,
        call: &Call<'_>,
        identity: &Identity,
        devices: &[DeviceId],
    ) -> Result<Claims, DeliveryError> {
        let mut claims = Claims {
            claimed: Vec::with_capacity(devices.len()),
            missing: Vec::new(),
            identity: identity.clone(),
        };
        for device in devices {
            let owner = DeviceRef { account: identity.account, device: *device };
            match self.take(call, &owner)? {
                Some(claimed) => claims.claimed.push(claimed),
                None => claims.missing.push(*device),
            }
        }
        match claims.claimed.is_empty() {
            true => Err(DeliveryError::NoKeyPackage(claims.missing)),
            false => Ok(claims),
        }
    }

    /// Serves no KeyPackage any more that is here now: in a database that was restored from a
    /// backup there are some that were given away since. Returns how many there were.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn void_key_packages(&self, tx: &Tx<'_>) -> Result<usize, DeliveryError> {
        Ok(key_packages::bury_every(tx)?)
    }

    /// How the calling device's KeyPackages stand. Reads only.
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn key_package_status(&self, call: &Call<'_>) -> Result<KeyPackageStatus, DeliveryError> {
        let (available, _) = self.pool(call, &call.caller, false).count(call.tx)?;
        let (last_resorts, used) = self.pool(call, &call.caller, true).count(call.tx)?;
        Ok(KeyPackageStatus {
            available,
            has_last_resort: last_resorts > 0,
            last_resort_used: used,
        })
    }

    fn pool<'d>(&self, call: &Call<'_>, device: &'d DeviceRef, last_resort: bool) -> Pool<'d> {
        let ttl_ms = match last_resort {
            true => self.config.last_resort_ttl_ms,
            false => self.config.key_package_ttl_ms,
        };
        Pool { device, last_resort, uploaded_after_ms: call.now_ms.saturating_sub(ttl_ms) }
    }

    fn take(
        &self,
        call: &Call<'_>,
        device: &DeviceRef,
    ) -> Result<Option<ClaimedKeyPackage>, DeliveryError> {
        let claimed = |key_package, last_resort| ClaimedKeyPackage {
            device: device.device,
            key_package,
            last_resort,
        };
        if let Some((no, key_package)) = self.pool(call, device, false).oldest(call.tx)? {
            key_packages::bury(call.tx, no)?;
            return Ok(Some(claimed(key_package, false)));
        }
        let Some((no, key_package)) = self.pool(call, device, true).oldest(call.tx)? else {
            return Ok(None);
        };
        key_packages::mark_used(call.tx, no)?;
        Ok(Some(claimed(key_package, true)))
    }
}

/// Admits and stores one package of the calling device.
fn put(call: &Call<'_>, key_package: &Bytes, last_resort: bool) -> Result<(), DeliveryError> {
    let admitted = admit_key_package(key_package, call.now_ms)?;
    if admitted.device != call.caller {
        return Err(CredentialError::CredentialMismatch.into());
    }
    if admitted.last_resort != last_resort {
        let why = "a last resort has its own field, and only it";
        return Err(CredentialError::KeyPackage(why).into());
    }
    // One that comes late is served no longer for it: claimers judge it by when it was made.
    let from_ms = call.now_ms.min(admitted.issued_at_ms);
    if !key_packages::insert(call.tx, &admitted, key_package, from_ms)? {
        let why = "this KeyPackage was uploaded before; make new ones";
        return Err(DeliveryError::Refused(ErrorCode::KeyPackageReused, why));
    }
    Ok(())
}
