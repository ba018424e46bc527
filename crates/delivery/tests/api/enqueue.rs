//! Application entries: the order of checks, prefixes, ids, numbers.

use qpc_proto::aad::Aad;
use qpc_proto::message::{Accepted, Enqueue, NewEntry};
use qpc_proto::{ChannelId, ErrorCode, ErrorDetail, MessageId};

use crate::mls::{self, Device};
use crate::support::{CHANNEL, Plan, World, aad, commit_id, message, message_on};

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

#[test]
fn case_138_same_id_same_bytes() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    let first = world.say(&alice, message(7, 1)).unwrap();
    assert_eq!((first.seq, first.duplicate), (2, false));
    world.now_ms += 6 * 24 * 3_600 * 1_000;
    let again = world.say(&alice, message(7, 1)).unwrap();
    let duplicate = Accepted { duplicate: true, ..first };
    assert_eq!(again, duplicate);
    // Another device's ids are its own.
    let theirs = world.say(&bob, message(7, 1)).unwrap();
    assert_eq!((theirs.seq, theirs.duplicate), (3, false));
    assert_eq!(world.seqs(&bob), [1, 2, 3]);
}

#[test]
fn same_id_other_bytes_is_a_conflict() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    world.say(&alice, message(7, 1)).unwrap();
    let mut other = message(8, 1);
    other.message_id = MessageId([7; 16]);
    let conflict = Err(ErrorCode::MessageIdConflict);
    assert_eq!(world.say(&alice, other), conflict);
    let mut later = message(7, 1);
    later.after_commit = 2;
    assert_eq!(world.say(&alice, later), conflict);
    // A Commit shares the scope.
    let mut taken = message(9, 1);
    taken.message_id = commit_id(1);
    assert_eq!(world.say(&alice, taken), conflict);
    assert_eq!(world.seqs(&alice), [1, 2]);
}

#[test]
fn a_duplicate_is_good_after_the_commit_that_makes_it_stale() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    let first = world.say(&alice, message(7, 1)).unwrap();
    world.commit(&bob, &Plan::on(1)).unwrap();
    let again = world.say(&alice, message(7, 1)).unwrap();
    assert!(again.duplicate);
    assert_eq!(again.head, first.head);
    assert_eq!(world.say(&alice, message(8, 1)), Err(ErrorCode::StaleCommit));
}

#[test]
fn the_longest_good_prefix_is_accepted() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    world.say(&alice, message(2, 1)).unwrap();
    let batch = [message(1, 1), message(2, 1), message(3, 1), message(4, 9), message(5, 1)];
    let answer = world.enqueue(&alice, &batch).unwrap();
    let accepted: Vec<_> = answer.accepted.iter().map(|a| (a.seq, a.duplicate)).collect();
    assert_eq!(accepted, [(3, false), (2, true), (4, false)]);
    let refusal = answer.refusal.unwrap();
    assert_eq!(refusal.code, ErrorCode::StaleCommit);
    assert_eq!(refusal.detail, Some(ErrorDetail::LastCommit(1)));
    assert_eq!(world.seqs(&alice), [1, 2, 3, 4]);

    let none = world.enqueue(&alice, &[message(6, 9), message(7, 1)]).unwrap();
    assert!(none.accepted.is_empty() && none.refusal.is_some());
    let all_known = world.enqueue(&alice, &batch[..3]).unwrap();
    assert!(all_known.accepted.iter().all(|accepted| accepted.duplicate));
    assert_eq!(world.seqs(&alice), [1, 2, 3, 4]);
}

#[test]
fn case_142_numbers_are_gapless_and_heads_chain() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    let mut heads = Vec::new();
    for id in 0..50 {
        let sender = if id % 3 == 0 { &alice } else { &bob };
        // A clock that steps back makes no entry older than the one before.
        world.now_ms = if id % 7 == 0 { 5 } else { world.now_ms + 1 };
        let batch = [message(100 + id, 1), message(id, 1)];
        let answer = world.enqueue(sender, &batch).unwrap();
        heads.extend(answer.accepted);
        assert!(answer.refusal.is_none());
    }
    let page = world.fetch(&alice, CHANNEL, 0).unwrap();
    assert_eq!(page.head_seq, 101);
    world.check_chain(&page, qpc_proto::Digest::ZERO);
    assert!(page.entries.iter().map(|e| e.seq).eq(1..=101));
    assert!(page.entries.is_sorted_by_key(|entry| entry.accepted_at_ms));
    for (entry, accepted) in page.entries[1..].iter().zip(heads) {
        let told = (accepted.seq, accepted.head, accepted.accepted_at_ms);
        assert_eq!(told, (entry.seq, entry.head, entry.accepted_at_ms));
    }
}

#[test]
fn case_126_a_stranger_can_t_tell_a_channel_from_none() {
    let mut world = World::new();
    let (alice, _, eve) = devices();
    world.group(&[&alice]);
    let nowhere = ChannelId([9; 16]);
    let mut bodies = Vec::new();
    for channel in [CHANNEL, nowhere] {
        let enqueue = Enqueue { channel, entries: vec![message(1, 1)] };
        bodies.push(world.call(&eve, |d, call| d.enqueue(call, &enqueue)).unwrap_err());
        bodies.push(world.fetch(&eve, channel, 0).unwrap_err());
        let plan = Plan { channel, ..Plan::on(1) };
        bodies.push(world.commit(&eve, &plan).unwrap_err());
        let statement = qpc_proto::message::Statement { channel, statement: eve.leave(channel) };
        let id = MessageId([1; 16]);
        let refused = world.call(&eve, |d, call| d.statement(call, &statement, id));
        bodies.push(refused.unwrap_err());
        let cursor = qpc_proto::message::Cursor { channel, seq: 1 };
        bodies.push(world.call(&eve, |d, call| d.ack(call, &[cursor])).unwrap_err());
    }
    let bodies: Vec<_> = bodies.iter().map(|error| error.to_body()).collect();
    assert_eq!(bodies[0].code, ErrorCode::ChannelNotFound);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    // The right device id under another account is a stranger too.
    let mut other_account = world.fetch(&Device::new(4, 1), CHANNEL, 0);
    assert_eq!(other_account.unwrap_err().code(), ErrorCode::ChannelNotFound);
    other_account = world.fetch(&alice, CHANNEL, 0);
    assert!(other_account.is_ok());
}

#[test]
fn case_042_only_a_message_of_the_entry_s_kind_is_taken() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    let entry = |payload| NewEntry { message_id: MessageId([5; 16]), after_commit: 1, payload };
    let aad = aad(CHANNEL, 1);
    let commit_aad = Plan::on(1).aad();
    let key_package = alice.key_package(1, false, world.now_ms);
    let mut public = mls::private_message(mls::APPLICATION, &aad, b"x").to_vec();
    public[3] = 1;
    for payload in [
        mls::private_message(mls::COMMIT, &commit_aad, b"x"),
        mls::private_message(mls::PROPOSAL, &aad, b"x"),
        mls::welcome(std::slice::from_ref(&key_package)),
        key_package,
        public.into(),
        b"x".as_slice().into(),
    ] {
        let refused = world.say(&alice, entry(payload));
        assert_eq!(refused, Err(ErrorCode::InvalidMlsType));
    }
    let wrong_aad = mls::private_message(mls::APPLICATION, &commit_aad, b"x");
    assert_eq!(world.say(&alice, entry(wrong_aad)), Err(ErrorCode::AadMismatch));
    let mut bundle = Plan::on(1).bundle();
    bundle.payload = mls::private_message(mls::APPLICATION, &aad, b"x");
    let request = qpc_proto::message::CommitRequest { channel: CHANNEL, bundle };
    let refused = world.call(&alice, |d, call| d.commit(call, &request));
    assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidMlsType);
    assert_eq!(world.seqs(&alice), [1]);
}

#[test]
fn what_was_read_before_is_no_entry_of_the_future() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    let read = |id, head_seq| {
        let aad = Aad { head_seq, ..aad(CHANNEL, 1) };
        NewEntry { payload: mls::private_message(mls::APPLICATION, &aad, b"x"), ..message(id, 1) }
    };
    for head_seq in [2, 1 << 63, u64::MAX] {
        assert_eq!(world.say(&bob, read(1, head_seq)), Err(ErrorCode::AadMismatch), "{head_seq}");
    }
    world.say(&bob, read(1, 1)).unwrap();
    // In one request: the entries before it are in the log.
    let answer = world.enqueue(&bob, &[read(2, 2), read(3, 3), read(4, 5)]).unwrap();
    assert_eq!(answer.accepted.len(), 2);
    assert_eq!(answer.refusal.unwrap().code, ErrorCode::AadMismatch);
    let mut bundle = Plan::on(1).bundle();
    let ahead = Aad { head_seq: 5, ..Plan::on(1).aad() };
    bundle.payload = mls::private_message(mls::COMMIT, &ahead, b"x");
    let request = qpc_proto::message::CommitRequest { channel: CHANNEL, bundle };
    let refused = world.call(&alice, |d, call| d.commit(call, &request));
    assert_eq!(refused.unwrap_err().code(), ErrorCode::AadMismatch);
}

#[test]
fn a_base_is_a_commit_of_the_log_and_never_goes_back() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob]);
    world.say(&alice, message(1, 1)).unwrap();
    let plan = world.adding(&[&carol]).at(1, 1);
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 3);
    let mismatch = Err(ErrorCode::AadMismatch);
    let mut elsewhere = message(2, 3);
    elsewhere.payload = mls::private_message(mls::APPLICATION, &aad(ChannelId([1; 16]), 3), b"x");
    assert_eq!(world.say(&alice, elsewhere), mismatch);
    assert_eq!(world.say(&bob, message_on(2, 3, 2)), mismatch);
    assert_eq!(world.say(&bob, message_on(2, 3, 4)), mismatch);
    assert_eq!(world.say(&bob, message_on(2, 3, u64::MAX)), mismatch);
    assert_eq!(world.say(&bob, message_on(2, 3, 0)), mismatch);
    // Carol joined at 3, and Bob may still think that 3 is void.
    assert_eq!(world.say(&carol, message_on(2, 3, 1)), mismatch);
    world.say(&bob, message_on(2, 3, 1)).unwrap();
    world.say(&bob, message_on(3, 3, 3)).unwrap();
    assert_eq!(world.say(&bob, message_on(4, 3, 1)), mismatch);
}
