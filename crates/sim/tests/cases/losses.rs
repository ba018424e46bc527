//! What can't be opened: shown in its place with a stable code, counted, read again where that may
//! help, and in nobody's way.

use qpc_client::view::{ChannelStatus, Loss, LossCode, MessageState};
use qpc_proto::ChannelId;
use qpc_proto::message::{EntryKind, inbox_channel};
use qpc_sim::World;

use super::members::Member;
use super::support::{channel, group, history, in_step, page, say, texts, words, world};

fn losses(world: &mut World, index: usize, group: &ChannelId) -> Vec<Loss> {
    world.user(index, |m, s| m.losses(s, Some(group))).unwrap()
}

/// The placeholder in a place of the log, by its code; `None` where there is none.
fn placeholder(world: &mut World, index: usize, (group, seq): (&ChannelId, u64)) -> Option<String> {
    let lines = history(world, index, group).into_iter();
    let mut there = lines.filter(|line| line.seq == Some(seq));
    let line = there.next().expect("nothing is shown there");
    assert!(there.next().is_none(), "shown twice");
    let unreadable = line.state == MessageState::Unreadable;
    assert_eq!(unreadable, line.code.is_some() && line.reason.is_some(), "{line:?}");
    line.code
}

/// The code and the retries of the loss in a place of the log, if one stands.
fn loss(world: &mut World, index: usize, (group, seq): (&ChannelId, u64)) -> Option<(String, u64)> {
    let all = losses(world, index, group);
    let found: Vec<_> = all.iter().filter(|loss| loss.seq == seq).collect();
    assert!(found.len() <= 1 && found.iter().all(|loss| loss.count == 1), "{found:?}");
    found.first().map(|loss| (loss.code.clone(), loss.retried))
}

fn lost(code: LossCode, retried: u64) -> Option<(String, u64)> {
    Some((code.as_str().to_owned(), retried))
}

/// The bytes of the last message under another id: nobody's keys open them a second time.
fn said_again(world: &mut World, member: &mut Member) -> u64 {
    member.follow(world);
    let log = member.log(world);
    let last = log.iter().rev().find(|entry| entry.kind == EntryKind::Application).unwrap();
    let seq = member.posts(world, last.payload.clone()).unwrap();
    world.rounds(20).unwrap();
    seq
}

/// A group of clients 0 to 2, who have all spoken, and of a member whose program is not ours.
fn scene() -> (World, ChannelId, Member) {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    let member = Member::enter(&mut world, group);
    for index in [1, 2, 0] {
        say(&mut world, index, (&group, &format!("{index} is here")));
        world.settle().unwrap();
    }
    (world, group, member)
}

#[test]
fn case_209_an_undecryptable_message_is_a_line_with_a_code_and_the_rest_goes_on() {
    let (mut world, group, mut member) = scene();
    let seq = said_again(&mut world, &mut member);
    say(&mut world, 0, (&group, "goes on"));
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    // Client 0 wrote it: its own words that come again are no message of anybody to it.
    assert!(placeholder(&mut world, 0, (&group, seq)).is_some());
    for index in [1, 2] {
        let code = LossCode::Undecryptable.as_str().to_owned();
        assert_eq!(placeholder(&mut world, index, (&group, seq)), Some(code));
        assert_eq!(loss(&mut world, index, (&group, seq)), lost(LossCode::Undecryptable, 0));
        assert_eq!(losses(&mut world, index, &group).len(), 1, "counted once");
        let mut heard = words(&mut world, index, &group);
        assert_eq!(heard.pop().unwrap(), "goes on");
        assert_eq!(world.alarms(index).unwrap(), [""; 0]);
    }
    // A restart neither forgets it nor counts it again.
    world.crash(1).unwrap();
    world.settle().unwrap();
    assert_eq!(loss(&mut world, 1, (&group, seq)), lost(LossCode::Undecryptable, 0));
}

/// Client 1 loses its group and reads what comes behind its rejoin before the invitation.
#[test]
fn case_209_what_a_rejoin_can_open_is_read_again_and_takes_its_placeholders_place() {
    let (mut world, group, mut member) = scene();
    let before = said_again(&mut world, &mut member);
    let inbox = inbox_channel(&world.device(1).unwrap());
    world.damage(1, "DELETE FROM mls_group").unwrap();
    world.liar = Some(Box::new(move |index, input| {
        if let Some(page) = page(input).filter(|page| index == 1 && page.channel == inbox) {
            page.entries.clear();
        }
    }));
    say(&mut world, 2, (&group, "meanwhile"));
    world.rounds(20).unwrap();
    say(&mut world, 0, (&group, "opens later"));
    world.rounds(20).unwrap();
    let opens = texts(&mut world, 0, &group).last().unwrap().0;
    let never = said_again(&mut world, &mut member);
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Rejoining);
    for seq in [opens, never] {
        let code = LossCode::OtherBranch.as_str().to_owned();
        assert_eq!(placeholder(&mut world, 1, (&group, seq)), Some(code));
        assert_eq!(loss(&mut world, 1, (&group, seq)), lost(LossCode::OtherBranch, 0));
    }
    world.liar = None;
    world.disconnect(1).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(placeholder(&mut world, 1, (&group, opens)), None);
    assert_eq!(loss(&mut world, 1, (&group, opens)), None);
    assert_eq!(texts(&mut world, 1, &group).last().unwrap(), &(opens, "opens later".to_owned()));
    let code = LossCode::Undecryptable.as_str().to_owned();
    assert_eq!(placeholder(&mut world, 1, (&group, never)), Some(code));
    assert_eq!(loss(&mut world, 1, (&group, never)), lost(LossCode::Undecryptable, 1));
    // What lies before the new place has no keys any more, and is not tried.
    assert_eq!(loss(&mut world, 1, (&group, before)), lost(LossCode::Undecryptable, 0));
}
