//! A join counts once somebody besides who invited builds on it.

use qpc_client::view::ChannelStatus;
use qpc_proto::ChannelId;
use qpc_sim::World;

use super::support::{add, channel, group, history, say, standing, words, world};

fn status(world: &mut World, index: usize, group: &ChannelId) -> ChannelStatus {
    channel(world, index, group).status
}

#[test]
fn a_join_is_unconfirmed_until_somebody_besides_the_inviter_sends_on_it() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    // Two accounts: there is nobody else who could.
    assert_eq!(status(&mut world, 1, &group), ChannelStatus::Active);
    add(&mut world, &group, &[2]);
    world.settle().unwrap();
    assert_eq!(status(&mut world, 2, &group), ChannelStatus::Unconfirmed);
    assert_eq!(status(&mut world, 1, &group), ChannelStatus::Active);
    // The inviter confirms nothing, and neither does the device itself; but it may write.
    say(&mut world, 0, (&group, "welcome"));
    say(&mut world, 2, (&group, "thank you"));
    world.settle().unwrap();
    assert_eq!(words(&mut world, 2, &group).len(), 2);
    assert_eq!(words(&mut world, 1, &group).len(), 2);
    assert_eq!(status(&mut world, 2, &group), ChannelStatus::Unconfirmed);
    say(&mut world, 1, (&group, "I see you, too"));
    world.settle().unwrap();
    assert_eq!(status(&mut world, 2, &group), ChannelStatus::Active);
}

#[test]
fn a_commit_of_somebody_besides_the_inviter_confirms_a_join() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    let one = world.account(1).unwrap();
    world.user(0, |m, s| m.set_admin(s, &group, (&one, true))).unwrap();
    world.settle().unwrap();
    add(&mut world, &group, &[2]);
    world.settle().unwrap();
    assert_eq!(status(&mut world, 2, &group), ChannelStatus::Unconfirmed);
    let before = standing(&mut world, 2, &group).epoch;
    world.user(0, |m, s| m.set_title(s, &group, "By the inviter")).unwrap();
    world.settle().unwrap();
    assert_eq!(standing(&mut world, 2, &group).epoch, before + 1);
    assert_eq!(status(&mut world, 2, &group), ChannelStatus::Unconfirmed);
    world.user(1, |m, s| m.set_title(s, &group, "By another")).unwrap();
    world.settle().unwrap();
    assert_eq!(status(&mut world, 2, &group), ChannelStatus::Active);
    assert!(!history(&mut world, 2, &group).is_empty());
}
