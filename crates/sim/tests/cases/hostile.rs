//! A member that floods Commits, lies about the roster or posts a Commit as a message starves,
//! removes and splits nobody.

use qpc_client::view::{ChannelStatus, MessageState};
use qpc_mls::engine::CommitPlan;
use qpc_proto::message::{DeviceRef, EntryKind, Method};
use qpc_proto::roster::{Role, RosterChange};
use qpc_proto::{ChannelId, ErrorCode};
use qpc_sim::World;

use super::members::Member;
use super::members::hostile::{Attack, Lie};
use super::support::{
    add, channel, group, history, in_step, members, read_all, say, standing, words, world,
};

/// Clients 0 (an admin), 1 and 2 in a group with a hostile member who is none; client 3 is not in.
fn scene() -> (World, ChannelId, Member) {
    let mut world = world(4);
    let group = group(&mut world, &[1, 2]);
    let member = Member::enter(&mut world, group);
    for index in [1, 2] {
        say(&mut world, index, (&group, &format!("{index} is here")));
    }
    world.settle().unwrap();
    (world, group, member)
}

fn device(world: &mut World, index: usize) -> DeviceRef {
    DeviceRef { account: world.account(index).unwrap(), device: world.device(index).unwrap() }
}

fn removes(devices: &[DeviceRef]) -> RosterChange {
    RosterChange { removes: devices.iter().copied().collect(), ..RosterChange::default() }
}

/// All are in, in step, have no alarm and nothing left to send; each writes, all read it, and the
/// group can still be changed.
fn nobody_is_harmed(world: &mut World, group: ChannelId, all: &[usize]) {
    world.settle().unwrap();
    in_step(world, &group, all);
    let before = members(world, all[0], &group);
    let since = standing(world, all[0], &group).cursor;
    for index in all {
        assert_eq!(members(world, *index, &group), before);
        say(world, *index, (&group, &format!("{index} is well after {since}")));
    }
    world.settle().unwrap();
    in_step(world, &group, all);
    for index in all {
        assert_eq!(world.alarms(*index).unwrap(), [""; 0]);
        assert_eq!(channel(world, *index, &group).outbox, 0);
        let read = words(world, *index, &group);
        for other in all {
            let said = format!("{other} is well after {since}");
            assert_eq!(read.iter().filter(|word| **word == said).count(), 1, "{read:?}");
        }
    }
}

#[test]
fn a_commit_as_a_message_and_a_message_as_a_commit_are_refused() {
    let (mut world, group, mut member) = scene();
    member.follow(&mut world);
    let before = standing(&mut world, 1, &group);
    let commit = member.seals(&CommitPlan::default());
    let posted = member.posts(&mut world, commit.payload.clone());
    assert_eq!(posted, Err(ErrorCode::InvalidMlsType));
    let message = member.message(b"no Commit");
    let bundle = qpc_proto::message::CommitBundle { payload: message, ..commit };
    assert_eq!(member.commits(&mut world, bundle), Err(ErrorCode::InvalidMlsType));
    assert_eq!(standing(&mut world, 1, &group), before);
    nobody_is_harmed(&mut world, group, &[0, 1, 2]);
}

/// Every client compares what a sender says it had read before, and keeps it in a column.
#[test]
fn a_member_that_names_an_entry_of_the_future_is_refused_and_stops_nobody() {
    let (mut world, group, mut member) = scene();
    member.follow(&mut world);
    for head_seq in [member.cursor + 1, 1 << 63, u64::MAX] {
        let message = member.message_after(head_seq, b"from the future");
        assert_eq!(member.posts(&mut world, message), Err(ErrorCode::AadMismatch), "{head_seq}");
        let commit = member.commit_after(head_seq);
        assert_eq!(member.commits(&mut world, commit), Err(ErrorCode::AadMismatch), "{head_seq}");
    }
    let message = member.message_after(member.cursor, b"of now");
    member.posts(&mut world, message).unwrap();
    nobody_is_harmed(&mut world, group, &[0, 1, 2]);
}

/// Bytes of another member under a new id: whether a member or the server sends them again, all see
/// an entry that nobody can open, and nothing twice.
#[test]
fn a_message_of_another_sent_again_is_unreadable_to_all_alike() {
    let (mut world, group, mut member) = scene();
    member.follow(&mut world);
    let log = member.log(&mut world);
    let again = log.iter().rev().find(|entry| entry.kind == EntryKind::Application).unwrap();
    let seq = member.posts(&mut world, again.payload.clone()).unwrap();
    world.settle().unwrap();
    for index in [0, 1, 2] {
        let all = history(&mut world, index, &group);
        let shown = all.iter().find(|message| message.seq == Some(seq)).unwrap();
        assert_eq!(shown.state, MessageState::Unreadable);
        assert!(shown.code.is_some(), "{shown:?}");
    }
    nobody_is_harmed(&mut world, group, &[0, 1, 2]);
}

#[test]
fn a_change_that_its_role_does_not_allow_or_that_is_not_bound_is_refused() {
    let (mut world, group, mut member) = scene();
    member.follow(&mut world);
    let victim = device(&mut world, 1);
    let leaf = member.leaf_of(&mut world, 1);
    let attack = || Attack { removes: vec![leaf], ..Attack::default() };
    let removed = member.crooked((&removes(&[victim]), &[]), attack());
    assert_eq!(member.commits(&mut world, removed), Err(ErrorCode::RosterRefused));
    let roles = [(member.party.account(), Role::Admin)].into();
    let raised = RosterChange { roles, ..RosterChange::default() };
    let raised = member.crooked((&raised, &[]), Attack::default());
    assert_eq!(member.commits(&mut world, raised), Err(ErrorCode::RosterRefused));
    let mut other = member.crooked((&removes(&[victim]), &[]), attack());
    other.roster_change = RosterChange::default().encode().into();
    assert_eq!(member.commits(&mut world, other), Err(ErrorCode::AadMismatch));
    nobody_is_harmed(&mut world, group, &[0, 1, 2]);
}

/// The server takes it, for it declares nothing; what it does is another thing.
#[test]
fn case_121_a_removal_that_is_not_declared_is_void_for_everybody() {
    let (mut world, group, mut member) = scene();
    member.follow(&mut world);
    let before = standing(&mut world, 0, &group);
    let leaf = member.leaf_of(&mut world, 1);
    let attack = Attack { removes: vec![leaf], ..Attack::default() };
    let lie = member.crooked((&RosterChange::default(), &[]), attack);
    let seq = member.commits(&mut world, lie).unwrap();
    world.settle().unwrap();
    for index in [0, 1, 2] {
        let after = standing(&mut world, index, &group);
        assert_eq!((after.epoch, after.base_commit), (before.epoch, before.base_commit));
        assert!(after.cursor >= seq);
    }
    nobody_is_harmed(&mut world, group, &[0, 1, 2]);
    // The next Commit follows the last one that is in force.
    add(&mut world, &group, &[3]);
    world.settle().unwrap();
    nobody_is_harmed(&mut world, group, &[0, 1, 2, 3]);
}

/// An admin may remove, so the server's roster believes it; the members don't.
#[test]
fn removals_that_are_declared_and_not_made_are_undone_by_the_next_commit() {
    let mut world = world(4);
    let mut member = Member::found(&mut world, &[0, 1, 2]);
    let group = member.channel;
    for index in [0, 1, 2] {
        say(&mut world, index, (&group, &format!("{index} is here")));
    }
    world.settle().unwrap();
    member.follow(&mut world);
    let victims = [device(&mut world, 0), device(&mut world, 1)];
    let lie = member.crooked((&removes(&victims), &[]), Attack::default());
    member.commits(&mut world, lie).unwrap();
    nobody_is_harmed(&mut world, group, &[0, 1, 2]);
    // Client 2 leaves: one of those who were declared out may carry it out.
    world.user(2, |m, s| m.leave(s, &group)).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Left);
    nobody_is_harmed(&mut world, group, &[0, 1]);
    // A removal that does happen leaves the rights that the lie seemed to take.
    member.follow(&mut world);
    say(&mut world, 1, (&group, "still here"));
    world.settle().unwrap();
    assert!(words(&mut world, 0, &group).contains(&"still here".to_owned()));
}

#[test]
fn a_leave_of_an_earlier_membership_removes_nobody() {
    let (mut world, group, mut member) = scene();
    world.user(1, |m, s| m.leave(s, &group)).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Left);
    let log = member.log(&mut world);
    let leave = log.iter().find(|entry| entry.kind == EntryKind::Statement).unwrap();
    let leave = leave.payload.clone();
    add(&mut world, &group, &[1]);
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    member.follow(&mut world);
    assert_eq!(member.states(&mut world, leave.clone()), Err(ErrorCode::StatementInvalid));
    let victim = device(&mut world, 1);
    let leaf = member.leaf_of(&mut world, 1);
    let attack = || Attack { removes: vec![leaf], ..Attack::default() };
    // Declared, the server refuses it; not declared, the members do.
    let declared = removes(&[victim]);
    let declared = member.crooked((&declared, std::slice::from_ref(&leave)), attack());
    assert_eq!(member.commits(&mut world, declared), Err(ErrorCode::RosterRefused));
    let hidden = member.crooked((&RosterChange::default(), &[leave]), attack());
    member.commits(&mut world, hidden).unwrap();
    nobody_is_harmed(&mut world, group, &[0, 1, 2]);
}

/// The only one who could remove it makes a Commit that no program knows how to judge, then takes
/// the leaver out and in again: its inbox goes on.
#[test]
fn an_admin_keeps_no_leaver_from_its_other_invitations() {
    let mut world = world(2);
    let victim = world.account(1).unwrap();
    let mut admin = Member::found_of(&mut world, &[victim]);
    let trap = admin.channel;
    world.user(1, |m, s| m.leave(s, &trap)).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 1, &trap).status, ChannelStatus::Leaving);
    admin.follow(&mut world);
    let mut context = admin.party.view().context;
    context.policy_version += 1;
    let unknown = admin.seals(&CommitPlan { context: Some(context), ..CommitPlan::default() });
    admin.commits(&mut world, unknown).unwrap();
    admin.follow(&mut world);
    let adds = admin.claims(&mut world, victim);
    let removes = [device(&mut world, 1)].into();
    let again = admin.seals(&CommitPlan { adds, removes, ..CommitPlan::default() });
    admin.commits(&mut world, again).unwrap();
    let group = group(&mut world, &[1]);
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1]);
}

/// All leave a group whose founder removes nobody: each removes others, and nobody honest is left
/// to remove the last of them. It sends nothing more, and hears of it when the founder does.
#[test]
fn who_leaves_a_hostile_founder_last_waits_for_it_alone() {
    let mut world = world(3);
    let mut member = Member::found(&mut world, &[0, 1, 2]);
    let group = member.channel;
    for index in [0, 1, 2] {
        world.user(index, |m, s| m.leave(s, &group)).unwrap();
    }
    world.settle().unwrap();
    let statuses = [0, 1, 2].map(|index| channel(&mut world, index, &group).status);
    let of = |status| (0..3).filter(|index| statuses[*index] == status).collect::<Vec<_>>();
    assert_eq!(of(ChannelStatus::Left).len(), 2, "{statuses:?}");
    let last = of(ChannelStatus::Leaving)[0];
    assert_eq!(members(&mut world, last, &group).len(), 2, "itself and the founder");
    assert!(world.write(last, (&group, "too late")).is_err());
    member.follow(&mut world);
    let removes = [device(&mut world, last)].into();
    let bundle = member.seals(&CommitPlan { removes, ..CommitPlan::default() });
    member.commits(&mut world, bundle).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, last, &group).status, ChannelStatus::Left);
}

/// What the member does whenever something moves.
fn flood(world: &mut World, member: &mut Member, taken: &mut u32) {
    member.follow(world);
    let bundle = member.seals(&CommitPlan::default());
    if member.commits(world, bundle).is_ok() {
        *taken += 1;
    }
    member.follow(world);
}

#[test]
fn a_flood_of_commits_removes_splits_and_doubles_nothing() {
    let (mut world, group, mut member) = scene();
    let before = standing(&mut world, 0, &group);
    let mut taken = 0;
    for number in 0..8 {
        for index in [0, 1, 2] {
            say(&mut world, index, (&group, &format!("{number} of {index}")));
            flood(&mut world, &mut member, &mut taken);
            world.rounds(1).unwrap();
        }
        flood(&mut world, &mut member, &mut taken);
        world.rounds(1).unwrap();
    }
    assert!(taken > 0);
    nobody_is_harmed(&mut world, group, &[0, 1, 2]);
    assert!(standing(&mut world, 0, &group).epoch > before.epoch);
    let log = words(&mut world, 0, &group);
    for number in 0..8 {
        for index in [0, 1, 2] {
            let said = format!("{number} of {index}");
            assert_eq!(log.iter().filter(|word| **word == said).count(), 1, "{said}: {log:?}");
        }
    }
    assert_eq!(log, words(&mut world, 1, &group));
}

/// Before each message that arrives, the member commits if the server takes it: the message must be
/// sealed anew. It is not let go on like that.
#[test]
fn outboxes_drain_while_a_member_floods_commits() {
    let (mut world, group, mut member) = scene();
    let all = [0, 1, 2];
    for index in all {
        (0..4).for_each(|n| say(&mut world, index, (&group, &format!("{n} of {index}"))));
    }
    let mut taken = 0;
    for _ in 0..200 {
        for index in all {
            flood(&mut world, &mut member, &mut taken);
            world.deliver(index, (Method::Enqueue, false)).unwrap();
            read_all(&mut world, index);
            // What it asks beside that must not stand in its way.
            while let Some(next) =
                world.sent(index).unwrap().first().map(|out| out.request.method())
                && next != Method::Enqueue
            {
                world.deliver(index, (next, false)).unwrap();
                read_all(&mut world, index);
            }
        }
        world.tick(500).unwrap();
        if all.iter().all(|index| channel(&mut world, *index, &group).outbox == 0) {
            break;
        }
    }
    let waits: Vec<_> =
        all.iter().map(|index| channel(&mut world, *index, &group).outbox).collect();
    assert_eq!(waits, [0, 0, 0], "{taken} Commits taken");
    assert!(taken > 0);
    nobody_is_harmed(&mut world, group, &all);
}

/// A path that client 1 can't open: its device is taken out and in again by the others'.
#[test]
fn case_120_a_path_that_one_member_cannot_open_costs_it_a_new_invitation_alone() {
    let (mut world, group, mut member) = scene();
    member.follow(&mut world);
    let key = leaf_key(&mut member, &mut world, 1);
    let attack = Attack { lie: Lie::RubbishFor(key), ..Attack::default() };
    let lie = member.crooked((&RosterChange::default(), &[]), attack);
    let seq = member.commits(&mut world, lie).unwrap();
    for index in [0, 1, 2] {
        say(&mut world, index, (&group, &format!("{index} after it")));
    }
    nobody_is_harmed(&mut world, group, &[0, 1, 2]);
    assert!(standing(&mut world, 1, &group).base_commit > seq);
    for index in [0, 1, 2] {
        let read = words(&mut world, index, &group);
        assert_eq!(read.iter().filter(|word| **word == "1 after it").count(), 1, "{read:?}");
    }
}

/// The HPKE key of a client's leaf.
fn leaf_key(member: &mut Member, world: &mut World, client: usize) -> Vec<u8> {
    let leaf = member.leaf_of(world, client);
    member.party.bare(Lie::None, |group, _, _| {
        let mut members = group.members();
        members.find(|member| member.index.u32() == leaf).unwrap().encryption_key
    })
}
