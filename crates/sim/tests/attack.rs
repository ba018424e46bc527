//! Attacks on the client's machine: answers and pages that a hostile server, a hostile member or a
//! late connection could bring, and what an honest sequence must not do to a returning member.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "Clippy excuses test functions, not the functions they share"
)]

#[expect(dead_code, reason = "shared with the cases, which use the rest")]
#[path = "cases/support.rs"]
mod support;

use qpc_client::machine::{Failure, Input, Work};
use qpc_client::view::ChannelStatus;
use qpc_proto::chain::{Link, Log};
use qpc_proto::message::{
    Accepted, ChannelKind, EnqueueAnswer, Entry, EntryKind, Fetch, Method, Page, Request, Response,
    WelcomePointer, inbox_channel,
};
use qpc_proto::{
    AccountId, ChannelId, DeviceId, Digest, ErrorBody, ErrorCode, ErrorDetail, ExpiredRange,
    MessageId,
};
use qpc_sim::World;

use support::{
    add, at_peace, channel, commits, enqueues, group, inject, members, names, read_all, say,
    standing, until_sent, words, world,
};

fn inbox(world: &mut World, index: usize) -> ChannelId {
    let who = world.user(index, |machine, _| Ok(machine.whoami())).unwrap();
    inbox_channel(&DeviceId::from_hex(&who.device).unwrap())
}

/// An entry that continues a log after `head`.
fn entry(world: &World, channel: ChannelId, (head, template): (Digest, Entry)) -> Entry {
    let log = Log { incarnation: world.incarnation().unwrap(), channel };
    Entry { head: log.next(&head, &Link::of(&template)), ..template }
}

fn template(seq: u64, kind: EntryKind, payload: Vec<u8>) -> Entry {
    Entry {
        seq,
        kind,
        after_commit: 0,
        accepted_at_ms: 1,
        message_id: MessageId([9; 16]),
        payload: payload.into(),
        roster_change: Vec::new().into(),
        statements: Vec::new(),
        welcome_hash: Digest::ZERO,
        head: Digest::ZERO,
        welcome: None,
    }
}

fn shows(world: &mut World, index: usize, channel: ChannelId, entry: Entry) {
    let published = Vec::new();
    let page = Page { channel, head_seq: entry.seq, entries: vec![entry], published };
    inject(world, index, Input::Page(page));
}

/// Whoever makes a channel chooses its id; the server keeps inboxes apart, so that it may be one.
#[test]
fn an_invitation_into_a_channel_with_the_inboxs_id_does_not_stop_the_inbox() {
    let mut world = world(2);
    let inbox = inbox(&mut world, 1);
    let pointer = WelcomePointer {
        channel: inbox,
        kind: ChannelKind::Group,
        join_seq: 1_000,
        head: Digest::ZERO,
        welcome_hash: Digest::ZERO,
        inviter: AccountId([6; 16]),
    };
    let mut invitation = template(1, EntryKind::Welcome, pointer.encode());
    invitation.welcome = Some(vec![1, 2, 3].into());
    let invitation = entry(&world, inbox, (Digest::ZERO, invitation));
    shows(&mut world, 1, inbox, invitation);
    let row = channel(&mut world, 1, &inbox);
    assert_eq!((row.status, row.cursor), (ChannelStatus::Active, 1));
    assert_eq!(row.kind, "inbox");
}

/// The server says that the entries of an inbox before the fifth are gone.
fn expires(world: &mut World, inbox: ChannelId, boundary_head: Digest) {
    let range = ExpiredRange { first_available: 5, boundary_head };
    let gone = ErrorBody::new(ErrorCode::GapExpired, "gone");
    let gone = Failure::Refused(gone.with_detail(ErrorDetail::Expired(range)));
    inject(world, 1, Input::Answer(Work::Fetch(inbox), Err(gone)));
}

#[test]
fn an_inbox_that_lost_its_front_goes_on_from_the_boundary() {
    let boundary = Digest([7; 32]);
    for (before, status) in
        [(boundary, ChannelStatus::Active), (Digest([8; 32]), ChannelStatus::Alarm)]
    {
        let mut world = world(2);
        let inbox = inbox(&mut world, 1);
        expires(&mut world, inbox, boundary);
        let fifth = entry(&world, inbox, (before, template(5, EntryKind::Welcome, vec![0])));
        shows(&mut world, 1, inbox, fifth);
        assert_eq!(channel(&mut world, 1, &inbox).status, status);
    }
}

/// A server of before kept no heads of what has expired.
#[test]
fn an_inbox_that_lost_its_front_is_read_on_without_a_boundary() {
    let mut world = world(2);
    let inbox = inbox(&mut world, 1);
    expires(&mut world, inbox, Digest::ZERO);
    let head = Digest([7; 32]);
    let fifth = entry(&world, inbox, (head, template(5, EntryKind::Welcome, vec![0])));
    let sixth = entry(&world, inbox, (fifth.head, template(6, EntryKind::Welcome, vec![0])));
    shows(&mut world, 1, inbox, fifth);
    shows(&mut world, 1, inbox, sixth.clone());
    let row = channel(&mut world, 1, &inbox);
    assert_eq!((row.status, row.cursor), (ChannelStatus::Active, 6));
    // From there on the chain counts again.
    let seventh = entry(&world, inbox, (head, template(7, EntryKind::Welcome, vec![0])));
    shows(&mut world, 1, inbox, seventh);
    assert_eq!(channel(&mut world, 1, &inbox).status, ChannelStatus::Alarm);
}

#[test]
fn a_commit_out_of_the_chain_is_an_alarm_once_and_stays_one() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let stands = standing(&mut world, 1, &group);
    let mut forged = template(stands.cursor + 1, EntryKind::Commit, vec![0]);
    forged.after_commit = stands.base_commit + 77;
    let forged = entry(&world, group, (stands.head, forged));
    shows(&mut world, 1, group, forged.clone());
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Alarm);
    let alarms = world.alarms(1).unwrap().len();
    shows(&mut world, 1, group, forged);
    for _ in 0..20 {
        world.tick(4_000).unwrap();
        read_all(&mut world, 1);
    }
    assert_eq!(world.alarms(1).unwrap().len(), alarms);
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Alarm);
}

/// Client 2 left and came back; client 0, who was away, reads all of it at once.
#[test]
fn who_left_and_was_added_again_is_not_removed_for_the_old_leave() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    world.disconnect(0).unwrap();
    world.user(2, |m, s| m.leave(s, &group)).unwrap();
    world.settle_among(&[1, 2]).unwrap();
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Left);
    world.connect(0).unwrap();
    add(&mut world, &group, &[2]);
    at_peace(&mut world);
    assert_eq!(members(&mut world, 0, &group), names(&[0, 1, 2]));
    assert_ne!(channel(&mut world, 2, &group).status, ChannelStatus::Left);
    say(&mut world, 2, (&group, "back again"));
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), ["back again"]);
}

/// The answer to an earlier batch comes a second time, while a later batch is on its way.
fn second_answer(read_before: bool) {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    say(&mut world, 0, (&group, "one"));
    until_sent(&mut world, 0, Method::Enqueue);
    let seq = standing(&mut world, 0, &group).cursor + 1;
    let sent = enqueues(&mut world, 0).remove(0).entries.remove(0);
    world.deliver(0, (Method::Enqueue, false)).unwrap();
    let fetch = Fetch { channel: group, after_seq: seq - 1, bytes_max: 0 };
    let Response::Page(page) = world.ask(0, &Request::Fetch(fetch)).unwrap() else {
        panic!("no page")
    };
    let head = page.entries[0].head;
    let answer = || {
        let accepted = Accepted { seq, head, accepted_at_ms: 1, duplicate: true };
        Input::Answer(
            Work::Outbox(group),
            Ok(Response::Enqueued(EnqueueAnswer { accepted: vec![accepted], refusal: None })),
        )
    };
    if read_before {
        read_all(&mut world, 0);
    } else {
        // The answer alone.
        inject(&mut world, 0, answer());
    }
    assert_eq!(sent.after_commit, standing(&mut world, 0, &group).base_commit);
    say(&mut world, 0, (&group, "two"));
    until_sent(&mut world, 0, Method::Enqueue);
    inject(&mut world, 0, answer());
    // The second batch never arrives.
    world.disconnect(0).unwrap();
    world.settle().unwrap();
    assert_eq!(words(&mut world, 1, &group), ["one", "two"]);
    at_peace(&mut world);
}

#[test]
fn an_answer_that_comes_twice_loses_no_message() {
    second_answer(true);
}

#[test]
fn an_answer_that_comes_twice_before_the_log_loses_no_message() {
    second_answer(false);
}

/// Void Commits overtake a batch again and again: sealing all of it anew each time would use up the
/// generations that the others can skip.
#[test]
fn a_batch_that_is_overtaken_shrinks_until_one_is_accepted() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    for number in 0..64 {
        say(&mut world, 0, (&group, &format!("text {number}")));
    }
    let base = standing(&mut world, 0, &group).base_commit;
    let mut sealed = 0;
    for _ in 0..40 {
        until_sent(&mut world, 0, Method::Enqueue);
        sealed += enqueues(&mut world, 0).last().unwrap().entries.len();
        let refusal = ErrorBody {
            detail: Some(ErrorDetail::LastCommit(base)),
            ..ErrorBody::new(ErrorCode::StaleCommit, "stale")
        };
        let refused = EnqueueAnswer { accepted: Vec::new(), refusal: Some(refusal) };
        world.disconnect(0).unwrap();
        world.connect(0).unwrap();
        until_sent(&mut world, 0, Method::Enqueue);
        let answer = Input::Answer(Work::Outbox(group), Ok(Response::Enqueued(refused)));
        inject(&mut world, 0, answer);
    }
    assert!(sealed < 500, "{sealed} sealed for nothing");
    world.disconnect(0).unwrap();
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group).len(), 64);
    assert!(commits(&mut world, 0).is_empty());
}

/// The packages were claimed, and then the machine slept for a day before it could commit.
#[test]
fn an_add_whose_key_packages_outlived_their_use_claims_others() {
    const SLEEP_MS: u64 = 26 * 3_600_000;
    let mut world = World::new(7, 3).unwrap();
    // OpenMLS lives by this machine's clock: what is made after the sleep must be of its time.
    world.now_ms -= SLEEP_MS;
    world.settle().unwrap();
    let group = group(&mut world, &[1]);
    add(&mut world, &group, &[2]);
    until_sent(&mut world, 0, Method::ClaimKeyPackages);
    world.deliver(0, (Method::ClaimKeyPackages, false)).unwrap();
    // The answer arrives, and the Commit is overtaken by a crash before the server has it.
    until_sent(&mut world, 0, Method::Commit);
    let sealed = commits(&mut world, 0).remove(0);
    world.disconnect(0).unwrap();
    // Meanwhile client 1 commits something else.
    world.user(1, |m, s| m.leave(s, &group)).unwrap();
    world.settle_among(&[1, 2]).unwrap();
    for index in 0..3 {
        world.disconnect(index).unwrap();
    }
    world.now_ms += SLEEP_MS;
    world.connect(0).unwrap();
    let stale = ErrorBody::new(ErrorCode::StaleCommit, "stale");
    until_sent(&mut world, 0, Method::Commit);
    assert_eq!(commits(&mut world, 0).remove(0), sealed, "a retry has the same bytes");
    inject(&mut world, 0, Input::Answer(Work::Commit(group), Err(Failure::Refused(stale))));
    world.disconnect(0).unwrap();
    at_peace(&mut world);
    assert_eq!(members(&mut world, 0, &group), names(&[0, 2]));
}
