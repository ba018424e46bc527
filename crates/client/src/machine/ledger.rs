//! The loss ledger: what this device never read, or could not, as rows with a stable code, for the
//! screen and for scripts. Decides nothing about what is read.

use qpc_proto::ChannelId;
use qpc_proto::message::{ChannelKind, Entry};

use super::commits::{ELSEWHERE, NOT_FOR_US};
use super::store::{ChannelRow, LossRow};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view::{self, LossCode};

/// Why an entry was set aside on which this program failed.
pub(super) const CRASHED: &str = "this program failed on it again and again";

/// The code of a reason for which an entry is kept unread.
pub(super) fn code_of(reason: &str) -> LossCode {
    const OTHER_BRANCH: [&str; 2] = ["sent on another branch", ELSEWHERE];
    const UNSUPPORTED: [&str; 2] = ["unknown kind of entry", "a notice that needs a newer"];
    const MALFORMED: [&str; 8] = [
        "not an application message",
        "its content is malformed",
        "its sender is no member",
        "it is no ",
        "the statement does not verify",
        "a Commit that does not parse",
        "the credential is not",
        "the certificate names another",
    ];
    let begins = |all: &[&str]| all.iter().any(|text| reason.starts_with(text));
    if begins(&OTHER_BRANCH) {
        LossCode::OtherBranch
    } else if begins(&UNSUPPORTED) {
        LossCode::Unsupported
    } else if begins(&MALFORMED) {
        LossCode::Malformed
    } else if reason.starts_with("a void Commit") {
        LossCode::Void
    } else if reason == NOT_FOR_US {
        LossCode::Unjudged
    } else if reason.starts_with("it does not decrypt") {
        LossCode::Undecryptable
    } else if reason == CRASHED {
        LossCode::Crashed
    } else {
        LossCode::Unreadable
    }
}

impl Machine {
    /// Notes that an entry is kept unread.
    pub(super) fn note_loss(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
        (entry, reason): (&Entry, &str),
    ) -> Result<(), ClientError> {
        Ok(step.db.put_loss(&LossRow {
            channel: *channel,
            seq: entry.seq,
            count: 1,
            code: code_of(reason).as_str().to_owned(),
            reason: reason.to_owned(),
            at_ms: entry.accepted_at_ms,
            retried: 0,
        })?)
    }

    /// Notes that the entries between two places, neither included, expired unread.
    pub(super) fn note_expired(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
        (cursor, first): (u64, u64),
    ) -> Result<(), ClientError> {
        let count = first.saturating_sub(cursor).saturating_sub(1);
        if count == 0 {
            return Ok(());
        }
        Ok(step.db.put_loss(&LossRow {
            channel: *channel,
            seq: cursor.saturating_add(1),
            count,
            code: LossCode::Expired.as_str().to_owned(),
            reason: "expired before this device read it".to_owned(),
            at_ms: step.now_ms,
            retried: 0,
        })?)
    }

    /// Notes that this device reads nothing of what came from one place to another, both included,
    /// in a channel that it only learns of now.
    pub(super) fn note_unheard(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
        (first, last): (u64, u64),
    ) -> Result<(), ClientError> {
        let count = last.saturating_add(1).saturating_sub(first);
        if count == 0 {
            return Ok(());
        }
        Ok(step.db.put_loss(&LossRow {
            channel: *channel,
            seq: first,
            count,
            code: LossCode::Unreadable.as_str().to_owned(),
            reason: "said before this device knew the channel, or knew it again".to_owned(),
            at_ms: step.now_ms,
            retried: 0,
        })?)
    }

    /// What was lost, of one channel or of all, the inbox among them.
    ///
    /// # Errors
    /// The database.
    pub fn losses(
        &self,
        step: &Step<'_>,
        channel: Option<&ChannelId>,
    ) -> Result<Vec<view::Loss>, ClientError> {
        let mut known: Option<ChannelRow> = None;
        let mut all = Vec::new();
        for loss in step.db.losses(channel)? {
            if known.as_ref().is_none_or(|row| row.channel != loss.channel) {
                known = step.db.channel(&loss.channel)?;
            }
            let title = match &known {
                Some(row) if row.kind == ChannelKind::Inbox => "inbox".to_owned(),
                Some(row) => row.title.clone(),
                None => String::new(),
            };
            all.push(view::Loss {
                channel: loss.channel.to_string(),
                title,
                seq: loss.seq,
                count: loss.count,
                code: loss.code,
                reason: loss.reason,
                at_ms: loss.at_ms,
                retried: loss.retried,
            });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_code() {
        for (reason, code) in [
            ("sent on another branch of the group", LossCode::OtherBranch),
            (ELSEWHERE, LossCode::OtherBranch),
            (NOT_FOR_US, LossCode::Unjudged),
            ("a void Commit (role): skipped by everyone", LossCode::Void),
            ("it does not decrypt in this epoch", LossCode::Undecryptable),
            ("its content is malformed", LossCode::Malformed),
            ("it is no PrivateMessage", LossCode::Malformed),
            ("unknown kind of entry", LossCode::Unsupported),
            (CRASHED, LossCode::Crashed),
            ("something new", LossCode::Unreadable),
        ] {
            assert_eq!(code_of(reason), code, "{reason}");
        }
    }

    #[test]
    fn codes_are_documented() {
        let page = include_str!("../../../../docs/use/json.md");
        for code in LossCode::ALL {
            assert!(page.contains(&format!("`{}`", code.as_str())), "{}", code.as_str());
        }
    }
}
