//! What may come over a stream, and in which order the answers leave.

use std::time::Duration;

use bytes::Bytes;
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{Method, Request, Response};
use qpc_proto::{ChannelId, ErrorCode, RequestId, Token, limits};
use qpc_server::Limits;

use crate::support::{Device, Rig, enqueue, enqueue_of, fetch, frame, read, reset_code, seqs};

const CHANNEL: ChannelId = ChannelId([5; 16]);
/// Larger than all buffers between the ends.
const LARGE: usize = 4 * 1_024 * 1_024;

#[tokio::test]
async fn case_016_a_frame_that_does_not_get_on_resets_its_stream() {
    let mut rig =
        Rig::start(Limits { frame_timeout: Duration::from_millis(20), ..Limits::default() });
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let mut stream = one.client.stream().await;
    stream.send_beginning(&one.frame(&enqueue_of(CHANNEL, 1, LARGE)));
    let code = reset_code(&mut stream).await;
    assert_eq!(code, u32::from(ErrorCode::Deadline.as_u16()));
    assert_eq!(one.seqs(CHANNEL).await, [1], "no effect, and the connection lives");
}

#[tokio::test]
async fn case_032_a_frame_that_ends_early_is_answered_and_has_no_effect() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let mut stream = one.client.stream().await;
    stream.send_beginning(&one.frame(&enqueue_of(CHANNEL, 1, LARGE)));
    drop(stream.sender);
    let answer = stream.receiver.next().await.unwrap().unwrap();
    let refused = read(Method::Enqueue, answer).unwrap_err();
    assert_eq!(refused.code, ErrorCode::FrameTruncated);
    assert!(stream.receiver.next().await.unwrap().is_none());
    assert_eq!(one.seqs(CHANNEL).await, [1]);
}

#[tokio::test]
async fn case_033_a_frame_above_the_limit_is_refused() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    let mut stream = one.client.stream().await;
    let body = Bytes::from(vec![0; limits::FRAME_BYTES_MAX]);
    let large = Frame::Request(RequestFrame {
        method: Method::Enqueue.as_u16(),
        token: one.tokens.access_token.clone(),
        request_id: RequestId::ZERO,
        body,
    });
    let (sent, answer) = tokio::join!(stream.sender.send(&large), stream.receiver.next());
    assert!(sent.is_err(), "the server stops reading");
    let refused = read(Method::Enqueue, answer.unwrap().unwrap()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::FrameTooLarge);
    assert!(one.call(&Request::ListChannels).await.is_ok());
}

#[tokio::test]
async fn a_stranger_cannot_make_the_server_hold_a_large_frame() {
    let mut rig = Rig::start(Limits::default());
    let mut stream = rig.connect().stream().await;
    let large = frame(&Token::NONE, &enqueue_of(CHANNEL, 1, LARGE));
    let (sent, answer) = tokio::join!(stream.sender.send(&large), stream.receiver.next());
    // The connection was dropped, or the stream stopped: either way the frame did not get through.
    assert!(sent.is_err());
    if let Ok(Some(answer)) = answer {
        let refused = read(Method::Enqueue, answer).unwrap_err();
        assert_eq!(refused.code, ErrorCode::FrameTooLarge);
    }
}

#[tokio::test]
async fn case_036_unknown_fields_are_ignored() {
    let mut rig = Rig::start(Limits::default());
    let client = rig.connect();
    // Field 127, length-delimited, one byte.
    let body = Bytes::from_static(&[0xfa, 0x07, 0x01, 0x78]);
    let answer = client
        .exchange(Frame::Request(RequestFrame {
            method: Method::ServerInfo.as_u16(),
            token: Token::NONE,
            request_id: RequestId::ZERO,
            body,
        }))
        .await;
    assert!(matches!(read(Method::ServerInfo, answer), Ok(Response::ServerInfo(_))));
}

#[tokio::test]
async fn case_039_an_unknown_method_ends_its_stream_alone() {
    let mut rig = Rig::start(Limits::default());
    let client = rig.connect();
    let mut stream = client.stream().await;
    let unknown = Frame::Request(RequestFrame {
        method: 0x7fff,
        token: Token::NONE,
        request_id: RequestId::ZERO,
        body: Bytes::new(),
    });
    stream.sender.send(&unknown).await.unwrap();
    let refused = read(Method::ServerInfo, stream.next().await.unwrap()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownMethod);
    assert!(stream.next().await.is_none());
    assert!(client.call(&Token::NONE, &Request::ServerInfo).await.is_ok());
}

#[tokio::test]
async fn only_requests_go_to_a_server_and_bad_bodies_are_refused() {
    let mut rig = Rig::start(Limits::default());
    let client = rig.connect();
    let answer = client.exchange(Frame::Reply(Bytes::new())).await;
    let refused = read(Method::ServerInfo, answer).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    let answer = client
        .exchange(Frame::Request(RequestFrame {
            method: Method::Login.as_u16(),
            token: Token::NONE,
            request_id: RequestId::ZERO,
            body: Bytes::from_static(b"\xff"),
        }))
        .await;
    let refused = read(Method::Login, answer).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn case_045_a_stream_reset_in_an_upload_stores_nothing() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let mut stream = one.client.stream().await;
    stream.send_beginning(&one.frame(&enqueue_of(CHANNEL, 1, LARGE)));
    stream.sender.reset(0);
    assert!(!matches!(stream.receiver.next().await, Ok(Some(_))), "no answer");
    assert_eq!(one.seqs(CHANNEL).await, [1]);
    assert_eq!(one.enqueue(CHANNEL, 1).await.seq, 2);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_see_what_came_before() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let mut stream = one.client.stream().await;
    let rounds = 40;
    let requests: Vec<_> = (0..rounds)
        .flat_map(|n| [enqueue(CHANNEL, n), fetch(CHANNEL), Request::ServerInfo])
        .collect();
    let frames: Vec<_> = requests.iter().map(|request| one.frame(request)).collect();
    let receiver = &mut stream.receiver;
    let answers = async {
        for n in 0..u64::from(rounds) {
            let mut answer =
                async |method| read(method, receiver.next().await.unwrap().unwrap()).unwrap();
            let Response::Enqueued(enqueued) = answer(Method::Enqueue).await else {
                panic!("enqueued")
            };
            assert_eq!(enqueued.accepted[0].seq, n + 2);
            let Response::Page(page) = answer(Method::Fetch).await else { panic!("a page") };
            assert!(seqs(&page).contains(&(n + 2)), "a read sees the change before it");
            assert!(matches!(answer(Method::ServerInfo).await, Response::ServerInfo(_)));
        }
    };
    let sending = async {
        stream.sender.send_all(&frames).await.unwrap();
        stream.sender.finish().await.unwrap();
    };
    tokio::join!(sending, answers);
    assert!(stream.receiver.next().await.unwrap().is_none());
}
