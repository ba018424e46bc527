//! When a removal takes effect, and what is left to who was removed.

use qpc_proto::{ErrorCode, ErrorDetail};

use crate::mls::Device;
use crate::support::{CHANNEL, Plan, World, message, message_on};

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

/// A group of three whose admin has removed Carol with Commit 2.
fn removed() -> (World, Device, Device, Device) {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    let removal = Plan::on(1).removing(&[&carol]);
    assert_eq!(world.commit(&alice, &removal).unwrap().answer.seq, 2);
    (world, alice, bob, carol)
}

#[test]
fn until_another_account_builds_on_it_a_removed_device_keeps_its_rights() {
    let (mut world, alice, bob, carol) = removed();
    assert_eq!(world.seqs(&carol), [1, 2]);
    world.say(&carol, message_on(1, 2, 1)).unwrap();
    // Neither the committer nor who doesn't build on it confirms.
    world.say(&alice, message(1, 2)).unwrap();
    world.say(&bob, message_on(1, 2, 1)).unwrap();
    world.say(&carol, message_on(2, 2, 1)).unwrap();
    world.state_leave(&carol, 3).unwrap();
    assert_eq!(world.seqs(&carol), [1, 2, 3, 4, 5, 6, 7]);
    let states = world.read(&carol, |d, call| d.list_channels(call)).unwrap();
    assert_eq!((states[0].head_seq, states[0].removal_seq), (7, Some(2)));
}

#[test]
fn case_124_a_confirmed_removal_ends_reading_and_writing() {
    let (mut world, _, bob, carol) = removed();
    world.say(&carol, message_on(1, 2, 1)).unwrap();
    world.say(&bob, message(1, 2)).unwrap();
    assert_eq!(world.seqs(&carol), [1, 2]);
    assert!(world.fetch(&carol, CHANNEL, 2).unwrap().entries.is_empty());
    assert!(world.fetch(&carol, CHANNEL, 4).unwrap().entries.is_empty());
    assert_eq!(world.seqs(&bob), [1, 2, 3, 4]);
    // A retry still gets its first answer; anything new is refused with the removal.
    assert!(world.say(&carol, message_on(1, 2, 1)).unwrap().duplicate);
    let answer = world.enqueue(&carol, &[message_on(2, 2, 1)]).unwrap();
    let mut bodies = vec![answer.refusal.unwrap()];
    let plan = Plan::default().at(2, 1);
    bodies.push(world.commit(&carol, &plan).unwrap_err().to_body());
    bodies.push(world.state_leave(&carol, 9).unwrap_err().to_body());
    for body in bodies {
        assert_eq!(body.code, ErrorCode::NotMember);
        assert_eq!(body.detail, Some(ErrorDetail::Removal(2)));
    }
    let states = world.read(&carol, |d, call| d.list_channels(call)).unwrap();
    assert_eq!((states[0].head_seq, states[0].removal_seq), (2, Some(2)));
}

#[test]
fn a_commit_of_another_account_confirms_too() {
    let (mut world, _, bob, carol) = removed();
    world.commit(&bob, &Plan::on(2)).unwrap();
    assert_eq!(world.say(&carol, message_on(1, 3, 1)), Err(ErrorCode::NotMember));
}

#[test]
fn a_newcomer_does_not_confirm() {
    let (mut world, alice, bob, carol) = removed();
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&dave]).at(2, 2);
    world.commit(&alice, &plan).unwrap();
    world.say(&dave, message(1, 3)).unwrap();
    world.say(&carol, message_on(1, 3, 1)).unwrap();
    world.say(&bob, message(1, 3)).unwrap();
    assert_eq!(world.say(&carol, message_on(2, 3, 1)), Err(ErrorCode::NotMember));
}

#[test]
fn who_was_removed_itself_does_not_confirm() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let bob2 = Device::new(2, 22);
    world.group(&[&alice, &bob, &bob2, &carol]);
    let removal = Plan::on(1).removing(&[&bob, &carol]);
    world.commit(&alice, &removal).unwrap();
    world.say(&bob, message(1, 2)).unwrap();
    world.say(&carol, message_on(1, 2, 1)).unwrap();
    world.say(&bob2, message(1, 2)).unwrap();
    assert_eq!(world.say(&carol, message_on(2, 2, 1)), Err(ErrorCode::NotMember));
}

#[test]
fn the_retention_ends_what_nobody_confirmed() {
    let (mut world, _, _, carol) = removed();
    let retention = world.delivery.config.retention_ms;
    let removed_at = world.now_ms;
    world.now_ms = removed_at + retention - 1;
    world.say(&carol, message_on(1, 2, 1)).unwrap();
    for late in [0, 1] {
        world.now_ms = removed_at + retention + late;
        assert_eq!(world.say(&carol, message_on(2, 2, 1)), Err(ErrorCode::NotMember));
        // What she could read until then has expired with the removal itself.
        let page = world.fetch(&carol, CHANNEL, 2).unwrap();
        assert_eq!((page.entries.len(), page.head_seq), (0, 2));
    }
}

#[test]
fn with_nobody_else_left_a_removal_holds_at_once() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let alice2 = Device::new(1, 11);
    world.group(&[&alice, &alice2, &bob]);
    world.commit(&alice, &Plan::on(1).removing(&[&bob])).unwrap();
    assert_eq!(world.say(&bob, message_on(1, 2, 1)), Err(ErrorCode::NotMember));
    world.commit(&alice2, &Plan::on(2).removing(&[&alice])).unwrap();
    assert_eq!(world.say(&alice, message_on(1, 3, 2)), Err(ErrorCode::NotMember));
    assert_eq!(world.seqs(&alice), [1, 2, 3]);
}

#[test]
fn who_returns_having_read_all_begins_at_the_new_join() {
    let (mut world, alice, bob, carol) = removed();
    world.say(&bob, message(1, 2)).unwrap();
    let cursor = qpc_proto::message::Cursor { channel: CHANNEL, seq: 99 };
    world.call(&carol, |d, call| d.ack(call, &[cursor])).unwrap();
    let plan = world.adding(&[&carol]).at(2, 2);
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 4);
    assert_eq!(world.seqs(&carol), [4]);
    let old_base = world.say(&carol, message_on(9, 4, 1));
    assert_eq!(old_base, Err(ErrorCode::AadMismatch));
    world.say(&carol, message(9, 4)).unwrap();
}

#[test]
fn who_returns_before_having_read_all_goes_on_reading_there() {
    let (mut world, alice, bob, carol) = removed();
    world.say(&bob, message(1, 2)).unwrap();
    let plan = world.adding(&[&carol]).at(2, 2);
    world.commit(&alice, &plan).unwrap();
    assert_eq!(world.seqs(&carol), [1, 2, 3, 4]);
}
