//! The outbox as its user sees it: what waits and why, what was refused, what is done about it.

use qpc_client::machine::{Input, Work};
use qpc_client::view::{Message, MessageState};
use qpc_proto::message::{EnqueueAnswer, Method, Response};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode, limits};
use qpc_sim::World;

use super::support::{
    add, at_peace, enqueues, group, history, inject, say, until_sent, words, world,
};

fn outbox(world: &mut World, index: usize) -> Vec<Message> {
    world.user(index, |m, s| m.outbox(s)).unwrap()
}

fn states(world: &mut World, index: usize) -> Vec<(String, MessageState)> {
    outbox(world, index).into_iter().map(|m| (m.text, m.state)).collect()
}

fn resend(world: &mut World, index: usize, id: u64) -> Result<Message, anyhow::Error> {
    world.user(index, move |m, s| m.resend(s, id))
}

fn cancel(world: &mut World, index: usize, id: u64) -> Result<Message, anyhow::Error> {
    world.user(index, move |m, s| m.cancel(s, id))
}

/// The server refuses the first message on its way.
fn refuse(world: &mut World, (index, channel): (usize, ChannelId), code: ErrorCode) {
    until_sent(world, index, Method::Enqueue);
    let refusal = Some(ErrorBody::new(code, "no"));
    let answer = Response::Enqueued(EnqueueAnswer { accepted: Vec::new(), refusal });
    inject(world, index, Input::Answer(Work::Outbox(channel), Ok(answer)));
    world.disconnect(index).unwrap();
}

#[test]
fn case_204_hours_without_a_network_lose_nothing_and_every_state_is_told() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.disconnect(0).unwrap();
    say(&mut world, 0, (&group, "written in a tunnel"));
    for hour in 0..30 {
        world.tick(3_600_000).unwrap();
        if hour % 10 == 0 {
            world.crash(0).unwrap();
        }
        let waiting = outbox(&mut world, 0);
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].state, MessageState::Waiting);
        assert_eq!(waiting[0].reason.as_deref(), Some("no connection to the server"));
    }
    // Nobody's token lived so long.
    world.disconnect(1).unwrap();
    // Asking for it by hand is harmless.
    let id = outbox(&mut world, 0)[0].id;
    assert_eq!(resend(&mut world, 0, id).unwrap().state, MessageState::Waiting);
    at_peace(&mut world);
    assert_eq!(outbox(&mut world, 0).len(), 0);
    assert_eq!(words(&mut world, 1, &group), ["written in a tunnel"]);
}

#[test]
fn case_204_a_refused_message_is_sent_again_by_hand_and_shown_once() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    for text in ["one", "two"] {
        say(&mut world, 0, (&group, text));
    }
    refuse(&mut world, (0, group), ErrorCode::PermissionDenied);
    assert_eq!(states(&mut world, 0)[0], ("one".to_owned(), MessageState::Refused));
    at_peace(&mut world);
    let refused = outbox(&mut world, 0);
    assert_eq!(states(&mut world, 0), [("one".to_owned(), MessageState::Refused)]);
    assert_eq!(refused[0].reason.as_deref(), Some("PERMISSION_DENIED"));
    // It survives a crash, and goes out by hand.
    world.crash(0).unwrap();
    assert_eq!(resend(&mut world, 0, refused[0].id).unwrap().state, MessageState::Waiting);
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), ["two", "one"]);
    assert_eq!(states(&mut world, 0), []);
    assert!(resend(&mut world, 0, refused[0].id).is_err(), "it is sent");
}

#[test]
fn a_waiting_message_is_taken_back_and_a_sealed_one_is_not() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    say(&mut world, 0, (&group, "sealed"));
    until_sent(&mut world, 0, Method::Enqueue);
    world.disconnect(0).unwrap();
    say(&mut world, 0, (&group, "waiting"));
    let all = outbox(&mut world, 0);
    let expected = [
        ("sealed".to_owned(), MessageState::Sealed),
        ("waiting".to_owned(), MessageState::Waiting),
    ];
    assert_eq!(states(&mut world, 0), expected);
    let refused = cancel(&mut world, 0, all[0].id).unwrap_err().to_string();
    assert!(refused.contains("can't be taken back"), "{refused}");
    assert_eq!(cancel(&mut world, 0, all[1].id).unwrap().state, MessageState::Cancelled);
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), ["sealed"]);
    let own: Vec<_> = history(&mut world, 0, &group).into_iter().filter(|m| m.own).collect();
    let shown = own.iter().find(|m| m.text == "waiting").unwrap();
    assert_eq!(shown.state, MessageState::Cancelled, "it stays in the history");
    // Somebody else's message is nobody's to take back.
    say(&mut world, 1, (&group, "mine"));
    world.settle().unwrap();
    let id = history(&mut world, 0, &group).last().unwrap().id;
    assert!(cancel(&mut world, 0, id).is_err());
}

#[test]
fn case_203_a_message_too_large_for_the_server_holds_up_no_other() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.disconnect(0).unwrap();
    let largest = "x".repeat(limits::PAYLOAD_BYTES_MAX - 4096);
    let too_long = format!("{largest}x");
    assert!(world.user(0, |m, s| m.queue(s, &group, &too_long).map(drop)).is_err());
    // The longest that is taken fits.
    for text in ["before", &largest, "behind"] {
        say(&mut world, 0, (&group, text));
    }
    world.connect(0).unwrap();
    at_peace(&mut world);
    let lengths: Vec<_> = words(&mut world, 1, &group).iter().map(String::len).collect();
    assert_eq!(lengths, ["before".len(), largest.len(), "behind".len()]);
    // A server that takes less refuses it for good.
    for text in ["large for it", "small"] {
        say(&mut world, 0, (&group, text));
    }
    refuse(&mut world, (0, group), ErrorCode::FrameTooLarge);
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group)[3..], ["small"]);
    assert_eq!(states(&mut world, 0), [("large for it".to_owned(), MessageState::Refused)]);
}

#[test]
fn a_channel_that_must_wait_holds_up_no_other() {
    let mut world = world(3);
    let slow = group(&mut world, &[1]);
    let made = world.user(0, |m, s| m.create_group_channel(s, "Sailing")).unwrap();
    world.settle().unwrap();
    add(&mut world, &made.channel, &[2]);
    world.settle().unwrap();
    say(&mut world, 0, (&slow, "slow"));
    until_sent(&mut world, 0, Method::Enqueue);
    let mut refusal = ErrorBody::new(ErrorCode::RateLimited, "wait");
    refusal.retry_after_ms = Some(3_600_000);
    let refusal = Some(refusal);
    let answer = Response::Enqueued(EnqueueAnswer { accepted: Vec::new(), refusal });
    inject(&mut world, 0, Input::Answer(Work::Outbox(slow), Ok(answer)));
    say(&mut world, 0, (&made.channel, "quick"));
    let of: Vec<_> = enqueues(&mut world, 0).into_iter().map(|sent| sent.channel).collect();
    assert!(of.contains(&made.channel), "{of:?}");
    let waiting = outbox(&mut world, 0);
    assert_eq!(waiting[0].text, "slow");
    let reason = waiting[0].reason.as_deref().unwrap();
    assert!(reason.contains("refused it for now"), "{reason}");
}
