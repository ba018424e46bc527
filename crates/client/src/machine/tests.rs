//! What others sign and the server says, at the edges: numbers that no column holds, names, much of
//! everything.

use bytes::Bytes;
use qpc_credential::{
    Certificate, CertificateBody, PublicIdentity, Said, Statement, StatementBody, devices_statement,
};
use qpc_proto::aad::Aad;
use qpc_proto::message::{DeviceRef, Devices, Entry, EntryKind, Identity, Response};
use qpc_proto::{AccountId, ChannelId, DeviceId, Digest, MessageId};
use rand_core::OsRng;
use tempfile::TempDir;

use super::inbox::Progress;
use super::store::{ChannelRow, MessageRow, RejoinRow, State, Status};
use super::*;
use crate::core::Core;
use crate::home::{Home, Protection};
use crate::keys::{Keys, NextList, entry, public};
use crate::register::Account;

pub(super) const NOW: u64 = 1_800_000_000_000;

pub(super) fn alice() -> (TempDir, Core) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Home::new(dir.path().join("h")).open_new(&Protection::KeyFile).unwrap();
    let from = ("alice", "qpc://h:1/#00");
    Account::prepare(&mut store, from, (NOW, &mut OsRng)).unwrap().registered(&mut store).unwrap();
    (dir, Core::open(store, Pool::default()).unwrap())
}

pub(super) fn run<T>(
    core: &mut Core,
    work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send,
) -> Result<T, ClientError> {
    core.with((NOW, &mut OsRng), work).map(|(value, _)| value)
}

fn entry_of(seq: u64, kind: EntryKind, payload: Bytes) -> Entry {
    Entry {
        seq,
        kind,
        after_commit: 0,
        accepted_at_ms: NOW,
        message_id: MessageId([1; 16]),
        payload,
        roster_change: Bytes::new(),
        statements: Vec::new(),
        welcome_hash: Digest::ZERO,
        head: Digest::ZERO,
        welcome: None,
    }
}

#[test]
fn a_message_from_the_end_of_time_is_kept() {
    let (_dir, mut core) = alice();
    let line = MessageRow {
        id: 0,
        channel: ChannelId([1; 16]),
        seq: Some(1),
        sender: DeviceRef { account: AccountId([2; 16]), device: DeviceId([3; 16]) },
        content_id: [4; 16],
        text: "late".to_owned(),
        state: State::Received,
        reason: None,
        sent_at_ms: u64::MAX,
        accepted_at_ms: Some(u64::MAX),
        seen: false,
    };
    let id = run(&mut core, |_, s| Ok(s.db.insert_message(&line)?)).unwrap().unwrap();
    let kept = run(&mut core, |_, s| Ok(s.db.message(id)?)).unwrap().unwrap();
    assert_eq!((kept.text.as_str(), kept.sent_at_ms), ("late", i64::MAX.unsigned_abs()));
}

pub(super) fn online(core: &mut Core) -> crate::core::Output {
    let work = |m: &mut Machine, _: &mut Step<'_>| {
        m.online = true;
        Ok(())
    };
    core.with((NOW, &mut OsRng), work).unwrap().1
}

/// An account that signs what it likes.
struct Stranger {
    keys: Keys,
    account_key: Vec<u8>,
    account: AccountId,
}

impl Stranger {
    fn new(name: &str) -> Self {
        let keys = Keys::generate(&mut OsRng);
        let identity = keys.identity(name, DeviceId([1; 16]), NOW).unwrap();
        Self { keys, account_key: identity.account_key, account: identity.device.account }
    }

    fn list(&self, name: &str, version: u64) -> PublicIdentity {
        let devices = vec![entry(DeviceId([1; 16]), public(&self.keys.device), NOW)];
        let next = NextList { name, generation: 1, version, devices };
        PublicIdentity::verify(&Identity {
            account: self.account,
            account_key: self.account_key.clone().into(),
            device_list: self.keys.sign_list(self.account, next).unwrap(),
        })
        .unwrap()
    }

    fn certificate(&self, name: &str, list_version: u64) -> Certificate {
        let entry = entry(DeviceId([1; 16]), public(&self.keys.device), NOW);
        let body = CertificateBody { list_version, entry, name: name.to_owned() };
        Certificate::verify(&self.keys.certify(&self.account_key, &body).unwrap()).unwrap()
    }
}

fn answered_by(identity: Identity) -> Response {
    Response::Devices(Devices { identity, certificate: Bytes::new() })
}

/// Anybody may certify their own device under any name, and open a channel with it.
#[test]
fn who_comes_under_a_false_name_is_found_out_and_held() {
    let (_dir, mut core) = alice();
    let mallory = Stranger::new("mallory");
    let certificate = mallory.certificate("bob", 1);
    core.with((NOW, &mut OsRng), |m, s| {
        m.online = true;
        m.meet_leaves(s, &[&certificate])
    })
    .map(|(_, output)| assert!(!output.requests.is_empty()))
    .unwrap();
    // A crash forgets what was to be asked; the next connection asks.
    let mut core = Core::open(core.into_store(), Pool::default()).unwrap();
    run(&mut core, |m, s| m.ask_for_lists(s)).unwrap();
    online(&mut core);
    let work = Work::Devices(mallory.account);
    let shown = mallory.list("mallory", 1).to_message();
    let answer = Input::Answer(work, Ok(answered_by(shown)));
    let output = core.step((NOW, &mut OsRng), answer).unwrap();
    assert!(output.events.iter().any(|event| matches!(event, Event::Alarm { .. })));
    let contacts = run(&mut core, |m, s| m.contacts(s)).unwrap();
    assert_eq!((contacts[0].name.as_str(), contacts[0].held), ("mallory", true));
    // The name is free for who has it.
    let bob = Stranger::new("bob");
    let shown = bob.list("bob", 1).to_message();
    run(&mut core, |m, s| m.check_identity(s, (&bob.account, false), &shown).map(drop)).unwrap();
    assert_eq!(run(&mut core, |m, s| m.contact(s, "bob")).unwrap(), Some(bob.account));
    let refused = run(&mut core, |m, s| m.direct(s, &mallory.account).map(drop)).unwrap_err();
    assert_eq!(refused.code(), "KEY_CHANGED");
}

#[test]
fn a_large_group_is_asked_for_a_few_at_a_time() {
    let (_dir, mut core) = alice();
    let many: Vec<_> = (0..20).map(|_| Stranger::new("x").certificate("x", 1)).collect();
    let all: Vec<_> = many.iter().collect();
    run(&mut core, |m, s| m.meet_leaves(s, &all)).unwrap();
    let output = online(&mut core);
    let lists = |request: &&Outgoing| matches!(request.work, Work::Devices(_));
    assert_eq!(output.requests.iter().filter(lists).count(), 4);
}

#[test]
fn an_answer_older_than_what_was_spoken_of_since_is_asked_for_again_and_then_named() {
    let (_dir, mut core) = alice();
    let bob = Stranger::new("bob");
    let shown = bob.list("bob", 1).to_message();
    run(&mut core, |m, s| {
        m.online = true;
        m.meet_leaves(s, &[&bob.certificate("bob", 1)])
    })
    .unwrap();
    // The answer is on its way when a message speaks of the next list.
    let known = run(&mut core, |_, s| Ok(s.db.contact(&bob.account)?)).unwrap().unwrap();
    run(&mut core, |m, _| {
        m.heard_of(&known, (1, 2));
        Ok(())
    })
    .unwrap();
    let mut answered = || {
        let answer = Input::Answer(Work::Devices(bob.account), Ok(answered_by(shown.clone())));
        let output = core.step((NOW, &mut OsRng), answer).unwrap();
        let alarmed = output.events.iter().any(|event| matches!(event, Event::Alarm { .. }));
        let lists = |request: &Outgoing| request.work == Work::Devices(bob.account);
        (alarmed, output.requests.iter().any(lists))
    };
    assert_eq!(answered(), (false, true));
    assert_eq!(answered(), (true, false));
}

/// What the list showed is lost with the step: an older copy must not seal by it.
#[test]
fn a_comparison_that_was_not_kept_counts_as_none() {
    let (_dir, mut core) = alice();
    let channel = ChannelId([7; 16]);
    run(&mut core, |m, s| {
        m.online = true;
        let mut row = ChannelRow::new(channel, ChannelKind::Group, Status::Active);
        (row.title, row.known_head) = ("Fishing".to_owned(), 0);
        Ok(s.db.put_channel(&row)?)
    })
    .unwrap();
    run(&mut core, |m, _| {
        m.in_flight.insert(Work::ListChannels);
        m.list_due = false;
        Ok(())
    })
    .unwrap();
    let lost = run(&mut core, |m, s| {
        let answer = Ok(Response::Channels(Vec::new()));
        m.handle(s, Input::Answer(Work::ListChannels, answer))?;
        assert!(m.compared);
        Err::<(), _>(ClientError::Internal("the disk is full"))
    });
    assert!(lost.is_err());
    assert!(!core.machine().compared);
    // The answer is asked for again.
    let requests = core.step((NOW, &mut OsRng), Input::Tick).unwrap().requests;
    assert!(requests.iter().any(|out| out.work == Work::ListChannels));
}

/// Whoever seals a message says what was read before it: the number is as good as its word.
#[test]
fn a_head_of_the_end_of_time_is_an_alarm_at_its_entry() {
    let (_dir, mut core) = alice();
    let channel = ChannelId([7; 16]);
    for head_seq in [9, u64::MAX] {
        let work = |m: &mut Machine, s: &mut Step<'_>| {
            let row = ChannelRow::new(channel, ChannelKind::Group, Status::Active);
            s.db.put_channel(&row)?;
            let aad = Aad { channel, base_commit: 1, head_seq, head: [1; 16], commit: None };
            let sealed = entry_of(9, EntryKind::Application, Bytes::new());
            m.compare_view(s, &row, (&sealed, &aad, "told"))
        };
        let output = core.with((NOW, &mut OsRng), work).unwrap().1;
        let at = output
            .events
            .iter()
            .find_map(|event| if let Event::Alarm { seq, .. } = event { *seq } else { None });
        assert_eq!(at, Some(9));
    }
}

#[test]
fn a_verdict_on_a_commit_of_the_end_of_time_counts_nothing() {
    let (_dir, mut core) = alice();
    let bob = Stranger::new("bob");
    let statement = Statement {
        channel: ChannelId([7; 16]),
        certificate: bob.certificate("bob", 1),
        issued_at_ms: NOW,
        body: StatementBody::Verdict(Said {
            commit_seq: u64::MAX,
            commit: Digest::ZERO,
            applied: true,
        }),
    };
    let payload = statement.sign(bob.keys.sign_statement());
    let read = run(&mut core, |m, s| {
        let mut row = ChannelRow::new(ChannelId([7; 16]), ChannelKind::Group, Status::Active);
        m.statement_entry(s, &mut row, &entry_of(5, EntryKind::Statement, payload))
    });
    assert!(matches!(read, Ok(Progress::Advance)));
}

/// A statement names no Commit, whatever it says: the entry behind it is as near to the gap.
#[test]
fn a_gap_is_carried_past_every_statement() {
    let (_dir, mut core) = alice();
    let bob = Stranger::new("bob");
    let list = devices_statement(&bob.list("bob", 1).to_message());
    for payload in [list, Bytes::from_static(b"of a later kind")] {
        let carried = run(&mut core, |m, s| {
            let mut row = ChannelRow::new(ChannelId([7; 16]), ChannelKind::Group, Status::Active);
            row.cursor = 4;
            s.db.put_rejoin(&row.channel, &RejoinRow { gap_at: Some(4), ..RejoinRow::default() })?;
            m.statement_entry(s, &mut row, &entry_of(5, EntryKind::Statement, payload))?;
            Ok(s.db.rejoin(&row.channel)?.gap_at)
        });
        assert_eq!(carried.unwrap(), Some(5));
    }
}
