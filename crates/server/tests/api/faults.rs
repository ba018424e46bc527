//! The synchronous core over a disk that loses its power, is full or fails, at every call of a
//! workload. What was accepted is in the log once, without gaps, its hash chain whole.
//! Never starts a thread or a connection: requests go into [`Node`] one batch after the other.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use qpc_faultvfs::{Cut, Fault, FaultVfs, Op, Plan};
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::binding::ChannelBinding;
use qpc_proto::chain::{Link, Log, statements_digest};
use qpc_proto::frame::Frame;
use qpc_proto::message::{
    CommitBundle, CommitRequest, Entry, EntryKind, Fetch, RegistrationMode, Request, Response,
    UploadKeyPackages, inbox_channel,
};
use qpc_proto::roster::RosterChange;
use qpc_proto::{ChannelId, Digest, ErrorBody, MessageId, Token};
use qpc_server::{Call, Node, Outputs, Peer, Policy, schemas};
use qpc_storage::{Durability, Key, Options, Reader, StorageError, Store, Tx, sql};
use rand_core::{CryptoRng, RngCore};
use tempfile::TempDir;

use crate::members::key_package;
use crate::support::{
    Device, START_MS, create_channel, enqueue_of, frame, private_message, put_vector, read,
};

const CHANNEL: ChannelId = ChannelId([0xcc; 16]);
/// Group commits of the workload, and requests in each.
const BATCHES: u8 = 6;
const CALLS: u8 = 3;

/// Draws the same numbers in each run.
struct Counter(u64);

impl RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        u32::try_from(self.next_u64() >> 32).unwrap()
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (self.0 ^ (self.0 >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next_u64().to_be_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
impl CryptoRng for Counter {}

/// A device that is logged in, on a connection that outlives the server.
#[derive(Clone)]
struct Session {
    device: Device,
    peer: Peer,
    token: Token,
}

impl Session {
    fn new(seed: u8) -> Self {
        let binding = ChannelBinding { exporter: [seed; 32], fingerprint: [9; 32] };
        let peer = Peer { binding, device: None, address: None };
        Self { device: Device::new(seed), peer, token: Token::NONE }
    }

    fn call(&self, request: &Request) -> Call {
        let Frame::Request(frame) = frame(&self.token, request) else { panic!("a request") };
        Call { frame, peer: self.peer, now_ms: START_MS }
    }
}

struct Core {
    node: Node,
    store: Store,
    rng: Counter,
}

fn options() -> Options {
    let options = Options::new(Key::from_bytes([1; 32]), schemas());
    options.with_durability(Durability::Process)
}

/// Few pages of log, so that checkpoints are part of the workload.
fn options_on(vfs: &FaultVfs) -> Options {
    Options {
        durability: Durability::Full,
        vfs: Some(vfs.name()),
        checkpoint_pages: 40,
        busy_timeout_ms: 0,
        ..options()
    }
}

impl Core {
    fn open(path: &Path, options: &Options) -> Result<Self, StorageError> {
        let mut policy = Policy::default();
        policy.auth.registration = RegistrationMode::Open;
        policy.auth.pow_bits = 0;
        let (mut store, mut rng) = (Store::open(path, options)?, Counter(7));
        let node = Node::open(&mut store, policy, &mut rng)?;
        Ok(Self { node, store, rng })
    }

    fn apply(&mut self, calls: Vec<Call>) -> Result<Vec<Outputs>, StorageError> {
        self.node.apply(&mut self.store, calls, &mut self.rng)
    }

    /// A request that must succeed.
    fn must(&mut self, session: &Session, request: &Request) -> Response {
        let outputs = self.apply(vec![session.call(request)]).unwrap().remove(0);
        read(request.method(), outputs.frame).unwrap()
    }

    fn join(&mut self, session: &mut Session) {
        let binding = session.peer.binding;
        self.must(session, &session.device.register(&binding, Bytes::new()));
        match self.must(session, &session.device.login(&binding)) {
            Response::Tokens(tokens) => session.token = tokens.access_token,
            other => panic!("{other:?}"),
        }
        session.peer.device = Some(session.device.id);
    }

    /// What the log has, its chain checked from the beginning.
    fn log(&mut self, reader: &mut Reader, at: (&Session, ChannelId)) -> Vec<Entry> {
        let (session, channel) = at;
        let request = Request::Fetch(Fetch { channel, after_seq: 0, bytes_max: 0 });
        let call = session.call(&request);
        let (node, rng) = (&self.node, &mut self.rng);
        let answered = reader.read(|tx| -> Result<Frame, sql::Error> {
            Ok(node.handle(tx, &call, rng).map_or_else(|r| r.outputs.frame, |o| o.frame))
        });
        let Ok(Response::Page(page)) = read(request.method(), answered.unwrap()) else {
            panic!("a page");
        };
        let log = Log { incarnation: node.incarnation(), channel };
        let mut head = Digest::ZERO;
        for (seq, entry) in (1..).zip(&page.entries) {
            assert_eq!(entry.seq, seq, "a gap");
            head = log.next(&head, &Link::of(entry));
            assert_eq!(head, entry.head, "the chain breaks at {seq}");
        }
        assert_eq!(page.entries.len(), usize::try_from(page.head_seq).unwrap());
        page.entries
    }
}

/// A closed server with a group of one, and three devices that may be added to it.
struct Template {
    dir: TempDir,
    founder: Session,
    others: Vec<Session>,
    packages: Vec<Bytes>,
}

impl Template {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut core = Core::open(&dir.path().join("server.db"), &options()).unwrap();
        let mut sessions: Vec<_> = (1..=4).map(Session::new).collect();
        sessions.iter_mut().for_each(|session| core.join(session));
        let founder = sessions.remove(0);
        core.must(&founder, &create_channel(CHANNEL));
        let packages: Vec<_> = sessions.iter().map(|s| key_package(&s.device, 5)).collect();
        for (session, package) in sessions.iter().zip(&packages) {
            let upload =
                UploadKeyPackages { key_packages: vec![package.clone()], last_resort: None };
            core.must(session, &Request::UploadKeyPackages(upload));
        }
        core.store.close().unwrap();
        Self { dir, founder, others: sessions, packages }
    }

    /// A copy of the server in a directory of its own.
    fn copy(&self) -> (TempDir, PathBuf) {
        let copy = tempfile::tempdir().unwrap();
        let path = copy.path().join("server.db");
        fs::copy(self.dir.path().join("server.db"), &path).unwrap();
        (copy, path)
    }

    fn batch(&self, number: u8) -> Vec<Call> {
        let ids = (0..CALLS).map(|call| 1 + number * CALLS + call);
        ids.map(|id| self.founder.call(&enqueue_of(CHANNEL, id, 1_500))).collect()
    }

    /// A Commit that adds all others, with a Welcome of several pages.
    fn commit(&self) -> Request {
        let change = RosterChange {
            adds: self.others.iter().map(|other| other.device.id).collect(),
            ..RosterChange::default()
        };
        let commit =
            CommitBinding { roster_change: change.digest(), statements: statements_digest(&[]) };
        let aad = Aad {
            channel: CHANNEL,
            base_commit: 1,
            head_seq: 1,
            head: [0; 16],
            commit: Some(commit),
        };
        let bundle = CommitBundle {
            message_id: MessageId([201; 16]),
            after_commit: 1,
            payload: private_message(3, &aad, &[0; 64]),
            roster_change: change.encode().into(),
            welcome: Some(self.welcome()),
            statements: Vec::new(),
        };
        Request::Commit(CommitRequest { channel: CHANNEL, bundle })
    }

    /// RFC 9420 section 12.4.3.1, for all others.
    fn welcome(&self) -> Bytes {
        let mut secrets = Vec::new();
        for package in &self.packages {
            put_vector(&mut secrets, &qpc_credential::key_package_ref(package).unwrap().0);
            put_vector(&mut secrets, &[1; 32]);
            put_vector(&mut secrets, &[2; 48]);
        }
        let mut welcome = vec![0, 1, 0, 3, 0, 1];
        put_vector(&mut welcome, &secrets);
        put_vector(&mut welcome, &[3; 12_000]);
        welcome.into()
    }
}

/// What a client was told: which message has which number.
#[derive(Clone, Default)]
struct Told(Vec<(MessageId, u64)>);

impl Told {
    fn hear(&mut self, number: u8, outputs: Vec<Outputs>) {
        for (call, outputs) in (0..).zip(outputs) {
            let id = MessageId([1 + number * CALLS + call; 16]);
            let method = enqueue_of(CHANNEL, 0, 0).method();
            match read(method, outputs.frame) {
                Ok(Response::Enqueued(answer)) => self.0.push((id, answer.accepted[0].seq)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Each message of the log is there once, and each that was told where it was told to be.
    fn check(&self, log: &[Entry]) {
        let mut ids: Vec<_> = log.iter().map(|entry| entry.message_id).collect();
        for (id, seq) in &self.0 {
            let place = usize::try_from(*seq).unwrap() - 1;
            assert_eq!(ids.get(place), Some(id), "message {} of {}", seq, log.len());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), log.len(), "a message is there twice");
    }
}

fn is_whole(tx: &Tx<'_>) -> Result<String, sql::Error> {
    tx.query_row("PRAGMA integrity_check", [], |row| row.get(0))
}

/// Opens what is left with the system's VFS.
fn recovered(path: &Path) -> (Core, Reader) {
    let core = Core::open(path, &options()).unwrap();
    let mut reader = core.store.reader().unwrap();
    assert_eq!(reader.read(is_whole).unwrap(), "ok");
    (core, reader)
}

#[test]
fn case_164_loss_of_power_keeps_every_accepted_message_once_and_in_order() {
    let (template, vfs) = (Template::new(), FaultVfs::register().unwrap());
    let (_dir, path) = template.copy();
    let mut core = Core::open(&path, &options_on(&vfs)).unwrap();
    let mut told = vec![(vfs.events(), Told::default())];
    for number in 0..BATCHES {
        let outputs = core.apply(template.batch(number)).unwrap();
        let mut all = told[usize::from(number)].1.clone();
        all.hear(number, outputs);
        told.push((vfs.events(), all));
    }
    let begin = told[0].0;
    let cuts = vfs.boundaries().into_iter().filter(|at| *at >= begin);
    for (at, seed) in cuts.flat_map(|at| (0..4).map(move |seed| (at + usize::from(seed > 1), seed)))
    {
        let left = tempfile::tempdir().unwrap();
        vfs.power_loss(Cut { at, seed: seed + 10 }, left.path()).unwrap();
        let (mut core, mut reader) = recovered(&left.path().join("server.db"));
        let log = core.log(&mut reader, (&template.founder, CHANNEL));
        let (_, promised) = told.iter().rfind(|(answer, _)| *answer <= at).unwrap();
        promised.check(&log);
        // Group commits are whole, and at most one was not answered.
        let extra = log.len() - 1 - promised.0.len();
        assert!(extra == 0 || extra == usize::from(CALLS), "{extra} at {at}, seed {seed}");
    }
}

/// A workload on a disk that fills up; clients repeat what was refused. Whether it filled up.
fn fill_up(template: &Template, after: u64) -> bool {
    let vfs = FaultVfs::register().unwrap();
    let (_dir, path) = template.copy();
    let mut core = Core::open(&path, &options_on(&vfs)).unwrap();
    let mut reader = core.store.reader().unwrap();
    let on = vec![Op::Write, Op::Truncate, Op::ShmGrow];
    let fault = if after.is_multiple_of(2) { Fault::NoSpace } else { Fault::ShortWrite };
    vfs.set(Plan { on, ..Plan::from(Op::Write, after, fault) });
    let mut told = Told::default();
    for number in 0..BATCHES {
        let outputs = core.apply(template.batch(number)).unwrap_or_else(|error| {
            assert!(error.is_full(), "{after}: {error:?}");
            told.check(&core.log(&mut reader, (&template.founder, CHANNEL)));
            vfs.heal();
            core.apply(template.batch(number)).unwrap()
        });
        told.hear(number, outputs);
    }
    let log = core.log(&mut reader, (&template.founder, CHANNEL));
    told.check(&log);
    assert_eq!(log.len(), 1 + usize::from(BATCHES * CALLS));
    vfs.hits() > 0
}

#[test]
fn case_166_a_full_disk_refuses_and_the_repeated_requests_are_stored_once() {
    let template = Template::new();
    let faults = (0..).take_while(|after| fill_up(&template, *after)).count();
    assert!(faults > 10 * usize::from(BATCHES), "{faults} calls are too few for the workload");
}

/// A workload on a disk that fails at one call; after a restart clients repeat what has no answer.
/// Whether it failed.
fn fail_once(template: &Template, (on, after): (Op, u64)) -> bool {
    let vfs = FaultVfs::register().unwrap();
    let (_dir, path) = template.copy();
    let mut core = Core::open(&path, &options_on(&vfs)).unwrap();
    vfs.set(Plan { lasting: false, ..Plan::from(on, after, Fault::Io) });
    let (mut told, mut next) = (Told::default(), 0);
    while next < BATCHES {
        match core.apply(template.batch(next)) {
            Ok(outputs) => told.hear(next, outputs),
            Err(error) => {
                assert!(error.is_fatal() && vfs.hits() > 0, "{on:?} {after}: {error:?}");
                break;
            }
        }
        next += 1;
    }
    let failed = vfs.hits() > 0;
    drop(core);
    let (mut core, mut reader) = recovered(&path);
    told.check(&core.log(&mut reader, (&template.founder, CHANNEL)));
    for number in next..BATCHES {
        told.hear(number, core.apply(template.batch(number)).unwrap());
    }
    let log = core.log(&mut reader, (&template.founder, CHANNEL));
    told.check(&log);
    assert_eq!(log.len(), 1 + usize::from(BATCHES * CALLS));
    failed
}

#[test]
fn case_167_a_failing_disk_loses_and_doubles_no_message() {
    let template = Template::new();
    for on in [Op::Write, Op::Sync] {
        let faults = (0..).take_while(|after| fail_once(&template, (on, *after))).count();
        assert!(faults > usize::from(BATCHES), "{faults} calls are too few for the workload");
    }
}

/// How many of the added devices have a pointer and its Welcome, and whether the Commit is there.
fn added(template: &Template, path: &Path) -> (usize, bool) {
    let (mut core, mut reader) = recovered(path);
    let mut pointers = 0;
    for other in &template.others {
        let inbox = inbox_channel(&other.device.id.device);
        let entries = core.log(&mut reader, (other, inbox));
        for entry in &entries {
            assert_eq!(entry.kind, EntryKind::Welcome);
            assert_eq!(entry.welcome, Some(template.welcome()), "a pointer without its Welcome");
        }
        assert!(entries.len() <= 1);
        pointers += entries.len();
    }
    let log = core.log(&mut reader, (&template.founder, CHANNEL));
    (pointers, log.len() == 2 && log[1].kind == EntryKind::Commit)
}

fn check_all_or_none(template: &Template, path: &Path) -> bool {
    let (pointers, committed) = added(template, path);
    let all = if committed { template.others.len() } else { 0 };
    assert_eq!(pointers, all, "the Commit is there: {committed}");
    committed
}

#[test]
fn case_155_loss_of_power_in_a_commit_welcomes_all_or_nobody() {
    let (template, vfs) = (Template::new(), FaultVfs::register().unwrap());
    let (_dir, path) = template.copy();
    let mut core = Core::open(&path, &options_on(&vfs)).unwrap();
    let begin = vfs.events();
    assert!(matches!(core.must(&template.founder, &template.commit()), Response::Accepted(_)));
    let end = vfs.events();
    let mut outcomes = Vec::new();
    for at in begin..=end {
        for seed in 0..4 {
            let left = tempfile::tempdir().unwrap();
            vfs.power_loss(Cut { at, seed: seed + 20 }, left.path()).unwrap();
            let committed = check_all_or_none(&template, &left.path().join("server.db"));
            assert!(committed || at < end, "it was accepted");
            outcomes.push(committed);
        }
    }
    assert!(outcomes.contains(&true) && outcomes.contains(&false));
}

#[test]
fn case_155_a_disk_that_fails_in_a_commit_welcomes_all_or_nobody() {
    let template = Template::new();
    let request = template.commit();
    let fails = |fault: Fault, after: u64| {
        let vfs = FaultVfs::register().unwrap();
        let (_dir, path) = template.copy();
        let mut core = Core::open(&path, &options_on(&vfs)).unwrap();
        let on = vec![Op::Write, Op::Sync];
        vfs.set(Plan { on, lasting: false, ..Plan::from(Op::Write, after, fault) });
        let answered = core.apply(vec![template.founder.call(&request)]);
        let accepted = answered.is_ok_and(|outputs| {
            let answer: Result<_, ErrorBody> = read(request.method(), outputs[0].frame.clone());
            matches!(answer, Ok(Response::Accepted(_)))
        });
        let failed = vfs.hits() > 0;
        drop(core);
        assert!(check_all_or_none(&template, &path) || !accepted, "{fault:?} {after}");
        failed
    };
    for fault in [Fault::NoSpace, Fault::ShortWrite, Fault::Io] {
        let faults = (0..).take_while(|after| fails(fault, *after)).count();
        assert!(faults > 10, "{faults} calls are too few for a Commit");
    }
}
