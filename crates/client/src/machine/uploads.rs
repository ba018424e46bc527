//! The pool of KeyPackages: the private part is on disk before the public one is uploaded.

use qpc_proto::RequestId;
use qpc_proto::message::{KeyPackageStatus, Request, UploadKeyPackages};

use super::store::UploadRow;
use super::{Machine, Step};
use crate::error::ClientError;

impl Machine {
    /// Makes what is missing at the server.
    pub(super) fn refill(
        &mut self,
        step: &mut Step<'_>,
        status: &KeyPackageStatus,
    ) -> Result<(), ClientError> {
        self.status_due = false;
        if step.db.upload()?.is_some() {
            return Ok(());
        }
        let short = status.available < self.pool.refill;
        let missing = if short { self.pool.full.saturating_sub(status.available) } else { 0 };
        let last_resort = !status.has_last_resort || status.last_resort_used;
        if missing == 0 && !last_resort {
            return Ok(());
        }
        let mut key_packages = Vec::new();
        for _ in 0..missing {
            key_packages.push(self.engine.key_package(step.db.0, false, step.now_ms)?.bytes);
        }
        let last_resort = if last_resort {
            Some(self.engine.key_package(step.db.0, true, step.now_ms)?.bytes)
        } else {
            None
        };
        let request_id = RequestId(step.random());
        Ok(step.db.put_upload(&UploadRow { request_id, key_packages, last_resort })?)
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
