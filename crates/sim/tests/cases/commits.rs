//! Commits through the Delivery Service: races, lost answers, leaving.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use qpc_client::view::ChannelStatus;
use qpc_proto::ChannelId;
use qpc_proto::message::{CommitBundle, EntryKind, Method};
use qpc_sim::World;

use super::support::{
    add, at_peace, channel, commits, group, history, in_step, members, names, page, read_all, say,
    standing, until_sent, words, world,
};

/// Client 0's Commit that adds client 3 loses to client 1's that removes the leaving client 2.
/// Returns the channel and the loser's bundle; both have reached the server, nothing was read.
fn race(world: &mut World) -> (ChannelId, CommitBundle) {
    let group = group(world, &[1, 2]);
    add(world, &group, &[3]);
    until_sent(world, 0, Method::Commit);
    let loser = commits(world, 0).remove(0).bundle;
    world.user(2, |m, s| m.leave(s, &group)).unwrap();
    until_sent(world, 2, Method::Statement);
    world.deliver(2, (Method::Statement, false)).unwrap();
    until_sent(world, 1, Method::Commit);
    let winner = commits(world, 1).remove(0).bundle;
    assert_eq!(winner.after_commit, loser.after_commit, "no race");
    world.deliver(1, (Method::Commit, false)).unwrap();
    world.deliver(0, (Method::Commit, false)).unwrap();
    (group, loser)
}

#[test]
fn case_092_of_two_racing_commits_one_wins_and_both_changes_end_in_force() {
    let mut world = world(4);
    let (group, _) = race(&mut world);
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 3]);
    assert_eq!(members(&mut world, 1, &group), names(&[0, 1, 3]));
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Left);
    // Creation, first Add, removal, rebased Add: the loser's bytes are nowhere.
    assert_eq!(standing(&mut world, 0, &group).epoch, 4);
}

#[test]
fn case_116_the_welcome_of_a_commit_that_lost_never_leaves() {
    let mut world = world(4);
    let welcomes = Arc::new(Mutex::new(BTreeMap::new()));
    let sink = Arc::clone(&welcomes);
    world.liar = Some(Box::new(move |index, input| {
        let entries = page(input).filter(|_| index == 3).map(|page| page.entries.clone());
        for entry in entries.unwrap_or_default() {
            if entry.kind == EntryKind::Welcome {
                sink.lock().unwrap().insert(entry.seq, entry.welcome.unwrap());
            }
        }
    }));
    let (group, loser) = race(&mut world);
    assert!(loser.welcome.is_some());
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 3]);
    let welcomes = welcomes.lock().unwrap();
    assert_eq!(welcomes.len(), 1);
    assert!(welcomes.values().all(|welcome| Some(welcome) != loser.welcome.as_ref()));
}

#[test]
fn case_099_an_own_commit_comes_back_merged_once() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    let before = standing(&mut world, 0, &group);
    let pages = super::support::record(&mut world, 0);
    add(&mut world, &group, &[2]);
    world.settle().unwrap();
    let after = standing(&mut world, 0, &group);
    assert_eq!(after.epoch, before.epoch + 1);
    for page in pages.lock().unwrap().iter() {
        let input = qpc_client::machine::Input::Page(page.clone());
        super::support::inject(&mut world, 0, input);
    }
    assert_eq!(standing(&mut world, 0, &group), after);
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 2]);
}

#[test]
fn a_commit_is_in_force_when_the_log_reaches_it_and_not_at_its_answer() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    let before = standing(&mut world, 0, &group);
    // A message of client 1 lies before the Commit, and client 0 has not read it.
    say(&mut world, 1, (&group, "before the change"));
    add(&mut world, &group, &[2]);
    until_sent(&mut world, 0, Method::Commit);
    until_sent(&mut world, 1, Method::Enqueue);
    world.deliver(1, (Method::Enqueue, false)).unwrap();
    world.deliver(0, (Method::Commit, false)).unwrap();
    at_peace(&mut world);
    assert_eq!(standing(&mut world, 0, &group).epoch, before.epoch + 1);
    assert_eq!(words(&mut world, 0, &group), ["before the change"]);
    in_step(&mut world, &group, &[0, 1, 2]);
}

#[test]
fn case_127_members_leave_one_after_the_other_and_the_creator_last() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    say(&mut world, 2, (&group, "bye"));
    world.settle().unwrap();
    for index in [2, 1, 0] {
        world.user(index, |m, s| m.leave(s, &group)).unwrap();
        at_peace(&mut world);
        assert_eq!(channel(&mut world, index, &group).status, ChannelStatus::Left, "{index}");
        // History stays readable.
        assert_eq!(words(&mut world, index, &group), ["bye"]);
    }
}

#[test]
fn case_127_a_leave_whose_answer_is_lost_in_a_crash_is_posted_once() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    world.user(2, |m, s| m.leave(s, &group)).unwrap();
    until_sent(&mut world, 2, Method::Statement);
    world.deliver(2, (Method::Statement, true)).unwrap();
    world.crash(2).unwrap();
    at_peace(&mut world);
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Left);
    assert_eq!(members(&mut world, 0, &group), names(&[0, 1]));
    let asked = history(&mut world, 0, &group)
        .into_iter()
        .filter(|message| message.text.ends_with("asked to leave"))
        .count();
    assert_eq!(asked, 1);
}

#[test]
fn case_124_a_removed_member_reads_up_to_its_removal_and_no_further() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    world.disconnect(2).unwrap();
    say(&mut world, 0, (&group, "while you were away"));
    world.settle_among(&[0, 1]).unwrap();
    let account = world.account(2).unwrap();
    world.user(0, |m, s| m.change_members(s, &group, (false, &[account]))).unwrap();
    world.settle_among(&[0, 1]).unwrap();
    say(&mut world, 1, (&group, "behind your back"));
    world.settle_among(&[0, 1]).unwrap();
    at_peace(&mut world);
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Left);
    assert_eq!(words(&mut world, 2, &group), ["while you were away"]);
    in_step(&mut world, &group, &[0, 1]);
}

#[test]
fn case_117_a_member_invited_while_offline_reads_from_its_join_on() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    say(&mut world, 0, (&group, "before"));
    world.settle().unwrap();
    world.disconnect(2).unwrap();
    add(&mut world, &group, &[2]);
    world.settle_among(&[0, 1]).unwrap();
    say(&mut world, 1, (&group, "after"));
    world.settle_among(&[0, 1]).unwrap();
    read_all(&mut world, 2);
    at_peace(&mut world);
    assert_eq!(words(&mut world, 2, &group), ["after"]);
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Active);
}

#[test]
fn two_who_open_a_direct_channel_with_each_other_end_in_one() {
    let mut world = world(2);
    let (zero, one) = (world.account(0).unwrap(), world.account(1).unwrap());
    let mine = world.user(0, |m, s| m.direct(s, &one)).unwrap().channel;
    let theirs = world.user(1, |m, s| m.direct(s, &zero)).unwrap().channel;
    assert_ne!(mine, theirs);
    say(&mut world, 0, (&mine, "from zero"));
    say(&mut world, 1, (&theirs, "from one"));
    at_peace(&mut world);
    let mut live = Vec::new();
    for index in [0, 1] {
        let all = world.user(index, |m, s| m.channels(s)).unwrap();
        let active: Vec<_> =
            all.into_iter().filter(|c| c.status == ChannelStatus::Active).collect();
        assert_eq!(active.len(), 1, "{active:?}");
        live.push(active[0].channel.clone());
    }
    assert_eq!(live[0], live[1]);
}
