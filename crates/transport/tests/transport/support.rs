//! Listeners, connections and frames that tests begin with.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use qpc_proto::binding::ChannelBinding;
use qpc_proto::frame::Frame;
use qpc_transport::{
    ClientLimits, Connection, Limits, Listener, ServerIdentity, ServerUrl, connect, memory,
};
use rustls::pki_types::UnixTime;

/// The time by which clients judge certificates.
pub(crate) fn now_ms() -> u64 {
    UnixTime::now().as_secs() * 1000
}

pub(crate) fn identity() -> ServerIdentity {
    ServerIdentity::generate(&["localhost".to_owned()], now_ms()).unwrap()
}

pub(crate) fn url(address: SocketAddr, identity: &ServerIdentity) -> ServerUrl {
    ServerUrl {
        host: address.ip().to_string(),
        port: address.port(),
        fingerprint: identity.fingerprint(),
        invite: None,
    }
}

pub(crate) fn listen(identity: &ServerIdentity, limits: Limits) -> (Listener, ServerUrl) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(any, identity, limits).unwrap();
    let url = url(listener.local_addr().unwrap(), identity);
    (listener, url)
}

/// Client's and server's end over a real socket.
pub(crate) async fn over_quic(listener: &Listener, url: &ServerUrl) -> (Connection, Connection) {
    let limits = ClientLimits::default();
    let (client, server) = tokio::join!(connect(url, &limits), async {
        listener.accept().await.unwrap().establish().await
    });
    (client.unwrap(), server.unwrap())
}

/// A connection of each kind: what holds for one holds for the other.
pub(crate) async fn both_kinds() -> [(Connection, Connection); 2] {
    let (listener, url) = listen(&identity(), Limits::default());
    let binding = ChannelBinding { exporter: [1; 32], fingerprint: [2; 32] };
    [memory::pair(binding), over_quic(&listener, &url).await]
}

pub(crate) fn reply(len: usize, fill: u8) -> Frame {
    Frame::Reply(Bytes::from(vec![fill; len]))
}

pub(crate) fn assert_same(got: Option<Frame>, expected: &Frame) {
    let got = got.expect("a frame").encode();
    assert!(got == expected.encode(), "another frame came");
}

/// Polls a future once and drops it, as a lost race in `select!` does.
pub(crate) async fn cancelled<F: Future>(future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}
