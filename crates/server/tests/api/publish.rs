//! `Publish`: it reaches those who follow a channel and have all rights in it, and no disk.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use bytes::Bytes;
use qpc_proto::message::{Cursor, Page, Publish, Request, Response, inbox_channel};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode, limits};
use qpc_server::Limits;

use crate::members::{pair, remove};
use crate::support::{Device, LoggedIn, Rig, Stream, seqs};
use crate::wait::{wait, waiting};

const CHANNEL: ChannelId = ChannelId([5; 16]);
const OTHER: ChannelId = ChannelId([6; 16]);

fn publish(channel: ChannelId, payload: impl Into<Bytes>) -> Request {
    Request::Publish(Publish { channel, payload: payload.into() })
}

async fn say(one: &LoggedIn, channel: ChannelId, payload: &'static [u8]) {
    let answer = one.call(&publish(channel, payload)).await.unwrap();
    assert!(matches!(answer, Response::Done));
}

/// Two devices, each with an account of its own, and a group of them.
async fn two(rig: &mut Rig) -> ((Device, LoggedIn), (Device, LoggedIn)) {
    let (alice, bob) = (Device::new(1), Device::new(2));
    let (a, b) = (rig.join(&alice).await, rig.join(&bob).await);
    pair(CHANNEL, &a, (&bob, &b)).await;
    ((alice, a), (bob, b))
}

/// The next page with anything published in it; those before had entries alone.
async fn heard(stream: &mut Stream) -> Result<Page, ErrorBody> {
    loop {
        let page = stream.page().await?;
        if !page.published.is_empty() {
            assert_eq!(page.entries, []);
            return Ok(page);
        }
    }
}

/// The database's files, but for the one that readers only lock.
fn files(rig: &Rig) -> BTreeMap<String, Vec<u8>> {
    let named = fs::read_dir(rig.dir.path()).unwrap().map(|file| file.unwrap());
    named
        .map(|file| (file.file_name().into_string().unwrap(), file.path()))
        .filter(|(name, _)| !name.ends_with("-shm"))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

#[tokio::test]
async fn what_is_published_reaches_followers_and_no_disk() {
    let mut rig = Rig::start(Limits::default());
    let ((_, alice), (_, bob)) = two(&mut rig).await;
    let (mut stream, first) = bob.subscribe(CHANNEL).await;
    assert_eq!(seqs(&first), [1]);
    let before = files(&rig);
    assert!(before.contains_key("server.db"));
    say(&alice, CHANNEL, b"typing").await;
    let page = heard(&mut stream).await.unwrap();
    assert_eq!((page.channel, page.head_seq), (CHANNEL, 1));
    assert_eq!(page.published, [b"typing".as_slice()]);
    assert_eq!(files(&rig), before);
    assert_eq!(bob.seqs(CHANNEL).await, [1]);
    // The log goes on as if nothing had been.
    alice.enqueue(CHANNEL, 1).await;
    let page = stream.page().await.unwrap();
    assert_eq!((seqs(&page), page.published.len()), (vec![2], 0));
    assert_ne!(files(&rig), before, "what is stored shows");
}

#[tokio::test]
async fn who_may_not_publish_is_refused_as_ever() {
    let mut rig = Rig::start(Limits::default());
    let ((_, alice), (bob_device, bob)) = two(&mut rig).await;
    let stranger = rig.join(&Device::new(3)).await;
    let refused = async |one: &LoggedIn, channel| {
        let mut body = one.call(&publish(channel, b"x".as_slice())).await.unwrap_err();
        assert_ne!(std::mem::take(&mut body.correlation_id), [0; 16]);
        body
    };
    let unknown = refused(&stranger, OTHER).await;
    assert_eq!(unknown.code, ErrorCode::ChannelNotFound);
    assert_eq!(refused(&stranger, CHANNEL).await, unknown);
    assert_eq!(refused(&bob, inbox_channel(&bob_device.id.device)).await, unknown);
    remove(CHANNEL, &alice, &bob_device).await;
    assert_eq!(refused(&bob, CHANNEL).await.code, ErrorCode::NotMember);
}

#[tokio::test]
async fn a_removed_device_hears_nothing_any_more() {
    let mut rig = Rig::start(Limits::default());
    let ((_, alice), (bob_device, bob)) = two(&mut rig).await;
    pair(OTHER, &alice, (&bob_device, &bob)).await;
    let mut stream = bob.client.stream().await;
    let cursors = [CHANNEL, OTHER].map(|channel| Cursor { channel, seq: 0 });
    stream.sender.send(&bob.frame(&Request::Subscribe(cursors.into()))).await.unwrap();
    say(&alice, CHANNEL, b"before").await;
    assert_eq!(heard(&mut stream).await.unwrap().published, [b"before".as_slice()]);
    remove(CHANNEL, &alice, &bob_device).await;
    say(&alice, CHANNEL, b"after").await;
    // Its turn comes behind that of the removed channel.
    say(&alice, OTHER, b"elsewhere").await;
    let page = heard(&mut stream).await.unwrap();
    assert_eq!((page.channel, &page.published[..]), (OTHER, &[Bytes::from("elsewhere")][..]));
}

#[tokio::test]
async fn who_has_no_session_any_more_hears_nothing() {
    let recheck = Duration::from_secs(3_600);
    let mut rig = Rig::start(Limits { recheck, ..Limits::default() });
    let ((alice_device, _), (_, bob)) = two(&mut rig).await;
    let (mut stream, _) = bob.subscribe(CHANNEL).await;
    rig.pass(Duration::from_secs(15 * 60));
    let alice = rig.connect().log_in(&alice_device).await;
    say(&alice, CHANNEL, b"late").await;
    assert_eq!(heard(&mut stream).await.unwrap_err().code, ErrorCode::TokenExpired);
}

#[tokio::test]
async fn a_wait_gets_nothing_published() {
    let mut rig = Rig::start(Limits::default());
    let ((_, alice), (_, bob)) = two(&mut rig).await;
    let request = wait(CHANNEL, 1, limits::WAIT_MS_MAX);
    let mut stream = waiting(&bob, &bob, &request).await;
    say(&alice, CHANNEL, b"typing").await;
    alice.enqueue(CHANNEL, 1).await;
    let page = stream.page().await.unwrap();
    assert_eq!((seqs(&page), page.published.len()), (vec![2], 0));
}

#[tokio::test]
async fn a_publication_has_at_least_one_byte_and_at_most_4096() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    for (bytes, passes) in [(0, false), (1, true), (4_095, true), (4_096, true), (4_097, false)] {
        let answer = one.call(&publish(CHANNEL, vec![7; bytes])).await;
        let refused = answer.err().map(|body| body.code);
        assert_eq!(refused, (!passes).then_some(ErrorCode::InvalidArgument), "{bytes}");
    }
}

#[tokio::test]
async fn a_slow_follower_holds_nobody_up_and_loses_the_oldest() {
    let mut rig = Rig::start(Limits::default());
    let ((_, alice), (_, bob)) = two(&mut rig).await;
    let (mut stream, _) = bob.subscribe(CHANNEL).await;
    let numbered = |n: u32| publish(CHANNEL, [&n.to_be_bytes()[..], &[0; 4_000]].concat());
    let mut last = 0;
    // It takes nothing until something was left out.
    while rig.server.metrics().contains("qpc_published_left_out_total 0") {
        last += 1;
        assert!(last < 20_000, "somebody keeps all of it");
        alice.call(&numbered(last)).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let published = heard(&mut stream).await.unwrap().published;
        assert!(published.len() <= 32);
        seen.extend(published.iter().map(|p| u32::from_be_bytes(p[..4].try_into().unwrap())));
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!(seen.len() < usize::try_from(last).unwrap());
}
