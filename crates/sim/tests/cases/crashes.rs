//! A client that dies between two commits to its disk goes on from what is there.

use qpc_client::machine::Input;
use qpc_client::view::ChannelStatus;
use qpc_proto::message::{LoginAnswer, Method};
use qpc_proto::{Incarnation, Token};
use qpc_sim::World;

use super::support::{
    add, at_peace, channel, commits, enqueues, group, in_step, inject, members, names, say,
    standing, until_sent, words, world,
};

#[test]
fn case_105_a_crash_between_seal_and_send_resends_the_same_bytes() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    for text in ["one", "two"] {
        say(&mut world, 0, (&group, text));
    }
    until_sent(&mut world, 0, Method::Enqueue);
    let sealed = enqueues(&mut world, 0);
    for _ in 0..3 {
        world.crash(0).unwrap();
        world.connect(0).unwrap();
        until_sent(&mut world, 0, Method::Enqueue);
        assert_eq!(enqueues(&mut world, 0), sealed);
    }
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), ["one", "two"]);
}

#[test]
fn case_101_a_crash_between_a_commits_seal_and_its_send_sends_the_same_bytes() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    let before = standing(&mut world, 0, &group);
    add(&mut world, &group, &[2]);
    until_sent(&mut world, 0, Method::Commit);
    let sealed = commits(&mut world, 0);
    world.crash(0).unwrap();
    // The pending Commit is not in force.
    assert_eq!(standing(&mut world, 0, &group).epoch, before.epoch);
    world.connect(0).unwrap();
    until_sent(&mut world, 0, Method::Commit);
    assert_eq!(commits(&mut world, 0), sealed);
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(standing(&mut world, 0, &group).epoch, before.epoch + 1);
}

#[test]
fn case_102_a_crash_after_the_server_accepted_a_commit_does_not_fork() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    let before = standing(&mut world, 0, &group);
    add(&mut world, &group, &[2]);
    until_sent(&mut world, 0, Method::Commit);
    assert!(world.deliver(0, (Method::Commit, true)).unwrap());
    world.crash(0).unwrap();
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(standing(&mut world, 0, &group).epoch, before.epoch + 1);
    assert_eq!(members(&mut world, 2, &group), names(&[0, 1, 2]));
}

#[test]
fn case_102_a_crash_while_another_commit_won_rebases() {
    let mut world = world(4);
    let group = group(&mut world, &[1, 2]);
    add(&mut world, &group, &[3]);
    until_sent(&mut world, 0, Method::Commit);
    world.crash(0).unwrap();
    world.user(2, |m, s| m.leave(s, &group)).unwrap();
    world.settle_among(&[1, 2]).unwrap();
    assert_eq!(members(&mut world, 1, &group), names(&[0, 1]));
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 3]);
    assert_eq!(members(&mut world, 3, &group), names(&[0, 1, 3]));
}

#[test]
fn a_crash_before_the_first_answer_creates_the_group_once() {
    let mut world = world(2);
    let made = world.user(0, |m, s| m.create_group_channel(s, "Fishing")).unwrap();
    until_sent(&mut world, 0, Method::CreateChannel);
    assert!(world.deliver(0, (Method::CreateChannel, true)).unwrap());
    world.crash(0).unwrap();
    at_peace(&mut world);
    let all = world.user(0, |m, s| m.channels(s)).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].status, all[0].epoch), (ChannelStatus::Active, 1));
    assert_eq!(standing(&mut world, 0, &made.channel).cursor, 1);
}

#[test]
fn a_crash_after_every_single_input_loses_nothing() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    add(&mut world, &group, &[2]);
    say(&mut world, 1, (&group, "meanwhile"));
    for _ in 0..40 {
        for index in [0, 1, 2] {
            let next = world.sent(index).unwrap().first().map(|out| out.request.method());
            if let Some(method) = next {
                world.deliver(index, (method, false)).unwrap();
            }
            world.deliver_down(index).unwrap();
            world.crash(index).unwrap();
            world.connect(index).unwrap();
        }
        world.tick(300).unwrap();
    }
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(words(&mut world, 0, &group), ["meanwhile"]);
}

fn login_answer(world: &World, offset_ms: u64, incarnation: Incarnation) -> Input {
    Input::Online(LoginAnswer {
        access_token: Token::NONE,
        refresh_token: Token::NONE,
        access_expires_at_ms: world.now_ms + 900_000,
        refresh_expires_at_ms: world.now_ms + 9_000_000,
        now_ms: world.now_ms + offset_ms,
        incarnation,
    })
}

#[test]
fn case_097_a_server_restored_from_a_backup_is_noticed_and_nothing_is_sent_to_it() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.disconnect(0).unwrap();
    say(&mut world, 0, (&group, "waits"));
    let answer = login_answer(&world, 0, Incarnation([9; 16]));
    inject(&mut world, 0, answer);
    assert_eq!(channel(&mut world, 0, &group).status, ChannelStatus::NeedsRepair);
    assert_eq!(channel(&mut world, 0, &group).outbox, 1);
    assert_eq!(enqueues(&mut world, 0), []);
}

#[test]
fn case_212_a_clock_far_off_the_servers_is_said_and_changes_no_order() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let incarnation = world.incarnation().unwrap();
    for (offset, said) in [(3_600_000, 0), (3_600_001, 1)] {
        let answer = login_answer(&world, offset, incarnation);
        inject(&mut world, 0, answer);
        assert_eq!(world.alarms(0).unwrap().len(), said);
        world.disconnect(0).unwrap();
    }
    say(&mut world, 0, (&group, "one"));
    world.settle().unwrap();
    say(&mut world, 1, (&group, "two"));
    world.settle().unwrap();
    assert_eq!(words(&mut world, 0, &group), ["one", "two"]);
}
