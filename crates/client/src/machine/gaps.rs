//! Entries that expired before they were read, or came before a join: what is known of them all the
//! same. For what this device sent itself the server's answer stands. Moves no cursor.

use qpc_credential::RejoinReason;
use qpc_proto::Digest;
use qpc_proto::message::{Accepted, Entry, EntryKind};

use super::store::{ChannelRow, SealedCommitRow};
use super::{Machine, Step, Work};
use crate::error::ClientError;

impl Machine {
    /// The log up to the cursor is shown no more: what it took of this device is settled by the
    /// answers.
    pub(super) fn own_in_gap(
        &mut self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<(), ClientError> {
        step.db.settle_up_to(&row.channel, row.cursor)?;
        if let Some(sealed) = step.db.sealed_commit(&row.channel)? {
            // It may be among what is gone: its answer, asked for once more, says where.
            self.accepted_commits.remove(&sealed.bundle.message_id);
        }
        Ok(())
    }

    /// The server took an own Commit that expired before this device read it: the answer stands for
    /// the entry. What came behind it shows in what is left.
    pub(super) fn commit_in_gap(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (accepted, sealed): (&Accepted, &SealedCommitRow),
    ) -> Result<(), ClientError> {
        // What waited for this answer is read on.
        self.pauses.remove(&Work::Fetch(row.channel));
        let gone = accepted.seq <= row.cursor
            && accepted.seq > row.last_commit
            && step.db.head_at(&row.channel, accepted.seq)?.is_none();
        if !gone || !row.status.reads() {
            return Ok(());
        }
        let bundle = &sealed.bundle;
        let entry = Entry {
            seq: accepted.seq,
            kind: EntryKind::Commit,
            after_commit: bundle.after_commit,
            accepted_at_ms: accepted.accepted_at_ms,
            message_id: bundle.message_id,
            payload: bundle.payload.clone(),
            roster_change: bundle.roster_change.clone(),
            statements: bundle.statements.clone(),
            welcome_hash: Digest::ZERO,
            head: accepted.head,
            welcome: None,
        };
        self.commit_entry(step, row, &entry).map(drop)
    }

    /// Whether an own Commit may be among what expired right before an entry: its answer, asked for
    /// once more, comes first, for nothing behind it can be read without it. What follows the last
    /// Commit that was read has no other before it.
    pub(super) fn awaits_own_commit(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        entry: &Entry,
    ) -> Result<bool, ClientError> {
        if row.last_commit > 0 && entry.after_commit == row.last_commit {
            return Ok(false);
        }
        let Some(sealed) = step.db.sealed_commit(&row.channel)? else { return Ok(false) };
        let answered = self.accepted_commits.contains(&sealed.bundle.message_id);
        Ok(!answered && step.db.rejoin(&row.channel)?.gap_at == Some(row.cursor))
    }

    /// The server names a last Commit that this device has passed unread.
    pub(super) fn missed_commit(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        last_commit: u64,
    ) -> Result<(), ClientError> {
        if row.last_commit < last_commit && last_commit <= row.cursor {
            row.last_commit = last_commit;
            self.want_rejoin(step, row, RejoinReason::Expired)?;
        }
        Ok(())
    }

    /// A statement names no Commit: what stands behind it is as near to the gap.
    pub(super) fn carry_gap(&self, step: &Step<'_>, row: &ChannelRow) -> Result<(), ClientError> {
        let mut rejoin = step.db.rejoin(&row.channel)?;
        if rejoin.gap_at == Some(row.cursor) {
            rejoin.gap_at = Some(row.cursor.saturating_add(1));
            step.db.put_rejoin(&row.channel, &rejoin)?;
        }
        Ok(())
    }
}
