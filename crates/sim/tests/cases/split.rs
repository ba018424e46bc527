//! Commits whose keys only some members can open: the members' devices settle by themselves which
//! side they go on from, the other side comes back, and nothing that was accepted is lost.

use std::cmp::Ordering;

use qpc_client::view::{ChannelStatus, MessageState};
use qpc_credential::{Said, StatementBody};
use qpc_proto::chain::sha256;
use qpc_proto::message::{DeviceRef, EntryKind};
use qpc_proto::roster::RosterChange;
use qpc_proto::{ChannelId, ErrorCode};
use qpc_sim::World;
use qpc_storage::Tx;

use super::members::hostile::{Attack, Lie};
use super::members::{Member, Stranger};
use super::support::{add, channel, group, history, in_step, members, say, standing, words, world};

/// A day of accept time, and a little.
const DAY_MS: u64 = 24 * 3_600_000 + 1;

/// A group of a hostile founder and this many clients, all of whom have spoken.
fn scene(clients: usize) -> (World, ChannelId, Member) {
    let (world, group, member, _) = scene_with(clients, 0..0);
    (world, group, member)
}

/// The same with members of these seeds in it, who say what they like.
fn scene_with(
    clients: usize,
    seeds: std::ops::Range<u8>,
) -> (World, ChannelId, Member, Vec<Stranger>) {
    let mut world = World::new(7, clients).unwrap();
    // The library compares lifetimes with the machine's clock: a day later must not be too late.
    world.now_ms -= DAY_MS / 2;
    world.settle().unwrap();
    let all: Vec<usize> = (0..clients).collect();
    let liars: Vec<_> = seeds.map(|seed| Stranger::register(&mut world, seed)).collect();
    let mut accounts: Vec<_> = all.iter().map(|index| world.account(*index).unwrap()).collect();
    accounts.extend(liars.iter().map(|liar| liar.party.account()));
    let mut member = Member::found_of(&mut world, &accounts);
    for index in &all {
        say(&mut world, *index, (&member.channel.clone(), &format!("{index} is here")));
    }
    world.settle().unwrap();
    member.follow(&mut world);
    let group = member.channel;
    (world, group, member, liars)
}

/// All are in, in step, and have sent what they wrote; nobody saw a lie.
fn all_in_step(world: &mut World, group: &ChannelId, all: &[usize]) {
    world.settle().unwrap();
    in_step(world, group, all);
    let before = members(world, all[0], group);
    for index in all {
        assert_eq!(members(world, *index, group), before);
        assert_eq!(channel(world, *index, group).outbox, 0, "client {index}");
        assert_eq!(world.alarms(*index).unwrap(), [""; 0], "client {index}");
    }
}

/// These texts stand in a client's history once each.
fn reads_once(world: &mut World, index: usize, (group, texts): (&ChannelId, &[String])) {
    let read = words(world, index, group);
    for text in texts {
        let count = read.iter().filter(|word| *word == text).count();
        assert_eq!(count, 1, "client {index}, {text:?}: {read:?}");
    }
}

fn said(indices: &[usize], what: &str) -> Vec<String> {
    indices.iter().map(|index| format!("{index} {what}")).collect()
}

fn all_say(world: &mut World, group: &ChannelId, (indices, what): (&[usize], &str)) {
    for text in said(indices, what) {
        let index = text.split(' ').next().unwrap().parse().unwrap();
        say(world, index, (group, &text));
    }
}

fn status(world: &mut World, index: usize, group: &ChannelId) -> ChannelStatus {
    channel(world, index, group).status
}

/// A day passes, and nobody is connected any more.
fn a_day_later(world: &mut World) {
    for index in 0..world.clients() {
        world.disconnect(index).unwrap();
    }
    world.now_ms += DAY_MS;
}

/// How many verdicts stand in the log.
fn verdicts(world: &mut World, member: &mut Member) -> usize {
    let log = member.log(world);
    let statements = log.iter().filter(|entry| entry.kind == EntryKind::Statement);
    let posted = statements.map(|entry| qpc_credential::Statement::verify(&entry.payload).unwrap());
    let verdict = |said: &qpc_credential::Statement| matches!(said.body, StatementBody::Verdict(_));
    posted.filter(verdict).count()
}

/// The victims speak for a while alone, on their own branch; then the others come.
#[test]
fn case_120_the_smaller_side_comes_back_and_what_it_wrote_is_read_by_all() {
    let (mut world, group, mut member) = scene(5);
    let (victims, others) = ([3, 4], [0, 1, 2]);
    let seq = member.splits(&mut world, &victims);
    world.settle_among(&victims).unwrap();
    all_say(&mut world, &group, (&victims, "alone"));
    world.settle_among(&victims).unwrap();
    for index in victims {
        assert_eq!(channel(&mut world, index, &group).outbox, 0, "nothing was sent");
        reads_once(&mut world, index, (&group, &said(&victims, "alone")));
        assert!(standing(&mut world, index, &group).base_commit < seq);
    }
    all_say(&mut world, &group, (&others, "meanwhile"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3, 4]);
    for index in 0..5 {
        reads_once(&mut world, index, (&group, &said(&victims, "alone")));
    }
    for index in others {
        reads_once(&mut world, index, (&group, &said(&others, "meanwhile")));
    }
    all_say(&mut world, &group, (&[0, 1, 2, 3, 4], "after it"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3, 4]);
    for index in 0..5 {
        reads_once(&mut world, index, (&group, &said(&[0, 1, 2, 3, 4], "after it")));
    }
    assert!(standing(&mut world, 3, &group).base_commit > seq);
}

#[test]
fn case_120_a_commit_that_most_members_can_not_open_falls_and_who_applied_it_comes_back() {
    let (mut world, group, mut member) = scene(5);
    let (victims, others) = ([0, 1, 2], [3, 4]);
    let seq = member.splits(&mut world, &victims);
    world.settle_among(&others).unwrap();
    all_say(&mut world, &group, (&others, "ahead"));
    world.settle_among(&others).unwrap();
    for index in others {
        assert_eq!(standing(&mut world, index, &group).base_commit, seq);
        assert_eq!(channel(&mut world, index, &group).outbox, 0);
    }
    all_say(&mut world, &group, (&victims, "behind"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3, 4]);
    for index in 0..5 {
        reads_once(&mut world, index, (&group, &said(&others, "ahead")));
    }
    all_say(&mut world, &group, (&[0, 1, 2, 3, 4], "after it"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3, 4]);
    for index in 0..5 {
        reads_once(&mut world, index, (&group, &said(&[0, 1, 2, 3, 4], "after it")));
    }
}

/// Two against two: each side goes on by itself for a day; then the Commit falls.
#[test]
fn case_120_at_a_tie_a_commit_falls_after_a_day() {
    let (mut world, group, mut member) = scene(4);
    let (victims, others) = ([0, 1], [2, 3]);
    let seq = member.splits(&mut world, &victims);
    world.settle().unwrap();
    // Its maker has no voice, whatever it says.
    let commit = member.log(&mut world).into_iter().find(|entry| entry.seq == seq).unwrap();
    let own = Said { commit_seq: seq, commit: sha256(&commit.payload), applied: true };
    let own = member.verdict(own);
    member.states(&mut world, own).unwrap();
    world.settle().unwrap();
    assert_eq!(verdicts(&mut world, &mut member), 5);
    all_say(&mut world, &group, (&[0, 1, 2, 3], "in two halves"));
    world.settle().unwrap();
    for index in [0, 1, 2, 3] {
        assert_eq!(status(&mut world, index, &group), ChannelStatus::Active, "client {index}");
        assert_eq!(channel(&mut world, index, &group).outbox, 0);
        let (half, other) = if index < 2 { (victims, others) } else { (others, victims) };
        reads_once(&mut world, index, (&group, &said(&half, "in two halves")));
        // Nobody has won before the day is over: each is where it was.
        let read = words(&mut world, index, &group);
        assert!(!said(&other, "in two halves").iter().any(|text| read.contains(text)), "{read:?}");
        let base = standing(&mut world, index, &group).base_commit;
        assert_eq!(base.cmp(&seq), if index < 2 { Ordering::Less } else { Ordering::Equal });
    }
    a_day_later(&mut world);
    all_say(&mut world, &group, (&[0], "the next day"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    for index in [0, 1, 2, 3] {
        reads_once(&mut world, index, (&group, &said(&others, "in two halves")));
    }
    all_say(&mut world, &group, (&[0, 1, 2, 3], "after it"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    for index in [0, 1, 2, 3] {
        reads_once(&mut world, index, (&group, &said(&[0, 1, 2, 3], "after it")));
    }
}

/// Who was away for a day does not undo what the others went on from.
#[test]
fn who_can_not_open_a_commit_of_yesterday_comes_back_and_undoes_nothing() {
    let (mut world, group, mut member) = scene(4);
    let seq = member.splits(&mut world, &[3]);
    let present = [0, 1, 2];
    world.settle_among(&present).unwrap();
    a_day_later(&mut world);
    all_say(&mut world, &group, (&present, "a day later"));
    world.settle_among(&present).unwrap();
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    for index in present {
        reads_once(&mut world, index, (&group, &said(&present, "a day later")));
        let told = |text: &str| text.contains("settle");
        assert!(!history(&mut world, index, &group).iter().any(|line| told(&line.text)));
    }
    assert!(standing(&mut world, 3, &group).base_commit > seq);
}

/// A member says of a good Commit that it can't open it, says so twice, both ways, of another
/// Commit and of one that is none: all others applied it, and nobody moves.
#[test]
fn verdicts_without_a_split_move_nobody() {
    let mut world = world(4);
    let group = group(&mut world, &[1, 2]);
    let mut member = Member::enter(&mut world, group);
    for index in [1, 2] {
        say(&mut world, index, (&group, &format!("{index} is here")));
    }
    world.settle().unwrap();
    add(&mut world, &group, &[3]);
    world.settle().unwrap();
    member.follow(&mut world);
    let log = member.log(&mut world);
    let commit = log.iter().rev().find(|entry| entry.kind == EntryKind::Commit).unwrap();
    let hash = sha256(&commit.payload);
    let verdict = |commit_seq, commit, applied| Said { commit_seq, commit, applied };
    let before: Vec<_> =
        (0..4).map(|index| standing(&mut world, index, &group).base_commit).collect();
    let lie = member.verdict(verdict(commit.seq, hash, false));
    member.states(&mut world, lie).unwrap();
    for again in [
        verdict(commit.seq, hash, false),
        verdict(commit.seq, hash, true),
        verdict(commit.seq + 1, hash, false),
    ] {
        let again = member.verdict(again);
        assert_eq!(member.states(&mut world, again), Err(ErrorCode::StatementInvalid));
    }
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    let after: Vec<_> =
        (0..4).map(|index| standing(&mut world, index, &group).base_commit).collect();
    assert_eq!(before, after);
    // Of the honest voters each said it once; the committer and who came in by it did not.
    assert_eq!(verdicts(&mut world, &mut member), 3);
    all_say(&mut world, &group, (&[0, 1, 2, 3], "still here"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
}

/// A verdict on another Commit than the one that was read is one of two lies, and moves nobody.
#[test]
fn case_098_a_verdict_on_another_commit_than_was_shown_is_named() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    let mut member = Member::enter(&mut world, group);
    say(&mut world, 1, (&group, "hello"));
    world.settle().unwrap();
    add(&mut world, &group, &[2]);
    world.settle().unwrap();
    member.follow(&mut world);
    let other = Said { commit_seq: member.base, commit: sha256(b"another"), applied: false };
    let statement = member.verdict(other);
    member.states(&mut world, statement).unwrap();
    world.settle().unwrap();
    for index in [0, 1] {
        let alarms = world.alarms(index).unwrap();
        assert!(alarms.iter().any(|text| text.contains("user100 says")), "{index}: {alarms:?}");
        assert_eq!(status(&mut world, index, &group), ChannelStatus::Active);
    }
    all_say(&mut world, &group, (&[0, 1, 2], "goes on"));
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
}

/// A path that is good for nobody: all voters agree at once.
#[test]
fn case_120_a_commit_that_nobody_can_open_falls_at_once() {
    let (mut world, group, mut member) = scene(4);
    let before = standing(&mut world, 0, &group).base_commit;
    member.splits(&mut world, &[0, 1, 2, 3]);
    all_say(&mut world, &group, (&[0, 1, 2, 3], "all the same"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    assert_eq!(standing(&mut world, 0, &group).base_commit, before);
    for index in 0..4 {
        reads_once(&mut world, index, (&group, &said(&[0, 1, 2, 3], "all the same")));
        let unreadable = |state| state == MessageState::Unreadable;
        let lines = history(&mut world, index, &group);
        // The Commit itself, and nothing else.
        assert_eq!(lines.iter().filter(|line| unreadable(line.state)).count(), 1);
    }
}

/// Whoever it hits next: four of seven go on, and three come back.
#[test]
fn case_120_sides_of_any_shape_end_in_step() {
    let (mut world, group, mut member) = scene(7);
    let all: Vec<usize> = (0..7).collect();
    let seq = member.splits(&mut world, &[1, 3, 5]);
    all_say(&mut world, &group, (&all, "at once"));
    all_in_step(&mut world, &group, &all);
    assert!(standing(&mut world, 1, &group).base_commit > seq);
    let (victims, others) = (said(&[1, 3, 5], "at once"), said(&[0, 2, 4, 6], "at once"));
    for index in &all {
        reads_once(&mut world, *index, (&group, &victims));
        if index % 2 == 0 {
            reads_once(&mut world, *index, (&group, &others));
        }
    }
}

/// Who is hit again within the hour waits, and says so; an hour later all are in step.
#[test]
fn case_120_a_second_split_within_the_hour_costs_an_hour_and_no_message() {
    let (mut world, group, mut member) = scene(4);
    // The last of five leaves has no parent of its own: what is sealed for it names its own key.
    let victim = (0..4).find(|index| member.leaf_of(&mut world, *index) == 4).unwrap();
    let others: Vec<usize> = (0..4).filter(|index| *index != victim).collect();
    // It alone opens the first and has to come back, and it alone can't open the second.
    member.splits(&mut world, &others);
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    member.follow(&mut world);
    member.splits(&mut world, &[victim]);
    all_say(&mut world, &group, (&[0, 1, 2, 3], "twice"));
    world.settle().unwrap();
    let waits = channel(&mut world, victim, &group);
    assert_eq!(waits.status, ChannelStatus::Rejoining);
    assert!(waits.reason.as_ref().unwrap().contains("hour"), "{waits:?}");
    for index in 0..4 {
        world.disconnect(index).unwrap();
    }
    world.now_ms += 3_600_000;
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    for index in others {
        reads_once(&mut world, index, (&group, &said(&[0, 1, 2, 3], "twice")));
    }
}

/// What a removed member must not read is not said while the removal can't be opened.
#[test]
fn who_can_not_open_a_removal_says_nothing_until_it_is_settled() {
    let (mut world, group, mut member) = scene(4);
    let gone = member.leaf_of(&mut world, 3);
    let device = DeviceRef { account: world.account(3).unwrap(), device: world.device(3).unwrap() };
    let change = RosterChange { removes: [device].into(), ..RosterChange::default() };
    let lie = Lie::RubbishForAll(member.keys_of(&mut world, &[0]));
    let attack = Attack { removes: vec![gone], lie, ..Attack::default() };
    let bundle = member.crooked((&change, &[]), attack);
    let seq = member.commits(&mut world, bundle).unwrap();
    world.settle_among(&[0]).unwrap();
    say(&mut world, 0, (&group, "not for 3"));
    world.settle_among(&[0]).unwrap();
    let waits = channel(&mut world, 0, &group);
    assert_eq!((waits.outbox, waits.status), (1, ChannelStatus::Active));
    assert!(waits.reason.unwrap().contains("removed"));
    all_in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(status(&mut world, 3, &group), ChannelStatus::Left);
    assert!(standing(&mut world, 0, &group).base_commit > seq);
    for index in [0, 1, 2] {
        reads_once(&mut world, index, (&group, &["not for 3".to_owned()]));
    }
    assert!(!words(&mut world, 3, &group).contains(&"not for 3".to_owned()));
}

fn payload_hash(world: &mut World, member: &mut Member, seq: u64) -> qpc_proto::Digest {
    let log = member.log(world);
    sha256(&log.iter().find(|entry| entry.seq == seq).unwrap().payload)
}

/// Two can open it and two can't; the fifth voter is hostile and has spent its voice on bytes that
/// nobody was shown. Whatever else it and a stranger say, the tie stays one until the day is over.
#[test]
fn case_120_false_votes_in_a_split_decide_nothing() {
    let (mut world, group, mut member, mut liars) = scene_with(4, 110..111);
    let mut stranger = Stranger::register(&mut world, 120);
    let seq = member.splits(&mut world, &[0, 1]);
    let commit = payload_hash(&mut world, &mut member, seq);
    let verdict = |commit, applied| (group, Said { commit_seq: seq, commit, applied });
    let liar = &mut liars[0];
    liar.votes(&mut world, verdict(sha256(b"another"), false)).unwrap();
    let invalid = Err(ErrorCode::StatementInvalid);
    for applied in [false, true] {
        assert_eq!(liar.votes(&mut world, verdict(commit, applied)), invalid, "a second time");
        let refused = stranger.votes(&mut world, verdict(commit, applied));
        assert_eq!(refused, Err(ErrorCode::ChannelNotFound), "who is not in");
        let said = StatementBody::Verdict(verdict(commit, applied).1);
        let of_another = stranger.party.statement(group, said);
        assert_eq!(liar.states(&mut world, (group, of_another)), invalid, "by another's hand");
    }
    world.settle().unwrap();
    all_say(&mut world, &group, (&[0, 1, 2, 3], "in two halves"));
    world.settle().unwrap();
    for index in 0..4 {
        assert_eq!(status(&mut world, index, &group), ChannelStatus::Active, "client {index}");
        let half = if index < 2 { [0, 1] } else { [2, 3] };
        reads_once(&mut world, index, (&group, &said(&half, "in two halves")));
        let alarms = world.alarms(index).unwrap();
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert!(alarms[0].contains("user110 says"), "{alarms:?}");
    }
    a_day_later(&mut world);
    all_say(&mut world, &group, (&[0], "the next day"));
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2, 3]);
    for index in 0..4 {
        reads_once(&mut world, index, (&group, &said(&[2, 3], "in two halves")));
        assert_eq!(channel(&mut world, index, &group).outbox, 0);
    }
}

/// One of two can't open a Commit, and one of them leaves. Whichever it is: the other one, which
/// carried the leave out on its own branch, is not undone a day later by somebody who is out.
/// (Seeds 1810 and 2903.)
#[test]
fn who_left_since_undoes_nothing() {
    for victim in [0, 1] {
        let (mut world, group, mut member) = scene(2);
        let seq = member.splits(&mut world, &[victim]);
        // Both have said what they made of it before one of them asks to leave.
        world.settle().unwrap();
        assert_eq!(verdicts(&mut world, &mut member), 2, "one of each side");
        world.user(1, |m, s| m.leave(s, &group)).unwrap();
        world.settle().unwrap();
        assert_eq!(status(&mut world, 1, &group), ChannelStatus::Left, "victim {victim}");
        assert!(standing(&mut world, 0, &group).base_commit > seq, "it removed who left");
        a_day_later(&mut world);
        all_say(&mut world, &group, (&[0], "the next day"));
        all_in_step(&mut world, &group, &[0]);
        assert_eq!(status(&mut world, 0, &group), ChannelStatus::Active, "victim {victim}");
    }
}

/// A hostile voter has one voice like anybody: against a majority it is heard and changes nothing.
#[test]
fn case_120_a_hostile_voice_loses_against_a_majority() {
    let (mut world, group, mut member, mut liars) = scene_with(4, 110..111);
    let seq = member.splits(&mut world, &[3]);
    let commit = payload_hash(&mut world, &mut member, seq);
    let verdict = (group, Said { commit_seq: seq, commit, applied: false });
    liars[0].votes(&mut world, verdict).unwrap();
    all_say(&mut world, &group, (&[0, 1, 2, 3], "at once"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    // The Commit stands, and who could not open it came back by a later one.
    assert!(standing(&mut world, 0, &group).base_commit > seq);
    for index in 0..4 {
        reads_once(&mut world, index, (&group, &said(&[3], "at once")));
    }
}

/// Two accounts: the one that did not make the Commit has the only voice.
#[test]
fn case_120_in_a_direct_channel_the_other_side_decides_alone() {
    let mut world = world(1);
    let mut member = Member::opposite(&mut world);
    let direct = member.channel;
    say(&mut world, 0, (&direct, "hello"));
    world.settle().unwrap();
    member.follow(&mut world);
    let before = standing(&mut world, 0, &direct).base_commit;
    let seq = member.splits(&mut world, &[0]);
    say(&mut world, 0, (&direct, "still here"));
    all_in_step(&mut world, &direct, &[0]);
    assert_eq!(standing(&mut world, 0, &direct).base_commit, before);
    assert!(standing(&mut world, 0, &direct).cursor > seq);
    assert_eq!(verdicts(&mut world, &mut member), 1);
    // Both go on from the base before it.
    let last = member.log(&mut world).pop().unwrap();
    assert_eq!(member.party.open(&last.payload).unwrap().sender.device().account, {
        world.account(0).unwrap()
    });
}

/// A direct channel with an account of two devices, clients 0 and 1, and a hostile other side.
fn pair_of_two() -> (World, ChannelId, Member) {
    let mut world = world(1);
    let mut member = Member::opposite(&mut world);
    let direct = member.channel;
    assert_eq!(world.link(0).unwrap(), 1);
    world.settle().unwrap();
    for index in [0, 1] {
        say(&mut world, index, (&direct, &format!("{index} is here")));
    }
    world.settle().unwrap();
    member.follow(&mut world);
    (world, direct, member)
}

/// The account has one voice, and who spoke first has used it: the device that can't open the
/// Commit. The other one, which went on from it, comes back, and misses nothing that the first one
/// wrote since.
#[test]
fn case_120_devices_of_one_account_that_part_in_a_direct_channel_come_together() {
    for victim in [0, 1] {
        let (mut world, direct, mut member) = pair_of_two();
        let other = 1 - victim;
        let seq = member.splits(&mut world, &[victim]);
        world.settle_among(&[other]).unwrap();
        say(&mut world, other, (&direct, "ahead"));
        world.settle_among(&[other]).unwrap();
        assert_eq!(standing(&mut world, other, &direct).base_commit, seq);
        say(&mut world, victim, (&direct, "behind"));
        all_in_step(&mut world, &direct, &[0, 1]);
        assert_eq!(verdicts(&mut world, &mut member), 1, "one voice");
        for index in [0, 1] {
            let texts = ["ahead".to_owned(), "behind".to_owned()];
            reads_once(&mut world, index, (&direct, &texts));
        }
        all_say(&mut world, &direct, (&[0, 1], "after it"));
        all_in_step(&mut world, &direct, &[0, 1]);
        for index in [0, 1] {
            reads_once(&mut world, index, (&direct, &said(&[0, 1], "after it")));
        }
    }
}

/// Private keys of the group, in every place where a public one stands before them: what is sealed
/// for this device, it can't open any more.
fn spoil_keys(world: &mut World, index: usize) {
    /// A byte string of 32 in MessagePack.
    const KEY: [u8; 2] = [0xc4, 32];
    let spoilt = |mut value: Vec<u8>| {
        let (mut at, mut public) = (0, true);
        while at + KEY.len() + 32 <= value.len() {
            if value[at..at + KEY.len()] != KEY {
                at += 1;
                continue;
            }
            at += KEY.len();
            if !public {
                value[at + 7] ^= 0x55;
            }
            (at, public) = (at + 32, !public);
        }
        value
    };
    let work = |tx: &Tx<'_>| {
        let mut rows = tx.prepare("SELECT group_id, epoch, value FROM mls_epoch_key_pairs")?;
        let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> = rows
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        assert!(!rows.is_empty());
        for (group, epoch, value) in rows {
            let update = "UPDATE mls_epoch_key_pairs SET value = ?3
                WHERE group_id = ?1 AND epoch = ?2";
            tx.execute(update, (group, epoch, spoilt(value)))?;
        }
        Ok(())
    };
    world.damage_by(index, work).unwrap();
}

/// A channel of one account: each device has a voice, but for the one that made the Commit.
#[test]
fn case_120_in_a_channel_of_one_account_its_devices_decide() {
    let mut world = world(1);
    let group = group(&mut world, &[]);
    for index in 1..4 {
        assert_eq!(world.link(0).unwrap(), index);
        world.settle().unwrap();
    }
    all_say(&mut world, &group, (&[0, 1, 2, 3], "is here"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    spoil_keys(&mut world, 2);
    world.user(0, |m, s| m.set_title(s, &group, "Mine")).unwrap();
    world.settle_among(&[0, 1, 3]).unwrap();
    all_say(&mut world, &group, (&[0], "ahead"));
    world.settle_among(&[0, 1, 3]).unwrap();
    all_say(&mut world, &group, (&[2], "behind"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    for index in [0, 1, 3] {
        reads_once(&mut world, index, (&group, &said(&[0], "ahead")));
        reads_once(&mut world, index, (&group, &said(&[2], "behind")));
        assert_eq!(channel(&mut world, index, &group).title, "Mine");
    }
    let back = history(&mut world, 2, &group);
    assert!(back.iter().any(|line| line.text.contains("took this device in again")), "{back:?}");
    all_say(&mut world, &group, (&[0, 1, 2, 3], "after it"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    for index in 0..4 {
        reads_once(&mut world, index, (&group, &said(&[0, 1, 2, 3], "after it")));
    }
}

/// All lose their connections, and so much time passes.
fn later(world: &mut World, by_ms: u64) {
    for index in 0..world.clients() {
        world.disconnect(index).unwrap();
    }
    world.now_ms += by_ms;
}

/// Two of four lose a branch. Those who take them in again have parted at another Commit, which the
/// two never judged, and both do so: the two are on the side that falls an hour later. They read
/// before they came in what was said of it, and go along. (Seed 11146.)
#[test]
fn who_was_taken_in_on_a_side_that_falls_later_goes_along() {
    const HOUR_MS: u64 = 3_600_000;
    let (mut world, group, mut member) = scene(4);
    let first = member.splits(&mut world, &[0, 3]);
    world.settle().unwrap();
    later(&mut world, HOUR_MS);
    member.follow(&mut world);
    let second = member.splits(&mut world, &[3]);
    world.settle().unwrap();
    let bases = [second, first, first];
    for (index, base) in bases.into_iter().enumerate() {
        assert_eq!(standing(&mut world, index, &group).base_commit, base, "client {index}");
    }
    later(&mut world, DAY_MS - HOUR_MS);
    all_say(&mut world, &group, (&[3], "the next day"));
    for some in [&[3][..], &[1, 2], &[3], &[0], &[0, 1, 2]] {
        world.settle_among(some).unwrap();
    }
    all_say(&mut world, &group, (&[0, 1, 2, 3], "in two parts"));
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(status(&mut world, 3, &group), ChannelStatus::Active, "it is alone");
    later(&mut world, 2 * HOUR_MS);
    all_say(&mut world, &group, (&[1], "when it is settled"));
    all_in_step(&mut world, &group, &[0, 1, 2, 3]);
    for index in 0..4 {
        reads_once(&mut world, index, (&group, &said(&[0, 1, 2], "in two parts")));
        reads_once(&mut world, index, (&group, &said(&[1], "when it is settled")));
    }
}

#[test]
fn who_leaves_on_the_branch_that_falls_hears_that_it_is_out() {
    let (mut world, group, mut member) = scene(3);
    let seq = member.splits(&mut world, &[0, 2]);
    // It goes on from the Commit, and leaves before anybody says that it can't be opened.
    world.settle_among(&[1]).unwrap();
    assert_eq!(standing(&mut world, 1, &group).base_commit, seq);
    world.user(1, |m, s| m.leave(s, &group)).unwrap();
    world.settle_among(&[1]).unwrap();
    assert_eq!(status(&mut world, 1, &group), ChannelStatus::Leaving);
    world.settle_among(&[0, 2]).unwrap();
    for index in [0, 2] {
        say(&mut world, index, (&group, "go on"));
    }
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 2]);
    assert!(standing(&mut world, 0, &group).base_commit > seq, "it was removed elsewhere");
    assert_eq!(status(&mut world, 1, &group), ChannelStatus::Left);
}
