//! What a lying server, or a member who may not, puts in a channel's place: nobody's words go
//! there.

use qpc_client::machine::{Failure, Input, Work};
use qpc_client::view::{ChannelStatus, MessageState};
use qpc_credential::StatementBody;
use qpc_proto::{ChannelId, ErrorBody, ErrorCode, ErrorDetail};
use qpc_sim::{Chain, Lie, World};

use super::members::{Member, support};
use super::support::{channel, group, history, in_step, say, words, world};

/// The texts that a client has, or would send, in a channel.
fn of(world: &mut World, index: usize, channel: &ChannelId) -> Vec<String> {
    history(world, index, channel).into_iter().map(|message| message.text).collect()
}

/// The end of a channel, signed by somebody for a group of their own.
fn ends(by: &Member, channel: ChannelId) -> Vec<u8> {
    by.party.statement(channel, StatementBody::Reset(support::CHANNEL)).to_vec()
}

/// The server shows client 1 an end of its channel that an account of the server's own signed,
/// which was never in; that account has made a group that says it goes on there.
#[test]
fn a_stranger_neither_ends_a_channel_nor_gets_what_waits_there() {
    for invited_first in [false, true] {
        let mut world = world(2);
        let old = group(&mut world, &[1]);
        let victim = world.account(1).unwrap();
        world.tamper(&old, &[1]).unwrap();
        let mut puppet = Member::register(&mut world, support::CHANNEL);
        if invited_first {
            puppet.founds(&mut world, (Some(old), &[victim]));
            world.rounds(5).unwrap();
        }
        world.plan((Lie::Statement(ends(&puppet, old)), Chain::Recomputed), 0);
        world.disconnect(1).unwrap();
        world.user(1, |m, s| m.queue(s, &old, "for friends").map(drop)).unwrap();
        say(&mut world, 0, (&old, "one"));
        world.settle_among(&[0]).unwrap();
        world.rounds(10).unwrap();
        if !invited_first {
            puppet.founds(&mut world, (Some(old), &[victim]));
        }
        world.rounds(10).unwrap();
        let told_at = world.told_at().expect("no lie was told");
        assert!(world.named(1, &old).unwrap().contains(&told_at));
        assert_eq!(channel(&mut world, 1, &old).status, ChannelStatus::Active);
        assert!(!of(&mut world, 1, &support::CHANNEL).contains(&"for friends".to_owned()));
        assert!(words(&mut world, 0, &old).contains(&"for friends".to_owned()));
        assert!(words(&mut world, 1, &old).contains(&"one".to_owned()));
    }
}

/// A member who is no admin ends the channel with the server's help: what waits stays until the
/// user says that it shall go there.
#[test]
fn what_waits_goes_to_the_successor_of_a_member_who_may_not_only_with_consent() {
    let mut world = world(2);
    let old = group(&mut world, &[1]);
    let mut member = Member::enter(&mut world, old);
    let victim = world.account(1).unwrap();
    world.tamper(&old, &[1]).unwrap();
    world.plan((Lie::Statement(ends(&member, old)), Chain::Recomputed), 0);
    world.disconnect(1).unwrap();
    world.user(1, |m, s| m.queue(s, &old, "for friends").map(drop)).unwrap();
    say(&mut world, 0, (&old, "one"));
    world.settle_among(&[0]).unwrap();
    world.rounds(10).unwrap();
    member.founds(&mut world, (Some(old), &[victim]));
    world.rounds(10).unwrap();
    let row = channel(&mut world, 1, &old);
    assert_eq!((row.status, row.outbox), (ChannelStatus::Closed, 1), "{row:?}");
    assert!(row.reason.as_ref().is_some_and(|reason| reason.contains("qpc reset")), "{row:?}");
    assert!(!of(&mut world, 1, &support::CHANNEL).contains(&"for friends".to_owned()));
    // Nobody else is asked.
    let started = world.user(1, |m, s| m.reset(s, &old)).unwrap();
    assert_eq!(started.channel, support::CHANNEL);
    world.rounds(10).unwrap();
    assert_eq!(channel(&mut world, 1, &old).outbox, 0);
    let sent = history(&mut world, 1, &support::CHANNEL);
    let sent = sent.iter().find(|message| message.text == "for friends").unwrap();
    assert_eq!(sent.state, MessageState::Accepted);
    assert!(world.user(1, |m, s| m.reset(s, &old)).is_err(), "once");
}

/// The pair is said to have a channel already: one with somebody else.
#[test]
fn what_was_written_to_one_peer_is_not_moved_to_the_channel_of_another() {
    let mut world = world(3);
    let [one, other] = [1, 2].map(|index| world.account(index).unwrap());
    let lie = world.user(0, |m, s| m.direct(s, &one)).unwrap().channel;
    world.settle().unwrap();
    world.liar = Some(Box::new(move |index, input| {
        if let Input::Answer(Work::Commit(channel), answer) = input
            && (index, *channel != lie) == (0, true)
        {
            let mut body = ErrorBody::new(ErrorCode::ChannelExists, "you have one".to_owned());
            body.detail = Some(ErrorDetail::Channel(lie));
            *answer = Err(Failure::Refused(body));
        }
    }));
    let made = world.user(0, |m, s| m.direct(s, &other)).unwrap().channel;
    say(&mut world, 0, (&made, "for 2 alone"));
    world.rounds(10).unwrap();
    assert!(!of(&mut world, 0, &lie).contains(&"for 2 alone".to_owned()));
    assert!(!world.alarms(0).unwrap().is_empty());
    // The lie ends.
    world.liar = None;
    world.rounds(100).unwrap();
    in_step(&mut world, &made, &[0, 2]);
    assert_eq!(words(&mut world, 2, &made), ["for 2 alone"]);
}
