//! Channels that go on as others: by a user's reset, and after a server was put back from a backup,
//! which begins another life.

use qpc_client::view::{Channel, ChannelStatus};
use qpc_proto::ChannelId;
use qpc_proto::message::Method;
use qpc_sim::World;

use super::support::{
    add, channel, group, history, in_step, members, names, read_all, say, until_sent, words, world,
};

/// The one channel of a client that goes on.
fn live(world: &mut World, index: usize) -> ChannelId {
    let all = world.user(index, |m, s| m.channels(s)).unwrap();
    let goes_on =
        |c: &&Channel| matches!(c.status, ChannelStatus::Active | ChannelStatus::Unconfirmed);
    let live: Vec<_> = all.iter().filter(goes_on).collect();
    assert_eq!(live.len(), 1, "client {index}: {all:?}");
    ChannelId::from_hex(&live[0].channel).unwrap()
}

/// How often a client shows a text, in all its channels.
fn shown(world: &mut World, index: usize, text: &str) -> usize {
    let all = world.user(index, |m, s| m.channels(s)).unwrap();
    let ids = all.iter().map(|c| ChannelId::from_hex(&c.channel).unwrap());
    let lines = ids.flat_map(|id| history(world, index, &id)).collect::<Vec<_>>();
    lines.iter().filter(|line| line.text == text).count()
}

#[test]
fn case_097_a_restored_server_s_channels_go_on_in_successors_and_nothing_is_lost() {
    let mut world = world(3);
    let old = group(&mut world, &[1, 2]);
    say(&mut world, 1, (&old, "in the backup"));
    world.settle().unwrap();
    world.back_up_server().unwrap();
    say(&mut world, 1, (&old, "lost, but 1 has it"));
    add(&mut world, &old, &[2]);
    world.settle().unwrap();
    world.user(2, |m, s| m.queue(s, &old, "never sent").map(drop)).unwrap();
    world.restore_server().unwrap();
    world.settle().unwrap();
    let new = live(&mut world, 0);
    assert_ne!(new, old);
    for index in [0, 1, 2] {
        assert_eq!(live(&mut world, index), new);
        assert_eq!(channel(&mut world, index, &old).status, ChannelStatus::Closed);
    }
    in_step(&mut world, &new, &[0, 1, 2]);
    assert_eq!(members(&mut world, 2, &new), names(&[0, 1, 2]));
    for text in ["in the backup", "lost, but 1 has it", "never sent"] {
        for index in [0, 1, 2] {
            assert_eq!(shown(&mut world, index, text), 1, "{text} at {index}");
        }
    }
    say(&mut world, 2, (&new, "on we go"));
    world.settle().unwrap();
    assert!(words(&mut world, 1, &new).contains(&"on we go".to_owned()));
}

#[test]
fn case_097_a_pair_finds_each_other_again_whoever_is_first() {
    for first in [0, 1] {
        let mut world = world(2);
        let peer = world.account(1).unwrap();
        let old = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
        world.settle().unwrap();
        world.back_up_server().unwrap();
        world.restore_server().unwrap();
        world.user(first, |m, s| m.queue(s, &old, "hello again").map(drop)).unwrap();
        // Alone for a while: nobody can be claimed for yet.
        world.connect(first).unwrap();
        for _ in 0..40 {
            let next = world.sent(first).unwrap().first().map(|out| out.request.method());
            if let Some(method) = next {
                world.deliver(first, (method, false)).unwrap();
            }
            read_all(&mut world, first);
            world.tick(1_000).unwrap();
        }
        world.settle().unwrap();
        let new = live(&mut world, 0);
        in_step(&mut world, &new, &[0, 1]);
        assert_eq!(shown(&mut world, 1 - first, "hello again"), 1);
    }
}

#[test]
fn case_206_an_admin_resets_a_group_and_what_waits_moves() {
    let mut world = world(3);
    let old = group(&mut world, &[1, 2]);
    let not_allowed = world.user(1, |m, s| m.reset(s, &old));
    assert!(not_allowed.is_err());
    world.disconnect(1).unwrap();
    world.user(1, |m, s| m.queue(s, &old, "written before 1 heard").map(drop)).unwrap();
    world.user(0, |m, s| m.reset(s, &old)).unwrap();
    world.settle_among(&[0, 2]).unwrap();
    world.settle().unwrap();
    let new = live(&mut world, 0);
    in_step(&mut world, &new, &[0, 1, 2]);
    for index in [0, 1, 2] {
        assert_eq!(channel(&mut world, index, &old).status, ChannelStatus::Closed);
        assert_eq!(shown(&mut world, index, "written before 1 heard"), 1);
    }
    assert_eq!(world.alarms(1).unwrap(), &[] as &[String]);
}

#[test]
fn of_two_resets_of_a_pair_the_first_at_the_server_stands() {
    let mut world = world(2);
    let peer = world.account(1).unwrap();
    let old = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    world.settle().unwrap();
    for index in [0, 1] {
        world.user(index, |m, s| m.reset(s, &old)).unwrap();
        say(&mut world, index, (&old, &format!("of {index}")));
    }
    world.settle().unwrap();
    let new = live(&mut world, 0);
    in_step(&mut world, &new, &[0, 1]);
    for index in [0, 1] {
        assert_eq!(shown(&mut world, index, "of 0"), 1);
        assert_eq!(shown(&mut world, index, "of 1"), 1);
    }
}

/// The backup had a channel whose maker had no answer yet: its creation, asked for again, got that
/// of the earlier life, and an honest server was called a liar.
#[test]
fn a_channel_made_right_before_the_backup_is_made_anew_with_all_who_belong_in_it() {
    for direct in [true, false] {
        let mut world = world(3);
        let peer = world.account(1).unwrap();
        let old = match direct {
            true => world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel,
            false => world.user(0, |m, s| m.create_group_channel(s, "Fishing")).unwrap().channel,
        };
        say(&mut world, 0, (&old, "first"));
        until_sent(&mut world, 0, Method::CreateChannel);
        assert!(world.deliver(0, (Method::CreateChannel, false)).unwrap());
        world.back_up_server().unwrap();
        world.restore_server().unwrap();
        world.settle().unwrap();
        let new = live(&mut world, 0);
        assert_ne!(new, old);
        assert_eq!(channel(&mut world, 0, &old).status, ChannelStatus::Closed);
        if direct {
            in_step(&mut world, &new, &[0, 1]);
            assert_eq!(shown(&mut world, 1, "first"), 1);
        } else {
            add(&mut world, &new, &[2]);
            world.settle().unwrap();
            in_step(&mut world, &new, &[0, 2]);
        }
        assert_eq!(shown(&mut world, 0, "first"), 1);
        no_lie_is_seen(&mut world);
    }
}

/// Who read an invitation of before the backup only after it took that channel for a live one.
#[test]
fn who_is_invited_before_the_backup_and_hears_of_it_after_is_in_the_successor() {
    let mut world = world(3);
    let old = group(&mut world, &[1]);
    world.disconnect(2).unwrap();
    add(&mut world, &old, &[2]);
    world.settle_among(&[0, 1]).unwrap();
    world.back_up_server().unwrap();
    world.restore_server().unwrap();
    // It is the first to come back.
    world.connect(2).unwrap();
    world.settle_among(&[2]).unwrap();
    world.settle().unwrap();
    let new = live(&mut world, 2);
    assert_ne!(new, old);
    in_step(&mut world, &new, &[0, 1, 2]);
    say(&mut world, 2, (&new, "here I am"));
    world.settle().unwrap();
    assert_eq!(shown(&mut world, 1, "here I am"), 1);
    no_lie_is_seen(&mut world);
}

/// One side's channel is lost with the server, and the other side makes one meanwhile: what was to
/// take the lost one's place is not made, and the lost one stayed as it was, with what waited.
#[test]
fn a_lost_channel_of_a_pair_goes_on_in_the_one_that_the_other_side_makes() {
    let mut world = world(3);
    world.back_up_server().unwrap();
    world.settle().unwrap();
    let accounts = [0, 1].map(|index| world.account(index).unwrap());
    let lost = world.user(1, |m, s| m.direct(s, &accounts[0])).unwrap().channel;
    say(&mut world, 1, (&lost, "said in vain"));
    until_sent(&mut world, 1, Method::CreateChannel);
    assert!(world.deliver(1, (Method::CreateChannel, false)).unwrap());
    read_all(&mut world, 1);
    // The other side has not heard of it.
    let made = world.user(0, |m, s| m.direct(s, &accounts[1])).unwrap().channel;
    world.restore_server().unwrap();
    // All KeyPackages are void: each has new ones before the other can make anything.
    world.connect(1).unwrap();
    until_sent(&mut world, 1, Method::UploadKeyPackages);
    assert!(world.deliver(1, (Method::UploadKeyPackages, false)).unwrap());
    world.disconnect(1).unwrap();
    world.connect(0).unwrap();
    world.settle_among(&[0]).unwrap();
    world.settle().unwrap();
    assert_eq!(live(&mut world, 1), made);
    in_step(&mut world, &made, &[0, 1]);
    assert_eq!(shown(&mut world, 0, "said in vain"), 1);
    let all = world.user(1, |m, s| m.channels(s)).unwrap();
    let over = |c: &Channel| matches!(c.status, ChannelStatus::Active | ChannelStatus::Closed);
    assert!(all.iter().all(over), "{all:?}");
    no_lie_is_seen(&mut world);
}

/// The Commit that adds somebody is in the backup, its maker has no answer, and makes the successor
/// by what it knows: the operation goes along.
#[test]
fn who_was_being_added_at_the_backup_is_added_to_the_successor() {
    let mut world = world(3);
    let old = group(&mut world, &[1]);
    add(&mut world, &old, &[2]);
    until_sent(&mut world, 0, Method::Commit);
    assert!(world.deliver(0, (Method::Commit, false)).unwrap());
    world.back_up_server().unwrap();
    world.restore_server().unwrap();
    world.settle().unwrap();
    let new = live(&mut world, 2);
    assert_ne!(new, old);
    in_step(&mut world, &new, &[0, 1, 2]);
    no_lie_is_seen(&mut world);
}

/// The backup is from before a channel whose maker had no answer yet; the other side is in it: it
/// is not made again under the same id.
#[test]
fn a_channel_lost_with_the_server_is_not_made_again_as_the_same() {
    let mut world = world(3);
    world.back_up_server().unwrap();
    world.settle().unwrap();
    let peer = world.account(1).unwrap();
    let lost = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    until_sent(&mut world, 0, Method::CreateChannel);
    assert!(world.deliver(0, (Method::CreateChannel, false)).unwrap());
    world.disconnect(0).unwrap();
    world.settle_among(&[1]).unwrap();
    say(&mut world, 1, (&lost, "said in vain"));
    world.settle_among(&[1]).unwrap();
    world.restore_server().unwrap();
    world.settle().unwrap();
    let new = live(&mut world, 1);
    assert_ne!(new, lost);
    in_step(&mut world, &new, &[0, 1]);
    assert_eq!(shown(&mut world, 0, "said in vain"), 1);
    no_lie_is_seen(&mut world);
}

/// Nobody is told anything but that the server was restored.
fn no_lie_is_seen(world: &mut World) {
    for index in [0, 1, 2] {
        for alarm in world.alarms(index).unwrap() {
            assert!(alarm.contains("restored from a backup"), "client {index}: {alarm}");
        }
    }
}
