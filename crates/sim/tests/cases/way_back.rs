//! What could keep a device from coming back: another's bad KeyPackage, lost answers, a full
//! channel, a removal, statements said again.

use qpc_client::machine::Input;
use qpc_client::view::{ChannelStatus, MessageState};
use qpc_credential::{Posted, Rejoin, RejoinReason, StatementBody};
use qpc_mls::engine::CommitPlan;
use qpc_proto::ChannelId;
use qpc_proto::message::{EntryKind, Method};
use qpc_sim::World;

use super::members::Member;
use super::support::{
    add, at_peace, channel, group, history, in_step, members, names, read_all, say, until_sent,
    words, world,
};

/// Longer than the server keeps what nobody has read.
const LONG_MS: u64 = 8 * 24 * 3_600_000;

/// A client goes on from a copy that lacks a message of its own.
fn from_a_copy(world: &mut World, (index, group): (usize, &ChannelId)) {
    world.back_up(index).unwrap();
    world.settle().unwrap();
    say(world, index, (group, &format!("gone with the copy of {index}")));
    world.settle().unwrap();
    world.restore(index).unwrap();
}

fn notices(world: &mut World, index: usize, (group, text): (&ChannelId, &str)) -> usize {
    let all = history(world, index, group).into_iter();
    all.filter(|line| line.state == MessageState::Notice && line.text.contains(text)).count()
}

/// A rejoin whose KeyPackage begins later than the group engine takes: the server does.
fn bad_rejoin(world: &mut World, member: &mut Member, join_seq: u64) {
    let ahead_ms = world.now_ms + 24 * 3_600_000 + 1_800_000;
    let package = member.party.run(|engine, tx| engine.key_package(tx, true, ahead_ms)).unwrap();
    let body = StatementBody::Rejoin(Rejoin {
        incarnation: world.incarnation().unwrap(),
        join_seq,
        base_commit: member.base,
        reason: RejoinReason::Expired,
        key_package: package.bytes.into(),
    });
    let statement = member.party.statement(member.channel, body);
    member.states(world, statement).unwrap();
}

#[test]
fn a_rejoin_that_nobody_can_follow_keeps_nobody_else_out() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    let mut member = Member::enter(&mut world, group);
    let joined = member.base;
    from_a_copy(&mut world, (1, &group));
    bad_rejoin(&mut world, &mut member, joined);
    for index in [0, 2] {
        world.disconnect(index).unwrap();
    }
    world.settle_among(&[1]).unwrap();
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Rejoining);
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    assert!(notices(&mut world, 0, (&group, "came back")) == 1);
}

/// A liar's Commit that nobody but the returning device can follow: its Welcome is good.
#[test]
fn who_was_taken_into_a_branch_of_a_liar_alone_comes_back_to_the_others() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    let mut member = Member::enter(&mut world, group);
    from_a_copy(&mut world, (1, &group));
    for index in [0, 2] {
        world.disconnect(index).unwrap();
    }
    world.settle_among(&[1]).unwrap();
    member.follow(&mut world);
    let log = member.log(&mut world);
    let said = log.iter().rev().find(|entry| entry.kind == EntryKind::Statement).unwrap();
    let Ok(Posted::Said(rejoin)) = Posted::verify(&said.payload, &group) else { panic!("no word") };
    let device = rejoin.certificate.device();
    let StatementBody::Rejoin(rejoin) = rejoin.body else { panic!("no rejoin") };
    let mut bundle = member.seals(&CommitPlan {
        adds: vec![rejoin.key_package.to_vec()],
        removes: [device].into(),
        statements: vec![said.payload.clone()],
        ..CommitPlan::default()
    });
    let mut spoilt = bundle.payload.to_vec();
    *spoilt.last_mut().unwrap() ^= 1;
    bundle.payload = spoilt.into();
    member.commits(&mut world, bundle).unwrap();
    world.settle_among(&[1]).unwrap();
    say(&mut world, 1, (&group, "heard by nobody yet"));
    world.settle_among(&[1]).unwrap();
    world.settle().unwrap();
    let later = world.now_ms + 3_600_000;
    world.sleep_until(later).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    for index in [0, 2] {
        let heard = words(&mut world, index, &group);
        assert_eq!(heard.iter().filter(|text| text.contains("by nobody")).count(), 1, "{heard:?}");
    }
}

/// Both sides of a parted group take a device in again, the side that is given up last: the next
/// Commit of the other side puts the join there back, and the device asks for that one.
/// (Seed 10224.)
#[test]
fn a_join_that_a_commit_on_an_older_base_puts_back_is_asked_for() {
    let mut world = World::new(7, 4).unwrap();
    // The library compares lifetimes with the machine's clock: a day later must not be too late.
    world.now_ms -= 12 * 3_600_000;
    world.settle().unwrap();
    let mut member = Member::found(&mut world, &[0, 1, 2, 3]);
    let group = member.channel;
    for index in 0..4 {
        say(&mut world, index, (&group, &format!("{index} is here")));
    }
    from_a_copy(&mut world, (3, &group));
    member.follow(&mut world);
    member.splits(&mut world, &[1]);
    for some in [&[0, 1, 2][..], &[3], &[0], &[1], &[1, 3]] {
        world.settle_among(some).unwrap();
    }
    in_step(&mut world, &group, &[1, 3]);
    for index in 0..4 {
        world.disconnect(index).unwrap();
    }
    // Leaves are renewed within a day of a join.
    world.now_ms += 25 * 3_600_000;
    world.settle_among(&[0, 2]).unwrap();
    for _ in 0..3 {
        world.settle().unwrap();
        let later = world.now_ms + 3_600_000;
        world.sleep_until(later).unwrap();
    }
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2, 3]);
}

#[test]
fn a_channel_whose_creation_was_never_answered_lives_after_its_first_entry_expired() {
    let mut world = world(2);
    let made = world.user(0, |m, s| m.create_group_channel(s, "Fishing")).unwrap().channel;
    until_sent(&mut world, 0, Method::CreateChannel);
    assert!(world.deliver(0, (Method::CreateChannel, true)).unwrap());
    world.crash(0).unwrap();
    world.expire_after(LONG_MS).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 0, &made).status, ChannelStatus::Active);
    add(&mut world, &made, &[1]);
    world.settle().unwrap();
    say(&mut world, 0, (&made, "here"));
    world.settle().unwrap();
    in_step(&mut world, &made, &[0, 1]);
    assert_eq!(words(&mut world, 1, &made), ["here"]);
}

#[test]
fn an_own_commit_that_expired_before_its_answer_came_keeps_nothing_waiting() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    add(&mut world, &group, &[2]);
    until_sent(&mut world, 0, Method::Commit);
    assert!(world.deliver(0, (Method::Commit, true)).unwrap());
    world.crash(0).unwrap();
    world.settle_among(&[1, 2]).unwrap();
    world.expire_after(LONG_MS).unwrap();
    say(&mut world, 0, (&group, "waited"));
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    for index in [1, 2] {
        assert_eq!(words(&mut world, index, &group), ["waited"]);
    }
}

#[test]
fn an_own_message_that_expired_before_it_was_shown_is_settled_by_its_answer() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    say(&mut world, 0, (&group, "accepted"));
    until_sent(&mut world, 0, Method::Enqueue);
    assert!(world.deliver(0, (Method::Enqueue, false)).unwrap());
    // The answer comes, the log does not.
    world.liar = Some(Box::new(|index, input| {
        if index == 0 && matches!(input, Input::Page(_)) {
            *input = Input::Tick;
        }
    }));
    read_all(&mut world, 0);
    world.liar = None;
    world.expire_after(LONG_MS).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1]);
    assert!(world.user(0, |m, s| m.outbox(s)).unwrap().is_empty());
}

/// In a channel of these clients one has used up its room: returns how many messages wait.
fn full(world: &mut World, (index, group): (usize, &ChannelId), present: &[usize]) -> u64 {
    for part in 0..8 {
        let text = format!("{part}{}", "x".repeat(16 * 1_024));
        world.user(index, |m, s| m.queue(s, group, &text).map(drop)).unwrap();
    }
    // Who waits for room asks again and again: there is no rest.
    world.rounds_among(present, 60).unwrap();
    let waiting = channel(world, index, group).outbox;
    assert!((1..8).contains(&waiting), "{waiting} of 8 find no room");
    waiting
}

/// The room of a channel in which eight long messages of a device find none.
const ROOM_BYTES: u64 = 256 * 1_024;

#[test]
fn who_cannot_send_in_a_full_channel_takes_others_back_all_the_same() {
    let mut world = world(3);
    world.limit_channels(ROOM_BYTES).unwrap();
    let group = group(&mut world, &[1, 2]);
    from_a_copy(&mut world, (1, &group));
    world.disconnect(0).unwrap();
    let waiting = full(&mut world, (2, &group), &[2]);
    world.rounds_among(&[1, 2], 60).unwrap();
    assert_eq!(notices(&mut world, 1, (&group, "took this device in again")), 1);
    in_step(&mut world, &group, &[1, 2]);
    assert_eq!(channel(&mut world, 2, &group).outbox, waiting);
}

/// What it writes waits, what it changes does not.
#[test]
fn who_cannot_send_in_a_full_channel_changes_it_all_the_same() {
    let mut world = world(3);
    world.limit_channels(ROOM_BYTES).unwrap();
    let group = group(&mut world, &[1]);
    let waiting = full(&mut world, (0, &group), &[0, 1]);
    world.user(0, |m, s| m.set_title(s, &group, "Full")).unwrap();
    world.rounds(60).unwrap();
    assert_eq!(channel(&mut world, 1, &group).title, "Full");
    add(&mut world, &group, &[2]);
    world.rounds(60).unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(channel(&mut world, 0, &group).outbox, waiting);
    // Once the older entries have gone, what waited goes.
    world.expire_after(LONG_MS).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    for index in [0, 1] {
        let read = words(&mut world, index, &group);
        let parts: Vec<_> = read.iter().map(|text| &text[..1]).collect();
        assert_eq!(parts.concat(), "01234567", "client {index}");
    }
}

/// What is written before somebody is added is not for them, where it can go.
#[test]
fn what_was_written_before_somebody_was_added_goes_before() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    world.disconnect(0).unwrap();
    world.user(0, |m, s| m.queue(s, &group, "about 2").map(drop)).unwrap();
    add(&mut world, &group, &[2]);
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(words(&mut world, 1, &group), ["about 2"]);
    assert_eq!(words(&mut world, 2, &group), [""; 0]);
}

/// Client 0 reads that 2 leaves while it can read no Commit; others let 2 go and take it in again.
#[test]
fn a_leave_read_without_a_place_removes_nobody_who_came_back() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    let [one, two] = [1, 2].map(|index| world.account(index).unwrap());
    world.user(0, |m, s| m.set_admin(s, &group, (&one, true))).unwrap();
    world.settle().unwrap();
    world.disconnect(0).unwrap();
    world.user(1, |m, s| m.set_title(s, &group, "Unread by 0")).unwrap();
    world.settle_among(&[1, 2]).unwrap();
    world.expire_after(LONG_MS).unwrap();
    world.settle_among(&[1, 2]).unwrap();
    world.user(2, |m, s| m.leave(s, &group)).unwrap();
    world.settle_among(&[1, 2]).unwrap();
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Left);
    world.user(1, |m, s| m.change_members(s, &group, (true, &[two]))).unwrap();
    world.settle_among(&[1, 2]).unwrap();
    world.settle().unwrap();
    assert_eq!(notices(&mut world, 0, (&group, "took this device in again")), 1);
    in_step(&mut world, &group, &[0, 1, 2]);
    for index in [0, 1, 2] {
        say(&mut world, index, (&group, &format!("{index} is in")));
    }
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
}

#[test]
fn who_was_removed_while_its_group_was_damaged_is_out_and_waits_for_nothing() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    world.damage(1, "DELETE FROM mls_group").unwrap();
    world.user(1, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
    let gone = world.account(1).unwrap();
    world.user(0, |m, s| m.change_members(s, &group, (false, &[gone]))).unwrap();
    world.settle_among(&[0, 2]).unwrap();
    say(&mut world, 2, (&group, "builds on it"));
    world.settle_among(&[0, 2]).unwrap();
    world.settle().unwrap();
    let shown = channel(&mut world, 1, &group);
    assert_eq!((shown.status, shown.outbox), (ChannelStatus::Left, 0));
}

#[test]
fn who_is_removed_after_it_asked_hears_of_it() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    from_a_copy(&mut world, (1, &group));
    for index in [0, 2] {
        world.disconnect(index).unwrap();
    }
    world.settle_among(&[1]).unwrap();
    world.disconnect(1).unwrap();
    let gone = world.account(1).unwrap();
    world.user(0, |m, s| m.change_members(s, &group, (false, &[gone]))).unwrap();
    world.settle_among(&[0, 2]).unwrap();
    say(&mut world, 2, (&group, "builds on it"));
    world.settle_among(&[0, 2]).unwrap();
    world.settle().unwrap();
    let later = world.now_ms + 3_600_000;
    world.sleep_until(later).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Left);
}

#[test]
fn a_leave_that_is_said_again_to_newcomers_is_told_once() {
    let mut world = world(6);
    let group = group(&mut world, &[1, 2]);
    world.disconnect(1).unwrap();
    // Three joins are wanted before the leave is read.
    for index in [3, 4, 5] {
        add(&mut world, &group, &[index]);
    }
    world.user(2, |m, s| m.leave(s, &group).map(drop)).unwrap();
    assert!(world.deliver(2, (Method::Statement, false)).unwrap());
    world.settle_among(&[0, 2, 3, 4, 5]).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 3, 4, 5]);
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Left);
    assert_eq!(notices(&mut world, 1, (&group, "asked to leave")), 1);
    for index in [3, 4, 5] {
        assert!(notices(&mut world, index, (&group, "asked to leave")) <= 1);
    }
}

/// What an earlier version stopped for good is mended by the next connection.
#[test]
fn a_channel_that_an_earlier_version_stopped_comes_back() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    for damage in ["DELETE FROM rejoin", "UPDATE channel SET status = 6 WHERE kind = 2"] {
        world.damage(1, damage).unwrap();
    }
    world.user(1, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1]);
    assert_eq!(words(&mut world, 0, &group), ["waited"]);
}

/// The reset's id is the last that the server has of this device in the old channel.
#[test]
fn a_reset_whose_answer_was_lost_is_no_sign_of_an_older_copy() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.user(0, |m, s| m.reset(s, &group).map(drop)).unwrap();
    until_sent(&mut world, 0, Method::CreateChannel);
    assert!(world.deliver(0, (Method::CreateChannel, true)).unwrap());
    world.settle().unwrap();
    assert_eq!(world.alarms(0).unwrap(), [""; 0]);
    assert_eq!(channel(&mut world, 0, &group).status, ChannelStatus::Closed);
}

#[test]
fn what_stands_behind_a_founding_commit_that_expired_waits_for_its_answer() {
    // Whether answer or page comes first is drawn.
    for seed in 1..=8 {
        let mut world = World::new(seed, 2).unwrap();
        world.settle().unwrap();
        let other = world.account(1).unwrap();
        let made = world.user(0, |m, s| m.direct(s, &other)).unwrap().channel;
        until_sent(&mut world, 0, Method::CreateChannel);
        assert!(world.deliver(0, (Method::CreateChannel, true)).unwrap());
        world.settle_among(&[1]).unwrap();
        world.expire_after(LONG_MS).unwrap();
        say(&mut world, 1, (&made, "are you there?"));
        world.settle_among(&[1]).unwrap();
        world.settle().unwrap();
        in_step(&mut world, &made, &[0, 1]);
        assert_eq!(words(&mut world, 0, &made), ["are you there?"], "seed {seed}");
    }
}

#[test]
fn what_stands_behind_an_own_commit_that_expired_waits_for_its_answer() {
    // Whether answer or page comes first is drawn. Who is leaving is not taken in again.
    for (seed, leaves) in (1..=16).zip([false, true].into_iter().cycle()) {
        let mut world = World::new(seed, 2).unwrap();
        world.settle().unwrap();
        let made = group(&mut world, &[]);
        add(&mut world, &made, &[1]);
        until_sent(&mut world, 0, Method::Commit);
        assert!(world.deliver(0, (Method::Commit, true)).unwrap());
        world.settle_among(&[1]).unwrap();
        world.expire_after(LONG_MS).unwrap();
        say(&mut world, 1, (&made, "are you there?"));
        world.settle_among(&[1]).unwrap();
        if leaves {
            world.user(0, |m, s| m.leave(s, &made)).unwrap();
        } else {
            world.user(1, |m, s| m.leave(s, &made)).unwrap();
        }
        at_peace(&mut world);
        assert_eq!(words(&mut world, 0, &made), ["are you there?"], "seed {seed}");
        let (out, stays) = if leaves { (0, 1) } else { (1, 0) };
        assert_eq!(channel(&mut world, out, &made).status, ChannelStatus::Left);
        assert_eq!(members(&mut world, stays, &made), names(&[stays]));
    }
}

#[test]
fn who_is_leaving_takes_back_who_can_follow_the_leave() {
    let mut world = world(2);
    let made = group(&mut world, &[1]);
    from_a_copy(&mut world, (0, &made));
    world.disconnect(0).unwrap();
    world.user(1, |m, s| m.leave(s, &made)).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 1, &made).status, ChannelStatus::Left);
    assert_eq!(channel(&mut world, 0, &made).status, ChannelStatus::Active);
    say(&mut world, 0, (&made, "alone"));
    world.settle().unwrap();
    assert!(words(&mut world, 0, &made).contains(&"alone".to_owned()));
}
