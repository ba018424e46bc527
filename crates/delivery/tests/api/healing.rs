//! Commits that the members judge void: the next one from the older base undoes what they declared.

use qpc_proto::ErrorCode;
use qpc_proto::roster::Role;

use crate::mls::Device;
use crate::support::{Plan, World, message, message_on};

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

#[test]
fn case_121_a_commit_from_the_older_base_restores_who_was_removed() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    world.commit(&alice, &Plan::on(1).removing(&[&carol])).unwrap();
    // Carol herself, still with all rights, holds the removal void.
    let healing = Plan::default().at(2, 1);
    assert_eq!(world.commit(&carol, &healing).unwrap().answer.seq, 3);
    world.say(&bob, message(1, 3)).unwrap();
    world.say(&carol, message(1, 3)).unwrap();
    assert_eq!(world.seqs(&carol), [1, 2, 3, 4, 5]);
    let states = world.read(&carol, |d, call| d.list_channels(call)).unwrap();
    assert_eq!((states[0].join_seq, states[0].removal_seq), (1, None));
}

#[test]
fn a_device_added_by_a_void_commit_goes_again() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob]);
    let plan = world.adding(&[&carol]).at(1, 1);
    world.commit(&alice, &plan).unwrap();
    // Bob holds 2 void: without Carol, who can't come back by naming it.
    world.commit(&bob, &Plan::default().at(2, 1)).unwrap();
    world.say(&carol, message_on(1, 3, 2)).unwrap();
    let back = Plan::default().at(3, 2);
    world.commit(&carol, &back).unwrap();
    assert_eq!(world.seqs(&carol), [2, 3, 4, 5]);
}

#[test]
fn a_removal_that_was_undone_and_done_anew_counts_from_the_new_one() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let dave = Device::new(4, 4);
    world.group(&[&alice, &bob, &carol, &dave]);
    world.commit(&alice, &Plan::on(1).removing(&[&carol])).unwrap();
    world.commit(&bob, &Plan::default().at(2, 1)).unwrap();
    let anew = Plan::on(3).removing(&[&carol]);
    // Alice has named base 1 last, so that she may follow Bob's branch.
    world.commit(&alice, &anew).unwrap();
    world.say(&dave, message(1, 4)).unwrap();
    assert_eq!(world.seqs(&carol), [1, 2, 3, 4]);
    assert_eq!(world.say(&carol, message_on(1, 4, 3)), Err(ErrorCode::NotMember));
}

#[test]
fn two_void_removals_leave_the_second_to_count() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&bob, &carol, &dave]);
    let plan = plan.with_role(&bob, Role::Admin);
    world.create(&alice, qpc_proto::message::ChannelKind::Group, &plan).unwrap();
    world.commit(&alice, &Plan::on(1).removing(&[&carol])).unwrap();
    // Bob holds that one void, and removes Carol from the same base.
    let second = Plan::default().at(2, 1).removing(&[&carol]);
    world.commit(&bob, &second).unwrap();
    world.say(&dave, message(1, 3)).unwrap();
    assert_eq!(world.seqs(&carol), [1, 2, 3]);
}

#[test]
fn roles_follow_the_base() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    let promote = Plan::on(1).with_role(&bob, Role::Admin);
    world.commit(&alice, &promote).unwrap();
    let removal = Plan::default().at(2, 1).removing(&[&alice]);
    assert_eq!(world.commit_code(&bob, &removal), ErrorCode::RosterRefused);
    let removal = Plan::on(2).removing(&[&carol]);
    world.commit(&bob, &removal).unwrap();
}

#[test]
fn a_removed_device_can_t_build_on_its_removal() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    world.commit(&alice, &Plan::on(1).removing(&[&carol])).unwrap();
    assert_eq!(world.commit_code(&carol, &Plan::on(2)), ErrorCode::RosterRefused);
    // Nor does it confirm one by naming it.
    world.say(&carol, message(1, 2)).unwrap();
    world.say(&carol, message(2, 2)).unwrap();
}
