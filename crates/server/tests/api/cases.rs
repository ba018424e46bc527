//! What the Delivery Service promises, seen from its clients: strangers, retries, breaks, fairness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use qpc_proto::message::{
    ChannelState, CommitRequest, Cursor, Fetch, FetchWait, Method, Publish, Request, Response,
    Statement, inbox_channel,
};
use qpc_proto::{ChannelId, DeviceId, ErrorBody, ErrorCode, limits};
use qpc_server::Limits;
use tokio::task::JoinSet;

use crate::greed::begins;
use crate::support::{
    Device, LoggedIn, Rig, Stream, create_channel, enqueue, enqueue_of, fetch, read, seqs,
};

const CHANNEL: ChannelId = ChannelId([5; 16]);
const DELIVERY: &str = include_str!("../../../../proto/qpc/v1/delivery.proto");
const AUTH: &str = include_str!("../../../../proto/qpc/v1/auth.proto");
const COMMON: &str = include_str!("../../../../proto/qpc/v1/common.proto");

/// Fields of the messages in a `.proto` file: message, type and name.
fn proto_fields(text: &str) -> Vec<(String, String, String)> {
    let mut message = String::new();
    let mut fields = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("message ") {
            message = rest.split([' ', '{']).next().unwrap().to_owned();
        }
        let Some((declared, number)) = line.split_once(" = ") else { continue };
        let number = number.trim_end_matches(';');
        let words: Vec<_> = declared.split_whitespace().collect();
        if let [.., kind, name] = words.as_slice()
            && number.parse::<u32>().is_ok()
            && !line.starts_with("//")
        {
            fields.push((message.clone(), (*kind).to_owned(), (*name).to_owned()));
        }
    }
    fields
}

/// A request of each method that names a channel, as somebody would ask who knows the id alone.
fn probes(channel: ChannelId) -> BTreeMap<&'static str, Request> {
    let fetch = Fetch { channel, after_seq: 0, bytes_max: 0 };
    let cursors = vec![Cursor { channel, seq: 1 }];
    let Request::CreateChannel(create) = create_channel(channel) else { panic!("a channel") };
    let payload = Bytes::from_static(b"typing");
    let requests = [
        enqueue(channel, 1),
        Request::Commit(CommitRequest { channel, bundle: create.bundle }),
        Request::Statement(Statement { channel, statement: Bytes::from_static(b"I leave") }),
        Request::Fetch(fetch),
        Request::FetchWait(FetchWait { fetch, wait_ms: limits::WAIT_MS_MAX }),
        Request::Subscribe(cursors.clone()),
        Request::Ack(cursors),
        Request::Publish(Publish { channel, payload }),
    ];
    requests.into_iter().map(|request| (request.method().as_str(), request)).collect()
}

/// What a stranger is told, without what names the single event. An `Ack` is taken on trust: it is
/// noted for the device alone, whatever it names.
fn told(name: &str, answer: Result<Response, ErrorBody>) -> Option<ErrorBody> {
    let granted = matches!(answer, Ok(Response::Done)) && name == "Ack";
    if granted {
        return None;
    }
    let mut body = answer.unwrap_err();
    assert_eq!(body.code, ErrorCode::ChannelNotFound, "{name}");
    assert_ne!(body.correlation_id, [0; 16]);
    body.correlation_id = [0; 16];
    Some(body)
}

#[test]
fn case_126_every_method_that_names_a_channel_is_put_to_the_test() {
    let fields = proto_fields(DELIVERY).into_iter().chain(proto_fields(AUTH));
    let naming = fields.filter(|(_, _, name)| name == "channel_id" || name == "cursors");
    let asking =
        naming.filter_map(|(message, ..)| Some(message.strip_suffix("Request")?.to_owned()));
    let mut methods: BTreeSet<String> = asking.collect();
    // Whoever makes a channel chooses its id: 16 random bytes that nobody else can meet.
    assert!(methods.remove("CreateChannel"));
    let tested: BTreeSet<String> = probes(CHANNEL).into_keys().map(str::to_owned).collect();
    assert_eq!(tested, methods);
}

#[tokio::test]
async fn case_126_to_a_stranger_a_channel_looks_as_if_it_did_not_exist() {
    let mut rig = Rig::start(Limits::default());
    let member = rig.join(&Device::new(1)).await;
    let stranger = rig.join(&Device::new(2)).await;
    member.create_channel(CHANNEL).await;
    member.enqueue(CHANNEL, 1).await;
    let nowhere = ChannelId([6; 16]);
    let inbox = inbox_channel(&DeviceId([1; 16]));
    let missing = probes(nowhere);
    for channel in [CHANNEL, inbox] {
        for (name, request) in probes(channel) {
            let there = told(name, stranger.call(&request).await);
            assert_eq!(there, told(name, stranger.call(&missing[name]).await), "{name}");
        }
    }
    assert_eq!(member.seqs(CHANNEL).await, [1, 2], "and nothing came of it");
    assert_eq!(acked(&member).await, 0);
    assert_eq!(channels(&stranger).await.len(), 1, "the stranger's own inbox");
}

async fn channels(one: &LoggedIn) -> Vec<ChannelState> {
    match one.call(&Request::ListChannels).await.unwrap() {
        Response::Channels(states) => states,
        other => panic!("{other:?}"),
    }
}

async fn acked(one: &LoggedIn) -> u64 {
    channels(one).await.into_iter().find(|state| state.channel == CHANNEL).unwrap().acked_seq
}

#[tokio::test]
async fn case_141_an_answer_that_was_lost_is_given_again_on_another_connection() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let witness = rig.join(&device).await;
    let Request::CreateChannel(create) = create_channel(CHANNEL) else { panic!("a channel") };
    for (request, seq) in [(create_channel(CHANNEL), 1), (enqueue(CHANNEL, 1), 2)] {
        // Sent and stored, and the connection dies before the answer is read.
        let dying = rig.connect().log_in(&device).await;
        let mut stream = dying.client.stream().await;
        stream.sender.send(&dying.frame(&request)).await.unwrap();
        while witness.call(&fetch(CHANNEL)).await.is_err()
            || witness.seqs(CHANNEL).await.last() != Some(&seq)
        {}
        drop((stream, dying));
        let again = rig.connect().log_in(&device).await;
        let place = |answer| match answer {
            Response::Accepted(accepted) => accepted,
            Response::Enqueued(answer) => answer.accepted[0],
            other => panic!("{other:?}"),
        };
        let first = place(again.call(&request).await.unwrap());
        assert_eq!(first.seq, seq);
        let third = place(witness.call(&request).await.unwrap());
        assert_eq!((third.seq, third.head), (seq, first.head));
        let page = match witness.call(&fetch(CHANNEL)).await.unwrap() {
            Response::Page(page) => page,
            other => panic!("{other:?}"),
        };
        let entry = page.entries.last().unwrap();
        assert_eq!((entry.seq, entry.head), (seq, first.head));
        assert_eq!(entry.accepted_at_ms, first.accepted_at_ms);
    }
    // A first Commit that is sent as a Commit is the same entry, not a second one.
    let commit = Request::Commit(CommitRequest { channel: CHANNEL, bundle: create.bundle });
    match witness.call(&commit).await.unwrap() {
        Response::Accepted(accepted) => assert!(accepted.duplicate && accepted.seq == 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(witness.seqs(CHANNEL).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_142_a_hundred_parallel_sends_are_numbered_without_gap_or_repeat() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let other = Device::new(2);
    let founder = Arc::new(rig.join(&device).await);
    let member = Arc::new(rig.join(&other).await);
    crate::members::pair(CHANNEL, &founder, (&other, &member)).await;
    let elsewhere = Arc::new(rig.connect().log_in(&device).await);
    let mut sends = JoinSet::new();
    for n in 0..100 {
        let sender = match n % 3 {
            0 => Arc::clone(&founder),
            1 => Arc::clone(&member),
            _ => Arc::clone(&elsewhere),
        };
        sends.spawn(async move { sender.enqueue(CHANNEL, n).await });
    }
    let mut accepted = sends.join_all().await;
    accepted.sort_by_key(|accepted| accepted.seq);
    assert!(accepted.iter().all(|accepted| !accepted.duplicate));
    assert!(accepted.iter().map(|accepted| accepted.seq).eq(2..=101));
    for reader in [&founder, &member] {
        let page = match reader.call(&fetch(CHANNEL)).await.unwrap() {
            Response::Page(page) => page,
            other => panic!("{other:?}"),
        };
        let heads = page.entries[1..].iter().map(|entry| entry.head);
        assert!(heads.eq(accepted.iter().map(|accepted| accepted.head)));
    }
}

/// Follows channels from these cursors on.
async fn follow(one: &LoggedIn, cursors: Vec<Cursor>) -> Stream {
    let mut stream = one.client.stream().await;
    stream.sender.send(&one.frame(&Request::Subscribe(cursors))).await.unwrap();
    stream
}

#[tokio::test]
async fn case_148_what_was_on_its_way_when_a_connection_died_comes_again_until_it_is_acked() {
    let mut rig = Rig::start(Limits::default());
    let (device, other) = (Device::new(1), Device::new(2));
    let writer = rig.join(&device).await;
    let slow = rig.join(&other).await;
    crate::members::pair(CHANNEL, &writer, (&other, &slow)).await;
    for n in 0..4 {
        // More than the way to a client holds, and a page each.
        writer.call(&enqueue_of(CHANNEL, n, 700 * 1_024)).await.unwrap();
    }
    let cursor = |seq| vec![Cursor { channel: CHANNEL, seq }];
    for _ in 0..3 {
        let reader = rig.connect().log_in(&other).await;
        assert_eq!(acked(&reader).await, 0);
        let mut stream = follow(&reader, cursor(0)).await;
        assert_eq!(seqs(&stream.page().await.unwrap()), [1, 2]);
        // The next page has begun to come, and nothing was acked.
        while !begins(&mut stream) {
            writer.call(&Request::ListChannels).await.unwrap();
        }
    }
    // What the other device has read does not count for this one.
    writer.call(&Request::Ack(cursor(5))).await.unwrap();
    let reader = rig.connect().log_in(&other).await;
    reader.call(&Request::Ack(cursor(2))).await.unwrap();
    drop(reader);
    let reader = rig.connect().log_in(&other).await;
    let from = acked(&reader).await;
    assert_eq!(from, 2);
    let mut stream = follow(&reader, cursor(from)).await;
    for seq in 3..=5 {
        assert_eq!(seqs(&stream.page().await.unwrap()), [seq]);
    }
}

#[tokio::test]
async fn case_162_a_subscriber_who_does_not_read_loses_nothing_of_many_channels() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let writer = rig.connect().log_in(&device).await;
    let channels: Vec<_> = (1..=40).map(|n| ChannelId([n; 16])).collect();
    for channel in &channels {
        writer.create_channel(*channel).await;
    }
    let cursors = channels.iter().map(|channel| Cursor { channel: *channel, seq: 0 }).collect();
    let mut stream = follow(&one, cursors).await;
    let mut seen: BTreeMap<ChannelId, Vec<u64>> = BTreeMap::new();
    for _ in &channels {
        let page = stream.page().await.unwrap();
        seen.entry(page.channel).or_default().extend(seqs(&page));
    }
    // All of them grow at once, by more than the way to the client holds, and nobody reads.
    let rounds = 12;
    for n in 0..rounds {
        for channel in &channels {
            writer.call(&enqueue_of(*channel, n, 4 * 1_024)).await.unwrap();
        }
    }
    let mut pages = 0;
    let head = u64::from(rounds) + 1;
    while seen.values().any(|seqs| seqs.last() != Some(&head)) {
        let page = stream.page().await.unwrap();
        seen.entry(page.channel).or_default().extend(seqs(&page));
        pages += 1;
    }
    assert_eq!(seen.len(), channels.len());
    for (channel, seqs) in seen {
        assert!(seqs.into_iter().eq(1..=head), "{channel}");
    }
    // What waited was a mark a channel, not a page an entry.
    assert!(pages < channels.len() * usize::from(rounds) / 2, "{pages}");
}

#[test]
fn case_161_no_request_names_an_address_that_the_server_would_call() {
    let texts = [DELIVERY, AUTH, COMMON].map(proto_fields).concat();
    assert!(texts.len() > 80, "the contract is read");
    let telling = ["url", "uri", "host", "addr", "endpoint", "callback", "webhook", "push", "ip"];
    for (message, kind, name) in &texts {
        let words: Vec<_> = name.split('_').collect();
        let named = telling.iter().find(|word| words.iter().any(|part| part.starts_with(*word)));
        assert_eq!(named, None, "{message}.{name} of {kind}");
    }
    // Text is where an address would fit: every field of it is known.
    let strings = texts.iter().filter(|(_, kind, _)| kind == "string");
    let strings: BTreeSet<_> =
        strings.map(|(message, _, name)| format!("{message}.{name}")).collect();
    let known = ["Error.message", "LookupRequest.name", "RegisterRequest.name"];
    assert_eq!(strings, known.map(str::to_owned).into());
}

/// Names of all packages that one links, from the lock file; those of its own tests, too.
fn links(root: &str) -> BTreeSet<String> {
    let lock = include_str!("../../../../Cargo.lock");
    let packages: BTreeMap<&str, Vec<&str>> = lock
        .split("[[package]]")
        .skip(1)
        .map(|package| {
            let name = package.split('"').nth(1).unwrap();
            let all = package.split_once("dependencies = [").map_or("", |(_, rest)| rest);
            let all = all.split(']').next().unwrap().split('"').skip(1).step_by(2);
            (name, all.map(|dependency| dependency.split(' ').next().unwrap()).collect())
        })
        .collect();
    let mut linked = BTreeSet::new();
    let mut open = vec![root];
    while let Some(name) = open.pop() {
        if linked.insert(name.to_owned()) {
            open.extend(packages[name].iter().copied());
        }
    }
    linked
}

#[test]
fn case_161_the_server_links_nothing_that_calls_others() {
    let linked = links("qpc-server");
    assert!(linked.contains("quinn") && linked.len() > 100, "the lock file is read");
    let callers = ["reqwest", "hyper", "hyper-util", "h2", "ureq", "curl", "isahc", "attohttpc"];
    let more = ["minreq", "surf", "awc", "tonic", "lettre", "hickory-resolver", "socks"];
    for name in callers.iter().chain(&more) {
        assert!(!linked.contains(*name), "{name}");
    }
}

#[tokio::test]
async fn case_084_ten_thousand_in_one_upload_store_nothing() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    let upload = |count: usize| {
        let key_packages = vec![Bytes::from_static(b"x"); count];
        let last_resort = None;
        Request::UploadKeyPackages(qpc_proto::message::UploadKeyPackages {
            key_packages,
            last_resort,
        })
    };
    for (count, code) in [
        (limits::UPLOAD_KEY_PACKAGES_MAX + 1, ErrorCode::Quota),
        (limits::REQUEST_FIELDS_MAX, ErrorCode::Quota),
        (limits::REQUEST_FIELDS_MAX + 1, ErrorCode::InvalidArgument),
        (10_000, ErrorCode::InvalidArgument),
    ] {
        let refused = one.call(&upload(count)).await.unwrap_err();
        assert_eq!(refused.code, code, "{count}");
    }
    match one.call(&Request::KeyPackageStatus).await.unwrap() {
        Response::KeyPackageStatus(status) => assert_eq!(status.available, 0),
        other => panic!("{other:?}"),
    }
    let answer = one.client.exchange(one.frame(&Request::KeyPackageStatus)).await;
    assert!(read(Method::KeyPackageStatus, answer).is_ok());
}

#[tokio::test]
async fn case_158_a_chatty_channel_is_read_in_turn_with_the_others() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let writer = rig.connect().log_in(&device).await;
    let (chatty, quiet) = (ChannelId([1; 16]), ChannelId([2; 16]));
    for channel in [chatty, quiet] {
        writer.create_channel(channel).await;
    }
    let backlog = 20;
    for n in 0..backlog {
        // A page each.
        writer.call(&enqueue_of(chatty, n, 700 * 1_024)).await.unwrap();
    }
    let cursors = [chatty, quiet].map(|channel| Cursor { channel, seq: 1 });
    let mut stream = follow(&one, cursors.to_vec()).await;
    let mut order = Vec::new();
    for _ in 0..2 {
        order.push(stream.page().await.unwrap().channel);
    }
    assert_eq!(order, [chatty, quiet], "each gets its first page in turn");
    writer.enqueue(quiet, 1).await;
    let mut before = 0;
    loop {
        let page = stream.page().await.unwrap();
        if page.channel == quiet {
            assert_eq!(seqs(&page), [2]);
            break;
        }
        before += 1;
    }
    // One on its way, one read already, and one that was next.
    assert!(before <= 3, "{before} of {backlog} pages came before it");
}

#[tokio::test]
async fn case_154_an_entry_that_is_delivered_again_and_again_raises_an_alarm() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let writer = rig.join(&device).await;
    writer.create_channel(CHANNEL).await;
    let alarms = |rig: &Rig| rig.server.metrics().contains("qpc_redelivery_alarms_total 1");
    for round in 1..=7 {
        let reader = rig.connect().log_in(&device).await;
        let mut stream = follow(&reader, vec![Cursor { channel: CHANNEL, seq: 0 }]).await;
        assert_eq!(seqs(&stream.page().await.unwrap()), [1]);
        // The first delivery, and five again, are no alarm.
        assert_eq!(alarms(&rig), round > 6, "{round}");
    }
}
