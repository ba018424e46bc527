//! `Ack`: what was answered counts, though it is written later; and what waits is bounded.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use qpc_faultvfs::{Fault, FaultVfs, Op, Plan};
use qpc_proto::message::{Cursor, Method, Request, Response};
use qpc_proto::{ChannelId, ErrorCode};
use qpc_server::Limits;
use tokio::task::JoinSet;

use crate::support::{Device, LoggedIn, Rig, Stream, read};
use crate::wait::wait;

const CHANNEL: ChannelId = ChannelId([5; 16]);

fn ack(seq: u64) -> Request {
    Request::Ack(vec![Cursor { channel: CHANNEL, seq }])
}

async fn acknowledge(one: &LoggedIn, seq: u64) {
    assert!(matches!(one.call(&ack(seq)).await, Ok(Response::Done)));
}

async fn acked(one: &LoggedIn) -> Result<u64, ErrorCode> {
    match one.call(&Request::ListChannels).await.map_err(|refused| refused.code)? {
        Response::Channels(states) => {
            Ok(states.iter().find(|state| state.channel == CHANNEL).unwrap().acked_seq)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_full_disk_and_is_never_told_lower() {
    let vfs = FaultVfs::register().unwrap();
    let mut rig = Rig::start_on(&vfs);
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    one.enqueue(CHANNEL, 1).await;
    acknowledge(&one, 1).await;
    assert_eq!(acked(&one).await, Ok(1));
    acknowledge(&one, 2).await;
    vfs.set(Plan::from(Op::Write, 0, Fault::NoSpace));
    assert_eq!(acked(&one).await, Err(ErrorCode::StoreFull));
    assert_eq!(acked(&one).await, Err(ErrorCode::StoreFull));
    vfs.heal();
    assert_eq!(acked(&one).await, Ok(2));
}

#[tokio::test]
async fn what_was_acknowledged_last_outlives_a_stop_in_order() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    one.create_channel(CHANNEL).await;
    one.enqueue(CHANNEL, 1).await;
    acknowledge(&one, 2).await;
    drop(one);
    let mut rig = rig.restart().await;
    let one = rig.connect().log_in(&device).await;
    assert_eq!(acked(&one).await, Ok(2));
}

/// Cursors into channels that there are not: as large as an `Ack` can be.
fn large(n: u16) -> Request {
    let cursor = |at: u16| {
        let mut channel = ChannelId([0xee; 16]);
        channel.0[..4].copy_from_slice(&[n.to_be_bytes(), at.to_be_bytes()].concat());
        Cursor { channel, seq: u64::MAX }
    };
    Request::Ack((0..1_024).map(cursor).collect())
}

/// Whether an answer is there already.
fn has_answer(stream: &mut Stream) -> bool {
    let mut next = pin!(stream.receiver.next());
    matches!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
}

#[tokio::test]
async fn large_acknowledgements_that_wait_for_their_turn_hold_up_more_of_them_and_nothing_else() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    one.create_channel(CHANNEL).await;
    // All of these come behind a wait.
    let mut behind = one.client.stream().await;
    behind.sender.send(&one.frame(&wait(CHANNEL, 1, 60_000))).await.unwrap();
    let (mut sender, mut receiver) = (behind.sender, behind.receiver);
    let frames: Vec<_> = (0..60).map(|n| one.frame(&large(n))).collect();
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        for frame in &frames {
            sender.send(frame).await.unwrap();
        }
        sender
    });
    let mut other = one.client.stream().await;
    for _ in 0..100 {
        acked(&one).await.unwrap();
    }
    other.sender.send(&one.frame(&large(100))).await.unwrap();
    for _ in 0..100 {
        acked(&one).await.unwrap();
    }
    assert!(!has_answer(&mut other), "there is no room for it");
    one.enqueue(CHANNEL, 1).await;
    let first = receiver.next().await.unwrap().unwrap();
    assert!(matches!(read(Method::FetchWait, first), Ok(Response::Page(_))));
    for _ in 0..60 {
        let answer = receiver.next().await.unwrap().unwrap();
        assert!(matches!(read(Method::Ack, answer), Ok(Response::Done)));
    }
    let answer = other.next().await.unwrap();
    assert!(matches!(read(Method::Ack, answer), Ok(Response::Done)));
    drop(sending.join_all().await);
    assert_eq!(acked(&one).await, Ok(0));
}
