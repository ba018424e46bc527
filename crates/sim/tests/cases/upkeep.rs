//! New keys for leaves before anybody asks: each week, after a join, after many messages.

use qpc_client::machine::Input;
use qpc_client::view::ChannelStatus;
use qpc_proto::message::{Method, Request};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode};
use qpc_sim::World;

use super::support::{
    at_peace, channel, commits, group, in_step, members, say, standing, words, world,
};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

fn epoch(world: &mut World, group: &ChannelId) -> u64 {
    standing(world, 0, group).epoch
}

/// Everybody is away for so long, and then comes back.
fn later(world: &mut World, ms: u64) {
    world.sleep_until(world.now_ms + ms).unwrap();
    at_peace(world);
}

#[test]
fn every_leaf_gets_new_keys_each_week_and_not_sooner() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    let made = epoch(&mut world, &group);
    later(&mut world, HOUR_MS / 2);
    assert_eq!(epoch(&mut world, &group), made, "nothing new within minutes");
    // Who joined renews within a day; who made the group need not.
    later(&mut world, DAY_MS);
    assert_eq!(epoch(&mut world, &group), made + 2);
    later(&mut world, 5 * DAY_MS);
    assert_eq!(epoch(&mut world, &group), made + 2);
    for week in 1..=2 {
        later(&mut world, 8 * DAY_MS);
        assert_eq!(epoch(&mut world, &group), made + 2 + 3 * week);
    }
    in_step(&mut world, &group, &[0, 1, 2]);
    say(&mut world, 2, (&group, "still here"));
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), ["still here"]);
}

#[test]
fn an_update_that_another_commit_overtakes_is_made_once() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    later(&mut world, DAY_MS);
    let before = epoch(&mut world, &group);
    world.sleep_until(world.now_ms + 9 * DAY_MS).unwrap();
    // Both seal one over the same epoch.
    for index in [0, 1] {
        world.connect(index).unwrap();
        super::support::until_sent(&mut world, index, Method::Commit);
    }
    assert_eq!(commits(&mut world, 0).len(), 1);
    at_peace(&mut world);
    assert_eq!(epoch(&mut world, &group), before + 2);
    in_step(&mut world, &group, &[0, 1]);
}

#[test]
fn an_update_is_dropped_when_another_own_commit_did_its_work() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    later(&mut world, DAY_MS);
    let before = epoch(&mut world, &group);
    world.sleep_until(world.now_ms + 9 * DAY_MS).unwrap();
    world.user(0, |m, s| m.set_title(s, &group, "Angling")).unwrap();
    at_peace(&mut world);
    // The renaming is client 0's update, too.
    assert_eq!(epoch(&mut world, &group), before + 2);
}

#[test]
fn nothing_is_committed_where_nothing_may_be_sealed() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.user(1, |m, s| m.leave(s, &group)).unwrap();
    at_peace(&mut world);
    later(&mut world, 9 * DAY_MS);
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Left);
    // Nothing is left to make a Commit with, nor to read what was said there.
    assert!(world.user(1, |m, s| m.standing(s, &group)).is_err());
    assert_eq!(members(&mut world, 1, &group), [""; 0]);
}

#[test]
fn case_078_a_leaf_from_a_last_resort_gets_new_keys_at_once() {
    let mut world = world(2);
    let account = world.account(1).unwrap();
    world.disconnect(1).unwrap();
    for _ in 0..8 {
        let devices = Vec::new();
        let claim = qpc_proto::message::ClaimKeyPackages { account, devices };
        world.ask(0, &Request::ClaimKeyPackages(claim)).unwrap();
    }
    let made = world.user(0, |m, s| m.create_group_channel(s, "Fishing")).unwrap();
    world.settle_among(&[0]).unwrap();
    super::support::add(&mut world, &made.channel, &[1]);
    world.settle_among(&[0]).unwrap();
    let joined = epoch(&mut world, &made.channel);
    at_peace(&mut world);
    let until = world.now_ms + 120_000;
    while world.now_ms < until {
        world.rounds(1).unwrap();
    }
    assert_eq!(epoch(&mut world, &made.channel), joined + 1);
    in_step(&mut world, &made.channel, &[0, 1]);
}

/// The Commit comes between the messages of a device that never stops writing.
#[test]
fn an_epoch_ends_after_a_thousand_messages_of_a_device() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let before = epoch(&mut world, &group);
    for number in 0..1_100 {
        say(&mut world, 1, (&group, &number.to_string()));
    }
    let mut at_commit = None;
    for _ in 0..400 {
        world.rounds(1).unwrap();
        if at_commit.is_none() && epoch(&mut world, &group) > before {
            at_commit = Some(words(&mut world, 0, &group).len());
        }
    }
    let at_commit = at_commit.unwrap();
    assert!((1_000..1_100).contains(&at_commit), "{at_commit}");
    at_peace(&mut world);
    assert_eq!(epoch(&mut world, &group), before + 1);
    assert_eq!(words(&mut world, 0, &group).len(), 1_100);
}

/// The pace holds the Commit back: it waits, and fails nothing.
#[test]
fn case_157_an_update_that_the_server_slows_down_waits() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    later(&mut world, DAY_MS);
    let before = epoch(&mut world, &group);
    world.sleep_until(world.now_ms + 9 * DAY_MS).unwrap();
    world.liar = Some(Box::new(slow_down()));
    at_peace(&mut world);
    assert_eq!(epoch(&mut world, &group), before + 2);
}

/// The first two Commits of client 1 are answered with a wait.
fn slow_down() -> impl FnMut(usize, &mut Input) + Send {
    let mut left = 2;
    move |index, input| {
        if let Input::Answer(qpc_client::machine::Work::Commit(_), answer) = input
            && index == 1
            && left > 0
        {
            left -= 1;
            let mut body = ErrorBody::new(ErrorCode::RateLimited, "wait");
            body.retry_after_ms = Some(1_000);
            *answer = Err(qpc_client::machine::Failure::Refused(body));
        }
    }
}
