//! Over real QUIC: which addresses are let in, how many connections from each, and what the log has
//! of those that are not.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use qpc_proto::Token;
use qpc_proto::message::Request;
use qpc_server::limits::AddressLists;
use qpc_server::sample::Sampler;
use qpc_server::{Limits, Settings};
use qpc_transport::{ClientLimits, Listener, ServerIdentity, ServerUrl, connect};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{Client, Rig};

/// A listener on loopback and where it is.
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

async fn open(url: &ServerUrl) -> Option<Client> {
    let connection = connect(url, &ClientLimits::default()).await.ok()?;
    Some(Client { connection })
}

/// Runs `client` beside the server.
async fn beside(rig: &Rig, listener: &Listener, client: impl Future<Output = ()>) {
    tokio::select! {
        () = rig.server.serve(listener, std::future::pending()) => unreachable!(),
        () = client => {}
    }
}

fn denying(networks: &[&str]) -> impl FnOnce(Settings) -> Settings {
    let deny = networks.iter().map(|text| AddressLists::parse(text).unwrap()).collect();
    move |settings| {
        let addresses = AddressLists { allow: Vec::new(), deny };
        Settings { addresses, ..settings }
    }
}

#[tokio::test]
async fn case_018_a_connection_too_many_from_one_address_is_refused_and_an_ended_one_makes_room() {
    let limits = Limits { connections_per_network_max: 3, ..Limits::default() };
    let rig = Rig::start(limits);
    let (listener, url) = listen();
    beside(&rig, &listener, async {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(open(&url).await.unwrap());
        }
        assert!(open(&url).await.is_none());
        assert!(rig.server.metrics().contains("qpc_connections_open 3"));
        let refused = "qpc_connections_refused_total{cause=\"network\"} 1";
        assert!(rig.server.metrics().contains(refused));
        for client in &held {
            client.call(&Token::NONE, &Request::ServerInfo).await.unwrap();
        }
        held.pop();
        // The end has to reach the server before its place is free.
        let mut next = None;
        while next.is_none() {
            next = open(&url).await;
        }
    })
    .await;
}

#[tokio::test]
async fn denied_addresses_are_refused_and_others_come_in() {
    let (listener, url) = listen();
    let rig = Rig::start_with(Limits::default(), denying(&["127.0.0.0/8"]));
    beside(&rig, &listener, async {
        assert!(open(&url).await.is_none());
        let refused = "qpc_connections_refused_total{cause=\"address\"} 1";
        assert!(rig.server.metrics().contains(refused));
    })
    .await;
    let rig = Rig::start_with(Limits::default(), denying(&["192.0.2.0/24"]));
    beside(&rig, &listener, async {
        assert!(open(&url).await.is_some());
    })
    .await;
}

/// What a log would have on disk.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn with(&self, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn case_197_a_flood_of_refused_connections_leaves_few_lines_and_their_count() {
    const FLOOD: u64 = 40;
    // It stands still, so nothing is forgiven meanwhile.
    let sampler = Sampler::new(Arc::new(|| 1));
    let lines = Lines::default();
    let writing = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false);
    let _logging = tracing::subscriber::set_default(writing.finish().with(sampler.layer()));
    let counting = sampler.clone();
    let deny = denying(&["127.0.0.1"]);
    let rig = Rig::start_with(Limits::default(), |settings| {
        deny(Settings { sampler: counting, ..settings })
    });
    let (listener, url) = listen();
    beside(&rig, &listener, async {
        for _ in 0..FLOOD {
            assert!(open(&url).await.is_none());
        }
    })
    .await;
    let written = lines.with("refusing a connection");
    assert_eq!(written.len(), 5, "{written:?}");
    assert_eq!(sampler.left_out(), FLOOD - 5);
    assert!(rig.server.metrics().contains("qpc_log_lines_left_out_total 35"));
    // Another cause has lines of its own.
    tracing::warn!(cause = "other", "another cause");
    assert_eq!(lines.with("another cause").len(), 1);
    sampler.report();
    let report = lines.with("left out");
    assert_eq!(report.len(), 1);
    assert!(report[0].contains("count=35") && report[0].contains("server.rs"), "{report:?}");
    sampler.report();
    assert_eq!(lines.with("left out").len(), 1);
}
