//! The log that one side is shown: takes what its members write as an honest server would, and
//! whatever else it is given.

use std::collections::BTreeMap;

use qpc_proto::chain::{Link, Log};
use qpc_proto::message::{Accepted, Entry, EntryKind};
use qpc_proto::{Digest, ErrorBody, ErrorCode, ErrorDetail, MessageId};

use super::Chain;

/// One side's log, from its first entry.
pub(super) struct Side {
    entries: Vec<Entry>,
    accepted: BTreeMap<(usize, MessageId), Accepted>,
    last_ids: BTreeMap<usize, MessageId>,
}

impl Side {
    pub(super) fn over(entries: &[Entry]) -> Self {
        Self { entries: entries.to_vec(), accepted: BTreeMap::new(), last_ids: BTreeMap::new() }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn head_seq(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq)
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.head_seq().saturating_add(1)
    }

    /// The message id last taken from a client.
    pub(super) fn last_id(&self, client: usize) -> Option<MessageId> {
        self.last_ids.get(&client).copied()
    }

    fn last_commit(&self) -> u64 {
        let mut commits = self.entries.iter().rev();
        commits.find(|entry| entry.kind == EntryKind::Commit).map_or(0, |entry| entry.seq)
    }

    /// The last Commit that an entry follows here, if it names one.
    pub(super) fn follows(&self, entry: &Entry) -> u64 {
        match entry.kind {
            EntryKind::Application | EntryKind::Commit => self.last_commit(),
            EntryKind::Statement | EntryKind::Welcome | EntryKind::Notice => 0,
        }
    }

    /// The first answer again, if the entry was taken before.
    ///
    /// # Errors
    /// `STALE_COMMIT`, if it follows another Commit than the last one here.
    pub(super) fn replay(
        &self,
        client: usize,
        entry: &Entry,
    ) -> Result<Option<Accepted>, ErrorBody> {
        if let Some(first) = self.accepted.get(&(client, entry.message_id)) {
            return Ok(Some(Accepted { duplicate: true, ..*first }));
        }
        if entry.after_commit == self.follows(entry) {
            return Ok(None);
        }
        let stale = ErrorBody::new(ErrorCode::StaleCommit, "stale");
        Err(stale.with_detail(ErrorDetail::LastCommit(self.last_commit())))
    }

    /// Takes an entry of a client.
    pub(super) fn take(&mut self, client: usize, (log, entry): (Log, Entry)) -> Accepted {
        let id = entry.message_id;
        let accepted = self.put(log, (entry, Chain::Recomputed));
        self.accepted.insert((client, id), accepted);
        self.last_ids.insert(client, id);
        accepted
    }

    /// Shows an entry of the other side as one that follows the last Commit here.
    pub(super) fn show(&mut self, log: Log, (entry, chain): (Entry, Chain)) -> Accepted {
        let after_commit = self.follows(&entry);
        self.put(log, (Entry { after_commit, ..entry }, chain))
    }

    /// Appends an entry as it is, but for its number and its head.
    pub(super) fn put(&mut self, log: Log, (mut entry, chain): (Entry, Chain)) -> Accepted {
        entry.seq = self.next_seq();
        let before = self.entries.last().map_or(Digest::ZERO, |entry| entry.head);
        if chain == Chain::Recomputed {
            entry.head = log.next(&before, &Link::of(&entry));
        }
        let accepted = Accepted {
            seq: entry.seq,
            head: entry.head,
            accepted_at_ms: entry.accepted_at_ms,
            duplicate: false,
        };
        self.entries.push(entry);
        accepted
    }

    /// Forgets the last entries; returns the number of the last one left.
    pub(super) fn take_back(&mut self, count: usize) -> u64 {
        self.entries.truncate(self.entries.len().saturating_sub(count).max(1));
        self.head_seq()
    }
}
