//! Groups that are larger than one Commit makes them.

use qpc_proto::message::EntryKind;
use qpc_proto::roster::RosterChange;

use super::members::{Member, strangers};
use super::support::{channel, group, members, say, standing, words, world};

/// A hundred and thirty are wanted at once; two Commits bring them, each account in one of them.
#[test]
fn case_129_many_that_are_added_at_once_come_in_several_commits() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let mut member = Member::enter(&mut world, group);
    let accounts = strangers(&mut world, 103..233);
    world.user(0, |m, s| m.change_members(s, &group, (true, &accounts))).unwrap();
    world.settle().unwrap();
    assert_eq!(members(&mut world, 0, &group).len(), 3 + 130);
    let log = member.log(&mut world);
    let commits =
        log.iter().filter(|entry| entry.kind == EntryKind::Commit && entry.seq > member.base);
    let added: Vec<_> = commits
        .map(|entry| RosterChange::decode(&entry.roster_change).unwrap().adds.len())
        .collect();
    assert_eq!(added, [100, 30]);
    assert_eq!(standing(&mut world, 0, &group), standing(&mut world, 1, &group));
    say(&mut world, 0, (&group, "welcome, all of you"));
    world.settle().unwrap();
    assert!(words(&mut world, 1, &group).contains(&"welcome, all of you".to_owned()));
    assert_eq!(channel(&mut world, 0, &group).outbox, 0);
}
