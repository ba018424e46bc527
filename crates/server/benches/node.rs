//! What it costs the server to commit messages of 1 KiB, one and 64 requests in a commit, and to
//! read a page of them: all checks, the database, no network. The database lies where temporary
//! files go and is synced there.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't begin ends")]

use std::cell::RefCell;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_credential::{AccountKey, DeviceEntry, DeviceList, account_id};
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::limits::PAGE_ENTRIES_MAX;
use qpc_proto::message::{
    ChannelKind, CommitBundle, CreateChannel, DeviceRef, Enqueue, Fetch, Login, NewEntry, Register,
    RegistrationMode, Request, Response,
};
use qpc_proto::roster::RosterChange;
use qpc_proto::{ChannelId, DeviceId, MessageId, PublicKey, RequestId, Signature, Token, chain};
use qpc_server::{Call, Node, Peer, Policy, schemas};
use qpc_storage::{Key, Options, Store};
use rand_core::OsRng;
use tempfile::TempDir;

fn main() {
    divan::main();
}

const CHANNEL: ChannelId = ChannelId([1; 16]);
const NOW_MS: u64 = 1_800_000_000_000;
const BINDING: ChannelBinding = ChannelBinding { exporter: [2; 32], fingerprint: [3; 32] };
/// RFC 9420 section 6: `ContentType` application and commit.
const APPLICATION: u8 = 1;
const COMMIT: u8 = 3;

#[divan::bench(args = [1, 64])]
fn apply_enqueues(bencher: Bencher<'_, '_>, requests: u64) {
    let rig = RefCell::new(Rig::new());
    bencher
        .counter(ItemsCount::new(requests))
        .with_inputs(|| {
            let mut rig = rig.borrow_mut();
            (0..requests).map(|_| rig.enqueue(1)).collect::<Vec<Call>>()
        })
        .bench_local_values(|calls| {
            let rig = &mut *rig.borrow_mut();
            rig.node.apply(&mut rig.store, calls, &mut OsRng).unwrap()
        });
}

#[divan::bench]
fn fetch_page(bencher: Bencher<'_, '_>) {
    let mut rig = Rig::new();
    for _ in 0..PAGE_ENTRIES_MAX / 64 {
        let call = rig.enqueue(64);
        rig.one(call);
    }
    let mut reader = rig.store.reader().unwrap();
    let request = Request::Fetch(Fetch { channel: CHANNEL, after_seq: 1, bytes_max: 0 });
    let call = rig.call(&request);
    bencher.counter(ItemsCount::new(PAGE_ENTRIES_MAX)).bench_local(|| {
        let read = reader.read(|tx| {
            Ok::<_, qpc_storage::sql::Error>(rig.node.handle(tx, &call, &mut OsRng).map(drop))
        });
        read.unwrap().unwrap();
    });
}

/// A node with one device, logged in, and its channel.
struct Rig {
    node: Node,
    store: Store,
    token: Token,
    device: DeviceRef,
    /// Messages made so far.
    made: u64,
    _dir: TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Key::from_bytes([7; 32]), schemas());
        let mut store = Store::open(&dir.path().join("server.db"), &options).unwrap();
        let mut policy = Policy::default();
        policy.auth.registration = RegistrationMode::Open;
        policy.auth.pow_bits = 0;
        let node = Node::open(&mut store, policy, &mut OsRng).unwrap();
        let root = SigningKey::from_bytes(&[4; 32]);
        let account = account_id(&public(&root));
        let device = DeviceRef { account, device: DeviceId([5; 16]) };
        let mut rig = Self { node, store, token: Token::NONE, device, made: 0, _dir: dir };
        rig.log_in(&root);
        let create = rig.call(&create_channel());
        rig.one(create);
        rig
    }

    fn log_in(&mut self, root: &SigningKey) {
        let key = SigningKey::from_bytes(&[6; 32]);
        let proof = |purpose| sign(&key, &BINDING.to_be_signed(&self.device, purpose));
        let login = Request::Login(Login { device: self.device, proof: proof(Purpose::Login) });
        let register = register((root, &key), &self.device, proof(Purpose::Register));
        let (register, login) = (self.call(&register), self.call(&login));
        self.one(register);
        if let Response::Tokens(tokens) = self.one(login) {
            self.token = tokens.access_token.clone();
        }
    }

    /// One request in a commit of its own.
    fn one(&mut self, call: Call) -> Response {
        let method = qpc_proto::message::Method::from_u16(call.frame.method).unwrap();
        let outputs = self.node.apply(&mut self.store, vec![call], &mut OsRng).unwrap();
        match outputs.into_iter().next().map(|outputs| outputs.frame) {
            Some(Frame::Reply(body)) => Response::decode(method, body).unwrap(),
            other => unreachable!("{other:?}"),
        }
    }

    fn call(&self, request: &Request) -> Call {
        let (method, body) = (request.method(), request.encode());
        let mut request_id = RequestId::ZERO;
        if method.takes_request_id() {
            request_id.0 = chain::sha256(&body).short();
        }
        let device = (!self.token.as_bytes().iter().all(|byte| *byte == 0)).then_some(self.device);
        let token = self.token.clone();
        Call {
            frame: RequestFrame { method: method.as_u16(), token, request_id, body },
            peer: Peer { binding: BINDING, device, address: None },
            now_ms: NOW_MS,
        }
    }

    /// Fresh messages in one request, under ids that grow as those of clients do.
    fn enqueue(&mut self, messages: u64) -> Call {
        let aad =
            Aad { channel: CHANNEL, base_commit: 1, head_seq: 1, head: [0; 16], commit: None };
        let payload = private_message(APPLICATION, &aad, &[8; 1_024]);
        let first = self.made;
        self.made = first.saturating_add(messages);
        let entry = |number: u64| NewEntry {
            message_id: MessageId((u128::from(number) << 64).to_be_bytes()),
            after_commit: 1,
            payload: payload.clone(),
        };
        let entries = (first..self.made).map(entry).collect();
        self.call(&Request::Enqueue(Enqueue { channel: CHANNEL, entries }))
    }
}

fn register(
    (root, key): (&SigningKey, &SigningKey),
    device: &DeviceRef,
    proof: Signature,
) -> Request {
    let account_key = AccountKey { root: public(root), generation: 1, key: public(root) };
    let entry = DeviceEntry { device: device.device, key: public(key), not_after_ms: u64::MAX };
    let list = DeviceList {
        account: device.account,
        generation: 1,
        version: 1,
        name: "bench".to_owned(),
        devices: vec![entry],
    };
    Request::Register(Register {
        name: "bench".to_owned(),
        account_key: account_key.sign(|tbs| sign(root, tbs)),
        device_list: list.sign(|tbs| sign(root, tbs)),
        device: device.device,
        proof,
        invite: Bytes::new(),
        proof_of_work: None,
    })
}

/// A group of the caller alone.
fn create_channel() -> Request {
    let change = RosterChange::default();
    let commit =
        CommitBinding { roster_change: change.digest(), statements: chain::statements_digest(&[]) };
    let (channel, base_commit) = (CHANNEL, 0);
    let aad = Aad { channel, base_commit, head_seq: 0, head: [0; 16], commit: Some(commit) };
    Request::CreateChannel(CreateChannel {
        channel,
        kind: ChannelKind::Group,
        retention_ms: 0,
        reset: None,
        bundle: CommitBundle {
            message_id: MessageId([0; 16]),
            after_commit: 0,
            payload: private_message(COMMIT, &aad, &[0; 64]),
            roster_change: change.encode().into(),
            welcome: None,
            statements: Vec::new(),
        },
    })
}

/// An `MLSMessage` with a PrivateMessage (RFC 9420 sections 6 and 6.3.1) that holds no ciphertext.
fn private_message(content_type: u8, aad: &Aad, ciphertext: &[u8]) -> Bytes {
    let mut bytes = vec![0, 1, 0, 2];
    put_vector(&mut bytes, &[7; 32]);
    bytes.extend_from_slice(&0_u64.to_be_bytes());
    bytes.push(content_type);
    put_vector(&mut bytes, &aad.encode());
    put_vector(&mut bytes, &[0; 28]);
    put_vector(&mut bytes, ciphertext);
    bytes.into()
}

/// A vector below 2^14 bytes, its length in two bytes or one (RFC 9420 section 2.1.2).
fn put_vector(bytes: &mut Vec<u8>, content: &[u8]) {
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x3f) => bytes.push(short),
        Ok(_) | Err(_) => {
            let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&(len | 0x4000).to_be_bytes());
        }
    }
    bytes.extend_from_slice(content);
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn sign(key: &SigningKey, message: &[u8]) -> Signature {
    Signature(key.sign(message).to_bytes())
}
