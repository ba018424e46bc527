//! A server that asks to be left alone: clients wait as long as it says, and lose nothing.

use qpc_client::machine::{Failure, Input, Work};
use qpc_client::view::MessageState;
use qpc_proto::message::Method;
use qpc_proto::{ErrorBody, ErrorCode};

use super::support::{
    at_peace, channel, enqueues, group, history, in_step, inject, say, until_sent, words, world,
};

/// How long the server asks to wait, in milliseconds.
const WAIT_MS: u64 = 90_000;

fn limited() -> Failure {
    let mut body = ErrorBody::new(ErrorCode::RateLimited, "wait");
    body.retry_after_ms = Some(WAIT_MS);
    Failure::Refused(body)
}

#[test]
fn case_157_an_outbox_waits_as_long_as_it_is_told_and_loses_nothing() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let texts = ["one", "two", "three", "four"];
    for text in texts {
        say(&mut world, 0, (&group, text));
    }
    until_sent(&mut world, 0, Method::Enqueue);
    let sent = enqueues(&mut world, 0);
    inject(&mut world, 0, Input::Answer(Work::Outbox(group), Err(limited())));
    // Until the time has passed it sends nothing, however often it looks.
    let until = world.now_ms + WAIT_MS;
    while world.now_ms + 5_000 < until {
        world.tick(5_000).unwrap();
        assert_eq!(enqueues(&mut world, 0), sent);
        assert_eq!(channel(&mut world, 0, &group).outbox, 4);
    }
    // Then the same bytes go again; the first ones never reached the server.
    world.now_ms = until + 10_000;
    world.tick(1).unwrap();
    let both = enqueues(&mut world, 0);
    assert_eq!(both.len(), sent.len() + 1);
    assert_eq!(both.last(), sent.last());
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1]);
    assert_eq!(words(&mut world, 1, &group), texts);
    let all = history(&mut world, 0, &group).into_iter().filter(|message| message.own);
    assert!(all.into_iter().all(|message| message.state == MessageState::Accepted));
}
