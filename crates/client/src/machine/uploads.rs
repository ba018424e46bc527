//! The pool of KeyPackages: the private part is on disk before the public one is uploaded, and goes
//! when no Welcome for it can come any more.

use qpc_credential::{lifetime, welcome_references};
use qpc_proto::RequestId;
use qpc_proto::limits::{KEY_PACKAGES_PER_DEVICE_MAX, UPLOAD_KEY_PACKAGES_MAX};
use qpc_proto::message::{KeyPackageStatus, Request, UploadKeyPackages};

use super::store::{OwnKeyPackage, UploadRow};
use super::{Machine, Step};
use crate::error::ClientError;

const HOUR_MS: u64 = 3_600_000;
/// The server serves a package for a day: others are made for those that are older than this.
const FRESH_MS: u64 = lifetime::DIRECTORY * 1_000 - 4 * HOUR_MS;
/// As above, for a last resort.
const FRESH_LAST_RESORT_MS: u64 = lifetime::DIRECTORY_LAST_RESORT * 1_000 - 5 * 24 * HOUR_MS;
/// After it was served, or claimed by somebody who waits with it, a package may still come back in
/// a Welcome that lies unread for as long as entries may.
const KEPT_MS: u64 =
    (lifetime::DIRECTORY + lifetime::SKEW + lifetime::RETENTION_MAX + lifetime::MARGIN) * 1_000;
/// As above, for a last resort, which its finder may use again and again meanwhile.
const KEPT_LAST_RESORT_MS: u64 =
    (lifetime::DIRECTORY_LAST_RESORT + lifetime::SKEW + lifetime::RETENTION_MAX + lifetime::MARGIN)
        * 1_000;

impl Machine {
    /// Makes what is missing at the server, or will be soon.
    pub(super) fn refill(
        &mut self,
        step: &mut Step<'_>,
        status: &KeyPackageStatus,
    ) -> Result<(), ClientError> {
        self.status_due = false;
        // None with an ended certificate is of use: the server takes none.
        if step.db.upload()?.is_some() || self.has_ended(step)? {
            return Ok(());
        }
        let missing = self.missing_key_packages(step, status.available)?;
        let last_resort =
            !status.has_last_resort || status.last_resort_used || self.is_last_resort_old(step)?;
        if missing == 0 && !last_resort {
            return Ok(());
        }
        let mut key_packages = Vec::new();
        for _ in 0..missing {
            key_packages.push(self.new_key_package(step, false)?);
        }
        let last_resort = if last_resort { Some(self.new_key_package(step, true)?) } else { None };
        let request_id = RequestId(step.random());
        Ok(step.db.put_upload(&UploadRow { request_id, key_packages, last_resort })?)
    }

    /// How many to make: the server gives the oldest away first, so what it has left are the
    /// youngest that were made.
    fn missing_key_packages(&self, step: &Step<'_>, available: u32) -> Result<u32, ClientError> {
        let young = self.young_since(step, FRESH_MS)?;
        let fresh = available.min(step.db.own_key_packages_since((false, young))?);
        if fresh >= self.pool.refill {
            return Ok(0);
        }
        let most = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        let room = most(KEY_PACKAGES_PER_DEVICE_MAX).saturating_sub(available);
        let missing = self.pool.full.saturating_sub(fresh);
        Ok(missing.min(room).min(most(UPLOAD_KEY_PACKAGES_MAX)))
    }

    fn is_last_resort_old(&self, step: &Step<'_>) -> Result<bool, ClientError> {
        let young = self.young_since(step, FRESH_LAST_RESORT_MS)?;
        Ok(step.db.own_key_packages_since((true, young))? == 0)
    }

    /// When a package was made at the earliest that is of use for a while: not before the device's
    /// certificate was renewed.
    fn young_since(&self, step: &Step<'_>, fresh_ms: u64) -> Result<u64, ClientError> {
        let young = self.server_now(step).saturating_sub(fresh_ms);
        Ok(young.max(step.db.renewed_at()?))
    }

    fn new_key_package(&self, step: &Step<'_>, last_resort: bool) -> Result<Vec<u8>, ClientError> {
        let made_at_ms = self.server_now(step);
        let made = self.engine.key_package(step.db.0, last_resort, step.now_ms)?;
        let reference = made.reference;
        step.db.put_own_key_package(&OwnKeyPackage { reference, last_resort, made_at_ms })?;
        Ok(made.bytes)
    }

    /// A Welcome was opened: what it was made for is used. True if that is a last resort.
    pub(super) fn note_used(
        &mut self,
        step: &Step<'_>,
        welcome: &[u8],
    ) -> Result<bool, ClientError> {
        // Who was added by a package has one less at the server.
        self.status_due = true;
        for reference in welcome_references(welcome).unwrap_or_default() {
            match step.db.own_key_package(&reference)? {
                Some(used) if used.last_resort => return Ok(true),
                Some(_) => step.db.drop_own_key_package(&reference)?,
                None => {}
            }
        }
        Ok(false)
    }

    /// Deletes the private parts that no Welcome can need any more.
    pub(super) fn retire_key_packages(&mut self, step: &Step<'_>) -> Result<(), ClientError> {
        let now = self.server_now(step);
        self.adopt_key_packages(step)?;
        for (last_resort, kept_ms) in [(false, KEPT_MS), (true, KEPT_LAST_RESORT_MS)] {
            let before = now.saturating_sub(kept_ms);
            let gone = step.db.own_key_packages_before((last_resort, before))?;
            if !gone.is_empty() {
                self.engine.forget_key_packages(step.db.0, &gone)?;
            }
            for reference in gone {
                step.db.drop_own_key_package(&reference)?;
            }
        }
        Ok(())
    }

    /// Packages of which nothing is known (an earlier version made them) count as last resorts made
    /// now, which are kept the longest.
    fn adopt_key_packages(&self, step: &Step<'_>) -> Result<(), ClientError> {
        let made_at_ms = self.server_now(step);
        for reference in self.engine.own_key_packages(step.db.0)? {
            if step.db.own_key_package(&reference)?.is_none() {
                // Old enough for another to be made.
                step.db.put_own_key_package(&OwnKeyPackage {
                    reference,
                    last_resort: true,
                    made_at_ms: made_at_ms.saturating_sub(FRESH_LAST_RESORT_MS + 1),
                })?;
            }
        }
        Ok(())
    }

    /// The upload that waits.
    pub(super) fn next_upload(
        &self,
        step: &Step<'_>,
    ) -> Result<Option<(RequestId, Request)>, ClientError> {
        Ok(step.db.upload()?.map(|upload| {
            let request = UploadKeyPackages {
                key_packages: upload.key_packages.into_iter().map(Into::into).collect(),
                last_resort: upload.last_resort.map(Into::into),
            };
            (upload.request_id, Request::UploadKeyPackages(request))
        }))
    }

    /// The upload arrived, or never will.
    pub(super) fn uploaded(&mut self, step: &Step<'_>) -> Result<(), ClientError> {
        if let Some(upload) = step.db.upload()? {
            step.db.drop_upload(&upload.request_id)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;
    use tempfile::TempDir;

    use super::*;
    use crate::core::Core;
    use crate::home::{Home, Protection};
    use crate::machine::Pool;
    use crate::register::Account;

    const NOW: u64 = 1_800_000_000_000;
    const POOL: Pool = Pool { full: 6, refill: 3 };

    fn alice() -> (TempDir, Core) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Home::new(dir.path().join("h")).open_new(&Protection::KeyFile).unwrap();
        let account = Account::prepare(&mut store, ("a", "qpc://h:1/#00"), (NOW, &mut OsRng));
        account.unwrap().registered(&mut store).unwrap();
        (dir, Core::open(store, POOL).unwrap())
    }

    /// What is uploaded at a time when the server has so many: single-use ones and a last resort.
    fn refilled(core: &mut Core, (now_ms, available): (u64, u32)) -> (usize, bool) {
        let status =
            KeyPackageStatus { available, has_last_resort: now_ms > NOW, last_resort_used: false };
        let work = |m: &mut Machine, s: &mut Step<'_>| {
            m.refill(s, &status)?;
            let upload = s.db.upload()?;
            m.uploaded(s)?;
            Ok(upload.map_or((0, false), |u| (u.key_packages.len(), u.last_resort.is_some())))
        };
        core.with((now_ms, &mut OsRng), work).unwrap().0
    }

    /// How many private parts are kept, after those were deleted whose time has come.
    fn kept(core: &mut Core, now_ms: u64) -> usize {
        let work = |m: &mut Machine, s: &mut Step<'_>| {
            m.retire_key_packages(s)?;
            Ok(m.engine.own_key_packages(s.db.0)?.len())
        };
        core.with((now_ms, &mut OsRng), work).unwrap().0
    }

    #[test]
    fn case_089_packages_are_replaced_before_the_server_stops_serving_them() {
        let (_dir, mut core) = alice();
        assert_eq!(refilled(&mut core, (NOW, 0)), (6, true));
        let old = NOW + 20 * HOUR_MS;
        assert_eq!(refilled(&mut core, (old, 6)), (0, false));
        assert_eq!(refilled(&mut core, (old + 1, 6)), (6, false));
        // The server has both now, and gives the old ones away first.
        assert_eq!(refilled(&mut core, (old + 2, 12)), (0, false));
        assert_eq!(refilled(&mut core, (old + 2, 3)), (0, false));
        assert_eq!(refilled(&mut core, (old + 2, 2)), (4, false));
    }

    #[test]
    fn a_last_resort_is_replaced_while_the_server_still_serves_it() {
        let (_dir, mut core) = alice();
        refilled(&mut core, (NOW, 0));
        let old = NOW + FRESH_LAST_RESORT_MS;
        assert!(!refilled(&mut core, (old, 0)).1);
        assert!(refilled(&mut core, (old + 1, 0)).1);
    }

    #[test]
    fn packages_that_name_an_old_certificate_are_replaced() {
        let (_dir, mut core) = alice();
        assert_eq!(refilled(&mut core, (NOW, 0)), (6, true));
        assert_eq!(refilled(&mut core, (NOW + 2, 6)), (0, false));
        core.with((NOW + 1, &mut OsRng), |_, s| Ok(s.db.set_renewed(NOW + 1)?)).unwrap();
        assert_eq!(refilled(&mut core, (NOW + 2, 6)), (6, true));
        assert_eq!(refilled(&mut core, (NOW + 3, 12)), (0, false));
        // What was made before is kept for who has it already.
        assert_eq!(kept(&mut core, NOW + 3), 14);
    }

    #[test]
    fn case_079_private_parts_go_when_no_welcome_can_need_them() {
        let (_dir, mut core) = alice();
        refilled(&mut core, (NOW, 0));
        assert_eq!(kept(&mut core, NOW), 7);
        assert_eq!(kept(&mut core, NOW + KEPT_MS), 7);
        assert_eq!(kept(&mut core, NOW + KEPT_MS + 1), 1, "the last resort");
        assert_eq!(kept(&mut core, NOW + KEPT_LAST_RESORT_MS), 1);
        assert_eq!(kept(&mut core, NOW + KEPT_LAST_RESORT_MS + 1), 0);
    }

    #[test]
    fn packages_of_which_nothing_is_noted_go_in_their_time_too() {
        let (_dir, mut core) = alice();
        let made = core
            .with((NOW, &mut OsRng), |m, s| Ok(m.engine.key_package(s.db.0, false, s.now_ms)?));
        made.unwrap();
        assert_eq!(kept(&mut core, NOW), 1);
        assert_eq!(kept(&mut core, NOW + KEPT_MS), 1);
        assert_eq!(kept(&mut core, NOW + KEPT_LAST_RESORT_MS), 0);
    }
}
