//! Clients that take more than their share: what one connection can make the server hold.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{Cursor, Fetch, Method, Request, Response};
use qpc_proto::{ChannelId, ErrorCode, RequestId, Token};
use qpc_server::Limits;
use qpc_transport::CloseReason;

use crate::support::{Device, Rig, Stream, enqueue, enqueue_of, frame, read};

const CHANNEL: ChannelId = ChannelId([5; 16]);
/// More than the way to a client holds.
const LARGE: usize = 1024 * 1024;

fn with_body(method: Method, token: &Token, bytes: usize) -> Frame {
    let request_id = RequestId::ZERO;
    let (method, token, body) = (method.as_u16(), token.clone(), Bytes::from(vec![0; bytes]));
    Frame::Request(RequestFrame { method, token, request_id, body })
}

#[tokio::test]
async fn a_read_has_a_small_body_so_that_many_may_wait() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    for (method, bytes) in [
        (Method::ServerInfo, 2_048),
        (Method::Lookup, 64 * 1_024),
        (Method::ListChannels, 5 * LARGE),
        (Method::Subscribe, 128 * 1_024),
    ] {
        let frame = with_body(method, &one.tokens.access_token, bytes);
        let refused = read(method, one.client.exchange(frame).await).unwrap_err();
        assert_eq!(refused.code, ErrorCode::FrameTooLarge, "{}", method.as_str());
    }
}

pub(crate) fn begins(stream: &mut Stream) -> bool {
    let polled = pin!(stream.receiver.next()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "the page must not fit");
    stream.receiver.is_inside_frame()
}

#[tokio::test]
async fn pages_that_a_client_does_not_take_are_few() {
    let fetch = Request::Fetch(Fetch { channel: CHANNEL, after_seq: 1, bytes_max: 0 });
    only_four_begin(&fetch).await;
}

#[tokio::test]
async fn pages_that_a_subscriber_does_not_take_are_few() {
    let follow = Request::Subscribe(vec![Cursor { channel: CHANNEL, seq: 1 }]);
    only_four_begin(&follow).await;
}

async fn only_four_begin(request: &Request) {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let other = rig.connect().log_in(&device).await;
    one.create_channel(CHANNEL).await;
    one.call(&enqueue_of(CHANNEL, 1, LARGE)).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..12 {
        let mut stream = one.client.stream().await;
        stream.sender.send(&frame(&one.tokens.access_token, request)).await.unwrap();
        waiting.push(stream);
    }
    let mut begun = Vec::new();
    while begun.len() < 4 {
        other.call(&Request::ListChannels).await.unwrap();
        begun.extend(waiting.extract_if(.., begins));
    }
    // Reads are served in turn: a fifth that could begin would have when these have ended.
    for _ in 0..40 {
        other.call(&Request::ListChannels).await.unwrap();
        begun.extend(waiting.extract_if(.., begins));
    }
    assert_eq!((begun.len(), waiting.len()), (4, 8));
    // Those that wait come when the others have been taken.
    for stream in begun.iter_mut().chain(&mut waiting) {
        assert!(matches!(stream.next().await, Some(Frame::Reply(_) | Frame::Item(_))));
    }
}

#[tokio::test]
async fn changes_whose_answers_a_client_does_not_take_are_few() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let other = rig.connect().log_in(&device).await;
    one.create_channel(CHANNEL).await;
    // More than both ends hold of a stream, so that no answer behind it leaves.
    one.call(&enqueue_of(CHANNEL, 1, 4 * LARGE)).await.unwrap();
    let mut stream = one.client.stream().await;
    let page = Request::Fetch(Fetch { channel: CHANNEL, after_seq: 1, bytes_max: 0 });
    let changes = (2..=200).map(|number| enqueue(CHANNEL, number));
    let frames: Vec<_> = [page].into_iter().chain(changes).map(|asked| one.frame(&asked)).collect();
    stream.sender.send_all(&frames).await.unwrap();
    // What is taken is accepted before what comes behind it.
    let (mut accepted, mut same, mut looks) = (0, 0, 0);
    while accepted < 32 || same < 20 {
        looks += 1;
        assert!(looks < 10_000, "{accepted}");
        other.call(&enqueue(ChannelId([6; 16]), 1)).await.unwrap_err();
        let head = match other.call(&Request::ListChannels).await.unwrap() {
            Response::Channels(states) => states.iter().map(|state| state.head_seq).max().unwrap(),
            other => panic!("{other:?}"),
        };
        same = if head == accepted { same + 1 } else { 0 };
        accepted = head;
    }
    assert!(accepted <= 2 + 64, "{accepted}");
    // The others are taken with the answers.
    for answer in 0..200 {
        let answered = stream.next().await;
        assert!(matches!(answered, Some(Frame::Reply(_))), "{answer}: {answered:?}");
    }
}

#[tokio::test]
async fn a_connection_whose_session_gave_way_to_newer_ones_is_closed() {
    let recheck = Duration::from_millis(1);
    let mut rig = Rig::start(Limits { recheck, ..Limits::default() });
    let device = Device::new(1);
    let oldest = rig.join(&device).await;
    let mut newer = Vec::new();
    for _ in 0..8 {
        newer.push(rig.connect().log_in(&device).await);
    }
    match oldest.client.connection.closed().await {
        CloseReason::Peer { code, .. } => {
            assert_eq!(code, u32::from(ErrorCode::Unauthenticated.as_u16()));
        }
        other => panic!("{other:?}"),
    }
    for connection in newer {
        connection.call(&Request::ListChannels).await.unwrap();
    }
}
