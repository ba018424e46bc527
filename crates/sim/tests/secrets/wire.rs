//! Real clients and a real server over QUIC, all in this process: every thread, every crate.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use qpc_client::machine::Machine;
use qpc_client::{Client, Home, Joining, Protection, Registration, Unlock};
use qpc_proto::binding::Purpose;
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{DeviceRef, Login, LoginAnswer, Method, Request, Response};
use qpc_proto::{AccountId, DeviceId, RequestId, Signature, Token};
use qpc_server::{DataDir, Policy, Server, Settings, clock};
use qpc_storage::{Key, Options, Outcome, Store, sql};
use qpc_transport::{ClientLimits, Connection, Listener, ServerUrl, connect};
use tempfile::TempDir;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::needles::Needles;
use crate::{capture, digests};

const TEXTS: [&str; 2] = ["meet me under the old clock", "the password is swordfish-4711"];

/// A server by invitation, and everything of the run.
struct Rig {
    server: Server,
    listener: Listener,
    url: ServerUrl,
    dir: TempDir,
}

impl Rig {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = DataDir::new(dir.path().join("server"));
        files.init(&[], clock::system()()).unwrap();
        let identity = files.identity().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(any, &identity, qpc_transport::Limits::default()).unwrap();
        let (policy, limits) = (Policy::default(), qpc_server::Limits::default());
        let settings = Settings::new(policy, limits, clock::system());
        let server = Server::start(files.open_store().unwrap(), settings).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (host, fingerprint) = ("127.0.0.1".to_owned(), identity.fingerprint());
        let url = ServerUrl { host, port, fingerprint, invite: None };
        Self { server, listener, url, dir }
    }

    fn home(&self, name: &str) -> Home {
        Home::new(self.dir.path().join(name))
    }

    /// The address with an invite in it.
    async fn invite(&self, needles: &mut Needles) -> String {
        let code = self.server.create_invite().await.unwrap();
        needles.bytes("an invite", code.as_ref());
        ServerUrl { invite: Some(code), ..self.url.clone() }.to_string()
    }

    async fn register(&self, name: &str, needles: &mut Needles) -> Client {
        let server = self.invite(needles).await;
        let registration =
            Registration { name: name.to_owned(), server, protection: Protection::KeyFile };
        let client = Client::register(&self.home(name), registration, |_| ()).await.unwrap();
        let phrase = client.phrase().await.unwrap().unwrap();
        needles.text("a phrase", &phrase.words());
        client
    }
}

/// Everything that people do.
async fn people(rig: &Rig, needles: &mut Needles) {
    let alice = rig.register("alice", needles).await;
    let bob = rig.register("bob", needles).await;
    alice.dm("bob").await.unwrap();
    bob.caught_up().await.unwrap();
    bob.dm("alice").await.unwrap();
    for (client, (whom, text)) in [(&alice, ("bob", TEXTS[0])), (&bob, ("alice", TEXTS[1]))] {
        needles.text("a message", text);
        client.queue(whom, text).await.unwrap();
        client.settled().await.unwrap();
    }
    alice.caught_up().await.unwrap();
    assert!(!alice.unseen(10).await.unwrap().is_empty());

    let url = rig.url.to_string();
    let joining = Joining::begin(&rig.home("phone"), &url, (&Protection::KeyFile, None)).unwrap();
    needles.text("a link's code", &joining.code().text());
    let code = joining.code().clone();
    let answered = async {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        loop {
            look.tick().await;
            if let Some(offered) = alice.offered(&code).await.unwrap() {
                return alice.link_device(&code, offered).await.unwrap();
            }
        }
    };
    let (phone, ()) = tokio::join!(joining.wait(), answered);
    let phone = phone.unwrap();
    phone.caught_up().await.unwrap();
    alice.export().await.unwrap();
    let own = phone.whoami().await.unwrap().device;
    alice.revoke_devices(vec![own]).await.unwrap();
    alice.delete_account().await.unwrap();
    alice.cancel_deletion().await.unwrap();

    let phrase = bob.phrase().await.unwrap().unwrap();
    bob.close().await.unwrap();
    let keeping = (&Protection::KeyFile, phrase, [].as_slice());
    let (again, _) = Client::recover(&rig.home("again"), &url, keeping).await.unwrap();
    for client in [alice, phone, again] {
        client.close().await.unwrap();
    }
}

/// The keys of a home, and who it belongs to.
fn keys_of(home: &Path, needles: &mut Needles) -> (DeviceRef, SigningKey) {
    let key = Key::read(&home.join("key")).unwrap();
    needles.bytes("a home's key", key.as_bytes());
    let mut store =
        Store::open(&home.join("qpc.db"), &Options::new(key, Machine::schemas())).unwrap();
    type Row = (Option<Vec<u8>>, Option<Vec<u8>>, [u8; 32], [u8; 16], [u8; 16]);
    let read: Outcome<Row, sql::Error> = store
        .transact(|tx| {
            tx.query_row(
                "SELECT root_seed, account_seed, device_seed, account, device FROM profile",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
            )
        })
        .unwrap();
    let Outcome::Done((root, account, seed, id, device)) = read else { panic!("no profile") };
    for (name, seed) in
        [("root", root), ("account key", account), ("device key", Some(seed.into()))]
    {
        if let Some(seed) = seed {
            needles.bytes(&format!("a {name}"), &seed);
        }
    }
    let device = DeviceRef { account: AccountId(id), device: DeviceId(device) };
    (device, SigningKey::from_bytes(&seed))
}

async fn ask(connection: &Connection, (token, request): (&Token, &Request)) -> Option<Response> {
    let (mut sender, mut receiver) = connection.open_stream().await.unwrap();
    let frame = RequestFrame {
        method: request.method().as_u16(),
        token: token.clone(),
        request_id: RequestId::ZERO,
        body: request.encode(),
    };
    sender.send(&Frame::Request(frame)).await.unwrap();
    match receiver.next().await.unwrap().unwrap() {
        Frame::Reply(body) => Some(Response::decode(request.method(), body).unwrap()),
        Frame::Error(..) | Frame::Request(_) | Frame::Item(_) | Frame::End => None,
    }
}

fn tokens(answer: Option<Response>, needles: &mut Needles) -> LoginAnswer {
    let Some(Response::Tokens(tokens)) = answer else { panic!("{answer:?}") };
    needles.bytes("an access token", tokens.access_token.as_bytes());
    needles.bytes("a refresh token", tokens.refresh_token.as_bytes());
    tokens
}

/// What goes wrong: proofs, tokens and frames that the server refuses.
async fn mishaps(rig: &Rig, (device, key): (DeviceRef, SigningKey), needles: &mut Needles) {
    let connection = connect(&rig.url, &ClientLimits::default()).await.unwrap();
    let signed = connection.binding().to_be_signed(&device, Purpose::Login);
    let right = Request::Login(Login { device, proof: Signature(key.sign(&signed).to_bytes()) });
    let wrong = Request::Login(Login { device, proof: Signature([0x5a; 64]) });
    assert!(ask(&connection, (&Token::NONE, &wrong)).await.is_none());
    let first = tokens(ask(&connection, (&Token::NONE, &right)).await, needles);
    let foreign = Token([0xd3; 32]);
    needles.bytes("a wrong token", foreign.as_bytes());
    for request in [Request::KeyPackageStatus, Request::Refresh(foreign.clone()), Request::Logout] {
        assert!(ask(&connection, (&foreign, &request)).await.is_none());
    }
    let refresh = Request::Refresh(first.refresh_token.clone());
    let next = tokens(ask(&connection, (&first.access_token, &refresh)).await, needles);
    // Used again, as after a lost reply.
    tokens(ask(&connection, (&next.access_token, &refresh)).await, needles);
    let lookup = Request::Lookup("nobody".to_owned());
    assert_eq!(lookup.method(), Method::Lookup);
    assert!(ask(&connection, (&next.access_token, &lookup)).await.is_none());
    connection.close(0, "");
}

/// SHA-256 of each token that the server knows.
fn token_digests(dir: &DataDir) -> BTreeSet<[u8; 32]> {
    let mut store = dir.open_store().unwrap();
    let read: Outcome<BTreeSet<_>, sql::Error> = store
        .transact(|tx| {
            tx.prepare("SELECT hash FROM tokens")?.query_map([], |row| row.get(0))?.collect()
        })
        .unwrap();
    let Outcome::Done(digests) = read else { panic!("no tokens") };
    digests
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_a_server_over_quic_log_no_secret() {
    capture::start();
    let mut needles = Needles::default();
    let rig = Rig::start();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = rig.server.serve(&rig.listener, async { drop(stopped.await) });
    let run = async {
        people(&rig, &mut needles).await;
        let [alice, ..] = ["alice", "bob", "phone", "again"]
            .map(|name| keys_of(&rig.dir.path().join(name), &mut needles));
        mishaps(&rig, alice, &mut needles).await;
        let reopened = Client::open(&rig.home("alice"), Unlock::Automatic).await.unwrap();
        reopened.caught_up().await.unwrap();
        reopened.close().await.unwrap();
        stop.send(()).unwrap();
    };
    tokio::join!(run, serving);
    rig.server.stop().await.unwrap();
    let files = DataDir::new(rig.dir.path().join("server"));
    let key = Zeroizing::new(std::fs::read(rig.dir.path().join("server/server.key")).unwrap());
    needles.bytes("the server's key", &key);
    let known = token_digests(&files);
    assert!(known.len() > 6, "{} tokens", known.len());

    let recorded = capture::recorded();
    assert!(recorded.len() > 100_000, "QUIC alone says more at TRACE");
    let found = needles.found_in(&recorded);
    assert!(found.is_empty(), "{found:?}");
    assert!(!digests::shows_one_of(&recorded, &known), "a token is in the log");
}
