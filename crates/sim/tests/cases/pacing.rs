//! Commits that the server lets wait: they come in their time, and messages don't wait with them.

use qpc_proto::ChannelId;
use qpc_sim::World;

use super::support::{add, at_peace, group, in_step, members, names, say, words, world};

/// Lets time pass for everybody, until something holds; it must within half a minute.
fn soon(world: &mut World, mut holds: impl FnMut(&mut World) -> bool) {
    let until = world.now_ms + 30_000;
    while !holds(world) {
        assert!(world.now_ms < until, "not in time");
        world.rounds(1).unwrap();
    }
}

/// Client 0's group, to which it has just added as many as it could without a pause.
fn hurried() -> (World, ChannelId) {
    let mut world = world(6);
    let group = group(&mut world, &[]);
    // An account that is alone needs no turn; then there are three.
    for other in 1..=4 {
        add(&mut world, &group, &[other]);
        let there = names(&(0..=other).collect::<Vec<_>>());
        soon(&mut world, |world| members(world, 0, &group) == there);
    }
    (world, group)
}

#[test]
fn case_157_a_commit_that_must_wait_holds_up_no_message() {
    let (mut world, group) = hurried();
    add(&mut world, &group, &[5]);
    // Its KeyPackage is claimed, its Commit sealed and refused.
    world.rounds(10).unwrap();
    say(&mut world, 0, (&group, "meanwhile"));
    soon(&mut world, |world| words(world, 1, &group) == ["meanwhile"]);
    assert_eq!(members(&mut world, 0, &group), names(&[0, 1, 2, 3, 4]), "it waits");
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(words(&mut world, 4, &group), ["meanwhile"]);
}
