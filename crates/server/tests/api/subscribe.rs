//! Following logs: everything once and in order, until the token or the server ends.

use std::time::Duration;

use qpc_proto::frame::Frame;
use qpc_proto::message::{Cursor, EntryKind, Request, Response, inbox_channel};
use qpc_proto::{ChannelId, DeviceId, ErrorCode};
use qpc_server::Limits;

use crate::members;
use crate::support::{Device, Rig, enqueue, fetch, reset_code, seqs};

const CHANNEL: ChannelId = ChannelId([5; 16]);

#[tokio::test]
async fn case_145_entries_come_once_and_in_order_whenever_they_are_accepted() {
    come_once_and_in_order(Limits::default()).await;
}

#[tokio::test]
async fn whose_rights_are_looked_up_again_gets_entries_once_and_in_order() {
    come_once_and_in_order(Limits { recheck: Duration::from_millis(1), ..Limits::default() }).await;
}

/// Entries before, while and after somebody begins to follow, one by one and many together.
async fn come_once_and_in_order(limits: Limits) {
    let mut rig = Rig::start(limits);
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let writer = rig.connect().log_in(&device).await;
    one.create_channel(CHANNEL).await;
    for n in 0..20 {
        writer.enqueue(CHANNEL, n).await;
    }
    let total = 201;
    let writing = async {
        for n in 20..120 {
            writer.enqueue(CHANNEL, n).await;
        }
        let mut stream = writer.client.stream().await;
        for first in [120, 140, 160, 180] {
            let together = (first..first + 20).map(|n| writer.frame(&enqueue(CHANNEL, n)));
            stream.sender.send_all(&together.collect::<Vec<_>>()).await.unwrap();
            for _ in 0..20 {
                assert!(matches!(stream.next().await, Some(Frame::Reply(_))));
            }
        }
    };
    let reading = async {
        let (mut stream, first) = one.subscribe(CHANNEL).await;
        let mut seen = seqs(&first);
        while seen.len() < total {
            seen.extend(seqs(&stream.page().await.unwrap()));
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert_eq!(seen, (1..=201).collect::<Vec<u64>>());
}

#[tokio::test]
async fn the_inbox_of_a_new_device_can_be_followed_before_anything_is_in_it() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    let inbox = inbox_channel(&DeviceId([1; 16]));
    let (_stream, first) = one.subscribe(inbox).await;
    assert_eq!((first.channel, first.entries.len()), (inbox, 0));
}

#[tokio::test]
async fn a_group_named_like_an_inbox_is_not_heard_there() {
    let mut rig = Rig::start(Limits::default());
    let victim = Device::new(2);
    let (eve, bob) = (rig.join(&Device::new(1)).await, rig.join(&victim).await);
    let inbox = inbox_channel(&victim.id.device);
    eve.create_channel(inbox).await;
    let (mut stream, first) = bob.subscribe(inbox).await;
    assert_eq!(first.entries, []);
    for number in 1..5 {
        eve.enqueue(inbox, number).await;
    }
    let publish = qpc_proto::message::Publish { channel: inbox, payload: vec![1].into() };
    eve.call(&Request::Publish(publish)).await.unwrap();
    // The inbox begins with its first Welcome.
    members::pair(CHANNEL, &eve, (&victim, &bob)).await;
    let page = stream.page().await.unwrap();
    assert_eq!((seqs(&page), page.head_seq, page.published.len()), (vec![1], 1, 0));
    assert_eq!(page.entries[0].kind, EntryKind::Welcome);
}

#[tokio::test]
async fn a_subscription_to_what_one_may_not_read_ends_with_its_reason() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    let two = rig.join(&Device::new(2)).await;
    one.create_channel(CHANNEL).await;
    let mut stream = two.client.stream().await;
    let request = Request::Subscribe(vec![Cursor { channel: CHANNEL, seq: 0 }]);
    stream.sender.send(&two.frame(&request)).await.unwrap();
    // The same as for a channel that does not exist (case 126).
    let refused = stream.page().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ChannelNotFound);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn case_053_a_subscription_ends_with_its_token() {
    let mut rig = Rig::start(Limits { recheck: Duration::from_millis(10), ..Limits::default() });
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let (mut stream, _) = one.subscribe(CHANNEL).await;
    rig.pass(Duration::from_secs(15 * 60));
    let refused = stream.page().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TokenExpired);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_refresh_on_the_connection_keeps_its_subscriptions() {
    let mut rig = Rig::start(Limits { recheck: Duration::from_millis(10), ..Limits::default() });
    let mut one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let (mut stream, _) = one.subscribe(CHANNEL).await;
    rig.pass(Duration::from_secs(14 * 60));
    let refresh = Request::Refresh(one.tokens.refresh_token.clone());
    let Ok(Response::Tokens(tokens)) = one.call(&refresh).await else { panic!("fresh tokens") };
    one.tokens = tokens;
    rig.pass(Duration::from_secs(14 * 60));
    one.enqueue(CHANNEL, 1).await;
    assert_eq!(seqs(&stream.page().await.unwrap()), [2]);
}

#[tokio::test]
async fn a_logout_ends_the_subscriptions_of_its_connection() {
    let mut rig = Rig::start(Limits { recheck: Duration::from_millis(10), ..Limits::default() });
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let (mut stream, _) = one.subscribe(CHANNEL).await;
    assert!(matches!(one.call(&Request::Logout).await, Ok(Response::Done)));
    let refused = stream.page().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn nothing_that_is_accepted_after_a_logout_comes_on_its_connection() {
    let mut rig = Rig::start(Limits { recheck: Duration::from_secs(3_600), ..Limits::default() });
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let writer = rig.connect().log_in(&device).await;
    one.create_channel(CHANNEL).await;
    let (mut stream, _) = one.subscribe(CHANNEL).await;
    // Served from the log's tail.
    writer.enqueue(CHANNEL, 1).await;
    assert_eq!(seqs(&stream.page().await.unwrap()), [2]);
    assert!(matches!(one.call(&Request::Logout).await, Ok(Response::Done)));
    writer.enqueue(CHANNEL, 2).await;
    let refused = stream.page().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
}

/// A message of one who has read the Commit that is entry 3.
fn after_removal(number: u8) -> Request {
    let Request::Enqueue(mut posting) = enqueue(CHANNEL, number) else { panic!("a message") };
    posting.entries[0].after_commit = 3;
    Request::Enqueue(posting)
}

#[tokio::test]
async fn who_follows_and_is_removed_gets_its_removal_and_nothing_behind_it() {
    let mut rig = Rig::start(Limits { recheck: Duration::from_secs(3_600), ..Limits::default() });
    let (device, other) = (Device::new(1), Device::new(2));
    let founder = rig.join(&device).await;
    let member = rig.join(&other).await;
    members::pair(CHANNEL, &founder, (&other, &member)).await;
    let (mut stream, _) = member.subscribe(CHANNEL).await;
    let (mut own, _) = founder.subscribe(CHANNEL).await;
    founder.enqueue(CHANNEL, 1).await;
    assert_eq!(seqs(&stream.page().await.unwrap()), [2]);
    assert_eq!(seqs(&own.page().await.unwrap()), [2]);
    members::remove(CHANNEL, &founder, &other).await;
    for number in 2..5 {
        founder.call(&after_removal(number)).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&6) {
        seen.extend(seqs(&own.page().await.unwrap()));
    }
    assert_eq!(seen, [3, 4, 5, 6]);
    assert_eq!(seqs(&stream.page().await.unwrap()), [3]);
    // The next that it hears is the end of its session, long after all of these.
    assert!(matches!(member.call(&Request::Logout).await, Ok(Response::Done)));
    founder.call(&after_removal(5)).await.unwrap();
    let refused = stream.page().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn nothing_may_follow_a_subscription_on_its_stream_but_its_end() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let (mut stream, _) = one.subscribe(CHANNEL).await;
    stream.sender.finish().await.unwrap();
    one.enqueue(CHANNEL, 1).await;
    assert_eq!(seqs(&stream.page().await.unwrap()), [2]);
    let (mut stream, _) = one.subscribe(CHANNEL).await;
    stream.sender.send(&one.frame(&fetch(CHANNEL))).await.unwrap();
    let code = reset_code(&mut stream).await;
    assert_eq!(code, u32::from(ErrorCode::InvalidArgument.as_u16()));
}
