//! Members that were away for longer than anything lasts: entries, invitations, KeyPackages,
//! tokens, certificates. The machine's clock goes with the world's, for the library of the group
//! engine reads it.

use qpc_client::machine::Input;
use qpc_client::view::{ChannelStatus, Finding};
use qpc_faultvfs::WallClock;
use qpc_proto::ChannelId;
use qpc_proto::message::{ClaimKeyPackages, Request, Response};
use qpc_sim::World;

use super::support::{add, channel, group, history, in_step, page, say, standing, words, world};

const DAY_MS: u64 = 24 * 3_600_000;
/// How long an entry of a device list lasts.
const ENTRY_MS: u64 = 730 * DAY_MS;

/// A world whose time is everybody's.
fn timed(clients: usize) -> (World, WallClock) {
    let world = world(clients);
    let clock = WallClock::at(world.now_ms);
    (world, clock)
}

/// Days pass, and the server sweeps. Some come by every so many days; the others stay away.
fn days_pass((world, clock): &mut (World, WallClock), (days, every): (u64, u64), some: &[usize]) {
    let until = world.now_ms + days * DAY_MS;
    while world.now_ms < until {
        let next = until.min(world.now_ms + every * DAY_MS);
        world.sleep_until(next).unwrap();
        clock.set(next);
        world.sweep().unwrap();
        world.settle_among(some).unwrap();
    }
}

fn said(world: &mut World, index: usize, (group, text): (&ChannelId, &str)) -> bool {
    history(world, index, group).iter().any(|line| line.text.contains(text))
}

#[test]
fn case_134_who_was_away_for_91_days_comes_back_and_writes() {
    let mut timed = timed(3);
    let group = group(&mut timed.0, &[1, 2]);
    timed.0.disconnect(2).unwrap();
    say(&mut timed.0, 0, (&group, "never read by 2"));
    timed.0.settle_among(&[0, 1]).unwrap();
    timed.0.user(2, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
    days_pass(&mut timed, (91, 7), &[0, 1]);
    let world = &mut timed.0;
    assert!(standing(world, 0, &group).epoch > 10, "the others went on");
    world.settle().unwrap();
    in_step(world, &group, &[0, 1, 2]);
    for index in [0, 1] {
        assert_eq!(words(world, index, &group), ["never read by 2", "waited"]);
    }
    assert!(said(world, 2, (&group, "expired before this device read")));
    assert_eq!(world.alarms(2).unwrap(), [""; 0]);
    say(world, 1, (&group, "welcome back"));
    world.settle().unwrap();
    assert_eq!(words(world, 2, &group), ["waited", "welcome back"]);
}

#[test]
fn the_other_side_of_a_direct_channel_comes_back_after_91_days() {
    let mut timed = timed(2);
    let peer = timed.0.account(1).unwrap();
    let made = timed.0.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    timed.0.settle().unwrap();
    timed.0.disconnect(1).unwrap();
    timed.0.user(1, |m, s| m.queue(s, &made, "waited").map(drop)).unwrap();
    say(&mut timed.0, 0, (&made, "never read by 1"));
    days_pass(&mut timed, (91, 7), &[0]);
    let world = &mut timed.0;
    world.settle().unwrap();
    in_step(world, &made, &[0, 1]);
    assert!(words(world, 0, &made).contains(&"waited".to_owned()));
}

/// Nobody came by: nothing is changed, and nothing is to be mended.
#[test]
fn where_all_were_away_nobody_has_to_come_back() {
    let mut timed = timed(3);
    let group = group(&mut timed.0, &[1, 2]);
    timed.0.settle().unwrap();
    days_pass(&mut timed, (91, 91), &[]);
    let world = &mut timed.0;
    world.settle().unwrap();
    in_step(world, &group, &[0, 1, 2]);
    for index in 0..3 {
        assert!(!said(world, index, (&group, "in again")));
        say(world, index, (&group, &format!("{index} is here")));
    }
    world.settle().unwrap();
    assert_eq!(words(world, 0, &group).len(), 3);
}

/// The entry of a linked device, which its primary renews meanwhile, or of the only device of an
/// account.
#[test]
fn case_130_a_device_that_was_away_until_its_certificate_had_ended_comes_back() {
    for linked in [true, false] {
        let mut timed = timed(if linked { 2 } else { 3 });
        let others: &[usize] = if linked { &[1] } else { &[1, 2] };
        let group = group(&mut timed.0, others);
        if linked {
            assert_eq!(timed.0.link(0).unwrap(), 2);
        }
        timed.0.settle().unwrap();
        days_pass(&mut timed, (ENTRY_MS / DAY_MS + 7, 28), &[0, 1]);
        let world = &mut timed.0;
        world.settle().unwrap();
        in_step(world, &group, &[0, 1, 2]);
        say(world, 2, (&group, "two years later"));
        world.settle().unwrap();
        for index in [0, 1] {
            assert_eq!(words(world, index, &group), ["two years later"], "linked: {linked}");
        }
    }
}

/// Its certificate ended before anybody answered: a Commit by what it asked with would be void.
#[test]
fn who_asked_under_a_certificate_that_ended_since_is_taken_in_under_the_renewed_one() {
    let mut timed = timed(2);
    let group = group(&mut timed.0, &[1]);
    assert_eq!(timed.0.link(0).unwrap(), 2);
    timed.0.settle().unwrap();
    days_pass(&mut timed, (ENTRY_MS / DAY_MS - 32, 28), &[0, 1, 2]);
    // The primary is away while it could renew the entry.
    days_pass(&mut timed, (25, 5), &[1, 2]);
    let world = &mut timed.0;
    world.back_up(2).unwrap();
    say(world, 2, (&group, "gone with the copy"));
    world.settle_among(&[1, 2]).unwrap();
    world.restore(2).unwrap();
    world.disconnect(1).unwrap();
    world.settle_among(&[2]).unwrap();
    assert_eq!(channel(world, 2, &group).status, ChannelStatus::Rejoining);
    days_pass(&mut timed, (10, 10), &[]);
    let world = &mut timed.0;
    world.settle_among(&[0, 1]).unwrap();
    world.settle().unwrap();
    in_step(world, &group, &[0, 1, 2]);
    say(world, 2, (&group, "here again"));
    world.settle().unwrap();
    for index in [0, 1] {
        assert_eq!(words(world, index, &group).last().unwrap(), "here again");
        let lines = history(world, index, &group);
        let void = |text: &str| text.contains("void Commit");
        assert!(!lines.iter().any(|line| line.reason.as_deref().is_some_and(void)), "{lines:?}");
    }
}

/// An invitation that nobody read in its time is gone, and so is the KeyPackage it was for.
#[test]
fn who_was_invited_while_it_was_away_for_91_days_is_a_member_when_it_comes() {
    let mut timed = timed(3);
    let group = group(&mut timed.0, &[1]);
    timed.0.disconnect(2).unwrap();
    add(&mut timed.0, &group, &[2]);
    timed.0.settle_among(&[0, 1]).unwrap();
    days_pass(&mut timed, (91, 7), &[0, 1]);
    let world = &mut timed.0;
    world.settle().unwrap();
    in_step(world, &group, &[0, 1, 2]);
    assert_eq!(channel(world, 2, &group).title, "Fishing");
}

/// A home is put back from a copy that was made before it came into a channel, and its invitation
/// is gone with the inbox that it had read.
#[test]
fn case_107_a_copy_from_before_a_join_comes_into_the_channel_that_it_lacks() {
    let mut world = world(3);
    let peer = world.account(1).unwrap();
    world.back_up(1).unwrap();
    world.settle().unwrap();
    let group = group(&mut world, &[1, 2]);
    let direct = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    world.settle().unwrap();
    for made in [&group, &direct] {
        say(&mut world, 1, (made, "gone with the copy"));
    }
    world.settle().unwrap();
    world.restore(1).unwrap();
    world.settle().unwrap();
    for (made, all) in [(&group, &[0, 1, 2][..]), (&direct, &[0, 1])] {
        in_step(&mut world, made, all);
        say(&mut world, 1, (made, "back"));
    }
    world.settle().unwrap();
    assert_eq!(words(&mut world, 0, &group), ["gone with the copy", "back"]);
    assert_eq!(words(&mut world, 0, &direct), ["gone with the copy", "back"]);
    assert_eq!(channel(&mut world, 1, &direct).title, "user0");
    assert_eq!(world.user(1, |m, s| m.channels(s)).unwrap().len(), 2);
}

/// An invitation that this device refuses is none that it lost: it asks for nothing.
#[test]
fn a_channel_whose_invitation_was_refused_is_not_asked_for() {
    let mut world = world(2);
    world.liar = Some(Box::new(|index, input| {
        if index == 1
            && let Some(page) = page(input)
        {
            for entry in page.entries.iter_mut().filter(|entry| entry.welcome.is_some()) {
                entry.welcome = Some(b"no Welcome".to_vec().into());
            }
        }
    }));
    let group = group(&mut world, &[1]);
    world.settle().unwrap();
    world.liar = None;
    for _ in 0..2 {
        world.disconnect(1).unwrap();
        world.settle().unwrap();
    }
    assert!(world.user(1, |m, s| m.channels(s)).unwrap().is_empty());
    assert!(!said(&mut world, 0, (&group, "lost its place")));
}

/// The last entry of a channel says where it goes on; it expires like any other.
#[test]
fn who_slept_through_a_reset_until_it_had_expired_follows_the_successor() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    world.disconnect(2).unwrap();
    world.user(2, |m, s| m.queue(s, &group, "waited").map(drop)).unwrap();
    let successor = world.user(0, |m, s| m.reset(s, &group)).unwrap().channel;
    world.settle_among(&[0, 1]).unwrap();
    world.expire_after(8 * DAY_MS).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &successor, &[0, 1, 2]);
    assert_eq!(channel(&mut world, 2, &group).status, ChannelStatus::Closed);
    for index in [0, 1] {
        assert_eq!(words(&mut world, index, &successor), ["waited"]);
    }
}

/// The server alone says that a channel ended: nothing is sent there, and nothing elsewhere.
#[test]
fn a_successor_that_only_the_server_names_gets_no_message() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let other = world.user(0, |m, s| m.create_group_channel(s, "Other")).unwrap().channel;
    world.settle().unwrap();
    add(&mut world, &other, &[1]);
    world.settle().unwrap();
    world.liar = Some(Box::new(move |index, input| {
        if let Input::Answer(_, Ok(Response::Channels(channels))) = input
            && index == 1
        {
            for state in channels.iter_mut().filter(|state| state.channel == group) {
                state.successor = Some(other);
            }
        }
    }));
    world.disconnect(1).unwrap();
    world.user(1, |m, s| m.queue(s, &group, "for the first alone").map(drop)).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::NeedsRepair);
    assert_eq!(channel(&mut world, 1, &group).outbox, 1);
    assert_eq!(words(&mut world, 0, &other), [""; 0]);
    // It comes back by itself once the server says otherwise.
    world.liar = None;
    world.disconnect(1).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1]);
    assert_eq!(words(&mut world, 0, &group), ["for the first alone"]);
    assert_eq!(words(&mut world, 0, &other), [""; 0]);
}

/// Whose devices a client flags in a group.
fn flagged(world: &mut World, index: usize, group: &ChannelId) -> Vec<String> {
    let members = world.user(index, |m, s| m.members(s, group)).unwrap().into_iter();
    let silent = members.filter(|member| !member.silent.is_empty());
    let mut names: Vec<_> = silent.map(|member| member.name).collect();
    names.sort();
    names
}

fn silence(world: &mut World, index: usize) -> Option<Finding> {
    let all = world.user(index, |m, s| m.findings(s)).unwrap();
    all.into_iter().find(|finding| finding.code == "MEMBER_SILENT")
}

#[test]
fn case_131_a_member_that_is_silent_for_90_days_is_flagged_until_it_speaks() {
    let mut timed = timed(3);
    let group = group(&mut timed.0, &[1, 2]);
    say(&mut timed.0, 2, (&group, "last words"));
    timed.0.settle().unwrap();
    timed.0.disconnect(2).unwrap();
    // Nobody else is silent: client 1 writes nothing, and its leaf gets new keys each week.
    days_pass(&mut timed, (89, 1), &[0, 1]);
    assert_eq!(flagged(&mut timed.0, 0, &group), [""; 0]);
    assert!(silence(&mut timed.0, 0).is_none());
    days_pass(&mut timed, (11, 1), &[0, 1]);
    let world = &mut timed.0;
    for index in [0, 1] {
        assert_eq!(flagged(world, index, &group), ["user2"]);
        let told = silence(world, index).unwrap();
        assert_eq!(told.channel, Some(group.to_string()));
        assert!(told.text.contains("1 devices for 90 days, of user2"), "{}", told.text);
    }
    world.settle().unwrap();
    for index in 0..3 {
        assert_eq!(flagged(world, index, &group), [""; 0], "client {index}");
        assert!(silence(world, index).is_none());
    }
}

/// Where nobody says anything nobody is flagged; the first who speaks has heard of nobody else.
#[test]
fn case_131_where_all_were_silent_the_first_who_speaks_flags_the_others_until_they_come() {
    let mut timed = timed(3);
    let group = group(&mut timed.0, &[1, 2]);
    timed.0.settle().unwrap();
    days_pass(&mut timed, (120, 120), &[]);
    assert_eq!(flagged(&mut timed.0, 0, &group), [""; 0]);
    timed.0.settle_among(&[0]).unwrap();
    assert_eq!(flagged(&mut timed.0, 0, &group), ["user1", "user2"]);
    timed.0.settle().unwrap();
    for index in 0..3 {
        assert_eq!(flagged(&mut timed.0, index, &group), [""; 0], "client {index}");
    }
}

/// A device of the own account is flagged like any other.
#[test]
fn case_131_an_own_device_that_is_silent_is_flagged() {
    let mut timed = timed(2);
    let peer = timed.0.account(1).unwrap();
    let made = timed.0.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
    assert_eq!(timed.0.link(0).unwrap(), 2);
    timed.0.settle().unwrap();
    days_pass(&mut timed, (100, 7), &[0, 1]);
    let world = &mut timed.0;
    let members = world.user(0, |m, s| m.members(s, &made)).unwrap();
    let me = members.iter().find(|member| member.me).unwrap();
    assert_eq!(me.silent, [world.device(2).unwrap().to_string()]);
    assert!(silence(world, 0).unwrap().text.contains("of you"));
}

/// Nothing was read or sent since the copy: only the packages at the server are younger.
#[test]
fn an_invitation_by_a_package_that_a_copy_lacks_is_asked_for_anew() {
    let mut world = world(2);
    let account = world.account(1).unwrap();
    world.back_up(1).unwrap();
    world.settle().unwrap();
    for _ in 0..8 {
        let claim = ClaimKeyPackages { account, devices: Vec::new() };
        world.ask(0, &Request::ClaimKeyPackages(claim)).unwrap();
    }
    // It sees that its packages are gone, and makes others.
    world.disconnect(1).unwrap();
    world.settle().unwrap();
    world.restore(1).unwrap();
    world.disconnect(1).unwrap();
    let made = world.user(0, |m, s| m.direct(s, &account)).unwrap().channel;
    say(&mut world, 0, (&made, "not for the copy"));
    world.settle_among(&[0]).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &made, &[0, 1]);
    for index in [0, 1] {
        say(&mut world, index, (&made, &format!("{index} is here")));
    }
    world.settle().unwrap();
    let mut read = words(&mut world, 1, &made);
    read.sort();
    assert_eq!(read, ["0 is here", "1 is here"]);
}

/// What was sealed long ago is forgotten meanwhile, here and in the copy.
#[test]
fn case_107_a_copy_of_weeks_ago_is_noticed() {
    let mut timed = timed(2);
    let group = group(&mut timed.0, &[1]);
    let weeks = |timed: &mut (World, WallClock), first: u64| {
        for week in first..first + 8 {
            say(&mut timed.0, 1, (&group, &format!("week {week}")));
            days_pass(timed, (7, 7), &[0, 1]);
        }
    };
    weeks(&mut timed, 0);
    timed.0.back_up(1).unwrap();
    timed.0.settle().unwrap();
    assert_eq!(timed.0.alarms(1).unwrap(), [""; 0]);
    weeks(&mut timed, 8);
    let world = &mut timed.0;
    assert_eq!(world.alarms(1).unwrap(), [""; 0]);
    world.restore(1).unwrap();
    world.settle().unwrap();
    let alarms = world.alarms(1).unwrap();
    assert!(alarms.iter().any(|alarm| alarm.contains("older copy")), "{alarms:?}");
    in_step(world, &group, &[0, 1]);
    say(world, 1, (&group, "back"));
    world.settle().unwrap();
    assert_eq!(words(world, 0, &group).len(), 17);
}
