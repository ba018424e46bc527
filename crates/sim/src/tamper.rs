//! A server that lies about one channel: it keeps the log itself, shows some members another one
//! than the others, and computes the hash chain of what it shows anew.
//!
//! It never touches what members signed or sealed, for no server can: places, kinds, times, ids and
//! everything else that travels in the open are its own.

mod lie;
mod side;

use std::collections::{BTreeMap, BTreeSet};

use qpc_client::machine::{Input, Outgoing};
use qpc_proto::chain::Log;
use qpc_proto::message::{
    Accepted, CommitBundle, Cursor, EnqueueAnswer, Entry, EntryKind, NewEntry, Page, Request,
    Response,
};
use qpc_proto::{ChannelId, Digest, ErrorBody, MessageId};

pub use lie::Lie;
use side::Side;

impl Lie {
    /// Whether it can be told about an entry.
    fn fits(&self, entry: &Entry) -> bool {
        match self {
            Self::DropCommit | Self::Change | Self::Statements | Self::Welcome => {
                entry.kind == EntryKind::Commit
            }
            Self::Kind | Self::AfterCommit => entry.kind != EntryKind::Statement,
            Self::Drop
            | Self::Swap
            | Self::Replay
            | Self::Fork
            | Self::Rollback
            | Self::AcceptTime
            | Self::OtherChannel(_)
            | Self::Statement(_) => true,
        }
    }
}

/// What becomes of the hash chain over a lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// The heads are those of the true log.
    True,
    /// The chain is computed over what is shown.
    Recomputed,
}

/// Entries that no longer cross in a fork.
const FORK_LEN: u64 = 4;
/// Entries that a rollback takes back.
const ROLLBACK_LEN: usize = 2;

/// The lying server of one channel.
pub struct Tamper {
    log: Log,
    victims: BTreeSet<usize>,
    /// What everybody else is shown.
    truth: Side,
    /// What the victims are shown.
    shown: Side,
    planned: Option<(Lie, Chain)>,
    /// Entries that are still shown as they are before the lie.
    after: u64,
    told_at: Option<u64>,
    chain: Chain,
    /// Shown behind the next entry.
    late: Option<Entry>,
    /// Entries that still do not cross.
    cut: u64,
    acked: BTreeMap<usize, u64>,
    /// Victims who are pushed again what is shown instead of what they had, from here on.
    rolled: BTreeMap<usize, u64>,
}

impl Tamper {
    /// A server that has told the truth so far: `entries` is the whole log.
    pub fn new(log: Log, entries: &[Entry], victims: &[usize]) -> Self {
        Self {
            log,
            victims: victims.iter().copied().collect(),
            truth: Side::over(entries),
            shown: Side::over(entries),
            planned: None,
            after: 0,
            told_at: None,
            chain: Chain::Recomputed,
            late: None,
            cut: 0,
            acked: BTreeMap::new(),
            rolled: BTreeMap::new(),
        }
    }

    /// Has it lie about the first fitting entry for the victims after `after` others.
    pub fn plan(&mut self, lie: (Lie, Chain), after: u64) {
        (self.planned, self.after) = (Some(lie), after);
    }

    /// The first number at which the victims were shown something else, once they were.
    pub fn told_at(&self) -> Option<u64> {
        self.told_at
    }

    pub(crate) fn channel(&self) -> ChannelId {
        self.log.channel
    }

    fn is_victim(&self, client: usize) -> bool {
        self.victims.contains(&client)
    }

    fn side(&self, client: usize) -> &Side {
        if self.is_victim(client) { &self.shown } else { &self.truth }
    }

    /// Answers a request about the channel; what an acknowledgement says of it is taken out.
    pub(crate) fn answer(
        &mut self,
        (client, now_ms): (usize, u64),
        outgoing: &mut Outgoing,
    ) -> Option<Result<Response, ErrorBody>> {
        let channel = self.log.channel;
        let request = &mut outgoing.request;
        if let Request::Ack(cursors) = request {
            return self.note_acked(client, cursors);
        }
        if let Request::Fetch(fetch) = request
            && fetch.channel == channel
        {
            return Some(Ok(Response::Page(self.page(client, fetch.after_seq))));
        }
        if let Request::Enqueue(enqueue) = request
            && enqueue.channel == channel
        {
            let entries = enqueue.entries.iter().map(|entry| of_message(entry, now_ms));
            return Some(Ok(Response::Enqueued(self.post_all(client, entries))));
        }
        let entry = if let Request::Commit(commit) = request
            && commit.channel == channel
        {
            of_commit(&commit.bundle, now_ms)
        } else if let Request::Statement(statement) = request
            && statement.channel == channel
        {
            let mut entry = blank(now_ms);
            entry.kind = EntryKind::Statement;
            entry.message_id = MessageId(outgoing.request_id.0);
            entry.payload = statement.statement.clone();
            entry
        } else {
            return None;
        };
        Some(self.post(client, entry).map(Response::Accepted))
    }

    /// Keeps what is acknowledged of the channel for itself; answers if there is nothing else.
    fn note_acked(
        &mut self,
        client: usize,
        cursors: &mut Vec<Cursor>,
    ) -> Option<Result<Response, ErrorBody>> {
        let before = cursors.len();
        for cursor in cursors.iter().filter(|cursor| cursor.channel == self.log.channel) {
            self.acked.insert(client, cursor.seq);
        }
        cursors.retain(|cursor| cursor.channel != self.log.channel);
        (before > 0 && cursors.is_empty()).then_some(Ok(Response::Done))
    }

    fn post_all(&mut self, client: usize, entries: impl Iterator<Item = Entry>) -> EnqueueAnswer {
        let mut answer = EnqueueAnswer { accepted: Vec::new(), refusal: None };
        for entry in entries {
            match self.post(client, entry) {
                Ok(accepted) => answer.accepted.push(accepted),
                Err(refusal) => {
                    answer.refusal = Some(refusal);
                    break;
                }
            }
        }
        answer
    }

    /// What a client is shown behind a number.
    fn page(&self, client: usize, after_seq: u64) -> Page {
        let side = self.side(client);
        let entries = side.entries().filter(|entry| entry.seq > after_seq).cloned().collect();
        let (channel, head_seq) = (self.log.channel, side.head_seq());
        Page { channel, entries, head_seq, published: Vec::new() }
    }

    /// What is pushed to a client that was pushed everything up to a number.
    pub(crate) fn push(&mut self, client: usize, after_seq: u64) -> Page {
        let rolled = self.rolled.remove(&client);
        self.page(client, rolled.map_or(after_seq, |to| to.min(after_seq)))
    }

    /// Says of the channel in a list what fits the lie.
    pub(crate) fn rewrite(&self, client: usize, input: &mut Input) {
        let Input::Answer(_, Ok(Response::Channels(states))) = input else { return };
        for state in states.iter_mut().filter(|state| state.channel == self.log.channel) {
            let side = self.side(client);
            state.head_seq = side.head_seq();
            state.acked_seq = self.acked.get(&client).copied().unwrap_or(state.acked_seq);
            state.last_message_id = side.last_id(client).or(state.last_message_id);
        }
    }

    /// Takes an entry of a client in its place, and shows it to the others.
    fn post(&mut self, client: usize, entry: Entry) -> Result<Accepted, ErrorBody> {
        let victim = self.is_victim(client);
        let (log, chain) = (self.log, self.chain);
        let side = if victim { &mut self.shown } else { &mut self.truth };
        if let Some(before) = side.replay(client, &entry)? {
            return Ok(before);
        }
        // Who writes is told a head that fits what it was shown.
        let accepted = side.take(client, (log, entry.clone()));
        let entry = Entry { head: accepted.head, ..entry };
        if victim {
            match self.cut.checked_sub(1) {
                Some(rest) => self.cut = rest,
                None => drop(self.truth.show(log, (entry, Chain::Recomputed))),
            }
        } else {
            self.show(entry, chain);
        }
        Ok(accepted)
    }

    /// Shows the victims what somebody else wrote.
    fn show(&mut self, entry: Entry, chain: Chain) {
        if let Some(rest) = self.cut.checked_sub(1) {
            self.cut = rest;
            return;
        }
        let due = self.after == 0 && self.late.is_none();
        if let Some((lie, chain)) = self.planned.take_if(|(lie, _)| due && lie.fits(&entry)) {
            self.chain = chain;
            self.told_at = Some(self.shown.next_seq());
            return self.tell(lie, entry);
        }
        self.after = self.after.saturating_sub(1);
        self.shown.show(self.log, (entry, chain));
        if let Some(late) = self.late.take() {
            self.shown.show(self.log, (late, chain));
        }
    }

    /// The lie itself.
    fn tell(&mut self, lie: Lie, mut entry: Entry) {
        let mut beyond = 0_u64;
        match lie {
            Lie::Drop | Lie::DropCommit => return,
            Lie::Swap => {
                self.late = Some(entry);
                return;
            }
            Lie::Fork => {
                self.cut = FORK_LEN;
                return;
            }
            Lie::Replay => {
                self.told_at = Some(self.shown.next_seq().saturating_add(2));
                self.late = Some(entry.clone());
            }
            Lie::Rollback => {
                let left = self.shown.take_back(ROLLBACK_LEN);
                self.told_at = Some(self.shown.next_seq());
                self.rolled = self.victims.iter().map(|victim| (*victim, left)).collect();
            }
            Lie::AcceptTime => entry.accepted_at_ms = entry.accepted_at_ms.saturating_add(1),
            Lie::Kind if entry.kind == EntryKind::Application => entry.kind = EntryKind::Statement,
            Lie::Kind => entry.kind = EntryKind::Application,
            Lie::AfterCommit => beyond = 1,
            Lie::Change => entry.roster_change = vec![1].into(),
            Lie::Statements => entry.statements.push(vec![1].into()),
            Lie::Welcome => entry.welcome_hash = Digest([1; 32]),
            Lie::OtherChannel(payload) => {
                let foreign = Entry { payload: payload.into(), ..invented(&entry) };
                self.shown.show(self.log, (foreign, self.chain));
            }
            Lie::Statement(payload) => {
                let kind = EntryKind::Statement;
                let made = Entry { payload: payload.into(), kind, ..invented(&entry) };
                self.shown.show(self.log, (made, self.chain));
            }
        }
        entry.after_commit = self.shown.follows(&entry).saturating_add(beyond);
        self.shown.put(self.log, (entry, self.chain));
    }
}

/// An entry of the server's own making beside one that it was given.
fn invented(entry: &Entry) -> Entry {
    let mut invented = blank(entry.accepted_at_ms);
    invented.message_id = MessageId(std::array::from_fn(|at| {
        entry.message_id.0.get(at).copied().unwrap_or_default() ^ 1
    }));
    invented
}

fn blank(now_ms: u64) -> Entry {
    Entry {
        seq: 0,
        kind: EntryKind::Application,
        after_commit: 0,
        accepted_at_ms: now_ms,
        message_id: MessageId([0; 16]),
        payload: Vec::new().into(),
        roster_change: Vec::new().into(),
        statements: Vec::new(),
        welcome_hash: Digest::ZERO,
        head: Digest::ZERO,
        welcome: None,
    }
}

fn of_message(new: &NewEntry, now_ms: u64) -> Entry {
    let mut entry = blank(now_ms);
    entry.message_id = new.message_id;
    entry.after_commit = new.after_commit;
    entry.payload = new.payload.clone();
    entry
}

fn of_commit(bundle: &CommitBundle, now_ms: u64) -> Entry {
    let mut entry = blank(now_ms);
    entry.kind = EntryKind::Commit;
    entry.message_id = bundle.message_id;
    entry.after_commit = bundle.after_commit;
    entry.payload = bundle.payload.clone();
    entry.roster_change = bundle.roster_change.clone();
    entry.statements.clone_from(&bundle.statements);
    let welcome = bundle.welcome.as_ref();
    entry.welcome_hash = welcome.map_or(Digest::ZERO, |welcome| qpc_proto::chain::sha256(welcome));
    entry
}
