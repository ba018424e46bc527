//! `FetchWait`: what comes is there at once, nothing is lost, and every end says why.

use std::time::Duration;

use qpc_proto::message::{Fetch, FetchWait, Method, Page, Request, Response};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode, limits};
use qpc_server::Limits;

use crate::support::{Device, LoggedIn, Rig, Stream, fetch, read, seqs};

const CHANNEL: ChannelId = ChannelId([5; 16]);
/// `FetchWait`s of one connection that wait at one time.
const WAITS_MAX: u8 = 16;
const LONG: u64 = limits::WAIT_MS_MAX;

/// Nothing but growth and its end wakes a wait.
fn undisturbed() -> Limits {
    Limits { recheck: Duration::from_secs(3_600), ..Limits::default() }
}

pub(crate) fn wait(channel: ChannelId, after_seq: u64, wait_ms: u64) -> Request {
    let fetch = Fetch { channel, after_seq, bytes_max: 0 };
    Request::FetchWait(FetchWait { fetch, wait_ms })
}

async fn begin(one: &LoggedIn, request: &Request) -> Stream {
    let mut stream = one.client.stream().await;
    stream.sender.send(&one.frame(request)).await.unwrap();
    stream
}

fn page(response: Result<Response, ErrorBody>) -> Page {
    match response.unwrap() {
        Response::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

async fn answer(stream: &mut Stream) -> Result<Response, ErrorBody> {
    read(Method::FetchWait, stream.next().await.expect("an answer"))
}

fn assert_superseded(answer: Result<Response, ErrorBody>) {
    let refused = answer.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Superseded);
    assert!(!refused.code.retryable());
}

/// A stream whose wait has begun for sure: it has just taken another's place.
pub(crate) async fn waiting(one: &LoggedIn, other: &LoggedIn, request: &Request) -> Stream {
    let (mut a, mut b) = (begin(one, request).await, begin(other, request).await);
    tokio::select! {
        ended = answer(&mut a) => {
            assert_superseded(ended);
            b
        }
        ended = answer(&mut b) => {
            assert_superseded(ended);
            a
        }
    }
}

#[tokio::test]
async fn case_145_waits_see_every_entry_once_and_in_order_whenever_it_is_accepted() {
    let mut rig = Rig::start(undisturbed());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let writer = rig.connect().log_in(&device).await;
    one.create_channel(CHANNEL).await;
    let writing = async {
        for n in 0..100 {
            writer.enqueue(CHANNEL, n).await;
        }
    };
    let reading = async {
        let mut seen: Vec<u64> = Vec::new();
        while seen.len() < 101 {
            let after = seen.last().copied().unwrap_or(0);
            let page = page(one.call(&wait(CHANNEL, after, LONG)).await);
            assert!(!page.entries.is_empty(), "a wake-up was lost");
            seen.extend(seqs(&page));
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert_eq!(seen, (1..=101).collect::<Vec<u64>>());
}

#[tokio::test]
async fn case_146_a_wait_whose_time_is_over_is_empty_and_says_how_far_the_log_is() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    one.enqueue(CHANNEL, 1).await;
    for wait_ms in [0, 1, 20] {
        let page = page(one.call(&wait(CHANNEL, 2, wait_ms)).await);
        assert_eq!((page.channel, page.head_seq, page.entries.len()), (CHANNEL, 2, 0));
    }
    // What is there is there at once, however long one would wait.
    assert_eq!(seqs(&page(one.call(&wait(CHANNEL, 1, LONG)).await)), [2]);
    let refused = one.call(&wait(CHANNEL, 2, LONG + 1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn case_147_the_newer_wait_of_a_device_ends_the_older() {
    let mut rig = Rig::start(undisturbed());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let elsewhere = rig.connect().log_in(&device).await;
    one.create_channel(CHANNEL).await;
    let request = wait(CHANNEL, 1, LONG);
    for newer_on in [&one, &elsewhere] {
        let mut older = waiting(&one, &elsewhere, &request).await;
        let mut newer = begin(newer_on, &request).await;
        assert_superseded(answer(&mut older).await);
        // The stream lives on, and so does the newer wait.
        older.sender.send(&one.frame(&fetch(CHANNEL))).await.unwrap();
        assert!(older.next().await.is_some());
        let mut newest = begin(&one, &request).await;
        assert_superseded(answer(&mut newer).await);
        newest.sender.finish().await.unwrap();
        assert!(page(answer(&mut newest).await).entries.is_empty());
    }
    // Others, and other channels, are not in the way.
    let other = ChannelId([6; 16]);
    one.create_channel(other).await;
    let mut older = waiting(&one, &elsewhere, &request).await;
    let _aside = waiting(&one, &elsewhere, &wait(other, 1, LONG)).await;
    one.enqueue(CHANNEL, 1).await;
    assert_eq!(seqs(&page(answer(&mut older).await)), [2]);
}

#[tokio::test]
async fn case_053_a_wait_ends_with_its_token_and_nothing_is_lost() {
    let mut rig = Rig::start(Limits { recheck: Duration::from_millis(10), ..Limits::default() });
    let device = Device::new(1);
    let one = rig.join(&device).await;
    one.create_channel(CHANNEL).await;
    let request = wait(CHANNEL, 1, LONG);
    let mut stream = waiting(&one, &one, &request).await;
    rig.pass(Duration::from_secs(15 * 60));
    let refused = answer(&mut stream).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TokenExpired);
    // It goes on under a fresh token from where it was.
    let fresh = rig.connect().log_in(&device).await;
    fresh.enqueue(CHANNEL, 1).await;
    assert_eq!(seqs(&page(fresh.call(&request).await)), [2]);
    assert!(one.call(&request).await.is_err());
}

#[tokio::test]
async fn a_stopping_server_ends_waits_and_asks_to_come_back_later() {
    let mut rig = Rig::start(undisturbed());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let mut stream = waiting(&one, &one, &wait(CHANNEL, 1, LONG)).await;
    rig.server.begin_stop();
    let refused = answer(&mut stream).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    assert!(refused.retry_after_ms.is_some_and(|ms| ms < 5_000), "{refused:?}");
}

#[tokio::test]
async fn a_wait_holds_up_what_is_behind_it_on_its_stream_alone() {
    let mut rig = Rig::start(undisturbed());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let mut stream = waiting(&one, &one, &wait(CHANNEL, 1, LONG)).await;
    stream.sender.send(&one.frame(&fetch(CHANNEL))).await.unwrap();
    one.enqueue(CHANNEL, 1).await;
    assert_eq!(seqs(&page(answer(&mut stream).await)), [2]);
    assert_eq!(seqs(&page(answer(&mut stream).await)), [1, 2]);
}

/// Ends first, where both end by the clock alone: the wait that was cut short.
#[tokio::test]
async fn whoever_ends_its_side_ends_its_wait() {
    let mut rig = Rig::start(undisturbed());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    let other = ChannelId([6; 16]);
    one.create_channel(other).await;
    let mut clock = waiting(&one, &one, &wait(other, 1, LONG / 2)).await;
    let mut stream = waiting(&one, &one, &wait(CHANNEL, 1, LONG)).await;
    stream.sender.finish().await.unwrap();
    tokio::select! {
        ended = answer(&mut stream) => assert_eq!(page(ended).entries.len(), 0),
        _ = answer(&mut clock) => panic!("the wait went on"),
    }
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_connection_has_few_waits_and_a_reset_makes_room_for_another() {
    let mut rig = Rig::start(undisturbed());
    let one = rig.join(&Device::new(1)).await;
    let channel = |n: u8| ChannelId([n; 16]);
    one.create_channel(channel(1)).await;
    // Half of the time: what should have ended before it has not.
    let mut clock = waiting(&one, &one, &wait(channel(1), 1, LONG / 2)).await;
    let mut open = Vec::new();
    for n in 2..=WAITS_MAX + 1 {
        one.create_channel(channel(n)).await;
        open.push(begin(&one, &wait(channel(n), 1, LONG)).await);
    }
    // Which of them is the one too many is for the server to say.
    let (at, refused) = {
        let answers = open.iter_mut().map(|stream| Box::pin(answer(stream)));
        tokio::select! {
            refused = first(answers.collect()) => refused,
            _ = answer(&mut clock) => panic!("there was room for all"),
        }
    };
    let refused = refused.unwrap_err();
    assert_eq!((refused.code, refused.code.retryable()), (ErrorCode::Quota, true));
    open.remove(at);
    // Who does not wait needs no room.
    assert!(one.call(&wait(channel(1), 1, 0)).await.is_ok());
    open.remove(0).sender.reset(0);
    one.create_channel(channel(100)).await;
    let request = wait(channel(100), 1, 1);
    let room = async { while one.call(&request).await.is_err() {} };
    tokio::select! {
        () = room => {}
        _ = answer(&mut clock) => panic!("the wait went on"),
    }
}

/// The first of some futures to end, with its place.
async fn first<F: Future + Unpin>(mut futures: Vec<F>) -> (usize, F::Output) {
    std::future::poll_fn(|context| {
        for (at, future) in futures.iter_mut().enumerate() {
            if let std::task::Poll::Ready(output) = std::pin::Pin::new(future).poll(context) {
                return std::task::Poll::Ready((at, output));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

#[tokio::test]
async fn nobody_waits_for_what_it_may_not_read() {
    let mut rig = Rig::start(undisturbed());
    let one = rig.join(&Device::new(1)).await;
    let two = rig.join(&Device::new(2)).await;
    one.create_channel(CHANNEL).await;
    for channel in [CHANNEL, ChannelId([9; 16])] {
        let refused = two.call(&wait(channel, 0, LONG)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ChannelNotFound);
    }
}
