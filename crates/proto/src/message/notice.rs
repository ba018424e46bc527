//! What happened to an account, told to its devices in their inboxes. Encoding and decoding only.

use crate::codec::{Reader, Writer};
use crate::error::Malformed;
use crate::ids::DeviceId;

const LABEL: &str = "qpc/v1 notice";

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// A device was linked.
    Linked,
    /// A device was revoked.
    Revoked,
    /// A refresh token of the device was used twice: one of the users was not the device.
    RefreshReused,
    /// The device exported what the server holds about the account.
    Exported,
    /// The device asked for the account's deletion.
    DeletionRequested,
    /// The device took the deletion back.
    DeletionCancelled,
    /// The device began a new generation of the account key with the recovery phrase.
    Recovered,
}

/// An inbox entry of kind Notice: canonical bytes, covered by the inbox's hash chain. The server
/// says it; only what a device list shows is proven.
///
/// Label, kind u8, device (16), time u64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub kind: NoticeKind,
    /// The device that it happened to, or that did it.
    pub device: DeviceId,
    /// Server time, Unix milliseconds.
    pub at_ms: u64,
}

impl Notice {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        Writer::with_label(LABEL)
            .u8(match self.kind {
                NoticeKind::Linked => 1,
                NoticeKind::Revoked => 2,
                NoticeKind::RefreshReused => 3,
                NoticeKind::Exported => 4,
                NoticeKind::DeletionRequested => 5,
                NoticeKind::DeletionCancelled => 6,
                NoticeKind::Recovered => 7,
            })
            .fixed(self.device)
            .u64(self.at_ms)
            .finish()
    }

    /// Parses canonical bytes.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        r.label(LABEL)?;
        let notice = Self {
            kind: match r.u8()? {
                1 => NoticeKind::Linked,
                2 => NoticeKind::Revoked,
                3 => NoticeKind::RefreshReused,
                4 => NoticeKind::Exported,
                5 => NoticeKind::DeletionRequested,
                6 => NoticeKind::DeletionCancelled,
                7 => NoticeKind::Recovered,
                _ => return Err(Malformed("unknown kind of notice")),
            },
            device: DeviceId(r.array()?),
            at_ms: r.u64()?,
        };
        r.finish()?;
        Ok(notice)
    }
}
