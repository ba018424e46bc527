//! Sequences that random runs found and that once lost, doubled or wedged something.

use qpc_client::view::{ChannelStatus, MessageState};
use qpc_proto::message::Method;
use qpc_sim::World;

use crate::support::{
    add, at_peace, channel, enqueues, group, history, in_step, members, names, read_all, say,
    until_sent, words, world,
};

/// A leave set aside a message that was sealed and may have been at the server already.
#[test]
fn a_leave_leaves_a_sealed_message_to_the_log() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    say(&mut world, 1, (&group, "my last word"));
    assert_eq!(enqueues(&mut world, 1).len(), 1);
    world.user(1, |m, s| m.leave(s, &group)).unwrap();
    at_peace(&mut world);
    assert_eq!(words(&mut world, 0, &group), ["my last word"]);
    assert_eq!(words(&mut world, 1, &group), ["my last word"]);
}

/// The only member left while the Commit that added another was on its way, and forgot the group.
#[test]
fn a_lone_leaver_with_an_add_on_its_way_is_removed_by_who_came_in() {
    let mut world = world(2);
    let group = group(&mut world, &[]);
    add(&mut world, &group, &[1]);
    until_sent(&mut world, 0, Method::Commit);
    world.user(0, |m, s| m.leave(s, &group)).unwrap();
    at_peace(&mut world);
    assert_eq!(channel(&mut world, 0, &group).status, ChannelStatus::Left);
    assert_eq!(members(&mut world, 1, &group), names(&[1]));
}

/// A message that a Commit overtook went back to waiting in a channel that was over by then.
#[test]
fn what_a_commit_overtakes_after_a_removal_is_refused_visibly() {
    // With a third member the removal is not confirmed yet: the server still judges the message.
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    say(&mut world, 1, (&group, "too late"));
    let other = world.account(1).unwrap();
    world.user(0, |m, s| m.change_members(s, &group, (false, &[other]))).unwrap();
    assert!(world.deliver(0, (Method::Commit, false)).unwrap());
    read_all(&mut world, 1);
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Left);
    assert!(world.deliver(1, (Method::Enqueue, false)).unwrap());
    at_peace(&mut world);
    let all = history(&mut world, 1, &group);
    let late = all.iter().find(|message| message.text == "too late").unwrap();
    assert_eq!(late.state, MessageState::Refused);
    assert_eq!(channel(&mut world, 1, &group).outbox, 0);
}

/// The log showed a Commit before its answer came; the answer then counted for the next Commit,
/// which was never sent.
#[test]
fn an_answer_to_a_commit_does_not_count_for_the_next_one() {
    for seed in 1..=8 {
        let mut world = World::new(seed, 3).unwrap();
        world.settle().unwrap();
        let group = group(&mut world, &[]);
        add(&mut world, &group, &[1]);
        add(&mut world, &group, &[2]);
        until_sent(&mut world, 0, Method::Commit);
        assert!(world.deliver(0, (Method::Commit, false)).unwrap());
        at_peace(&mut world);
        in_step(&mut world, &group, &[0, 1, 2]);
    }
}

/// The server repeated the answer to a claim for days: its KeyPackages could not be added any more,
/// and an honest server was called a liar.
#[test]
fn a_claim_that_is_asked_again_days_later_takes_other_key_packages() {
    let mut world = World::new(7, 2).unwrap();
    // OpenMLS reads this machine's clock: what is made more than a day later is too new for it.
    world.now_ms -= 12 * 3_600_000;
    world.settle().unwrap();
    let peer = world.account(1).unwrap();
    let direct = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    until_sent(&mut world, 0, Method::ClaimKeyPackages);
    assert!(world.deliver(0, (Method::ClaimKeyPackages, true)).unwrap());
    let later = world.now_ms + 26 * 3_600_000;
    world.sleep_until(later).unwrap();
    world.settle_among(&[1]).unwrap();
    at_peace(&mut world);
    assert_eq!(channel(&mut world, 0, &direct).status, ChannelStatus::Active);
}

/// Sealed bytes whose answer was lost were sent again when the server had forgotten their id, and
/// took a second place, where nobody could read them.
#[test]
fn what_was_sealed_more_than_two_weeks_ago_is_sealed_anew() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let mut world = World::new(7, 2).unwrap();
    // OpenMLS reads this machine's clock: what is made more than a day later is too new for it.
    world.now_ms -= 30 * DAY_MS;
    world.settle().unwrap();
    let group = group(&mut world, &[1]);
    say(&mut world, 0, (&group, "sent once"));
    until_sent(&mut world, 0, Method::Enqueue);
    assert!(world.deliver(0, (Method::Enqueue, true)).unwrap());
    read_all(&mut world, 1);
    for _ in 0..5 {
        let later = world.now_ms + 3 * DAY_MS;
        world.sleep_until(later).unwrap();
        world.sweep().unwrap();
    }
    world.settle().unwrap();
    for index in [0, 1] {
        let all = history(&mut world, index, &group);
        assert_eq!(words(&mut world, index, &group), ["sent once"], "client {index}: {all:?}");
    }
    let all = history(&mut world, 1, &group);
    let unreadable = all.iter().filter(|line| line.state == MessageState::Unreadable);
    assert_eq!(unreadable.count(), 0, "{all:?}");
}

/// Who made a channel, had no answer and came back weeks later asked once more: the server had
/// forgotten the id, and the channel failed for the device that was in it.
#[test]
fn a_creation_that_is_asked_again_weeks_later_is_the_one_that_was_taken() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let mut world = World::new(7, 2).unwrap();
    // OpenMLS reads this machine's clock: what is made more than a day later is too new for it.
    world.now_ms -= 30 * DAY_MS;
    world.settle().unwrap();
    let peer = world.account(1).unwrap();
    let made = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    until_sent(&mut world, 0, Method::CreateChannel);
    assert!(world.deliver(0, (Method::CreateChannel, true)).unwrap());
    world.settle_among(&[1]).unwrap();
    // Seven days until the entry goes, and seven more until its id does.
    for day in (3..=18).step_by(3) {
        let later = world.now_ms + 3 * DAY_MS;
        world.sleep_until(later).unwrap();
        world.sweep().unwrap();
        say(&mut world, 1, (&made, &format!("day {day}")));
        world.settle_among(&[1]).unwrap();
    }
    assert_eq!(channel(&mut world, 0, &made).status, ChannelStatus::Creating);
    world.settle().unwrap();
    say(&mut world, 0, (&made, "I am back"));
    world.settle().unwrap();
    in_step(&mut world, &made, &[0, 1]);
    for index in [0, 1] {
        let all = world.user(index, |m, s| m.channels(s)).unwrap();
        assert_eq!(all.len(), 1, "client {index}: {all:?}");
        assert_eq!((all[0].status, all[0].outbox), (ChannelStatus::Active, 0), "client {index}");
        assert_eq!(words(&mut world, index, &made).last().unwrap(), "I am back");
    }
}
