//! Statements, and what a standing Leave allows.

use qpc_proto::message::{EntryKind, Statement};
use qpc_proto::{Digest, ErrorCode, MessageId};

use crate::mls::Device;
use crate::support::{CHANNEL, Plan, World};

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

#[test]
fn a_statement_is_an_entry_with_its_request_s_id() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    let written = world.state_leave(&bob, 7).unwrap();
    assert_eq!((written.answer.seq, written.wakes), (2, vec![CHANNEL]));
    let again = world.state_leave(&bob, 7).unwrap();
    assert!(again.answer.duplicate && again.wakes.is_empty());
    let page = world.fetch(&alice, CHANNEL, 0).unwrap();
    world.check_chain(&page, Digest::ZERO);
    let entry = &page.entries[1];
    assert_eq!(entry.kind, EntryKind::Statement);
    assert_eq!(entry.payload, bob.leave(CHANNEL));
    assert_eq!((entry.after_commit, entry.message_id), (0, MessageId([7; 16])));
    // No Commit came of it: what was sealed before is still current.
    world.say(&alice, crate::support::message(1, 1)).unwrap();
}

#[test]
fn a_statement_is_of_the_calling_device_and_for_this_channel() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    let mut broken = alice.leave(CHANNEL).to_vec();
    *broken.last_mut().unwrap() ^= 1;
    for statement in [
        bob.leave(CHANNEL),
        alice.leave(qpc_proto::ChannelId([1; 16])),
        broken.into(),
        b"x".as_slice().into(),
    ] {
        let statement = Statement { channel: CHANNEL, statement };
        let id = MessageId([1; 16]);
        let refused = world.call(&alice, |d, call| d.statement(call, &statement, id));
        assert_eq!(refused.unwrap_err().code(), ErrorCode::StatementInvalid);
    }
    assert_eq!(world.seqs(&alice), [1]);
}

#[test]
fn case_127_who_leaves_may_be_removed_by_any_member_once() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let carol2 = Device::new(3, 33);
    world.group(&[&alice, &bob, &carol, &carol2]);
    let both = |after| Plan::on(after).removing(&[&carol, &carol2]).carrying(&[&carol]);
    // Not in the log yet.
    assert_eq!(world.commit_code(&bob, &both(1)), ErrorCode::RosterRefused);
    assert_eq!(world.state_leave(&carol, 1).unwrap().answer.seq, 2);
    // Members judge by what the Commit carries.
    let bare = Plan::on(1).removing(&[&carol, &carol2]);
    assert_eq!(world.commit_code(&bob, &bare), ErrorCode::RosterRefused);
    let alices = Plan::on(1).removing(&[&alice]).carrying(&[&carol]);
    assert_eq!(world.commit_code(&bob, &alices), ErrorCode::RosterRefused);
    assert_eq!(world.commit(&bob, &both(1)).unwrap().answer.seq, 3);
    // Added again, the account has not left.
    let plan = world.adding(&[&carol]).at(3, 3);
    world.commit(&alice, &plan).unwrap();
    let again = Plan::on(4).removing(&[&carol]).carrying(&[&carol]);
    assert_eq!(world.commit_code(&bob, &again), ErrorCode::RosterRefused);
    assert_eq!(world.state_leave(&carol, 2).unwrap().answer.seq, 5);
    world.commit(&bob, &again).unwrap();
}

/// Members keep the number of a list: one that no database holds would stop all of them there.
#[test]
fn a_list_of_a_number_that_no_database_holds_never_gets_into_a_log() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    for version in [u64::MAX, 1 << 63] {
        let refused = world.state(&bob, (1, bob.list(version, &[]))).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::StatementInvalid);
    }
    assert_eq!(world.seqs(&alice), [1]);
}
