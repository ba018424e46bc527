//! What a group is called, what it is about, and who its admins are.

use qpc_client::view::ChannelStatus;
use qpc_proto::ChannelId;
use qpc_sim::World;

use super::support::{at_peace, channel, group, history, in_step, members, names, world};

fn told(world: &mut World, index: usize, (group, text): (&ChannelId, &str)) -> usize {
    history(world, index, group).iter().filter(|line| line.text == text).count()
}

fn promote(world: &mut World, index: usize, (group, other, admin): (&ChannelId, usize, bool)) {
    let account = world.account(other).unwrap();
    world.user(index, |m, s| m.set_admin(s, group, (&account, admin))).unwrap();
    at_peace(world);
}

fn roles(world: &mut World, index: usize, group: &ChannelId) -> Vec<String> {
    let mut members = world.user(index, |m, s| m.members(s, group)).unwrap();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    members.into_iter().map(|member| member.role).collect()
}

#[test]
fn a_new_title_and_description_are_everybodys() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    world.user(0, |m, s| m.set_title(s, &group, "  Angling ")).unwrap();
    at_peace(&mut world);
    world.user(0, |m, s| m.set_description(s, &group, "Where and when")).unwrap();
    at_peace(&mut world);
    for index in 0..3 {
        let seen = channel(&mut world, index, &group);
        assert_eq!((seen.title.as_str(), seen.description.as_str()), ("Angling", "Where and when"));
        let renamed = "user0 renamed the group to Angling";
        assert_eq!(told(&mut world, index, (&group, renamed)), 1, "{index}");
        let described = "user0 describes the group: Where and when";
        assert_eq!(told(&mut world, index, (&group, described)), 1, "{index}");
    }
    // The same again is no Commit.
    let before = channel(&mut world, 0, &group).epoch;
    world.user(0, |m, s| m.set_title(s, &group, "Angling")).unwrap();
    at_peace(&mut world);
    assert_eq!(channel(&mut world, 0, &group).epoch, before);
    world.user(0, |m, s| m.set_description(s, &group, "")).unwrap();
    at_peace(&mut world);
    assert_eq!(channel(&mut world, 2, &group).description, "");
    assert_eq!(told(&mut world, 2, (&group, "user0 took the description away")), 1);
    in_step(&mut world, &group, &[0, 1, 2]);
}

#[test]
fn titles_and_descriptions_have_limits() {
    let mut world = world(1);
    let group = group(&mut world, &[]);
    let mut title = |len: usize| {
        let text = "t".repeat(len);
        world.user(0, |m, s| m.set_title(s, &group, &text)).is_ok()
    };
    assert_eq!([0, 1, 255, 256, 257].map(&mut title), [false, true, true, true, false]);
    let mut description = |len: usize| {
        let text = "d".repeat(len);
        world.user(0, |m, s| m.set_description(s, &group, &text)).is_ok()
    };
    assert_eq!([0, 4_095, 4_096, 4_097].map(&mut description), [true, true, true, false]);
    at_peace(&mut world);
    let seen = channel(&mut world, 0, &group);
    assert_eq!((seen.title.len(), seen.description.len()), (256, 4_096));
}

#[test]
fn roles_change_by_admins_and_one_is_left() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    assert_eq!(roles(&mut world, 2, &group), ["admin", "member", "member"]);
    let account = world.account(2).unwrap();
    let refused = world.user(1, |m, s| m.set_admin(s, &group, (&account, true)));
    assert!(refused.unwrap_err().to_string().contains("only an admin"));
    assert!(world.user(1, |m, s| m.set_title(s, &group, "Mine")).is_err());
    let own = world.account(0).unwrap();
    let last = world.user(0, |m, s| m.set_admin(s, &group, (&own, false)));
    assert!(last.unwrap_err().to_string().contains("only admin"));

    promote(&mut world, 0, (&group, 1, true));
    assert_eq!(roles(&mut world, 2, &group), ["admin", "admin", "member"]);
    assert_eq!(told(&mut world, 2, (&group, "user0 made user1 an admin")), 1);
    assert_eq!(channel(&mut world, 1, &group).role.as_deref(), Some("admin"));
    // The server knows it, too: the new admin may do what an admin does.
    promote(&mut world, 1, (&group, 0, false));
    assert_eq!(roles(&mut world, 2, &group), ["member", "admin", "member"]);
    let gone = world.account(2).unwrap();
    world.user(1, |m, s| m.change_members(s, &group, (false, &[gone]))).unwrap();
    at_peace(&mut world);
    assert_eq!(members(&mut world, 0, &group), names(&[0, 1]));
    in_step(&mut world, &group, &[0, 1]);
}

/// Two admins demote each other at once: the second finds itself the only one.
#[test]
fn who_is_overtaken_by_a_role_change_is_told() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    promote(&mut world, 0, (&group, 1, true));
    let accounts = [world.account(0).unwrap(), world.account(1).unwrap()];
    let mut started = Vec::new();
    for (index, other) in [(0, 1), (1, 0)] {
        let role = (&accounts[other], false);
        started.push(world.user(index, |m, s| m.set_admin(s, &group, role)).unwrap());
    }
    at_peace(&mut world);
    let ends: Vec<bool> =
        (0..2).map(|i| world.user(i, |m, s| m.outcome(s, &started[i])).is_ok()).collect();
    assert_eq!(ends.iter().filter(|done| **done).count(), 1, "{ends:?}");
    let roles = roles(&mut world, 0, &group);
    assert_eq!(roles.iter().filter(|role| *role == "admin").count(), 1, "{roles:?}");
    in_step(&mut world, &group, &[0, 1]);
}

#[test]
fn who_was_an_admin_comes_back_as_a_member() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    promote(&mut world, 0, (&group, 1, true));
    let account = world.account(1).unwrap();
    for add in [false, true] {
        world.user(0, |m, s| m.change_members(s, &group, (add, &[account]))).unwrap();
        at_peace(&mut world);
    }
    for index in 0..2 {
        assert_eq!(roles(&mut world, index, &group), ["admin", "member"], "{index}");
    }
    in_step(&mut world, &group, &[0, 1]);
}

#[test]
fn case_127_the_only_admin_leaves_once_another_is_made() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    let refused = world.user(0, |m, s| m.leave(s, &group).map(drop));
    assert!(refused.unwrap_err().to_string().contains("qpc group promote"));
    assert_eq!(channel(&mut world, 0, &group).status, ChannelStatus::Active);
    promote(&mut world, 0, (&group, 2, true));
    world.user(0, |m, s| m.leave(s, &group)).unwrap();
    at_peace(&mut world);
    assert_eq!(channel(&mut world, 0, &group).status, ChannelStatus::Left);
    assert_eq!(roles(&mut world, 1, &group), ["member", "admin"]);
    in_step(&mut world, &group, &[1, 2]);
}

/// What each still wanted to change stood before the other's removal, and neither may change
/// anything any more. (Seed 10730.)
#[test]
fn two_who_leave_with_a_change_under_way_remove_one_another() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    promote(&mut world, 0, (&group, 1, true));
    let changes = [0, 1].map(|index| {
        let title = world.user(index, |m, s| m.set_title(s, &group, &format!("Of {index}")));
        let words = world.user(index, |m, s| m.set_description(s, &group, &format!("{index}")));
        world.user(index, |m, s| m.leave(s, &group)).unwrap();
        [title.unwrap(), words.unwrap()]
    });
    at_peace(&mut world);
    for (index, changes) in changes.iter().enumerate() {
        assert_eq!(channel(&mut world, index, &group).status, ChannelStatus::Left, "{index}");
        for change in changes {
            let outcome = world.user(index, |m, s| m.outcome(s, change));
            assert!(!matches!(outcome, Ok(None)), "{index} still waits for {change:?}");
        }
    }
}

/// A removal that somebody waits for ends where its maker is removed first.
#[test]
fn a_removal_that_its_maker_can_make_no_more_ends() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    promote(&mut world, 0, (&group, 1, true));
    let [one, two] = [1, 2].map(|index| world.account(index).unwrap());
    world.disconnect(1).unwrap();
    let wanted = world.user(1, |m, s| m.change_members(s, &group, (false, &[two]))).unwrap();
    world.user(0, |m, s| m.change_members(s, &group, (false, &[one]))).unwrap();
    world.settle_among(&[0, 2]).unwrap();
    at_peace(&mut world);
    let outcome = world.user(1, |m, s| m.outcome(s, &wanted));
    assert!(outcome.unwrap_err().to_string().contains("no longer a member"));
}
