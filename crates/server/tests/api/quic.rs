//! Over real QUIC: how many are let in, and stopping in order with everybody told.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use qpc_proto::message::Request;
use qpc_proto::{ChannelId, ErrorCode, Token};
use qpc_server::Limits;
use qpc_transport::{ClientLimits, CloseReason, Listener, ServerIdentity, ServerUrl, connect};
use tokio::sync::oneshot;

use crate::support::{Client, Device, Rig, enqueue, store};

const CHANNEL: ChannelId = ChannelId([5; 16]);

/// A listener on loopback and where it is. The client compares the certificate with the system's
/// clock, so it counts from there.
fn listen() -> (Listener, ServerUrl) {
    let now_ms = qpc_server::clock::system()();
    let identity = ServerIdentity::generate(&["localhost".to_owned()], now_ms).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(any, &identity, qpc_transport::Limits::default()).unwrap();
    let url = ServerUrl {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        fingerprint: identity.fingerprint(),
        invite: None,
    };
    (listener, url)
}

#[tokio::test]
async fn case_019_above_the_cap_new_connections_are_refused_and_old_ones_work() {
    let rig = Rig::start(Limits { connections_max: 3, ..Limits::default() });
    let (listener, url) = listen();
    let client = async {
        let mut held = Vec::new();
        // The third has to show its address first.
        for _ in 0..3 {
            let connection = connect(&url, &ClientLimits::default()).await.unwrap();
            held.push(Client { connection });
        }
        assert!(connect(&url, &ClientLimits::default()).await.is_err());
        for client in held {
            client.call(&Token::NONE, &Request::ServerInfo).await.unwrap();
        }
    };
    tokio::select! {
        () = rig.server.serve(&listener, std::future::pending()) => unreachable!(),
        () = client => {}
    }
    rig.server.stop().await.unwrap();
}

/// Whether a client may open another stream now.
async fn may_open(client: &Client) -> bool {
    tokio::select! {
        biased;
        opened = client.connection.open_stream() => opened.is_ok(),
        () = std::future::ready(()) => false,
    }
}

#[tokio::test]
async fn who_uses_its_streams_is_allowed_more_but_no_more_than_64() {
    let rig = Rig::start(Limits::default());
    let (listener, url) = listen();
    let client = async {
        let connection = connect(&url, &ClientLimits::default()).await.unwrap();
        let client = Client { connection };
        let device = Device::new(1);
        client.register(&device).await.unwrap();
        let one = client.log_in(&device).await;
        let mut held = Vec::new();
        while held.len() < 64 {
            let mut stream = one.client.stream().await;
            stream.sender.send(&one.frame(&Request::ServerInfo)).await.unwrap();
            assert!(stream.next().await.is_some());
            held.push(stream);
        }
        assert!(!may_open(&one.client).await);
        // What the server has to say about streams came before this answer.
        held[0].sender.send(&one.frame(&Request::ServerInfo)).await.unwrap();
        assert!(held[0].next().await.is_some());
        assert!(!may_open(&one.client).await);
    };
    tokio::select! {
        () = rig.server.serve(&listener, std::future::pending()) => unreachable!(),
        () = client => {}
    }
    rig.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_188_a_stop_ends_subscriptions_and_connections_with_their_reason() {
    let rig = Rig::start(Limits { grace: Duration::from_secs(30), ..Limits::default() });
    let (listener, url) = listen();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = rig.server.serve(&listener, async {
        drop(stopped.await);
    });
    let client = async {
        let connection = connect(&url, &ClientLimits::default()).await.unwrap();
        let client = Client { connection };
        let device = Device::new(1);
        client.register(&device).await.unwrap();
        let one = client.log_in(&device).await;
        one.create_channel(CHANNEL).await;
        let (mut stream, _) = one.subscribe(CHANNEL).await;
        let mut sends = one.client.stream().await;
        let frames: Vec<_> = (0..50).map(|n| one.frame(&enqueue(CHANNEL, n))).collect();
        sends.sender.send_all(&frames).await.unwrap();
        // The first answer shows that requests are in flight.
        assert!(sends.next().await.is_some());
        drop(stop);
        let mut answered = 1;
        while let Ok(Some(_)) = sends.receiver.next().await {
            answered += 1;
        }
        let refused = loop {
            if let Err(refused) = stream.page().await {
                break refused;
            }
        };
        assert_eq!(refused.code, ErrorCode::ShuttingDown);
        assert!(refused.retry_after_ms.is_some());
        let CloseReason::Peer { code, .. } = one.client.connection.closed().await else {
            panic!("closed by the server")
        };
        assert_eq!(code, u32::from(ErrorCode::ShuttingDown.as_u16()));
        answered
    };
    let ((), answered) = tokio::join!(serving, client);
    rig.server.stop().await.unwrap();
    // Whatever was answered is in the file that the next server opens.
    let mut reader = store(rig.dir.path()).reader().unwrap();
    let stored: i64 = reader
        .read(|tx| tx.query_row("SELECT count(*) FROM log WHERE kind = 1", [], |row| row.get(0)))
        .unwrap();
    assert!(stored >= answered, "{answered} answered, {stored} stored");
}
