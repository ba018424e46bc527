//! Channels that end: by a reset, whose followers hear of it, and with a server that is restored.

use std::path::Path;

use qpc_credential::{Certificate, Statement, StatementBody};
use qpc_proto::message::{
    Enqueue, EnqueueAnswer, Request, Response, Statement as StatementRequest,
};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode, ErrorDetail, MessageId};
use qpc_server::{Limits, Node, Policy};
use qpc_storage::Store;
use rand_core::OsRng;

use crate::support::{Device, LoggedIn, Rig, create_channel, enqueue, options, seqs, store};

const CHANNEL: ChannelId = ChannelId([5; 16]);
const NEXT: ChannelId = ChannelId([6; 16]);

fn say(device: &Device, body: StatementBody) -> bytes::Bytes {
    let statement = Statement {
        channel: CHANNEL,
        certificate: Certificate::verify(&device.certificate()).unwrap(),
        issued_at_ms: 1,
        body,
    };
    statement.sign(|tbs| device.sign(tbs))
}

/// Makes the successor of the channel, alone in it.
fn resetting(device: &Device) -> Request {
    let Request::CreateChannel(mut create) = create_channel(NEXT) else { panic!("another") };
    create.bundle.message_id = MessageId([201; 16]);
    create.reset = Some(say(device, StatementBody::Reset(NEXT)));
    Request::CreateChannel(create)
}

/// Why a message, a Commit and a statement are refused.
async fn refusals(device: &Device, one: &LoggedIn) -> Vec<ErrorBody> {
    let refused = match one.call(&enqueue(CHANNEL, 99)).await.unwrap() {
        Response::Enqueued(EnqueueAnswer { refusal: Some(refusal), .. }) => refusal,
        other => panic!("{other:?}"),
    };
    let Request::CreateChannel(create) = create_channel(CHANNEL) else { panic!("another") };
    let mut bundle = create.bundle;
    (bundle.message_id, bundle.after_commit) = (MessageId([98; 16]), 1);
    let commit = qpc_proto::message::CommitRequest { channel: CHANNEL, bundle };
    let statement = say(device, StatementBody::Leave);
    let statement = StatementRequest { channel: CHANNEL, statement };
    let publish = qpc_proto::message::Publish { channel: CHANNEL, payload: vec![1].into() };
    let mut all = vec![refused];
    for request in
        [Request::Commit(commit), Request::Statement(statement), Request::Publish(publish)]
    {
        all.push(one.call(&request).await.unwrap_err());
    }
    all
}

#[tokio::test]
async fn who_follows_a_channel_reads_its_end_and_is_told_where_it_goes_on() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let two = rig.connect().log_in(&device).await;
    one.create_channel(CHANNEL).await;
    let (mut stream, first) = two.subscribe(CHANNEL).await;
    assert_eq!(seqs(&first), [1]);
    one.call(&resetting(&device)).await.unwrap();
    let page = stream.page().await.unwrap();
    assert_eq!(seqs(&page), [2]);
    assert_eq!(page.entries[0].payload, say(&device, StatementBody::Reset(NEXT)));
    for body in refusals(&device, &one).await {
        assert_eq!((body.code, body.code.retryable()), (ErrorCode::ChannelClosed, false));
        assert_eq!(body.detail, Some(ErrorDetail::Channel(NEXT)));
    }
    // A retry of the reset, and what is written into the successor.
    one.call(&resetting(&device)).await.unwrap();
    one.enqueue(NEXT, 1).await;
    assert_eq!((one.seqs(CHANNEL).await, one.seqs(NEXT).await), (vec![1, 2], vec![1, 2]));
    // It has ended for good.
    let mut rig = rig.restart().await;
    let one = rig.connect().log_in(&device).await;
    for body in refusals(&device, &one).await {
        assert_eq!(body.detail, Some(ErrorDetail::Channel(NEXT)));
    }
}

/// As a restored server begins: another incarnation over what the copy holds.
fn another_life(dir: &Path) -> Store {
    store(dir).reader().unwrap().copy_to(&dir.join("backup.db")).unwrap();
    for name in ["server.db", "server.db-wal", "server.db-shm"] {
        drop(std::fs::remove_file(dir.join(name)));
    }
    qpc_storage::restore(&dir.join("backup.db"), &dir.join("server.db"), &options()).unwrap();
    let mut store = store(dir);
    Node::restored(&mut store, Policy::default(), &mut OsRng).unwrap();
    store
}

#[tokio::test]
async fn case_097_channels_of_a_restored_server_go_on_as_others_alone() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    one.create_channel(CHANNEL).await;
    let kept = one.enqueue(CHANNEL, 1).await;
    let mut rig = rig.restart_with(another_life).await;
    let one = rig.connect().log_in(&device).await;
    for body in refusals(&device, &one).await {
        assert_eq!((body.code, body.detail), (ErrorCode::ChannelClosed, None));
    }
    // Read, and answered again, as it was.
    assert_eq!(one.seqs(CHANNEL).await, [1, 2]);
    let Request::Enqueue(Enqueue { entries, .. }) = enqueue(CHANNEL, 1) else { panic!("another") };
    let again = Request::Enqueue(Enqueue { channel: CHANNEL, entries });
    match one.call(&again).await.unwrap() {
        Response::Enqueued(answer) => assert_eq!(answer.accepted[0].head, kept.head),
        other => panic!("{other:?}"),
    }
    one.call(&resetting(&device)).await.unwrap();
    one.enqueue(NEXT, 1).await;
    for body in refusals(&device, &one).await {
        assert_eq!(body.detail, Some(ErrorDetail::Channel(NEXT)));
    }
    // A channel of this life takes what it is given.
    let other = ChannelId([7; 16]);
    one.create_channel(other).await;
    one.enqueue(other, 1).await;
}
