//! The driver against a server that the test scripts, over a connection in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use qpc_proto::binding::ChannelBinding;
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{Enqueue, KeyPackageStatus, LoginAnswer, Method, Request, Response};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode, Incarnation, RequestId, Token};
use qpc_transport::{Connection, FrameReceiver, FrameSender, memory};
use rand_core::OsRng;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{Driver, Stop};
use super::session::Session;
use super::{Ask, Host};
use crate::core::Core;
use crate::error::ClientError;
use crate::home::{Home, Protection};
use crate::machine::{Input, Outgoing, Pool, Work};
use crate::register::Account;
use crate::view::Event;

/// The longest that any of these tests may wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the scripted server does and has seen.
struct Script {
    /// The access token that counts.
    valid: u8,
    /// How often it refuses a refresh, and how.
    refuse: Vec<ErrorBody>,
    refreshes: u32,
    /// Stream, method and access token of each request.
    seen: Vec<(usize, Method, u8)>,
}

type Shared = Arc<Mutex<Script>>;

fn tokens(number: u8, lasts_ms: u64) -> LoginAnswer {
    LoginAnswer {
        access_token: Token([number; 32]),
        access_expires_at_ms: lasts_ms,
        refresh_token: Token([number; 32]),
        refresh_expires_at_ms: u64::MAX,
        now_ms: 0,
        incarnation: Incarnation([9; 16]),
    }
}

/// A token that outlives any test.
const LONG: u64 = 900_000;

async fn server(connection: Connection, script: Shared) {
    let mut streams = tokio::task::JoinSet::new();
    let mut number = 0;
    while let Ok(Some((sender, receiver))) = connection.accept_stream().await {
        streams.spawn(stream(number, (sender, receiver), Arc::clone(&script)));
        number += 1;
    }
}

async fn stream(
    number: usize,
    (mut sender, mut receiver): (FrameSender, FrameReceiver),
    script: Shared,
) {
    while let Ok(Some(Frame::Request(frame))) = receiver.next().await {
        let Some(answer) = answer(number, &frame, &script) else {
            // A subscription says nothing.
            return std::future::pending().await;
        };
        sender.send(&answer).await.unwrap();
    }
}

fn answer(number: usize, frame: &RequestFrame, script: &Shared) -> Option<Frame> {
    let method = Method::from_u16(frame.method).unwrap();
    let mut script = script.lock().unwrap();
    let token = frame.token.as_bytes()[0];
    script.seen.push((number, method, token));
    let refuse = |code| Some(Frame::refusal(&ErrorBody::new(code, "")));
    if method == Method::Refresh {
        script.refreshes += 1;
        if let Some(refusal) = script.refuse.pop() {
            return Some(Frame::refusal(&refusal));
        }
        let response = Response::Tokens(tokens(script.valid, LONG));
        return Some(Frame::Reply(response.encode()));
    }
    if token != script.valid {
        return refuse(ErrorCode::TokenExpired);
    }
    if method == Method::Subscribe {
        return None;
    }
    let status =
        KeyPackageStatus { available: 100, has_last_resort: true, last_resort_used: false };
    let answers = [
        (Method::ListChannels, Response::Channels(Vec::new())),
        (Method::KeyPackageStatus, Response::KeyPackageStatus(status)),
        (Method::ExportAccount, Response::Exported(Bytes::from_static(b"{}"))),
    ];
    match answers.iter().find(|(of, _)| *of == method) {
        Some((_, response)) => Some(Frame::Reply(response.encode())),
        None => refuse(ErrorCode::Overloaded),
    }
}

/// A client of a registered account, and the server's end of its connection.
struct Bench {
    _dir: TempDir,
    driver: Driver,
    asks: mpsc::Sender<Ask>,
    _stop: watch::Sender<Stop>,
    script: Shared,
    connection: Connection,
}

fn bench(valid: u8) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path().join("home"));
    let mut store = home.open_new(&Protection::KeyFile).unwrap();
    let server_url = format!("qpc://127.0.0.1:9/#{}", "ab".repeat(32));
    let account = Account::prepare(&mut store, ("alice", &server_url), (1, &mut OsRng)).unwrap();
    account.registered(&mut store).unwrap();
    let core = Core::open(store, Pool::default()).unwrap();
    let profile = core.machine().profile.clone();
    let (host, _thread) = Host::spawn(core).unwrap();
    let (asks, asked) = mpsc::channel(4);
    let (stop, stopped) = watch::channel(Stop::No);
    let binding = ChannelBinding { exporter: [1; 32], fingerprint: [2; 32] };
    let (connection, peer) = memory::pair(binding);
    let (refuse, seen) = (Vec::new(), Vec::new());
    let script = Arc::new(Mutex::new(Script { valid, refuse, refreshes: 0, seen }));
    // It ends with the test's runtime.
    tokio::task::spawn_local(server(peer, Arc::clone(&script)));
    let driver = Driver {
        host,
        url: server_url.parse().unwrap(),
        keys: profile.keys,
        device: profile.identity.device,
        asks: asked,
        stop: stopped,
    };
    Bench { _dir: dir, driver, asks, _stop: stop, script, connection }
}

impl Bench {
    /// Serves the connection, logged in with token 1 of that life, until `done` is.
    async fn serve<T>(
        &mut self,
        lasts_ms: u64,
        prepare: impl AsyncFnOnce(&mut Session),
        done: impl AsyncFnOnce() -> T,
    ) -> Result<T, ClientError> {
        let login = tokens(1, lasts_ms);
        self.driver.host.step(Input::Online(login.clone())).await.unwrap();
        let mut session = Session::new(self.connection.clone(), &login, &self.driver.host);
        prepare(&mut session).await;
        tokio::select! {
            ended = self.driver.serve(&mut session) => Err(ended.unwrap_err()),
            value = done() => Ok(value),
            () = tokio::time::sleep(PATIENCE) => panic!("it takes too long"),
        }
    }

    fn ask(&self) -> (Ask, oneshot::Receiver<Result<Response, ClientError>>) {
        let (answer, answered) = oneshot::channel();
        let request_id = RequestId([1; 16]);
        (Ask { request: Request::ExportAccount, request_id, answer }, answered)
    }

    fn seen(&self) -> Vec<(usize, Method, u8)> {
        self.script.lock().unwrap().seen.clone()
    }

    fn refreshes(&self) -> u32 {
        self.script.lock().unwrap().refreshes
    }
}

fn enqueue(number: u8) -> Outgoing {
    let channel = ChannelId([number; 16]);
    let request = Request::Enqueue(Enqueue { channel, entries: Vec::new() });
    Outgoing { work: Work::Outbox(channel), request_id: RequestId::ZERO, request }
}

/// Runs a test on one thread; all its tasks end with it.
async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn case_052_many_expired_requests_are_one_refresh_and_no_new_connection() {
    local(async {
        let mut bench = bench(2);
        let (ask, answered) = bench.ask();
        bench.asks.try_send(ask).unwrap();
        let ordered = async |session: &mut Session| {
            for number in 1..=5 {
                session.send(enqueue(number)).await.unwrap();
            }
        };
        let script = Arc::clone(&bench.script);
        let saw = move |method, token| {
            let script = script.lock().unwrap();
            script.seen.iter().any(|seen| (seen.1, seen.2) == (method, token)).then_some(())
        };
        let wanted = [Method::ListChannels, Method::KeyPackageStatus];
        let all = async || {
            // What was refused is derived anew, with the newest token.
            for method in wanted {
                until(|| saw(method, 2)).await;
            }
            answered.await.unwrap()
        };
        let answered = bench.serve(LONG, ordered, all).await;
        assert!(matches!(answered.unwrap().unwrap(), Response::Exported(_)));
        let seen = bench.seen();
        assert_eq!(bench.refreshes(), 1, "{seen:?}");
        // Several came with the old token; whether the others did depends on who was first.
        let refused = |method| seen.iter().filter(|s| (s.1, s.2) == (method, 1)).count();
        assert!(refused(Method::Enqueue) > 1 && refused(Method::ExportAccount) == 1, "{seen:?}");
    })
    .await;
}

#[tokio::test]
async fn case_052_the_ordered_stream_goes_on_with_the_newest_token() {
    local(async {
        let mut bench = bench(2);
        let script = Arc::clone(&bench.script);
        let (feed, mut fed) = mpsc::channel(1);
        let both = async || {
            let of_stream = |token| {
                let seen = script.lock().unwrap().seen.clone();
                let found = seen.iter().find(|s| (s.1, s.2) == (Method::Enqueue, token));
                found.map(|found| found.0)
            };
            let first = until(|| of_stream(1)).await;
            until(|| (script.lock().unwrap().refreshes == 1).then_some(())).await;
            feed.send(()).await.unwrap();
            (first, until(|| of_stream(2)).await)
        };
        let login = tokens(1, LONG);
        bench.driver.host.step(Input::Online(login.clone())).await.unwrap();
        let mut session = Session::new(bench.connection.clone(), &login, &bench.driver.host);
        session.send(enqueue(1)).await.unwrap();
        let line = session.ordered();
        let later = async {
            fed.recv().await.unwrap();
            let enqueues = || {
                let seen = script.lock().unwrap().seen.clone();
                seen.iter().filter(|s| s.1 == Method::Enqueue).count()
            };
            // The refresh is under way or done: once it is done the line has the newest token.
            loop {
                let before = enqueues();
                line.send(enqueue(2)).await.unwrap();
                // One after the other: what is sent meanwhile would be ever more to look through.
                until(|| (enqueues() > before).then_some(())).await;
                if script.lock().unwrap().seen.iter().any(|s| (s.1, s.2) == (Method::Enqueue, 2)) {
                    return std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            ended = bench.driver.serve(&mut session) => panic!("{ended:?}"),
            () = later => {}
            (first, second) = both() => assert_eq!(first, second, "one stream for both"),
            () = tokio::time::sleep(PATIENCE) => panic!("it takes too long"),
        }
        assert_eq!(bench.refreshes(), 1);
    })
    .await;
}

async fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = found() {
            return value;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_token_near_its_end_is_refreshed_in_place() {
    local(async {
        let mut bench = bench(2);
        let (ask, answered) = bench.ask();
        bench.asks.try_send(ask).unwrap();
        // It lasts no time at all: the refresh comes before anything is asked.
        let answered = bench.serve(0, async |_| (), async || answered.await.unwrap()).await;
        assert!(answered.unwrap().is_ok());
        let seen = bench.seen();
        assert_eq!(seen.first().unwrap().1, Method::Refresh, "{seen:?}");
        assert!(seen.iter().skip(1).all(|request| request.2 == 2), "{seen:?}");
        assert_eq!(bench.refreshes(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_refused_refresh_ends_the_connection_and_a_busy_server_is_asked_again() {
    local(async {
        let mut busy = ErrorBody::new(ErrorCode::RateLimited, "");
        busy.retry_after_ms = Some(1);
        let mut bench = bench(2);
        bench.script.lock().unwrap().refuse = vec![busy.clone(), busy];
        let (ask, answered) = bench.ask();
        bench.asks.try_send(ask).unwrap();
        let answered = bench.serve(0, async |_| (), async || answered.await.unwrap()).await;
        assert!(answered.unwrap().is_ok());
        assert_eq!(bench.refreshes(), 3);
    })
    .await;
    local(async {
        let mut bench = bench(2);
        let gone = ErrorBody::new(ErrorCode::Unauthenticated, "");
        bench.script.lock().unwrap().refuse = vec![gone];
        let ended = bench.serve(0, async |_| (), async || std::future::pending().await).await;
        let ended: Result<(), _> = ended;
        assert_eq!(ended.unwrap_err().code(), "UNAUTHENTICATED");
    })
    .await;
}

#[tokio::test]
async fn a_revoked_device_says_so_once_and_asks_no_more() {
    local(async {
        let mut bench = bench(1);
        let revoked = ErrorBody::new(ErrorCode::DeviceRevoked, "");
        bench.script.lock().unwrap().refuse = vec![revoked];
        let mut events = bench.driver.host.subscribe();
        let ended = bench.serve(0, async |_| (), async || std::future::pending().await).await;
        let ended: Result<(), _> = ended;
        assert_eq!(ended.unwrap_err().code(), "DEVICE_REVOKED");
        let host = bench.driver.host.clone();
        bench.driver.give_up(ErrorCode::DeviceRevoked).await;
        let waits = host.wait_for(|_, _| Ok(None::<()>)).await;
        assert_eq!(waits.unwrap_err().code(), "DEVICE_REVOKED");
        let stops = std::iter::from_fn(|| events.try_recv().ok());
        assert_eq!(stops.filter(|event| matches!(event, Event::Stopped { .. })).count(), 1);
    })
    .await;
}
