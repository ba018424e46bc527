//! Groups whose entries the server keeps for less time than others'.

use qpc_client::view::{ChannelStatus, MessageState};
use qpc_proto::ChannelId;
use qpc_proto::message::Method;
use qpc_sim::World;

use super::support::{
    add, at_peace, channel, group, history, in_step, say, until_sent, words, world,
};

const HOUR_MS: u64 = 3_600_000;
const SERVERS_MS: u64 = 7 * 24 * HOUR_MS;

/// A group of clients 0, 1 and 2 that keeps its entries for an hour.
fn brief(world: &mut World) -> ChannelId {
    let made = world.user(0, |m, s| m.create_group_kept_for(s, ("Brief", HOUR_MS))).unwrap();
    world.settle().unwrap();
    add(world, &made.channel, &[1, 2]);
    at_peace(world);
    made.channel
}

fn kept_ms(world: &mut World, index: usize, group: &ChannelId) -> Option<u64> {
    channel(world, index, group).retention_ms
}

#[test]
fn a_group_may_keep_its_entries_for_less_time_than_the_server() {
    let mut world = world(3);
    let (brief, usual) = (brief(&mut world), group(&mut world, &[1, 2]));
    // The server says it with the list of channels.
    world.disconnect(0).unwrap();
    world.settle().unwrap();
    for index in 0..3 {
        assert_eq!(kept_ms(&mut world, index, &brief), Some(HOUR_MS), "client {index}");
        assert_eq!(kept_ms(&mut world, index, &usual), Some(SERVERS_MS), "client {index}");
    }
    world.disconnect(2).unwrap();
    for made in [&brief, &usual] {
        say(&mut world, 0, (made, "soon gone"));
    }
    world.settle_among(&[0, 1]).unwrap();
    world.expire_after(HOUR_MS).unwrap();
    world.settle().unwrap();
    assert_eq!(words(&mut world, 2, &usual), ["soon gone"]);
    assert_eq!(words(&mut world, 2, &brief), [""; 0]);
    let told = history(&mut world, 2, &brief).into_iter();
    let told: Vec<_> = told.filter(|line| line.state == MessageState::Notice).collect();
    assert!(told.iter().any(|line| line.text.contains("1 message expired")), "{told:?}");
    in_step(&mut world, &brief, &[0, 1, 2]);
}

#[test]
fn a_reset_takes_the_retention_along() {
    let mut world = world(3);
    let (brief, usual) = (brief(&mut world), group(&mut world, &[1, 2]));
    for (made, kept) in [(brief, HOUR_MS), (usual, SERVERS_MS)] {
        let successor = world.user(0, |m, s| m.reset(s, &made)).unwrap().channel;
        world.settle().unwrap();
        world.disconnect(0).unwrap();
        world.settle().unwrap();
        in_step(&mut world, &successor, &[0, 1, 2]);
        for index in 0..3 {
            assert_eq!(kept_ms(&mut world, index, &successor), Some(kept), "client {index}");
        }
    }
}

#[test]
fn a_retention_that_the_server_would_refuse_is_refused_at_once() {
    let mut world = world(1);
    let made = |world: &mut World, kept_ms| {
        world.user(0, move |m, s| m.create_group_kept_for(s, ("Brief", kept_ms)))
    };
    for refused in [1, 59_999, SERVERS_MS + 1] {
        assert!(made(&mut world, refused).is_err(), "{refused}");
    }
    assert!(world.user(0, |m, s| m.channels(s)).unwrap().is_empty());
    for taken in [60_000, SERVERS_MS] {
        let made = made(&mut world, taken).unwrap().channel;
        at_peace(&mut world);
        assert_eq!(channel(&mut world, 0, &made).status, ChannelStatus::Active);
        assert_eq!(kept_ms(&mut world, 0, &made), Some(taken));
    }
}

/// What the server says meanwhile changes nothing of what was asked.
#[test]
fn a_creation_that_is_sent_again_asks_for_the_same_retention() {
    for kept_ms in [0, HOUR_MS] {
        let mut world = world(1);
        let made = world.user(0, move |m, s| m.create_group_kept_for(s, ("Brief", kept_ms)));
        let made = made.unwrap().channel;
        until_sent(&mut world, 0, Method::CreateChannel);
        assert!(world.deliver(0, (Method::CreateChannel, true)).unwrap());
        world.crash(0).unwrap();
        at_peace(&mut world);
        assert_eq!(channel(&mut world, 0, &made).status, ChannelStatus::Active);
    }
}
