//! A server in this process, and a client just able to speak to it.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_credential::{
    AccountKey, Certificate, CertificateBody, DeviceEntry, DeviceList, account_id,
};
use qpc_faultvfs::FaultVfs;
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{
    Accepted, ChannelKind, CommitBundle, CreateChannel, Cursor, DeviceRef, Enqueue, Fetch, Login,
    LoginAnswer, Method, NewEntry, Page, Recover, RecoverPublish, Register, RegistrationMode,
    Request, Response,
};
use qpc_proto::roster::RosterChange;
use qpc_proto::{
    ChannelId, DeviceId, ErrorBody, MessageId, PublicKey, RequestId, Signature, Token, chain,
};
use qpc_server::limits::{Period, Rate, Rates};
use qpc_server::{Limits, Policy, Server, Settings, schemas};
use qpc_storage::{Durability, Key, Options, Store};
use qpc_transport::{Connection, FrameReceiver, FrameSender, TransportError, memory};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Any moment will do, as long as nobody asks the system.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// A server with open registration over a fresh database, and a clock that stands still.
pub(crate) struct Rig {
    pub(crate) server: Server,
    clock: Arc<AtomicU64>,
    tasks: JoinSet<()>,
    pairs: u64,
    pub(crate) dir: TempDir,
}

pub(crate) fn options() -> Options {
    Options::new(Key::from_bytes([1; 32]), schemas()).with_durability(Durability::Process)
}

pub(crate) fn store(dir: &Path) -> Store {
    Store::open(&dir.join("server.db"), &options()).unwrap()
}

impl Rig {
    pub(crate) fn start(limits: Limits) -> Self {
        Self::start_with(limits, |settings| settings)
    }

    /// The same with other settings.
    pub(crate) fn start_with(limits: Limits, change: impl FnOnce(Settings) -> Settings) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), (limits, change, store))
    }

    /// The same over a disk that fails on orders.
    pub(crate) fn start_on(vfs: &FaultVfs) -> Self {
        let options = Options { vfs: Some(vfs.name()), ..options() };
        let open = |dir: &Path| Store::open(&dir.join("server.db"), &options).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, (Limits::default(), |settings| settings, open))
    }

    /// Another server over the same database, after this one has ended in order.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(store).await
    }

    /// The same, over what `open` makes of the folder.
    pub(crate) async fn restart_with(self, open: impl FnOnce(&Path) -> Store) -> Self {
        let Self { server, mut tasks, dir, .. } = self;
        server.begin_stop();
        while tasks.join_next().await.is_some() {}
        server.stop().await.unwrap();
        Self::start_in(dir, (Limits::default(), |settings| settings, open))
    }

    fn start_in(
        dir: TempDir,
        (limits, change, store): (
            Limits,
            impl FnOnce(Settings) -> Settings,
            impl FnOnce(&Path) -> Store,
        ),
    ) -> Self {
        let clock = Arc::new(AtomicU64::new(START_MS));
        let mut policy = Policy::default();
        policy.auth.registration = RegistrationMode::Open;
        policy.auth.pow_bits = 0;
        let read = Arc::clone(&clock);
        // While the clock stands still no limit recovers; tests of limits set their own.
        let rates = match limits.rates {
            shipped if shipped == Rates::default() => {
                Rates::uniform(Rate::new(u32::MAX, Period::Second, u32::MAX))
            }
            rates => rates,
        };
        let limits = Limits { rates, ..limits };
        let clock_of = Arc::new(move || read.load(Ordering::SeqCst));
        let settings = change(Settings::new(policy, limits, clock_of));
        Self {
            server: Server::start(store(dir.path()), settings).unwrap(),
            clock,
            tasks: JoinSet::new(),
            pairs: 0,
            dir,
        }
    }

    pub(crate) fn pass(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }

    /// A connection in memory that nobody has logged in on.
    pub(crate) fn connect(&mut self) -> Client {
        self.connect_from("::1")
    }

    /// The same, from another address.
    pub(crate) fn connect_from(&mut self, address: &str) -> Client {
        self.pairs += 1;
        let mut exporter = [0; 32];
        exporter[..8].copy_from_slice(&self.pairs.to_be_bytes());
        let binding = ChannelBinding { exporter, fingerprint: [9; 32] };
        let client = SocketAddr::from((address.parse::<IpAddr>().unwrap(), 4_810));
        let (ours, theirs) = memory::pair_from(binding, client);
        self.tasks.spawn(self.server.attach(theirs));
        Client { connection: ours }
    }

    /// A connection of a freshly registered device.
    pub(crate) async fn join(&mut self, device: &Device) -> LoggedIn {
        let client = self.connect();
        client.register(device).await.unwrap();
        client.log_in(device).await
    }
}

/// An end without a token.
pub(crate) struct Client {
    pub(crate) connection: Connection,
}

/// An end with one.
pub(crate) struct LoggedIn {
    pub(crate) client: Client,
    pub(crate) tokens: LoginAnswer,
}

/// One stream.
pub(crate) struct Stream {
    pub(crate) sender: FrameSender,
    pub(crate) receiver: FrameReceiver,
}

impl Client {
    pub(crate) async fn stream(&self) -> Stream {
        let (sender, receiver) = self.connection.open_stream().await.unwrap();
        Stream { sender, receiver }
    }

    /// One frame there, one back, on a stream of its own.
    pub(crate) async fn exchange(&self, frame: Frame) -> Frame {
        let mut stream = self.stream().await;
        stream.sender.send(&frame).await.unwrap();
        let answer = stream.next().await.expect("an answer");
        stream.sender.finish().await.unwrap();
        answer
    }

    pub(crate) async fn call(
        &self,
        token: &Token,
        request: &Request,
    ) -> Result<Response, ErrorBody> {
        read(request.method(), self.exchange(frame(token, request)).await)
    }

    pub(crate) async fn register(&self, device: &Device) -> Result<Response, ErrorBody> {
        self.call(&Token::NONE, &device.register(&self.connection.binding(), Bytes::new())).await
    }

    pub(crate) async fn log_in(self, device: &Device) -> LoggedIn {
        let login = device.login(&self.connection.binding());
        match self.call(&Token::NONE, &login).await.unwrap() {
            Response::Tokens(tokens) => LoggedIn { client: self, tokens },
            other => panic!("{other:?}"),
        }
    }
}

impl LoggedIn {
    pub(crate) async fn call(&self, request: &Request) -> Result<Response, ErrorBody> {
        self.client.call(&self.tokens.access_token, request).await
    }

    pub(crate) fn frame(&self, request: &Request) -> Frame {
        frame(&self.tokens.access_token, request)
    }

    /// A channel with this device alone.
    pub(crate) async fn create_channel(&self, channel: ChannelId) -> Accepted {
        accepted(self.call(&create_channel(channel)).await.unwrap())
    }

    pub(crate) async fn enqueue(&self, channel: ChannelId, number: u8) -> Accepted {
        match self.call(&enqueue(channel, number)).await.unwrap() {
            Response::Enqueued(answer) => {
                assert_eq!(answer.refusal, None);
                answer.accepted[0]
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn seqs(&self, channel: ChannelId) -> Vec<u64> {
        match self.call(&fetch(channel)).await.unwrap() {
            Response::Page(page) => seqs(&page),
            other => panic!("{other:?}"),
        }
    }

    /// Follows a channel from its beginning; the first page has come.
    pub(crate) async fn subscribe(&self, channel: ChannelId) -> (Stream, Page) {
        let mut stream = self.client.stream().await;
        let request = Request::Subscribe(vec![Cursor { channel, seq: 0 }]);
        stream.sender.send(&self.frame(&request)).await.unwrap();
        let first = stream.page().await.unwrap();
        (stream, first)
    }
}

impl Stream {
    /// The next frame, or `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        self.receiver.next().await.unwrap()
    }

    /// The next page of a subscription, or its end.
    pub(crate) async fn page(&mut self) -> Result<Page, ErrorBody> {
        match read(Method::Subscribe, self.next().await.expect("an item"))? {
            Response::Page(page) => Ok(page),
            other => panic!("{other:?}"),
        }
    }

    /// Sends only the beginning of a frame that is larger than any buffer on the way.
    pub(crate) fn send_beginning(&mut self, frame: &Frame) {
        let mut sending = pin!(self.sender.send(frame));
        let poll = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending(), "the frame must not fit");
    }
}

/// A response or refusal from a frame.
pub(crate) fn read(method: Method, frame: Frame) -> Result<Response, ErrorBody> {
    match frame {
        Frame::Reply(body) | Frame::Item(body) => Ok(Response::decode(method, body).unwrap()),
        Frame::Error(code, body) => Err(ErrorBody::decode(code, &body).unwrap()),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn reset_code(stream: &mut Stream) -> u32 {
    match stream.receiver.next().await {
        Err(TransportError::Reset(code)) => code,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn accepted(response: Response) -> Accepted {
    match response {
        Response::Accepted(accepted) => accepted,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn seqs(page: &Page) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.seq).collect()
}

/// A request under a request id made of its bytes, where it needs one.
pub(crate) fn frame(token: &Token, request: &Request) -> Frame {
    let body = request.encode();
    let mut id = RequestId::ZERO;
    if request.method().takes_request_id() {
        id.0.copy_from_slice(&chain::sha256(&body).0[..16]);
    }
    frame_with(token, request, id)
}

pub(crate) fn frame_with(token: &Token, request: &Request, request_id: RequestId) -> Frame {
    Frame::Request(RequestFrame {
        method: request.method().as_u16(),
        token: token.clone(),
        request_id,
        body: request.encode(),
    })
}

/// The first device of an account of its own; everything follows from the seed.
#[derive(Clone)]
pub(crate) struct Device {
    root: SigningKey,
    account: SigningKey,
    key: SigningKey,
    pub(crate) id: DeviceRef,
    name: String,
    generation: u32,
    /// The end of its entry.
    pub(crate) not_after_ms: u64,
}

impl Device {
    pub(crate) fn new(seed: u8) -> Self {
        let key = |kind: u8| {
            let mut bytes = [seed; 32];
            bytes[0] = kind;
            SigningKey::from_bytes(&bytes)
        };
        let root = key(1);
        Self {
            id: DeviceRef { account: account_id(&public(&root)), device: DeviceId([seed; 16]) },
            root,
            account: key(2),
            key: key(3),
            name: format!("device-{seed}"),
            generation: 1,
            not_after_ms: u64::MAX,
        }
    }

    /// Another device of the same account.
    pub(crate) fn sibling(&self, seed: u8) -> Self {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let id = DeviceRef { device: DeviceId([seed; 16]), ..self.id };
        Self { key, id, ..self.clone() }
    }

    /// The same device after a recovery with the account's phrase.
    pub(crate) fn recovered(&self, seed: u8) -> Self {
        let account = SigningKey::from_bytes(&[seed; 32]);
        Self { account, generation: self.generation + 1, ..self.clone() }
    }

    /// What its leaves in groups carry.
    pub(crate) fn certificate(&self) -> Bytes {
        self.certified(1)
    }

    /// Its certificate with a list of this version.
    pub(crate) fn certified(&self, list_version: u64) -> Bytes {
        let (entry, name) = (self.entry(), self.name.clone());
        let body = CertificateBody { list_version, entry, name };
        Certificate::sign(&self.account_key(), &body, |tbs| sign(&self.account, tbs))
    }

    pub(crate) fn entry(&self) -> DeviceEntry {
        let (device, key) = (self.id.device, public(&self.key));
        DeviceEntry { device, key, not_after_ms: self.not_after_ms }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        sign(&self.key, message)
    }

    pub(crate) fn account_key(&self) -> Bytes {
        let (root, key) = (public(&self.root), public(&self.account));
        AccountKey { root, generation: self.generation, key }.sign(|tbs| sign(&self.root, tbs))
    }

    /// A signed list of devices of this account.
    pub(crate) fn list(&self, version: u64, devices: &[&Device]) -> Bytes {
        let mut devices: Vec<_> = devices.iter().map(|device| device.entry()).collect();
        devices.sort_by_key(|entry| entry.device);
        let (account, generation, name) = (self.id.account, self.generation, self.name.clone());
        DeviceList { account, generation, version, name, devices }
            .sign(|tbs| sign(&self.account, tbs))
    }

    /// A recovery by this device, or the question for the newest identity.
    pub(crate) fn recover(&self, binding: &ChannelBinding, list: Option<Bytes>) -> Request {
        let tbs = binding.to_be_signed(&self.id, Purpose::Recover);
        Request::Recover(Recover {
            root: public(&self.root),
            device: self.id.device,
            root_proof: sign(&self.root, &tbs),
            publish: list.map(|device_list| RecoverPublish {
                account_key: self.account_key(),
                device_list,
                proof: sign(&self.key, &tbs),
            }),
        })
    }

    pub(crate) fn register(&self, binding: &ChannelBinding, invite: Bytes) -> Request {
        Request::Register(Register {
            name: self.name.clone(),
            account_key: self.account_key(),
            device_list: self.list(1, &[self]),
            device: self.id.device,
            proof: sign(&self.key, &binding.to_be_signed(&self.id, Purpose::Register)),
            invite,
            proof_of_work: None,
        })
    }

    pub(crate) fn login(&self, binding: &ChannelBinding) -> Request {
        Request::Login(Login {
            device: self.id,
            proof: sign(&self.key, &binding.to_be_signed(&self.id, Purpose::Login)),
        })
    }
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn sign(key: &SigningKey, message: &[u8]) -> Signature {
    Signature(key.sign(message).to_bytes())
}

/// A group of the caller alone: its first Commit adds nobody.
pub(crate) fn create_channel(channel: ChannelId) -> Request {
    let change = RosterChange::default();
    let aad = Aad {
        channel,
        base_commit: 0,
        head_seq: 0,
        head: [0; 16],
        commit: Some(CommitBinding {
            roster_change: change.digest(),
            statements: chain::statements_digest(&[]),
        }),
    };
    Request::CreateChannel(CreateChannel {
        channel,
        retention_ms: 0,
        reset: None,
        kind: ChannelKind::Group,
        bundle: CommitBundle {
            message_id: MessageId([200; 16]),
            after_commit: 0,
            payload: private_message(3, &aad, &[0; 64]),
            roster_change: change.encode().into(),
            welcome: None,
            statements: Vec::new(),
        },
    })
}

/// One application entry, after the Commit that created the channel.
pub(crate) fn enqueue(channel: ChannelId, number: u8) -> Request {
    enqueue_of(channel, number, 100)
}

pub(crate) fn enqueue_of(channel: ChannelId, number: u8, bytes: usize) -> Request {
    let aad = Aad { channel, base_commit: 1, head_seq: 1, head: [0; 16], commit: None };
    Request::Enqueue(Enqueue {
        channel,
        entries: vec![NewEntry {
            message_id: MessageId([number; 16]),
            after_commit: 1,
            payload: private_message(1, &aad, &vec![number; bytes]),
        }],
    })
}

pub(crate) fn fetch(channel: ChannelId) -> Request {
    Request::Fetch(Fetch { channel, after_seq: 0, bytes_max: 0 })
}

/// An MLSMessage with a PrivateMessage (RFC 9420 sections 6 and 6.3.1) whose ciphertext is no
/// secret.
pub(crate) fn private_message(content_type: u8, aad: &Aad, ciphertext: &[u8]) -> Bytes {
    let mut bytes = vec![0, 1, 0, 2];
    put_vector(&mut bytes, &[7; 32]);
    bytes.extend_from_slice(&0_u64.to_be_bytes());
    bytes.push(content_type);
    put_vector(&mut bytes, &aad.encode());
    put_vector(&mut bytes, &[0; 28]);
    put_vector(&mut bytes, ciphertext);
    bytes.into()
}

/// A vector with its length as RFC 9420 section 2.1.2 writes it.
pub(crate) fn put_vector(bytes: &mut Vec<u8>, content: &[u8]) {
    let len = u32::try_from(content.len()).unwrap();
    match len {
        0..=0x3f => bytes.push(u8::try_from(len).unwrap()),
        0x40..=0x3fff => {
            bytes.extend_from_slice(&u16::try_from(len | 0x4000).unwrap().to_be_bytes())
        }
        _ => bytes.extend_from_slice(&(len | 0x8000_0000).to_be_bytes()),
    }
    bytes.extend_from_slice(content);
}
