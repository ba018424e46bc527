//! A client that dies at a write to its disk, inside of what makes an epoch: it is in the one
//! before or in the next, whole, and goes on from there.

use qpc_client::view::ChannelStatus;
use qpc_faultvfs::{Fault, FaultVfs, Op, Plan};
use qpc_proto::ChannelId;
use qpc_proto::message::Method;
use qpc_sim::World;

use super::support::{
    add, at_peace, channel, group, in_step, read_all, say, until_sent, words, world,
};

/// Writes between two that a client dies at, in the tests that run every time. Every one takes
/// minutes.
const STRIDE: u64 = 7;

/// After so many good writes nothing reaches the disk any more.
fn dying(after: u64) -> Plan {
    let on = vec![Op::Write, Op::Truncate, Op::Delete];
    Plan { on, after, fault: Fault::Io, lasting: true }
}

/// Runs `work` on a client's own disk, which fails after some writes; whether the client died of
/// it. It is offline then, or has come to the end of `work`.
fn dies(
    world: &mut World,
    (index, vfs, after): (usize, &FaultVfs, u64),
    work: impl FnOnce(&mut World) -> bool,
) -> bool {
    let before = vfs.hits();
    vfs.set(dying(after));
    let failed = work(world);
    let hit = vfs.hits() > before;
    assert!(hit || !failed, "it failed of something else");
    if !hit {
        vfs.heal();
        return false;
    }
    // Dropped while nothing reaches the disk, as a kill would.
    world.crash(index).unwrap();
    vfs.heal();
    world.open_through(index, vfs.name()).unwrap();
    true
}

/// Where a client stands, or that it has no such group.
fn place(world: &mut World, index: usize, group: &ChannelId) -> Option<(u64, u64)> {
    let group = *group;
    let standing = world.user(index, move |m, s| m.standing(s, &group)).ok()?;
    Some((standing.epoch, standing.base_commit))
}

/// Time enough for the next Commit, and tokens as young.
fn a_while(world: &mut World) {
    for index in 0..3 {
        world.disconnect(index).unwrap();
    }
    world.now_ms += 300_000;
    at_peace(world);
}

/// Client 2 comes and goes by Commits of client 0, while `index` dies at every `stride`th write of
/// reading one.
fn torn(index: usize, stride: u64) {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    let vfs = FaultVfs::register().unwrap();
    world.open_through(index, vfs.name()).unwrap();
    at_peace(&mut world);
    let (mut after, mut deaths) = (0, 0);
    loop {
        a_while(&mut world);
        add(&mut world, &group, &[2]);
        until_sent(&mut world, 0, Method::Commit);
        world.deliver(0, (Method::Commit, false)).unwrap();
        let others: Vec<usize> = (0..3).filter(|other| *other != index).collect();
        let before = place(&mut world, index, &group);
        let died = dies(&mut world, (index, &vfs, after), |world| {
            world.tick(100).is_err() || (0..20).any(|_| world.deliver_down(index).is_err())
        });
        if died {
            deaths += 1;
            let now = place(&mut world, index, &group);
            world.settle_among(&others).unwrap();
            let next = place(&mut world, others[0], &group);
            assert!(now == before || now == next, "{before:?} {now:?} {next:?} at write {after}");
        }
        at_peace(&mut world);
        in_step(&mut world, &group, &[0, 1, 2]);
        let text = format!("write {after}");
        say(&mut world, index, (&group, &text));
        at_peace(&mut world);
        assert_eq!(words(&mut world, 1, &group).last(), Some(&text));
        if !died {
            break;
        }
        a_while(&mut world);
        let gone = world.account(2).unwrap();
        world.user(0, move |m, s| m.change_members(s, &group, (false, &[gone])).map(drop)).unwrap();
        at_peace(&mut world);
        after += stride;
    }
    assert!(deaths > 2, "it died only {deaths} times");
}

#[test]
fn case_103_a_death_at_a_write_of_merging_an_own_commit_leaves_one_epoch_or_the_next() {
    torn(0, STRIDE);
}

#[test]
fn case_103_a_death_at_a_write_of_applying_a_commit_leaves_one_epoch_or_the_next() {
    torn(1, STRIDE);
}

#[test]
fn case_103_a_death_at_a_write_of_joining_leaves_a_member_or_none() {
    torn(2, STRIDE);
}

#[test]
#[ignore = "takes minutes; cargo ci-full runs it"]
fn a_death_at_every_write_of_an_epoch_leaves_one_or_the_next() {
    (0..3).for_each(|index| torn(index, 1));
}

#[test]
fn case_106_what_dies_while_a_group_is_made_is_there_whole_or_not_at_all() {
    made(STRIDE);
}

#[test]
#[ignore = "takes minutes; cargo ci-full runs it"]
fn what_dies_at_any_write_of_making_a_group_is_there_whole_or_not_at_all() {
    made(1);
}

/// Client 0 makes groups, and dies at every `stride`th write of it.
fn made(stride: u64) {
    let mut world = world(1);
    let vfs = FaultVfs::register().unwrap();
    world.open_through(0, vfs.name()).unwrap();
    at_peace(&mut world);
    let mut deaths = 0;
    for round in 0.. {
        let title = format!("Made {round}");
        let died = dies(&mut world, (0, &vfs, round * stride), |world| {
            let made = world.user(0, |m, s| m.create_group_channel(s, &title));
            made.is_err() || world.tick(100).is_err()
        });
        let channels = world.user(0, |m, s| m.channels(s)).unwrap();
        let mine = channels.iter().find(|channel| channel.title == title);
        assert!(mine.is_none_or(|made| made.status == ChannelStatus::Creating), "{mine:?}");
        let mine = mine.map(|made| ChannelId::from_hex(&made.channel).unwrap());
        at_peace(&mut world);
        read_all(&mut world, 0);
        if let Some(made) = mine {
            assert_eq!(channel(&mut world, 0, &made).status, ChannelStatus::Active);
        }
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 2, "it died only {deaths} times");
}
