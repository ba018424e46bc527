//! Whole connections: what binds them, how they end, and the bounds they keep.

use std::net::{Ipv6Addr, SocketAddr};

use qpc_transport::{ClientLimits, CloseReason, Limits, Listener, TransportError, connect};
use rustls::NamedGroup;

use crate::raw;
use crate::support::{
    assert_same, both_kinds, cancelled, identity, listen, now_ms, over_quic, reply, url,
};

#[tokio::test]
async fn both_ends_know_the_same_binding_and_no_two_connections_share_one() {
    let identity = identity();
    let (listener, url) = listen(&identity, Limits::default());
    let (client, server) = over_quic(&listener, &url).await;
    assert_eq!(client.binding(), server.binding());
    assert_eq!(client.binding().fingerprint, identity.fingerprint());
    assert_ne!(client.binding().exporter, [0; 32]);

    let (other, _server) = over_quic(&listener, &url).await;
    assert_ne!(client.binding().exporter, other.binding().exporter);
}

#[tokio::test]
async fn a_client_of_the_hybrid_key_exchange_alone_connects() {
    let (listener, url) = listen(&identity(), Limits::default());
    for group in [NamedGroup::X25519MLKEM768, NamedGroup::X25519] {
        let (_endpoint, connecting) = raw::dial(&url, &[b"qpc"], Some(group));
        let (client, server) =
            tokio::join!(connecting, async { listener.accept().await.unwrap().establish().await });
        client.unwrap();
        server.unwrap();
    }
}

#[tokio::test]
async fn our_client_offers_the_hybrid_key_exchange() {
    let identity = identity();
    let dir = tempfile::tempdir().unwrap();
    identity.save(dir.path()).unwrap();
    let read = |name| std::fs::read(dir.path().join(name)).unwrap();
    let (certificate, key) = (read("tls.crt"), read("tls.key"));
    let group = Some(NamedGroup::X25519MLKEM768);
    let server = raw::serve((&certificate, &key), b"qpc", group);
    let url = url(server.local_addr().unwrap(), &identity);
    let limits = ClientLimits::default();
    let (client, server) =
        tokio::join!(connect(&url, &limits), async { server.accept().await.unwrap().await });
    client.unwrap();
    server.unwrap();
}

#[tokio::test]
async fn an_application_close_reaches_both_ends() {
    for (client, server) in both_kinds().await {
        server.close(7, "enough");
        let reason = CloseReason::Peer { code: 7, reason: "enough".to_owned() };
        assert_eq!(client.closed().await, reason);
        assert_eq!(server.closed().await, CloseReason::Local);
        assert!(client.accept_stream().await.unwrap().is_none());
        assert!(server.accept_stream().await.unwrap().is_none());
        let opened = client.open_stream().await.unwrap_err();
        assert!(matches!(opened, TransportError::Closed(found) if found == reason));
        // The first close counts.
        client.close(8, "late");
        assert_eq!(client.closed().await, reason);
        client.wait_idle().await;
    }
}

#[tokio::test]
async fn a_dropped_connection_ends_in_order() {
    for (client, server) in both_kinds().await {
        let (mut send, receive) = client.open_stream().await.unwrap();
        send.send(&reply(10, 1)).await.unwrap();
        let stream = server.accept_stream().await.unwrap();
        drop(client);
        // Its streams keep it alive.
        assert!(cancelled(server.closed()).await.is_none());
        drop((send, receive));
        let CloseReason::Peer { code, .. } = server.closed().await else {
            panic!("by the peer");
        };
        assert_eq!(code, 0);
        drop(stream);
    }
}

#[tokio::test]
async fn case_012_stalled_readers_bound_what_a_connection_holds() {
    const STREAMS: usize = 8;
    let limits =
        Limits { stream_window: 32 * 1024, receive_window: 64 * 1024, ..Limits::default() };
    let limits = Limits { streams: 8, ..limits };
    let (listener, url) = listen(&identity(), limits);
    let (_endpoint, connecting) = raw::dial(&url, &[b"qpc"], None);
    let (client, server) =
        tokio::join!(connecting, async { listener.accept().await.unwrap().establish().await });
    let (client, server) = (client.unwrap(), server.unwrap());
    let mut streams = Vec::new();
    let mut taken = 0;
    for _ in 0..STREAMS {
        let (mut send, receive) = client.open_bi().await.unwrap();
        // A write gives `Pending` once a window of the peer is full.
        while let Some(written) = cancelled(send.write(&[0; 4096])).await {
            taken += written.unwrap();
        }
        streams.push((send, receive));
    }
    assert_eq!(taken, 64 * 1024);
    // Reading opens the window again, so it was the window.
    let (_reply, mut requests) = server.accept_stream().await.unwrap().unwrap();
    assert!(requests.next().await.is_err(), "zeros are no frame");
    drop(requests);
    let (send, _receive) = &mut streams[STREAMS - 1];
    assert!(send.write(&[0; 1]).await.is_ok());
}

#[tokio::test]
async fn a_client_may_open_so_many_streams_and_no_unidirectional_one() {
    let limits = Limits { streams: 2, ..Limits::default() };
    let (listener, url) = listen(&identity(), limits);
    let (client, server) = over_quic(&listener, &url).await;
    let first = client.open_stream().await.unwrap();
    let second = client.open_stream().await.unwrap();
    assert!(cancelled(client.open_stream()).await.is_none());
    let opened = cancelled(server.open_stream()).await;
    assert!(opened.is_none(), "servers open none");
    server.allow_streams(3);
    let third = client.open_stream().await.unwrap();
    assert!(cancelled(client.open_stream()).await.is_none());

    let (_endpoint, connecting) = raw::dial(&url, &[b"qpc"], None);
    let (raw, taken) =
        tokio::join!(connecting, async { listener.accept().await.unwrap().establish().await });
    assert!(cancelled(raw.unwrap().open_uni()).await.is_none());
    drop((first, second, third, taken));
}

#[tokio::test]
async fn an_address_is_proved_by_retry() {
    let (listener, url) = listen(&identity(), Limits::default());
    let limits = ClientLimits::default();
    let (client, server) = tokio::join!(connect(&url, &limits), async {
        let incoming = listener.accept().await.unwrap();
        assert!(!incoming.is_validated());
        assert!(incoming.retry().is_none());
        let incoming = listener.accept().await.unwrap();
        assert!(incoming.is_validated());
        incoming.retry().expect("it is proved").establish().await
    });
    assert_eq!(client.unwrap().binding(), server.unwrap().binding());
}

#[tokio::test]
async fn case_028_a_renewed_certificate_drops_no_connection() {
    let identity = identity();
    let (listener, url) = listen(&identity, Limits::default());
    let (client, server) = over_quic(&listener, &url).await;
    listener.set_identity(&identity.renew(&["other".to_owned()], now_ms()).unwrap()).unwrap();
    let (fresh, _fresh_server) = over_quic(&listener, &url).await;
    assert_eq!(fresh.binding().fingerprint, client.binding().fingerprint);

    let (mut send, _receive) = client.open_stream().await.unwrap();
    send.send(&reply(10, 1)).await.unwrap();
    let (_send, mut receive) = server.accept_stream().await.unwrap().unwrap();
    assert_same(receive.next().await.unwrap(), &reply(10, 1));
}

#[tokio::test]
async fn a_closed_listener_ends_its_connections_and_goes_idle() {
    let (listener, url) = listen(&identity(), Limits::default());
    let (client, _server) = over_quic(&listener, &url).await;
    assert_eq!(listener.open_connections(), 1);
    listener.close(3, "stopping");
    assert!(listener.accept().await.is_none());
    let reason = "stopping".to_owned();
    assert_eq!(client.closed().await, CloseReason::Peer { code: 3, reason });
    drop(client);
    listener.wait_idle().await;
    assert_eq!(listener.open_connections(), 0);
}

#[tokio::test]
async fn ipv6_serves_too() {
    let identity = identity();
    let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if std::net::UdpSocket::bind(any).is_err() {
        return; // This machine has no IPv6.
    }
    let listener = Listener::bind(any, &identity, Limits::default()).unwrap();
    let url = url(listener.local_addr().unwrap(), &identity);
    let (client, server) = over_quic(&listener, &url.to_string().parse().unwrap()).await;
    assert!(server.remote_address().is_ipv6());
    assert_eq!(client.binding(), server.binding());
}

#[tokio::test]
async fn a_name_is_resolved() {
    let (listener, url) = listen(&identity(), Limits::default());
    let named = qpc_transport::ServerUrl { host: "localhost".to_owned(), ..url };
    let limits = ClientLimits::default();
    // Its first address may be that of IPv6, where nobody listens: the next one is tried.
    let limits = ClientLimits { connect_timeout: std::time::Duration::from_secs(2), ..limits };
    let (client, server) = tokio::join!(connect(&named, &limits), async {
        listener.accept().await.unwrap().establish().await
    });
    assert_eq!(client.unwrap().binding(), server.unwrap().binding());
}

/// A listener that takes one connection; dropping the runtime ends it as a crash does, with no
/// word.
fn life(identity: &qpc_transport::ServerIdentity, address: SocketAddr) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (identity, serving) = (identity.clone(), runtime.handle().clone());
    let listener = {
        let _inside = serving.enter();
        Listener::bind(address, &identity, Limits::default()).unwrap()
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_on(
        async move {
            let connection = listener.accept().await.unwrap().establish().await.unwrap();
            std::future::pending::<()>().await;
            drop((connection, listener));
        },
        &serving,
    );
    tasks.detach_all();
    runtime
}

#[tokio::test]
async fn a_server_that_comes_back_ends_the_connections_of_its_past_life() {
    let identity = identity();
    let address = {
        let free = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        free.local_addr().unwrap()
    };
    let first_life = life(&identity, address);
    let limits = ClientLimits {
        idle_timeout: std::time::Duration::from_secs(10),
        ..ClientLimits::default()
    };
    let client = connect(&url(address, &identity), &limits).await.unwrap();
    tokio::task::spawn_blocking(|| drop(first_life)).await.unwrap();
    let _second_life = Listener::bind(address, &identity, Limits::default()).unwrap();
    let (mut send, _receive) = client.open_stream().await.unwrap();
    send.send(&reply(10, 1)).await.unwrap();
    assert!(matches!(client.closed().await, CloseReason::Lost(_)), "it waited for the timeout");
}
