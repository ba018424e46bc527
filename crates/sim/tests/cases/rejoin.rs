//! Devices that lost their place in a group, by what expired, by a copy, by damage: they say so,
//! seal nothing, and are in step again when a member has taken them back.

use bytes::Bytes;
use qpc_client::view::{ChannelStatus, MessageState};
use qpc_proto::message::{Method, Request};
use qpc_proto::{ChannelId, RequestId};
use qpc_sim::World;

use super::support::{
    add, channel, commits, enqueues, group, history, in_step, members, names, read_all, say,
    until_sent, words, world,
};

/// Longer than the server keeps what nobody has read.
const LONG_MS: u64 = 8 * 24 * 3_600_000;

fn status(world: &mut World, index: usize, id: &ChannelId) -> ChannelStatus {
    channel(world, index, id).status
}

fn reason(world: &mut World, index: usize, id: &ChannelId) -> String {
    channel(world, index, id).reason.unwrap_or_default()
}

fn notices(world: &mut World, index: usize, id: &ChannelId) -> Vec<String> {
    let all = history(world, index, id).into_iter();
    all.filter(|line| line.state == MessageState::Notice).map(|line| line.text).collect()
}

#[test]
fn case_107_a_home_restored_from_a_copy_seals_nothing_from_it_and_comes_back() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    say(&mut world, 0, (&group, "before the copy"));
    world.settle().unwrap();
    world.back_up(0).unwrap();
    for text in ["after", "the copy"] {
        say(&mut world, 0, (&group, text));
        world.settle().unwrap();
    }
    world.restore(0).unwrap();
    world.user(0, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
    // Alone, it says what it waits for.
    for index in [1, 2] {
        world.disconnect(index).unwrap();
    }
    world.settle_among(&[0]).unwrap();
    assert_eq!(status(&mut world, 0, &group), ChannelStatus::Rejoining);
    assert!(reason(&mut world, 0, &group).contains("waits until a member's client is online"));
    assert_eq!(channel(&mut world, 0, &group).outbox, 1);
    assert_eq!(enqueues(&mut world, 0), []);
    assert_eq!(world.alarms(0).unwrap().len(), 1);
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(words(&mut world, 1, &group), ["before the copy", "after", "the copy", "waited"]);
    say(&mut world, 1, (&group, "welcome back"));
    world.settle().unwrap();
    say(&mut world, 0, (&group, "thanks"));
    world.settle().unwrap();
    assert!(words(&mut world, 0, &group).ends_with(&["welcome back".into(), "thanks".into()]));
    assert_eq!(world.alarms(0).unwrap().len(), 1);
    assert_eq!(members(&mut world, 0, &group), names(&[0, 1, 2]));
}

#[test]
fn case_107_a_copy_that_only_sent_comes_back_too() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.back_up(0).unwrap();
    world.settle().unwrap();
    say(&mut world, 0, (&group, "after the copy"));
    // Accepted, but never answered, read or acknowledged.
    assert!(world.deliver(0, (Method::Enqueue, true)).unwrap());
    world.restore(0).unwrap();
    world.user(0, |m, s| m.queue(s, &group, "from an old ratchet").map(drop)).unwrap();
    world.settle().unwrap();
    assert!(!world.alarms(0).unwrap().is_empty());
    in_step(&mut world, &group, &[0, 1]);
    assert_eq!(words(&mut world, 1, &group), ["after the copy", "from an old ratchet"]);
}

/// Moves one client's traffic on until it is in a channel, and no further.
fn until_in(world: &mut World, index: usize) {
    for _ in 0..200 {
        if !world.user(index, |m, s| m.channels(s)).unwrap().is_empty() {
            return;
        }
        let next = world.sent(index).unwrap().first().map(|out| out.request.method());
        if let Some(next) = next {
            world.deliver(index, (next, false)).unwrap();
        }
        if !world.deliver_down(index).unwrap() {
            world.tick(500).unwrap();
        }
    }
    panic!("client {index} is in no channel");
}

/// The copy lacks the channel, but has the KeyPackage: it follows the invitation once more, and
/// what it sealed before the list had named the channel was lost to the other side.
#[test]
fn case_107_a_copy_that_follows_an_invitation_again_seals_nothing_by_it() {
    let mut world = world(2);
    world.back_up(1).unwrap();
    let peer = world.account(1).unwrap();
    let made = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    world.settle_among(&[0]).unwrap();
    world.connect(1).unwrap();
    until_in(&mut world, 1);
    say(&mut world, 1, (&made, "after the copy"));
    until_sent(&mut world, 1, Method::Enqueue);
    assert!(world.deliver(1, (Method::Enqueue, true)).unwrap());
    world.settle_among(&[0]).unwrap();
    world.restore(1).unwrap();
    world.connect(1).unwrap();
    until_in(&mut world, 1);
    say(&mut world, 1, (&made, "from an old ratchet"));
    assert_eq!(enqueues(&mut world, 1), []);
    world.settle().unwrap();
    in_step(&mut world, &made, &[0, 1]);
    assert_eq!(words(&mut world, 0, &made), ["after the copy", "from an old ratchet"]);
    assert_eq!(words(&mut world, 1, &made), ["from an old ratchet"]);
    let losses = world.user(1, |m, s| m.losses(s, Some(&made))).unwrap();
    assert!(losses.iter().any(|loss| loss.seq == 2), "{losses:?}");
}

#[test]
fn case_107_the_only_admin_comes_back_as_one() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    world.back_up(0).unwrap();
    world.settle().unwrap();
    say(&mut world, 0, (&group, "lost in the copy"));
    world.settle().unwrap();
    world.restore(0).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1]);
    add(&mut world, &group, &[2]);
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
}

#[test]
fn a_second_rejoin_waits_for_an_hour_and_says_so() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.settle().unwrap();
    for round in 0..2 {
        world.back_up(0).unwrap();
        world.settle().unwrap();
        say(&mut world, 0, (&group, &format!("round {round}")));
        world.settle().unwrap();
        world.restore(0).unwrap();
        world.settle().unwrap();
    }
    assert_eq!(status(&mut world, 0, &group), ChannelStatus::Rejoining);
    assert!(reason(&mut world, 0, &group).contains("less than an hour ago"));
    let later = world.now_ms + 3_600_000;
    world.sleep_until(later).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1]);
}

#[test]
fn case_134_who_was_away_longer_than_the_retention_comes_back_and_hears_how_many_are_lost() {
    let mut world = world(4);
    let group = group(&mut world, &[1, 2]);
    world.disconnect(2).unwrap();
    say(&mut world, 0, (&group, "never read by 2"));
    world.settle_among(&[0, 1]).unwrap();
    add(&mut world, &group, &[3]);
    world.settle_among(&[0, 1, 3]).unwrap();
    world.user(2, |m, s| m.queue(s, &group, "written meanwhile").map(drop)).unwrap();
    world.expire_after(LONG_MS).unwrap();
    // What is left shows that a Commit was among what is gone.
    say(&mut world, 1, (&group, "still there"));
    world.settle_among(&[0, 1, 3]).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2, 3]);
    let told = notices(&mut world, 2, &group);
    assert!(told.iter().any(|text| text.contains("expired before this device read")), "{told:?}");
    assert!(told.iter().any(|text| text.contains("took this device in again")), "{told:?}");
    for index in [0, 1, 3] {
        assert!(words(&mut world, index, &group).contains(&"written meanwhile".to_owned()));
    }
    assert_eq!(world.alarms(2).unwrap(), &[] as &[String]);
}

#[test]
fn case_134_a_commit_that_expired_shows_when_this_device_writes() {
    let mut world = world(4);
    let group = group(&mut world, &[1, 2]);
    world.disconnect(2).unwrap();
    add(&mut world, &group, &[3]);
    world.settle_among(&[0, 1, 3]).unwrap();
    world.user(2, |m, s| m.queue(s, &group, "written meanwhile").map(drop)).unwrap();
    world.expire_after(LONG_MS).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2, 3]);
    assert!(words(&mut world, 3, &group).contains(&"written meanwhile".to_owned()));
}

#[test]
fn case_144_where_only_messages_expired_reading_goes_on_without_a_rejoin() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    world.disconnect(2).unwrap();
    say(&mut world, 0, (&group, "one"));
    world.settle_among(&[0, 1]).unwrap();
    world.expire_after(LONG_MS).unwrap();
    say(&mut world, 1, (&group, "two"));
    world.settle_among(&[0, 1]).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(words(&mut world, 2, &group), ["two"]);
    let told = notices(&mut world, 2, &group);
    assert!(told.contains(&"1 message expired before this device read it".to_owned()), "{told:?}");
    assert!(!told.iter().any(|text| text.contains("in again")), "{told:?}");
}

#[test]
fn case_135_who_is_merely_behind_fetches_and_asks_for_nothing() {
    let mut world = world(4);
    let group = group(&mut world, &[1, 2]);
    world.disconnect(2).unwrap();
    for text in ["one", "two"] {
        say(&mut world, 0, (&group, text));
        world.settle_among(&[0, 1]).unwrap();
    }
    add(&mut world, &group, &[3]);
    world.settle_among(&[0, 1, 3]).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2, 3]);
    assert_eq!(words(&mut world, 2, &group), ["one", "two"]);
    assert!(!notices(&mut world, 0, &group).iter().any(|text| text.contains("lost its place")));
}

#[test]
fn two_members_who_follow_one_rejoin_take_the_device_back_once() {
    let mut world = world(4);
    let group = group(&mut world, &[1, 2, 3]);
    world.back_up(3).unwrap();
    world.settle().unwrap();
    say(&mut world, 3, (&group, "gone with the copy"));
    world.settle().unwrap();
    world.restore(3).unwrap();
    for index in [0, 1, 2] {
        world.disconnect(index).unwrap();
    }
    world.settle_among(&[3]).unwrap();
    // Both have read it, and both have made the Commit before either is at the server.
    for index in [1, 2] {
        world.connect(index).unwrap();
        until_sent(&mut world, index, Method::Commit);
        assert_eq!(commits(&mut world, index)[0].bundle.statements.len(), 1);
    }
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2, 3]);
    let taken: Vec<_> = notices(&mut world, 0, &group);
    let back = taken.iter().filter(|text| text.contains("came back")).count();
    assert_eq!(back, 1, "{taken:?}");
}

#[test]
fn several_come_back_while_others_commit() {
    let mut world = world(5);
    let group = group(&mut world, &[1, 2, 3]);
    for index in [2, 3] {
        world.back_up(index).unwrap();
    }
    world.settle().unwrap();
    for index in [2, 3] {
        say(&mut world, index, (&group, &format!("of {index}")));
    }
    world.settle().unwrap();
    for index in [2, 3] {
        world.restore(index).unwrap();
    }
    add(&mut world, &group, &[4]);
    say(&mut world, 1, (&group, "meanwhile"));
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2, 3, 4]);
    assert_eq!(members(&mut world, 2, &group), names(&[0, 1, 2, 3, 4]));
}

/// The copy is older than a channel that this device made: nobody invited it, so that it has lost
/// no invitation, and nobody else adds its account's other devices.
#[test]
fn a_home_that_lacks_a_channel_which_it_made_asks_to_be_taken_in_again() {
    let mut world = world(2);
    world.back_up(0).unwrap();
    world.settle().unwrap();
    let second = world.link(0).unwrap();
    world.settle().unwrap();
    let peer = world.account(1).unwrap();
    let made = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    say(&mut world, 0, (&made, "of before"));
    world.settle().unwrap();
    world.restore(0).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &made, &[0, 1, second]);
    say(&mut world, 0, (&made, "of after"));
    world.settle().unwrap();
    assert_eq!(words(&mut world, 1, &made), ["of before", "of after"]);
    assert_eq!(words(&mut world, 0, &made), ["of after"]);
    let losses = world.user(0, |m, s| m.losses(s, Some(&made))).unwrap();
    assert!(losses.iter().any(|loss| (loss.seq..loss.seq + loss.count).contains(&2)), "{losses:?}");
}

/// A copy from before the founding Commit was read has a group of itself alone: whom it was made
/// with is known all the same, and is no stranger.
#[test]
fn a_copy_from_while_a_direct_channel_was_made_knows_its_other_side() {
    let mut world = world(2);
    let peer = world.account(1).unwrap();
    let made = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    until_sent(&mut world, 0, Method::CreateChannel);
    world.back_up(0).unwrap();
    world.settle().unwrap();
    say(&mut world, 0, (&made, "gone with the copy"));
    world.settle().unwrap();
    world.restore(0).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &made, &[0, 1]);
    say(&mut world, 0, (&made, "of after"));
    world.settle().unwrap();
    assert_eq!(words(&mut world, 1, &made), ["gone with the copy", "of after"]);
}

#[test]
fn a_rejoin_survives_a_crash_at_every_step() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    world.back_up(1).unwrap();
    world.settle().unwrap();
    say(&mut world, 1, (&group, "gone with the copy"));
    world.settle().unwrap();
    world.restore(1).unwrap();
    world.user(1, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
    for index in [0, 1, 2] {
        world.connect(index).unwrap();
    }
    for _ in 0..60 {
        for index in [0, 1, 2] {
            let next = world.sent(index).unwrap().first().map(|out| out.request.method());
            if let Some(method) = next {
                world.deliver(index, (method, false)).unwrap();
            }
            world.deliver_down(index).unwrap();
            world.crash(index).unwrap();
            world.connect(index).unwrap();
        }
        world.tick(600).unwrap();
    }
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    let heard = words(&mut world, 0, &group);
    assert_eq!(heard.iter().filter(|text| *text == "waited").count(), 1, "{heard:?}");
}

#[test]
fn a_direct_channel_comes_back_by_the_other_side() {
    let mut world = world(2);
    let peer = world.account(1).unwrap();
    let made = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    world.settle().unwrap();
    world.back_up(0).unwrap();
    world.settle().unwrap();
    say(&mut world, 0, (&made, "gone with the copy"));
    world.settle().unwrap();
    world.restore(0).unwrap();
    world.user(0, |m, s| m.queue(s, &made, "waited").map(drop)).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &made, &[0, 1]);
    assert_eq!(words(&mut world, 1, &made), ["gone with the copy", "waited"]);
}

#[test]
fn case_206_a_group_that_is_gone_or_damaged_is_seen_and_mended() {
    for damage in ["DELETE FROM mls_group", "UPDATE mls_group SET value = x'c1' WHERE kind < 11"] {
        let mut world = world(2);
        let group = group(&mut world, &[1]);
        world.damage(1, damage).unwrap();
        world.user(1, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
        say(&mut world, 0, (&group, "unread"));
        world.settle_among(&[0]).unwrap();
        world.disconnect(0).unwrap();
        world.settle_among(&[1]).unwrap();
        assert_eq!(status(&mut world, 1, &group), ChannelStatus::Rejoining, "{damage}");
        assert!(reason(&mut world, 1, &group).contains("damaged or gone"));
        world.settle().unwrap();
        in_step(&mut world, &group, &[0, 1]);
        assert!(words(&mut world, 0, &group).contains(&"waited".to_owned()));
    }
}

#[test]
fn case_107_a_copy_from_before_a_rejoin_comes_back() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.back_up(1).unwrap();
    for round in 0..2 {
        world.settle().unwrap();
        say(&mut world, 1, (&group, &format!("round {round}")));
        world.settle().unwrap();
        world.restore(1).unwrap();
        world.settle().unwrap();
        let later = world.now_ms + 2 * 3_600_000;
        world.sleep_until(later).unwrap();
        world.settle().unwrap();
        in_step(&mut world, &group, &[0, 1]);
    }
    say(&mut world, 0, (&group, "twice back"));
    world.settle().unwrap();
    assert!(words(&mut world, 1, &group).ends_with(&["twice back".into()]));
}

/// The statements that a client has on their way, with their request ids.
fn statements(world: &mut World, index: usize) -> Vec<(RequestId, Bytes)> {
    let sent = world.sent(index).unwrap().into_iter();
    sent.filter_map(|out| {
        let Request::Statement(said) = out.request else { return None };
        Some((out.request_id, said.statement))
    })
    .collect()
}

/// A copy from before a rejoin knows of none, and asks at once; the server takes one an hour.
#[test]
fn a_rejoin_that_the_server_slows_down_is_sent_again_as_it_was() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.back_up(1).unwrap();
    for text in ["gone with the copy", "gone once more"] {
        world.settle().unwrap();
        say(&mut world, 1, (&group, text));
        world.settle().unwrap();
        world.restore(1).unwrap();
    }
    world.user(1, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
    world.disconnect(0).unwrap();
    let mut sent = Vec::new();
    for _ in 0..3 {
        world.connect(1).unwrap();
        until_sent(&mut world, 1, Method::Statement);
        sent.push(statements(&mut world, 1));
        world.deliver(1, (Method::Statement, false)).unwrap();
        read_all(&mut world, 1);
        assert_eq!(status(&mut world, 1, &group), ChannelStatus::Rejoining);
        let why = reason(&mut world, 1, &group);
        assert!(why.contains("less than an hour ago"), "{why}");
        // Nothing is sent before its time is come.
        world.tick(60_000).unwrap();
        assert_eq!(statements(&mut world, 1), []);
        world.crash(1).unwrap();
    }
    assert_eq!(sent[0].len(), 1);
    assert!(sent.iter().all(|again| *again == sent[0]), "{sent:?}");
    // It is due by itself, on a connection that stays.
    world.connect(1).unwrap();
    until_sent(&mut world, 1, Method::Statement);
    world.deliver(1, (Method::Statement, false)).unwrap();
    read_all(&mut world, 1);
    for _ in 0..400 {
        world.tick(60_000).unwrap();
        if statements(&mut world, 1) == sent[0] {
            break;
        }
    }
    assert_eq!(statements(&mut world, 1), sent[0]);
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1]);
    assert!(words(&mut world, 0, &group).contains(&"waited".to_owned()));
}

/// Client 2 was away until all that it missed had expired; client 3 came in meanwhile, and is the
/// only one there to take it back.
fn taken_back_by_a_newcomer(world: &mut World) -> ChannelId {
    let group = group(world, &[1, 2]);
    world.disconnect(2).unwrap();
    add(world, &group, &[3]);
    world.settle_among(&[0, 1, 3]).unwrap();
    world.user(2, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
    world.expire_after(LONG_MS).unwrap();
    world.settle_among(&[2, 3]).unwrap();
    group
}

#[test]
fn who_is_taken_back_by_a_stranger_writes_once_somebody_it_knew_has_spoken() {
    let mut world = world(4);
    let group = taken_back_by_a_newcomer(&mut world);
    let shown = channel(&mut world, 2, &group);
    assert_eq!((shown.status, shown.outbox), (ChannelStatus::Unconfirmed, 1));
    let why = shown.reason.unwrap();
    assert!(why.contains("user3 took this device in, who was not in before"), "{why}");
    // The stranger's own word changes nothing.
    say(&mut world, 3, (&group, "do write"));
    world.settle_among(&[2, 3]).unwrap();
    assert_eq!(channel(&mut world, 2, &group).outbox, 1);
    assert_eq!(words(&mut world, 3, &group), ["do write"]);
    say(&mut world, 1, (&group, "it is you"));
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2, 3]);
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Active);
    assert!(words(&mut world, 0, &group).contains(&"waited".to_owned()));
}

#[test]
fn who_is_taken_back_by_a_stranger_writes_once_the_user_has_compared_keys() {
    let mut world = world(4);
    let group = taken_back_by_a_newcomer(&mut world);
    assert_eq!(channel(&mut world, 2, &group).outbox, 1);
    let stranger = world.account(3).unwrap();
    world.user(2, |m, s| m.set_verified(s, &stranger, true)).unwrap();
    world.settle_among(&[2, 3]).unwrap();
    assert_eq!(channel(&mut world, 2, &group).outbox, 0);
    assert_eq!(words(&mut world, 3, &group), ["waited"]);
}

/// Those whom it knew go first, so that nobody has to wait for another's word.
#[test]
fn who_came_meanwhile_lets_those_who_were_known_take_a_device_back() {
    let mut world = world(4);
    let group = group(&mut world, &[1, 2, 3]);
    world.disconnect(2).unwrap();
    let gone = world.account(1).unwrap();
    world.user(0, |m, s| m.change_members(s, &group, (false, &[gone]))).unwrap();
    world.settle_among(&[0, 3]).unwrap();
    // It has the leaf of client 1, before that of client 3.
    let late = world.register_as("late").unwrap();
    world.settle_among(&[0, 3, late]).unwrap();
    add(&mut world, &group, &[late]);
    world.settle_among(&[0, 3, late]).unwrap();
    world.user(2, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
    world.expire_after(LONG_MS).unwrap();
    world.settle_among(&[2, 3, late]).unwrap();
    let told = notices(&mut world, 2, &group);
    assert!(told.contains(&"user3 took this device in again".to_owned()), "{told:?}");
    assert!(words(&mut world, late, &group).contains(&"waited".to_owned()));
}
