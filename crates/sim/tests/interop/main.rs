//! Members that run another implementation of RFC 9420, in one group with the clients that ship:
//! what one of them makes, the others can use.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "Clippy excuses test functions, not the functions they share"
)]

mod member;

use std::collections::BTreeSet;

use qpc_client::view::MessageState;
use qpc_proto::ChannelId;
use qpc_proto::roster::RosterChange;
use qpc_sim::World;

use member::{Changes, Foreign};

/// Clients 0 to `clients`, connected, with KeyPackages at the server.
fn world(clients: usize) -> World {
    let mut world = World::new(11, clients).unwrap();
    rest(&mut world);
    world
}

/// Peace for a while, and not for long: tokens last 15 minutes.
pub(crate) fn rest(world: &mut World) {
    world.rounds(20).unwrap();
}

/// What a client shows of the others' and its own messages, in the order of the log.
fn words(world: &mut World, index: usize, channel: &ChannelId) -> Vec<String> {
    let all = world.user(index, |m, s| m.history(s, (channel, 1_000))).unwrap();
    let read = all
        .into_iter()
        .filter(|line| matches!(line.state, MessageState::Received | MessageState::Accepted));
    let mut lines: Vec<_> = read.map(|line| (line.seq.unwrap(), line.text)).collect();
    lines.sort();
    lines.into_iter().map(|(_, text)| text).collect()
}

fn say(world: &mut World, index: usize, (channel, text): (&ChannelId, &str)) {
    world.write(index, (channel, text)).unwrap();
    rest(world);
}

/// The member and these clients have the same epoch, the same keys and read the same log.
fn in_step(world: &mut World, member: &Foreign<impl mls_rs::client_builder::MlsConfig>) {
    for index in 0..2 {
        let standing = world.user(index, |m, s| m.standing(s, &member.channel)).unwrap();
        assert_eq!((standing.cursor, standing.head), (member.cursor, member.head));
        assert_eq!(standing.base_commit, member.base);
        assert_eq!((standing.epoch, standing.epoch_authenticator), member.stands());
    }
}

fn names(world: &mut World, index: usize, channel: &ChannelId) -> BTreeSet<String> {
    let members = world.user(index, |m, s| m.members(s, channel)).unwrap();
    members.into_iter().map(|member| member.name).collect()
}

/// It joins by the Welcome of a client, reads, writes, updates itself, lives through the Commits of
/// others, and is removed.
#[test]
fn another_implementation_joins_talks_commits_and_is_removed() {
    let mut world = world(3);
    let made = world.user(0, |m, s| m.create_group_channel(s, "Fishing")).unwrap();
    let channel = made.channel;
    rest(&mut world);
    let one = world.account(1).unwrap();
    world.user(0, |m, s| m.change_members(s, &channel, (true, &[one]))).unwrap();
    rest(&mut world);
    say(&mut world, 0, (&channel, "before it came"));

    let mut member = Foreign::register(&mut world, (channel, member::client()));
    let account = member.device.account;
    world.user(0, |m, s| m.change_members(s, &channel, (true, &[account]))).unwrap();
    rest(&mut world);
    member.join(&mut world);
    in_step(&mut world, &member);

    say(&mut world, 0, (&channel, "welcome"));
    say(&mut world, 1, (&channel, "hello"));
    assert_eq!(member.follow(&mut world), ["welcome", "hello"]);
    for text in ["thanks", "I speak another dialect"] {
        member.says(&mut world, text);
    }
    rest(&mut world);
    member.follow(&mut world);

    member.commits(&mut world, (Changes::default(), RosterChange::default()));
    rest(&mut world);
    member.follow(&mut world);
    in_step(&mut world, &member);
    say(&mut world, 1, (&channel, "in the new epoch"));
    assert_eq!(member.follow(&mut world), ["in the new epoch"]);
    member.says(&mut world, "so am I");

    let two = world.account(2).unwrap();
    world.user(0, |m, s| m.change_members(s, &channel, (true, &[two]))).unwrap();
    rest(&mut world);
    member.follow(&mut world);
    in_step(&mut world, &member);
    member.says(&mut world, "four of us");
    rest(&mut world);
    for index in 0..2 {
        let all = words(&mut world, index, &channel);
        let told = ["thanks", "I speak another dialect", "in the new epoch", "so am I"];
        assert!(told.iter().all(|text| all.iter().any(|word| word == text)), "{all:?}");
        assert_eq!(all.last().map(String::as_str), Some("four of us"));
    }
    assert_eq!(words(&mut world, 2, &channel), ["four of us"]);

    world.user(0, |m, s| m.change_members(s, &channel, (false, &[account]))).unwrap();
    rest(&mut world);
    member.follow(&mut world);
    assert!(member.removed, "it is told");
    say(&mut world, 1, (&channel, "without it"));
    assert_eq!(words(&mut world, 2, &channel), ["four of us", "without it"]);
}

/// It founds the group: clients join by its Welcome, follow its Adds and Removes, and it theirs.
#[test]
fn another_implementation_founds_a_group_adds_and_removes() {
    let mut world = world(3);
    let channel = ChannelId([9; 16]);
    let mut member = Foreign::register(&mut world, (channel, member::client()));
    member.found(&mut world, &[0, 1]);
    rest(&mut world);
    in_step(&mut world, &member);
    say(&mut world, 0, (&channel, "by your Welcome"));
    assert_eq!(member.follow(&mut world), ["by your Welcome"]);
    member.says(&mut world, "good");
    rest(&mut world);
    assert_eq!(words(&mut world, 1, &channel), ["by your Welcome", "good"]);

    member.adds(&mut world, 2);
    rest(&mut world);
    member.follow(&mut world);
    in_step(&mut world, &member);
    say(&mut world, 2, (&channel, "me too"));
    assert_eq!(member.follow(&mut world), ["me too"]);

    member.removes(&mut world, 2);
    rest(&mut world);
    member.follow(&mut world);
    in_step(&mut world, &member);
    let left: BTreeSet<String> = ["user0", "user1", "foreign"].map(str::to_owned).into();
    assert_eq!(names(&mut world, 0, &channel), left);
    say(&mut world, 1, (&channel, "three of us"));
    assert_eq!(member.follow(&mut world), ["three of us"]);
}
