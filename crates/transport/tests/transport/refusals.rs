//! Handshakes that must fail, and what both sides are told.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use qpc_transport::{
    CERTIFICATE_FILE, ClientLimits, Connection, KEY_FILE, Limits, ServerIdentity, ServerUrl,
    TransportError, connect,
};
use quinn::ConnectionError;

use crate::raw;
use crate::support::{identity, listen, now_ms, url};

/// The certificate and the key as PEM.
fn pem(identity: &ServerIdentity) -> (Vec<u8>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    identity.save(dir.path()).unwrap();
    let read = |name| fs::read(dir.path().join(name)).unwrap();
    (read(CERTIFICATE_FILE), read(KEY_FILE))
}

#[tokio::test]
async fn case_001_no_alpn_or_a_foreign_one_fails_the_handshake() {
    let (listener, url) = listen(&identity(), Limits::default());
    for alpn in [[].as_slice(), &[b"h3".as_slice()], &[b"qpc2".as_slice()]] {
        let (_endpoint, connecting) = raw::dial(&url, alpn, None);
        let (client, server) =
            tokio::join!(connecting, async { listener.accept().await.unwrap().establish().await });
        let Err(ConnectionError::ConnectionClosed(close)) = client else {
            panic!("{alpn:?}: {client:?}");
        };
        assert_eq!(u64::from(close.error_code), 0x178);
        assert!(matches!(server.unwrap_err(), TransportError::Alpn));
    }
}

#[tokio::test]
async fn case_001_a_client_refuses_a_server_of_another_protocol() {
    let identity = identity();
    let (certificate, key) = pem(&identity);
    let server = raw::serve((&certificate, &key), b"h3", None);
    let url = url(server.local_addr().unwrap(), &identity);
    let limits = ClientLimits::default();
    let (client, _) =
        tokio::join!(connect(&url, &limits), async { server.accept().await.unwrap().await });
    assert!(matches!(client.unwrap_err(), TransportError::Alpn));
}

/// What a client gets from a server with this identity, and whether the server saw a failure.
async fn attempt(
    identity: &ServerIdentity,
    fingerprint: [u8; 32],
) -> Result<Connection, TransportError> {
    let (listener, url) = listen(identity, Limits::default());
    let url = ServerUrl { fingerprint, ..url };
    let limits = ClientLimits::default();
    let (client, server) = tokio::join!(connect(&url, &limits), async {
        listener.accept().await.unwrap().establish().await
    });
    if client.is_err() {
        // The server may have finished before the client refused; then it learns it as a close.
        match server {
            Ok(connection) => drop(connection.closed().await),
            Err(error) => assert!(matches!(error, TransportError::Handshake(_)), "{error}"),
        }
    }
    client
}

#[tokio::test]
async fn case_027_a_changed_pin_is_refused_by_name() {
    let identity = identity();
    let error = attempt(&identity, [7; 32]).await.unwrap_err();
    let TransportError::PinChanged { seen } = error else {
        panic!("{error}");
    };
    assert_eq!(seen, identity.fingerprint());
    attempt(&identity, seen).await.unwrap();
}

#[tokio::test]
async fn case_027_an_expired_certificate_is_refused_by_name() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let past = now_ms() - (qpc_transport::VALIDITY_DAYS + 1) * DAY_MS;
    let identity = ServerIdentity::generate(&[], past).unwrap();
    let error = attempt(&identity, identity.fingerprint()).await.unwrap_err();
    let TransportError::CertificateExpired(at) = error else {
        panic!("{error}");
    };
    let expected = identity.expires_at_ms().unwrap() / 1000;
    assert_eq!(u64::try_from(at).unwrap(), expected);

    let renewed = identity.renew(&[], now_ms()).unwrap();
    assert_eq!(renewed.fingerprint(), identity.fingerprint());
    attempt(&renewed, identity.fingerprint()).await.unwrap();
}

#[tokio::test]
async fn case_027_a_certificate_of_the_future_is_refused_by_name() {
    let future = now_ms() + 3 * 24 * 60 * 60 * 1000;
    let identity = ServerIdentity::generate(&[], future).unwrap();
    let error = attempt(&identity, identity.fingerprint()).await.unwrap_err();
    let TransportError::CertificateNotYetValid(at) = error else {
        panic!("{error}");
    };
    assert!(u64::try_from(at).unwrap() > now_ms() / 1000);
}

#[tokio::test]
async fn case_027_the_pinned_certificate_without_its_key_is_refused() {
    let pinned = identity();
    let (certificate, _) = pem(&pinned);
    let (_, foreign_key) = pem(&identity());
    let server = raw::serve((&certificate, &foreign_key), b"qpc", None);
    let url = url(server.local_addr().unwrap(), &pinned);
    let limits = ClientLimits::default();
    let (client, _) =
        tokio::join!(connect(&url, &limits), async { server.accept().await.unwrap().await });
    let error = client.unwrap_err();
    assert!(matches!(error, TransportError::Handshake(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_timeout() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = url(silent.local_addr().unwrap(), &identity());
    let limits = ClientLimits { connect_timeout: Duration::ZERO, ..ClientLimits::default() };
    let error = connect(&url, &limits).await.unwrap_err();
    assert!(matches!(error, TransportError::Timeout), "{error}");
}

#[tokio::test]
async fn a_client_that_does_not_go_on_is_a_timeout() {
    let limits = Limits { handshake_timeout: Duration::ZERO, ..Limits::default() };
    let (listener, mut url) = listen(&identity(), limits);
    let server = (url.host.clone(), url.port);
    // Lets the client's first datagram through, and nothing after it.
    let way = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    url.port = way.local_addr().unwrap().port();
    let (_endpoint, _connecting) = raw::dial(&url, &[b"qpc"], None);
    let mut datagram = [0; 2_048];
    let (len, _) = way.recv_from(&mut datagram).await.unwrap();
    way.send_to(&datagram[..len], (server.0.as_str(), server.1)).await.unwrap();
    let error = listener.accept().await.unwrap().establish().await;
    assert!(matches!(error.unwrap_err(), TransportError::Timeout));
}

#[tokio::test]
async fn a_refused_client_is_told() {
    let (listener, url) = listen(&identity(), Limits::default());
    let limits = ClientLimits::default();
    let (client, ()) = tokio::join!(connect(&url, &limits), async {
        listener.accept().await.unwrap().refuse();
    });
    let TransportError::Handshake(why) = client.unwrap_err() else {
        panic!("refused");
    };
    assert!(why.contains("refused"), "{why}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = taken.local_addr().unwrap();
    let bound = qpc_transport::Listener::bind(address, &identity(), Limits::default());
    let TransportError::Socket(error) = bound.unwrap_err() else {
        panic!("socket");
    };
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}
