//! What the server tells of this account, kept until the user has seen it. Its word alone: what a
//! device list shows is read from the list.

use qpc_proto::message::{Entry, Notice, NoticeKind};

use super::inbox::Progress;
use super::store::ChannelRow;
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view::{self, Event};

impl Machine {
    /// Reads a notice from the inbox.
    pub(super) fn notice_entry(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        entry: &Entry,
    ) -> Result<Progress, ClientError> {
        let Ok(notice) = Notice::decode(&entry.payload) else {
            self.keep(step, row, (entry, "a notice that needs a newer qpc"))?;
            return Ok(Progress::Advance);
        };
        let id = step.db.insert_notice(&notice)?;
        step.events.push(Event::Notice(notice_view(id, &notice)));
        match notice.kind {
            NoticeKind::Linked | NoticeKind::Revoked | NoticeKind::Recovered => {
                self.own_due = true;
            }
            NoticeKind::RefreshReused
            | NoticeKind::Exported
            | NoticeKind::DeletionRequested
            | NoticeKind::DeletionCancelled => {}
        }
        Ok(Progress::Advance)
    }

    /// What the server told of this account, oldest first.
    ///
    /// # Errors
    /// The database.
    pub fn notices(
        &self,
        step: &Step<'_>,
        unseen_only: bool,
    ) -> Result<Vec<view::Notice>, ClientError> {
        let all = step.db.notices(unseen_only)?;
        Ok(all.iter().map(|(id, notice)| notice_view(*id, notice)).collect())
    }

    /// Notices up to this number were shown to the user.
    ///
    /// # Errors
    /// The database.
    pub fn mark_notices_seen(&self, step: &Step<'_>, up_to: u64) -> Result<(), ClientError> {
        Ok(step.db.mark_notices_seen(up_to)?)
    }
}

fn notice_view(id: u64, notice: &Notice) -> view::Notice {
    let device = notice.device.to_string();
    let short: String = device.chars().take(8).collect();
    let revoke = format!("if that was not you, revoke it: `qpc device revoke {short}`");
    let thief = "if that was not you, somebody has your device or a copy of its home: revoke it";
    let (kind, text) = match notice.kind {
        NoticeKind::Linked => ("linked", format!("device {short} was linked; {revoke}")),
        NoticeKind::Revoked => ("revoked", format!("device {short} was revoked")),
        NoticeKind::RefreshReused => (
            "refresh_reused",
            format!("a token of device {short} was used twice and counts no more; {thief}"),
        ),
        NoticeKind::Exported => {
            ("exported", format!("device {short} exported the account's data; {thief}"))
        }
        NoticeKind::DeletionRequested => (
            "deletion_requested",
            format!(
                "device {short} asked to delete the account; if that was not you, take it back: \
                 `qpc account cancel-deletion`"
            ),
        ),
        NoticeKind::DeletionCancelled => {
            ("deletion_cancelled", format!("device {short} took the account's deletion back"))
        }
        NoticeKind::Recovered => (
            "recovered",
            format!(
                "device {short} recovered the account; if that was not you, somebody has your \
                 recovery phrase"
            ),
        ),
    };
    let (kind, text) = (kind.to_owned(), format!("the server says: {text}"));
    view::Notice { id, kind, device, at_ms: notice.at_ms, text }
}
