//! The end of an account: asked for, taken back, carried out step by step, whatever comes between.

use bytes::Bytes;
use qpc_proto::binding::ChannelBinding;
use qpc_proto::frame::Frame;
use qpc_proto::message::{EntryKind, Request, Response};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode, Token};
use qpc_server::{Call, Node, Outputs, Peer, PeerChange, Policy};
use qpc_storage::Store;
use rand_core::OsRng;
use tempfile::TempDir;

use crate::support::{Device, START_MS, create_channel, fetch, frame, read, store};

const DAY_MS: u64 = 24 * 3_600 * 1_000;
const CHANNEL: ChannelId = ChannelId([5; 16]);

/// A node without a server around it.
struct Alone {
    dir: TempDir,
    running: Option<(Store, Node)>,
    now_ms: u64,
}

/// One connection to it.
struct Line {
    peer: Peer,
    token: Token,
}

impl Line {
    fn new(seed: u8) -> Self {
        let binding = ChannelBinding { exporter: [seed; 32], fingerprint: [9; 32] };
        Self { peer: Peer { binding, device: None, address: None }, token: Token::NONE }
    }
}

impl Alone {
    fn start() -> Self {
        let mut alone = Self { dir: tempfile::tempdir().unwrap(), running: None, now_ms: START_MS };
        alone.restart();
        alone
    }

    fn restart(&mut self) {
        self.running = None;
        let mut policy = Policy::default();
        policy.auth.registration = qpc_proto::message::RegistrationMode::Open;
        policy.auth.pow_bits = 0;
        let mut store = store(self.dir.path());
        let node = Node::open(&mut store, policy, &mut OsRng).unwrap();
        self.running = Some((store, node));
    }

    fn call(&mut self, line: &mut Line, request: &Request) -> Result<Response, ErrorBody> {
        let (store, node) = self.running.as_mut().unwrap();
        let Frame::Request(frame) = frame(&line.token, request) else { panic!("a request") };
        let call = Call { frame, peer: line.peer, now_ms: self.now_ms };
        let outputs = node.apply(store, vec![call], &mut OsRng).unwrap().remove(0);
        if let Some(PeerChange::Bind(device)) = outputs.peer_change {
            line.peer.device = Some(device);
        }
        line.token = outputs.issued.unwrap_or_else(|| line.token.clone());
        read(request.method(), outputs.frame)
    }

    fn join(&mut self, device: &Device) -> Line {
        let mut line = Line::new(device.id.device.0[0]);
        let register = device.register(&line.peer.binding, Bytes::new());
        self.call(&mut line, &register).unwrap();
        self.log_in(device)
    }

    fn log_in(&mut self, device: &Device) -> Line {
        let mut line = Line::new(device.id.device.0[0]);
        let login = device.login(&line.peer.binding);
        self.call(&mut line, &login).unwrap();
        line
    }

    /// Sweeps until nothing is left; the server dies after each step.
    fn sweep(&mut self) -> Vec<Outputs> {
        let mut all = Vec::new();
        loop {
            let (store, node) = self.running.as_mut().unwrap();
            let (outputs, more) = node.sweep_once(store, (self.now_ms, &mut OsRng), &[]).unwrap();
            all.push(outputs);
            self.restart();
            if !more {
                return all;
            }
        }
    }
}

#[test]
fn case_072_a_deletion_goes_on_where_a_crash_cut_it() {
    let mut alone = Alone::start();
    let (ada, bob) = (Device::new(1), Device::new(2));
    let mut ada_line = alone.join(&ada);
    alone.join(&bob);
    alone.call(&mut ada_line, &create_channel(CHANNEL)).unwrap();
    let end = Request::DeleteAccount(ada.list(2, &[]));
    let Ok(Response::DeleteAt(at)) = alone.call(&mut ada_line, &end) else { panic!("a date") };
    assert_eq!(at, START_MS + 30 * DAY_MS);
    alone.now_ms = at - 1;
    alone.sweep();
    let mut ada_line = alone.log_in(&ada);
    assert!(alone.call(&mut ada_line, &Request::ListChannels).is_ok());
    alone.now_ms = at;
    let swept = alone.sweep();
    assert!(swept.iter().any(|o| o.ended == [(ada.id, ErrorCode::DeviceRevoked)]));
    let again = alone.call(&mut Line::new(7), &ada.login(&Line::new(7).peer.binding));
    assert_eq!(again.unwrap_err().code, ErrorCode::Unauthenticated);
    let mut bob_line = alone.log_in(&bob);
    let lookup = alone.call(&mut bob_line, &Request::Lookup("device-1".to_owned()));
    assert_eq!(lookup.unwrap_err().code, ErrorCode::AccountNotFound);
    assert!(alone.sweep().iter().all(|o| o.ended.is_empty() && o.audit.is_empty()));
}

#[test]
fn a_deletion_taken_back_never_happens() {
    let mut alone = Alone::start();
    let ada = Device::new(1);
    let mut line = alone.join(&ada);
    alone.call(&mut line, &Request::DeleteAccount(ada.list(2, &[]))).unwrap();
    alone.call(&mut line, &Request::CancelDeletion).unwrap();
    alone.call(&mut line, &Request::CancelDeletion).unwrap();
    alone.now_ms += 60 * DAY_MS;
    assert!(alone.sweep().iter().all(|o| o.ended.is_empty()));
    alone.log_in(&ada);
}

#[test]
fn the_members_are_shown_the_list_that_ends_an_account() {
    let mut alone = Alone::start();
    let ada = Device::new(1);
    let mut line = alone.join(&ada);
    let sibling = ada.sibling(3);
    alone.call(&mut line, &create_channel(CHANNEL)).unwrap();
    let recover = ada.recovered(9).sibling(3);
    let mut fresh = Line::new(3);
    let list = recover.list(1, &[&recover]);
    let request = recover.recover(&fresh.peer.binding, Some(list.clone()));
    alone.call(&mut fresh, &request).unwrap();
    // The channel of the lost device has the list; that device alone may still read it.
    let mut fresh = alone.log_in(&sibling);
    let refused = alone.call(&mut fresh, &fetch(CHANNEL)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ChannelNotFound);
    let (store, _) = alone.running.as_mut().unwrap();
    let statements: i64 = store
        .reader()
        .unwrap()
        .read(|tx| {
            let kind = EntryKind::Statement.code();
            tx.query_row("SELECT COUNT(*) FROM log WHERE kind = ?1", [kind], |row| row.get(0))
        })
        .unwrap();
    assert_eq!(statements, 1);
}

#[test]
fn an_erased_account_leaves_no_answers_behind() {
    let mut alone = Alone::start();
    let policy = alone.running.as_mut().unwrap();
    policy.1 = {
        let mut short = Policy::default();
        short.auth.registration = qpc_proto::message::RegistrationMode::Open;
        short.auth.pow_bits = 0;
        short.auth.deletion_grace_ms = DAY_MS;
        Node::open(&mut policy.0, short, &mut OsRng).unwrap()
    };
    let ada = Device::new(1);
    let mut line = alone.join(&ada);
    let mut other = Line::new(3);
    let ask = ada.recover(&other.peer.binding, None);
    alone.call(&mut other, &ask).unwrap();
    alone.call(&mut line, &Request::DeleteAccount(ada.list(2, &[]))).unwrap();
    alone.now_ms += DAY_MS;
    alone.sweep();
    let (store, _) = alone.running.as_mut().unwrap();
    let kept: i64 = store
        .reader()
        .unwrap()
        .read(|tx| tx.query_row("SELECT COUNT(*) FROM answers", [], |row| row.get(0)))
        .unwrap();
    assert_eq!(kept, 0);
}
