//! The disk of a server that serves: it deletes what nobody needs and gives the room back; a read
//! that fails costs an answer.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use qpc_faultvfs::{Fault, FaultVfs, Op, Plan};
use qpc_proto::message::{Cursor, Request, Response};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode, ErrorDetail};
use qpc_server::Limits;
use qpc_transport::{Listener, ServerIdentity};

use crate::support::{Device, LoggedIn, Rig, START_MS, enqueue_of, fetch};

const CHANNEL: ChannelId = ChannelId([5; 16]);
const MESSAGES: u8 = 100;
const LARGE: usize = 40 * 1_024;
/// How often it is asked whether all has gone.
const LOOKS_MAX: u32 = 4_000;
const MIB: u64 = 1_024 * 1_024;

/// The first entry that is left, where a front has gone.
async fn first_left(one: &LoggedIn) -> Option<u64> {
    match one.call(&fetch(CHANNEL)).await {
        Ok(_) => None,
        Err(ErrorBody { detail: Some(ErrorDetail::Expired(range)), .. }) => {
            Some(range.first_available)
        }
        Err(refused) => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn a_running_server_trims_what_all_have_read_and_gives_the_disk_back() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    for number in 0..MESSAGES {
        one.call(&enqueue_of(CHANNEL, number, LARGE)).await.unwrap();
    }
    let behind = u64::from(MESSAGES) + 2;
    let read = vec![Cursor { channel: CHANNEL, seq: behind - 1 }];
    assert!(matches!(one.call(&Request::Ack(read)).await, Ok(Response::Done)));
    // Whoever lists channels has what was acknowledged written.
    one.call(&Request::ListChannels).await.unwrap();
    assert_eq!(first_left(&one).await, None);
    let file = rig.dir.path().join("server.db");
    let size = || fs::metadata(&file).unwrap().len();
    let identity = ServerIdentity::generate(&["localhost".to_owned()], START_MS).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(any, &identity, qpc_transport::Limits::default()).unwrap();
    let trimmed = async {
        for _ in 0..LOOKS_MAX {
            // The pages of the last step at most are not counted there yet.
            let free = rig.server.metrics().contains("\nqpc_free_pages 0\n");
            if first_left(&one).await == Some(behind) && free {
                return;
            }
        }
        panic!("something is left");
    };
    tokio::select! {
        () = rig.server.serve(&listener, std::future::pending()) => panic!("it serves on"),
        () = trimmed => {}
    }
    assert_eq!(one.enqueue(CHANNEL, MESSAGES).await.seq, behind);
    drop(one);
    let rig = rig.restart().await;
    assert!(size() < 2 * MIB, "{} bytes of {MESSAGES} messages of {LARGE} were left", size());
    drop(rig);
}

#[tokio::test]
async fn case_167_a_read_that_fails_costs_its_answer_and_nothing_else() {
    let vfs = FaultVfs::register().unwrap();
    let mut rig = Rig::start_on(&vfs);
    let one = rig.join(&Device::new(1)).await;
    one.create_channel(CHANNEL).await;
    for number in 1..=3 {
        one.enqueue(CHANNEL, number).await;
        // What was just written is in no reader's cache.
        vfs.set(Plan::from(Op::Read, 0, Fault::Io));
        let before = vfs.hits();
        let refused = one.call(&fetch(CHANNEL)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Internal);
        assert_ne!(refused.correlation_id, [0; 16]);
        assert!(vfs.hits() > before);
        vfs.heal();
        assert_eq!(one.seqs(CHANNEL).await, (1..=u64::from(number) + 1).collect::<Vec<_>>());
    }
}
