//! The reference model: what an honest server has said to anybody, and from that alone who is owed
//! what. Uses the protocol's own encodings, and no code of client, group engine or server.
//!
//! It hears all that the server answers and shows. An entry is *owed* to the devices in the roster
//! before it. Excused is who was taken out and in again later, whose account had left alone, who
//! lost its place and left, or where retention has passed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use qpc_credential::{Posted, Statement, StatementBody};
use qpc_proto::chain::{Link, Log};
use qpc_proto::message::{
    Accepted, CommitBundle, DeviceRef, Entry, EntryKind, Page, Request, Response,
};
use qpc_proto::roster::RosterChange;
use qpc_proto::{AccountId, ChannelId, Digest, Incarnation, MessageId};

/// What is known of one entry.
#[derive(Debug, Clone)]
struct Known {
    kind: EntryKind,
    head: Digest,
    message_id: MessageId,
    accepted_at_ms: u64,
    /// What a Commit declares.
    change: Option<RosterChange>,
    /// The account that leaves, if that is what a statement says.
    leaves: Option<AccountId>,
}

/// What is known of one log.
#[derive(Debug, Clone, Default)]
struct Knowledge {
    entries: BTreeMap<u64, Known>,
    /// The last entry that a page showed anybody.
    last_shown: u64,
    /// The first answer to each message id of a device.
    answered: BTreeMap<(DeviceRef, MessageId), Accepted>,
    /// Who sent what has a place.
    senders: BTreeMap<u64, DeviceRef>,
}

/// A message in a log, and who is owed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owed {
    /// Its number.
    pub(crate) seq: u64,
    /// When the server took it, Unix milliseconds.
    pub(crate) accepted_at_ms: u64,
    /// Who could read it when it came.
    pub(crate) roster: BTreeSet<DeviceRef>,
    /// Those of them that were taken out and in again later.
    pub(crate) came_back: BTreeSet<DeviceRef>,
    /// Those of them whose account had left by then, with nobody else there to remove it.
    pub(crate) left: BTreeSet<DeviceRef>,
    /// Those of them whose account leaves and that a later Commit takes out, with the Commits of
    /// others from their joining to this message: who leaves and never read one of these is not
    /// taken in again. (What became of an own one the server answers.)
    pub(crate) leaving: BTreeMap<DeviceRef, BTreeSet<u64>>,
}

/// Who has said so far that it leaves, and who was out at once by that.
#[derive(Debug, Default)]
struct Leavers {
    said: BTreeSet<AccountId>,
    out: BTreeSet<DeviceRef>,
}

/// Everything that the server said.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    incarnation: Incarnation,
    logs: BTreeMap<ChannelId, Knowledge>,
}

impl Model {
    /// A model of one life of a server.
    pub(crate) fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, logs: BTreeMap::new() }
    }

    /// The server gave a device an answer.
    ///
    /// # Errors
    /// When it contradicts what it said before.
    pub(crate) fn answered(
        &mut self,
        device: DeviceRef,
        (request, response): (&Request, &Response),
    ) -> Result<()> {
        match (request, response) {
            (Request::Enqueue(enqueue), Response::Enqueued(answer)) => {
                let ids = enqueue.entries.iter().map(|entry| entry.message_id);
                for (id, accepted) in ids.zip(&answer.accepted) {
                    self.accepted((enqueue.channel, device), (id, None), accepted)?;
                }
                Ok(())
            }
            (Request::Commit(commit), Response::Accepted(accepted)) => {
                self.committed((commit.channel, device), &commit.bundle, accepted)
            }
            (Request::CreateChannel(create), Response::Accepted(accepted)) => {
                self.committed((create.channel, device), &create.bundle, accepted)
            }
            (_, Response::Page(page)) => self.shown(page),
            _ => Ok(()),
        }
    }

    fn committed(
        &mut self,
        place: (ChannelId, DeviceRef),
        bundle: &CommitBundle,
        accepted: &Accepted,
    ) -> Result<()> {
        let change = RosterChange::decode(&bundle.roster_change)?;
        self.accepted(place, (bundle.message_id, Some(change)), accepted)
    }

    /// An entry has its place, whoever is shown it. A Commit comes with what it declares.
    fn accepted(
        &mut self,
        (channel, device): (ChannelId, DeviceRef),
        (id, change): (MessageId, Option<RosterChange>),
        accepted: &Accepted,
    ) -> Result<()> {
        let log = self.logs.entry(channel).or_default();
        let place = (accepted.seq, accepted.head, accepted.accepted_at_ms);
        if let Some(first) = log.answered.get(&(device, id)) {
            let before = (first.seq, first.head, first.accepted_at_ms);
            ensure!(place == before, "a second answer differs: {place:?}, {before:?}");
            return Ok(());
        }
        let other = log.senders.insert(accepted.seq, device);
        ensure!(other.is_none(), "a place was given twice: {}", accepted.seq);
        if let Some(known) = log.entries.get(&accepted.seq) {
            let same = known.head == accepted.head && known.message_id == id;
            ensure!(same, "an answer names a place of another entry: {}", accepted.seq);
        }
        log.answered.insert((device, id), *accepted);
        log.entries.entry(accepted.seq).or_insert_with(|| Known {
            kind: change.as_ref().map_or(EntryKind::Application, |_| EntryKind::Commit),
            head: accepted.head,
            message_id: id,
            accepted_at_ms: accepted.accepted_at_ms,
            change,
            leaves: None,
        });
        Ok(())
    }

    /// The server showed somebody a page.
    ///
    /// # Errors
    /// When it contradicts what it showed before, or its own hash chain, or leaves a number out.
    pub(crate) fn shown(&mut self, page: &Page) -> Result<()> {
        let chain = Log { incarnation: self.incarnation, channel: page.channel };
        let log = self.logs.entry(page.channel).or_default();
        let mut last = None;
        for entry in &page.entries {
            let follows = last.is_none_or(|last: u64| last.checked_add(1) == Some(entry.seq));
            ensure!(follows, "a page leaves a number out before {}", entry.seq);
            last = Some(entry.seq);
            log.show(chain, entry)?;
        }
        Ok(())
    }

    /// The channels that it knows of.
    pub(crate) fn channels(&self) -> impl Iterator<Item = ChannelId> {
        self.logs.keys().copied()
    }

    /// Who is in a channel by the Commits that are known.
    pub(crate) fn roster(&self, channel: &ChannelId) -> BTreeSet<DeviceRef> {
        let Some(log) = self.logs.get(channel) else { return BTreeSet::new() };
        let mut roster = log.founder();
        log.entries.values().for_each(|known| known.change(&mut roster));
        roster
    }

    /// The messages of a log, in order, and who is owed each; none of a log of which entries
    /// expired before anybody was shown them, for they may have been Commits.
    ///
    /// # Errors
    /// When the log has a hole though nothing expired, or lacks what was accepted.
    pub(crate) fn owed(&self, channel: &ChannelId, expired: bool) -> Result<Vec<Owed>> {
        let Some(log) = self.logs.get(channel) else { return Ok(Vec::new()) };
        if !log.check_whole(expired)? {
            return Ok(Vec::new());
        }
        let (mut roster, mut leavers) = (log.founder(), Leavers::default());
        let mut all = Vec::new();
        for (seq, known) in &log.entries {
            known.change(&mut roster);
            leavers.follow(known, &roster);
            if known.kind == EntryKind::Application {
                let (accepted_at_ms, roster) = (known.accepted_at_ms, roster.clone());
                let came_back = log.came_back(*seq, &roster);
                let left = leavers.out.clone();
                let leaving = log.leaving((*seq, &roster), &leavers.said);
                all.push(Owed { seq: *seq, accepted_at_ms, roster, came_back, left, leaving });
            }
        }
        Ok(all)
    }
}

impl Known {
    /// Changes a roster as this entry declares.
    fn change(&self, roster: &mut BTreeSet<DeviceRef>) {
        let Some(change) = &self.change else { return };
        roster.retain(|device| !change.removes.contains(device));
        roster.extend(change.adds.iter().copied());
    }
}

impl Leavers {
    /// What an entry does, with the roster behind it. An account that leaves is out when a Commit
    /// removes it; one that nobody else is left to remove is out at once (docs/protocol/client.md),
    /// and stays so for those of its devices that were in, whoever is let in by one that has not
    /// heard of it.
    fn follow(&mut self, known: &Known, roster: &BTreeSet<DeviceRef>) {
        self.said.extend(known.leaves);
        self.said.retain(|account| roster.iter().any(|device| device.account == *account));
        let again = |device: &DeviceRef| {
            known.change.as_ref().is_some_and(|change| change.adds.contains(device))
        };
        self.out.retain(|device| roster.contains(device) && !again(device));
        let accounts: BTreeSet<AccountId> = roster.iter().map(|device| device.account).collect();
        if accounts.len() == 1 && accounts.is_subset(&self.said) {
            self.out.extend(roster.iter().copied());
        }
    }
}

/// The account that leaves by an entry, if it is a Leave for this channel.
fn leaver(channel: &ChannelId, entry: &Entry) -> Option<AccountId> {
    if entry.kind != EntryKind::Statement {
        return None;
    }
    match Posted::verify(&entry.payload, channel) {
        Ok(Posted::Said(Statement { body: StatementBody::Leave, certificate, .. })) => {
            Some(certificate.device().account)
        }
        Ok(Posted::Said(_) | Posted::Devices(_)) | Err(_) => None,
    }
}

impl Knowledge {
    /// Who makes a channel is in it; the first Commit adds the others.
    fn founder(&self) -> BTreeSet<DeviceRef> {
        self.senders.get(&1).copied().into_iter().collect()
    }

    fn show(&mut self, chain: Log, entry: &Entry) -> Result<()> {
        let change = match entry.kind {
            EntryKind::Commit => Some(RosterChange::decode(&entry.roster_change)?),
            EntryKind::Application
            | EntryKind::Statement
            | EntryKind::Welcome
            | EntryKind::Notice => None,
        };
        let before = entry.seq.checked_sub(1).context("an entry of number 0")?;
        let previous = match before {
            0 => Some(Digest::ZERO),
            _ => self.entries.get(&before).map(|known| known.head),
        };
        if let Some(previous) = previous {
            let head = chain.next(&previous, &Link::of(entry));
            ensure!(head == entry.head, "the hash chain breaks at {}", entry.seq);
        }
        self.last_shown = self.last_shown.max(entry.seq);
        if let Some(known) = self.entries.get(&entry.seq) {
            ensure!(known.head == entry.head, "entry {} was shown otherwise before", entry.seq);
            return Ok(());
        }
        let known = Known {
            kind: entry.kind,
            head: entry.head,
            message_id: entry.message_id,
            accepted_at_ms: entry.accepted_at_ms,
            change,
            leaves: leaver(&chain.channel, entry),
        };
        self.entries.insert(entry.seq, known);
        Ok(())
    }

    /// Nothing is missing up to the last entry that anybody was shown, but what may have expired,
    /// and what was accepted there is in its place. False if something is missing.
    fn check_whole(&self, expired: bool) -> Result<bool> {
        let last = self.last_shown;
        let count = u64::try_from(self.entries.range(..=last).count())?;
        ensure!(expired || count == last, "the log has a hole: {count} entries of {last}");
        for ((_, id), accepted) in &self.answered {
            let known = self.entries.get(&accepted.seq);
            let kept =
                known.is_none_or(|known| known.message_id == *id && known.head == accepted.head);
            ensure!(kept, "what was accepted as {} is another entry", accepted.seq);
        }
        Ok(count == last)
    }

    /// Who of a roster was taken out and in again by one Commit after a number.
    fn came_back(&self, after: u64, roster: &BTreeSet<DeviceRef>) -> BTreeSet<DeviceRef> {
        let later = self.entries.range(after..).filter_map(|(_, known)| known.change.as_ref());
        let swapped = later.flat_map(|change| change.adds.intersection(&change.removes));
        swapped.filter(|device| roster.contains(device)).copied().collect()
    }

    /// Who of a roster leaves and is taken out by a Commit after a number, with the Commits of
    /// others from their joining to that number. Some may have said so already.
    fn leaving(
        &self,
        (after, roster): (u64, &BTreeSet<DeviceRef>),
        said: &BTreeSet<AccountId>,
    ) -> BTreeMap<DeviceRef, BTreeSet<u64>> {
        let (mut said, mut left) = (said.clone(), BTreeSet::new());
        let mut still_in = roster.clone();
        for known in self.entries.range(after..).map(|(_, known)| known) {
            said.extend(known.leaves);
            let Some(change) = &known.change else { continue };
            let removed = change.removes.iter().filter(|device| still_in.remove(device));
            let gone = removed.filter(|device| !change.adds.contains(device));
            left.extend(gone.filter(|device| said.contains(&device.account)).copied());
        }
        let commits = |device: &DeviceRef| {
            let before = self.entries.range(..after).rev();
            let changes = before.filter_map(|(seq, known)| Some((*seq, known.change.as_ref()?)));
            let since = changes.take_while(|(_, change)| !change.adds.contains(device));
            let others = since.filter(|(seq, _)| self.senders.get(seq) != Some(device));
            others.map(|(seq, _)| seq).collect()
        };
        left.into_iter().map(|device| (device, commits(&device))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_proto::DeviceId;

    const CHANNEL: ChannelId = ChannelId([5; 16]);

    fn device(n: u8) -> DeviceRef {
        DeviceRef { account: AccountId([n; 16]), device: DeviceId([n; 16]) }
    }

    fn entry(seq: u64, kind: EntryKind, change: Option<RosterChange>) -> Entry {
        Entry {
            seq,
            kind,
            after_commit: 0,
            accepted_at_ms: seq,
            message_id: MessageId([u8::try_from(seq).unwrap(); 16]),
            payload: vec![1].into(),
            roster_change: change.map(|change| change.encode()).unwrap_or_default().into(),
            statements: Vec::new(),
            welcome_hash: Digest::ZERO,
            head: Digest::ZERO,
            welcome: None,
        }
    }

    fn change(adds: &[u8], removes: &[u8]) -> Option<RosterChange> {
        let of = |all: &[u8]| all.iter().map(|n| device(*n)).collect();
        Some(RosterChange { adds: of(adds), removes: of(removes), ..RosterChange::default() })
    }

    /// A page of a whole log with the heads that it must have.
    fn log(mut entries: Vec<Entry>) -> Page {
        let chain = Log { incarnation: Incarnation::ZERO, channel: CHANNEL };
        let mut head = Digest::ZERO;
        for entry in &mut entries {
            head = chain.next(&head, &Link::of(entry));
            entry.head = head;
        }
        Page { channel: CHANNEL, head_seq: 0, entries, published: Vec::new() }
    }

    fn shown(entries: Vec<Entry>) -> Model {
        let mut model = Model::new(Incarnation::ZERO);
        let page = log(entries);
        let first = &page.entries[0];
        let (seq, head, accepted_at_ms) = (first.seq, first.head, first.accepted_at_ms);
        let accepted = Accepted { seq, head, accepted_at_ms, duplicate: false };
        let change = RosterChange::decode(&first.roster_change).unwrap();
        let first = (first.message_id, Some(change));
        model.accepted((CHANNEL, device(1)), first, &accepted).unwrap();
        model.shown(&page).unwrap();
        model
    }

    #[test]
    fn who_is_in_before_a_message_is_owed_it() {
        let model = shown(vec![
            entry(1, EntryKind::Commit, change(&[2], &[])),
            entry(2, EntryKind::Application, None),
            entry(3, EntryKind::Commit, change(&[3], &[2])),
            entry(4, EntryKind::Application, None),
            entry(5, EntryKind::Commit, change(&[1], &[1])),
            entry(6, EntryKind::Application, None),
        ]);
        let owed = model.owed(&CHANNEL, false).unwrap();
        let rosters: Vec<_> = owed.iter().map(|owed| owed.roster.clone()).collect();
        let of = |all: &[u8]| -> BTreeSet<_> { all.iter().map(|n| device(*n)).collect() };
        assert_eq!(rosters, [of(&[1, 2]), of(&[1, 3]), of(&[1, 3])]);
        let back: Vec<_> = owed.iter().map(|owed| owed.came_back.clone()).collect();
        assert_eq!(back, [of(&[1]), of(&[1]), of(&[])]);
    }

    #[test]
    fn who_leaves_is_out_at_once_where_nobody_else_is_left() {
        let known = |leaves: Option<u8>, change| Known {
            kind: EntryKind::Statement,
            head: Digest::ZERO,
            message_id: MessageId([0; 16]),
            accepted_at_ms: 0,
            change,
            leaves: leaves.map(|n| AccountId([n; 16])),
        };
        let sibling = DeviceRef { device: DeviceId([9; 16]), ..device(1) };
        let own: BTreeSet<_> = [device(1), sibling].into();
        let all: BTreeSet<_> = [device(1), sibling, device(2)].into();
        let mut leavers = Leavers::default();
        leavers.follow(&known(None, None), &own);
        assert!(leavers.out.is_empty(), "it said nothing");
        leavers.follow(&known(Some(1), None), &all);
        assert!(leavers.out.is_empty(), "another will remove it");
        leavers.follow(&known(None, change(&[], &[2])), &own);
        assert_eq!(leavers.out, own, "nobody is left who could");
        leavers.follow(&known(None, change(&[2], &[])), &all);
        assert_eq!(leavers.out, own, "a sibling that has not heard of it lets somebody in");
        leavers.follow(&known(None, change(&[1], &[1])), &all);
        assert_eq!(leavers.out, [sibling].into(), "taken in again");
        leavers.follow(&known(None, change(&[], &[1])), &[device(2)].into());
        leavers.follow(&known(None, change(&[1], &[])), &own);
        assert!(leavers.out.is_empty(), "who was removed has left, and may come again");
    }

    #[test]
    fn who_leaves_is_named_with_the_commits_since_it_came() {
        let known = |kind, leaves: Option<u8>, change| Known {
            kind,
            head: Digest::ZERO,
            message_id: MessageId([0; 16]),
            accepted_at_ms: 0,
            change,
            leaves: leaves.map(|n| AccountId([n; 16])),
        };
        let commit = |change| known(EntryKind::Commit, None, change);
        let entries = [
            commit(change(&[2, 3], &[])),
            commit(change(&[4], &[])),
            commit(change(&[], &[])),
            known(EntryKind::Application, None, None),
            known(EntryKind::Statement, Some(2), None),
            commit(change(&[], &[2, 3])),
        ];
        let entries = (1..).zip(entries).collect();
        let senders = [(1, device(1)), (2, device(1)), (3, device(2)), (6, device(1))].into();
        let log = Knowledge { entries, senders, ..Knowledge::default() };
        let roster = [1, 2, 3, 4].map(device).into();
        let leaving = |seq| log.leaving((seq, &roster), &BTreeSet::new());
        assert_eq!(leaving(4), [(device(2), [2].into())].into(), "the other was removed");
        assert_eq!(leaving(7), [].into(), "that is over");
        let said = [3, 4].map(|n| AccountId([n; 16])).into();
        let all = log.leaving((2, &roster), &said);
        assert_eq!(all, [2, 3].map(|n| (device(n), [].into())).into(), "one stays in");
    }

    #[test]
    fn a_log_that_changes_breaks_or_has_a_hole_is_no_log() {
        let whole = || {
            vec![
                entry(1, EntryKind::Commit, change(&[1], &[])),
                entry(2, EntryKind::Application, None),
                entry(3, EntryKind::Application, None),
            ]
        };
        let mut model = shown(whole());
        let mut other = whole();
        other[1].payload = vec![2].into();
        assert!(model.shown(&log(other)).is_err(), "another entry");
        let mut broken = log(whole());
        broken.entries[2].head = Digest([1; 32]);
        assert!(Model::new(Incarnation::ZERO).shown(&broken).is_err(), "the chain");
        let mut gap = log(whole());
        gap.entries.remove(1);
        assert!(Model::new(Incarnation::ZERO).shown(&gap).is_err(), "a number in a page");
        let mut late = log(whole());
        late.entries.drain(..2);
        let mut model = Model::new(Incarnation::ZERO);
        model.shown(&late).unwrap();
        assert!(model.owed(&CHANNEL, false).is_err(), "numbers that nobody was shown");
    }

    #[test]
    fn an_answer_stands() {
        let mut model = Model::new(Incarnation::ZERO);
        let accepted = |seq| Accepted {
            seq,
            head: Digest([u8::try_from(seq).unwrap(); 32]),
            accepted_at_ms: 1,
            duplicate: false,
        };
        let id = MessageId([1; 16]);
        let mut answer =
            |sender, id, seq| model.accepted((CHANNEL, device(sender)), (id, None), &accepted(seq));
        answer(1, id, 1).unwrap();
        answer(1, id, 1).unwrap();
        assert!(answer(1, id, 2).is_err());
        assert!(answer(2, MessageId([2; 16]), 1).is_err());
    }

    #[test]
    fn what_has_its_place_by_an_answer_alone_is_no_hole() {
        let page = log(vec![
            entry(1, EntryKind::Commit, change(&[1, 2], &[])),
            entry(2, EntryKind::Application, None),
        ]);
        let mut model = Model::new(Incarnation::ZERO);
        let first = &page.entries[0];
        let (seq, head, accepted_at_ms) = (first.seq, first.head, first.accepted_at_ms);
        let accepted = Accepted { seq, head, accepted_at_ms, duplicate: false };
        let made = (first.message_id, change(&[1, 2], &[]));
        model.accepted((CHANNEL, device(1)), made, &accepted).unwrap();
        let mut rest = page.clone();
        rest.entries.remove(0);
        let mut broken = rest.clone();
        broken.entries[0].payload = vec![2].into();
        assert!(model.clone().shown(&broken).is_err(), "the chain from an answer on");
        model.shown(&rest).unwrap();
        let owed = model.owed(&CHANNEL, false).unwrap();
        assert_eq!(owed[0].roster, [device(1), device(2)].into());
    }
}
