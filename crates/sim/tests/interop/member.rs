//! A device whose program is not ours: an account at the real server, MLS by mls-rs, and the
//! profile of docs/protocol kept by this file alone. It trusts the Commits it reads: judging them
//! is the clients' part.

use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use mls_rs::client_builder::MlsConfig;
use mls_rs::extension::ExtensionType;
use mls_rs::extension::built_in::RequiredCapabilitiesExt;
use mls_rs::group::{CommitEffect, ReceivedMessage};
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::time::MlsTime;
use mls_rs::{CipherSuite, Client, Extension, ExtensionList, Group, MlsMessage};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use qpc_credential::{
    AccountKey, Certificate, CertificateBody, DeviceEntry, DeviceList, account_id,
};
use qpc_mls::context::{CHANNEL_EXTENSION, ChannelContext, POLICY_VERSION};
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::binding::Purpose;
use qpc_proto::chain::statements_digest;
use qpc_proto::content::{Body, Content};
use qpc_proto::message::{
    ChannelKind, ClaimKeyPackages, CommitBundle, CommitRequest, CreateChannel, DeviceRef, Enqueue,
    Entry, EntryKind, Fetch, Login, NewEntry, Page, Register, Request, Response, UploadKeyPackages,
    WelcomePointer, inbox_channel,
};
use qpc_proto::roster::RosterChange;
use qpc_proto::{
    ChannelId, DeviceId, Digest, ErrorBody, MessageId, PublicKey, RequestId, Signature,
};
use qpc_sim::World;

const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;
const NAME: &str = "foreign";
const GROUP: [u8; 32] = [44; 32];
const DAY: u64 = 24 * 3_600;
/// Before a KeyPackage in an MLSMessage: version mls10 and the wire format.
const KEY_PACKAGE_FRAME: [u8; 4] = [0, 1, 0, 5];

/// What a Commit is to do besides updating its maker.
#[derive(Default)]
pub(crate) struct Changes {
    adds: Vec<Bytes>,
    removes: Vec<u32>,
}

/// Such a device and what it knows.
pub(crate) struct Foreign<C: MlsConfig> {
    pub(crate) device: DeviceRef,
    pub(crate) channel: ChannelId,
    /// The last entry read, and the head there.
    pub(crate) cursor: u64,
    pub(crate) head: Digest,
    /// The last Commit applied.
    pub(crate) base: u64,
    pub(crate) removed: bool,
    client: Client<C>,
    group: Option<Group<C>>,
    /// Of its own Commit on the way.
    pending: Option<MessageId>,
    asked: u8,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn root() -> SigningKey {
    key(201)
}

fn account() -> SigningKey {
    key(202)
}

fn device_key() -> SigningKey {
    key(203)
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn sign(key: &SigningKey) -> impl Fn(&[u8]) -> Signature + '_ {
    |tbs| Signature(key.sign(tbs).to_bytes())
}

fn account_key() -> Bytes {
    AccountKey { root: public(&root()), generation: 1, key: public(&account()) }.sign(sign(&root()))
}

fn entry() -> DeviceEntry {
    DeviceEntry { device: DeviceId([203; 16]), key: public(&device_key()), not_after_ms: u64::MAX }
}

fn certificate() -> Certificate {
    let body = CertificateBody { list_version: 1, entry: entry(), name: NAME.to_owned() };
    Certificate::verify(&Certificate::sign(&account_key(), &body, sign(&account()))).unwrap()
}

/// The profile as mls-rs is told it.
pub(crate) fn client() -> Client<impl MlsConfig> {
    let identity = certificate().as_bytes().to_vec();
    let credential = BasicCredential::new(identity).into_credential();
    let (seed, public) = (device_key().to_bytes(), public(&device_key()).0);
    let identity = SigningIdentity::new(credential, public.to_vec().into());
    let rules = DefaultMlsRules::new()
        .with_commit_options(CommitOptions::new().with_path_required(true))
        .with_encryption_options(EncryptionOptions::new(true, Default::default()));
    Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(RustCryptoProvider::with_enabled_cipher_suites(vec![SUITE]))
        .mls_rules(rules)
        .extension_types([10, CHANNEL_EXTENSION].map(ExtensionType::new))
        .key_package_lifetime(Duration::from_secs(62 * DAY))
        .signing_identity(identity, [seed, public].concat().into(), SUITE)
        .build()
}

impl<C: MlsConfig> Foreign<C> {
    /// Registers an account and uploads KeyPackages.
    pub(crate) fn register(world: &mut World, (channel, client): (ChannelId, Client<C>)) -> Self {
        let device = certificate().device();
        assert_eq!(device.account, account_id(&public(&root())));
        let list = DeviceList {
            account: device.account,
            generation: 1,
            version: 1,
            name: NAME.to_owned(),
            devices: vec![entry()],
        };
        let mut raw = world.raw();
        let register = Request::Register(Register {
            name: NAME.to_owned(),
            account_key: account_key(),
            device_list: list.sign(sign(&account())),
            device: device.device,
            proof: sign(&device_key())(&raw.binding().to_be_signed(&device, Purpose::Register)),
            invite: Bytes::new(),
            proof_of_work: None,
        });
        world.ask_raw(&mut raw, (RequestId([1; 16]), &register)).unwrap().unwrap();
        let mut member = Self {
            device,
            channel,
            cursor: 0,
            head: Digest::ZERO,
            base: 0,
            removed: false,
            client,
            group: None,
            pending: None,
            asked: 1,
        };
        let key_packages = (0..2).map(|_| member.key_package(world)).collect();
        let upload =
            Request::UploadKeyPackages(UploadKeyPackages { key_packages, last_resort: None });
        member.asks(world, &upload).unwrap();
        member
    }

    fn key_package(&self, world: &World) -> Bytes {
        let since = MlsTime::from(world.now_ms / 1_000 - DAY);
        let none = ExtensionList::default;
        let message = self.client.generate_key_package_message(none(), none(), Some(since));
        let bytes = message.unwrap().to_bytes().unwrap();
        let (frame, key_package) = bytes.split_at(KEY_PACKAGE_FRAME.len());
        assert_eq!(frame, KEY_PACKAGE_FRAME);
        Bytes::copy_from_slice(key_package)
    }

    /// Asks on a connection of its own; tokens would not last.
    fn asks(&mut self, world: &mut World, request: &Request) -> Result<Response, ErrorBody> {
        let mut raw = world.raw();
        let binding = raw.binding().to_be_signed(&self.device, Purpose::Login);
        let login = Login { device: self.device, proof: sign(&device_key())(&binding) };
        world.ask_raw(&mut raw, (RequestId::ZERO, &Request::Login(login))).unwrap().unwrap();
        self.asked += 1;
        let id = if request.method().takes_request_id() { [self.asked; 16] } else { [0; 16] };
        world.ask_raw(&mut raw, (RequestId(id), request)).unwrap()
    }

    fn fetches(&mut self, world: &mut World, (channel, after_seq): (ChannelId, u64)) -> Page {
        let fetch = Request::Fetch(Fetch { channel, after_seq, bytes_max: 0 });
        let Response::Page(page) = self.asks(world, &fetch).unwrap() else { panic!("no page") };
        page
    }

    /// Joins by the Welcome in its inbox.
    pub(crate) fn join(&mut self, world: &mut World) {
        let inbox = inbox_channel(&self.device.device);
        let page = self.fetches(world, (inbox, 0));
        let entry = page.entries.iter().rev().find(|entry| entry.kind == EntryKind::Welcome);
        let entry = entry.expect("nobody invited it");
        let pointer = WelcomePointer::decode(&entry.payload).unwrap();
        assert_eq!(pointer.channel, self.channel);
        let welcome = MlsMessage::from_bytes(entry.welcome.as_ref().unwrap()).unwrap();
        let (group, _) = self.client.join_group(None, &welcome, None).unwrap();
        (self.group, self.base) = (Some(group), pointer.join_seq);
        (self.cursor, self.head) = (pointer.join_seq, pointer.head);
    }

    fn group(&mut self) -> &mut Group<C> {
        self.group.as_mut().expect("it is in no group")
    }

    /// Epoch and epoch authenticator.
    pub(crate) fn stands(&self) -> (u64, Vec<u8>) {
        let group = self.group.as_ref().unwrap();
        (group.current_epoch(), group.epoch_authenticator().unwrap().as_bytes().to_vec())
    }

    /// Reads on: the texts of others. A Commit of its own is put in force where the log has it.
    pub(crate) fn follow(&mut self, world: &mut World) -> Vec<String> {
        let mut texts = Vec::new();
        for entry in self.fetches(world, (self.channel, self.cursor)).entries {
            (self.cursor, self.head) = (entry.seq, entry.head);
            match entry.kind {
                EntryKind::Commit => self.reads_commit(&entry),
                EntryKind::Application => texts.extend(self.reads_message(&entry)),
                EntryKind::Statement | EntryKind::Welcome | EntryKind::Notice => {}
            }
        }
        texts
    }

    fn reads_commit(&mut self, entry: &Entry) {
        self.base = entry.seq;
        if self.pending.take() == Some(entry.message_id) {
            self.group().apply_pending_commit().unwrap();
            return;
        }
        let message = MlsMessage::from_bytes(&entry.payload).unwrap();
        let ReceivedMessage::Commit(commit) =
            self.group().process_incoming_message(message).unwrap()
        else {
            panic!("the log holds no Commit at {}", entry.seq)
        };
        self.removed = matches!(commit.effect, CommitEffect::Removed { .. });
    }

    /// The text, unless it is its own.
    fn reads_message(&mut self, entry: &Entry) -> Option<String> {
        if entry.message_id.0[0] == self.device.device.0[0] {
            return None;
        }
        let message = MlsMessage::from_bytes(&entry.payload).unwrap();
        let received = self.group().process_incoming_message(message).unwrap();
        let ReceivedMessage::ApplicationMessage(message) = received else {
            panic!("the log holds no message at {}", entry.seq)
        };
        let Body::Text(text) = Content::decode(message.data()).unwrap().body else {
            panic!("no text at {}", entry.seq)
        };
        Some(text)
    }

    fn aad(&self, commit: Option<CommitBinding>) -> Vec<u8> {
        let aad = Aad {
            channel: self.channel,
            base_commit: self.base,
            head_seq: self.cursor,
            head: self.head.short(),
            commit,
        };
        aad.encode()
    }

    fn message_id(&self) -> MessageId {
        let mut id = [self.asked; 16];
        id[0] = self.device.device.0[0];
        MessageId(id)
    }

    /// Posts a text.
    pub(crate) fn says(&mut self, world: &mut World, text: &str) {
        let content = Content {
            content_id: [self.asked; 16],
            sent_at_ms: world.now_ms,
            own_devices: None,
            body: Body::Text(text.to_owned()),
        };
        let aad = self.aad(None);
        let sealed = self.group().encrypt_application_message(&content.encode(), aad).unwrap();
        let entries = vec![NewEntry {
            message_id: self.message_id(),
            after_commit: self.base,
            payload: sealed.to_bytes().unwrap().into(),
        }];
        let enqueue = Request::Enqueue(Enqueue { channel: self.channel, entries });
        let Response::Enqueued(answer) = self.asks(world, &enqueue).unwrap() else {
            panic!("posted for no answer")
        };
        assert!(answer.refusal.is_none(), "{:?}", answer.refusal);
        super::rest(world);
    }

    fn seals(&mut self, (changes, change): (Changes, RosterChange)) -> CommitBundle {
        let binding =
            CommitBinding { roster_change: change.digest(), statements: statements_digest(&[]) };
        let aad = self.aad(Some(binding));
        let mut builder = self.group().commit_builder().authenticated_data(aad);
        for key_package in changes.adds {
            let framed = [KEY_PACKAGE_FRAME.as_slice(), &key_package].concat();
            builder = builder.add_member(MlsMessage::from_bytes(&framed).unwrap()).unwrap();
        }
        for leaf in changes.removes {
            builder = builder.remove_member(leaf).unwrap();
        }
        let made = builder.build().unwrap();
        let message_id = self.message_id();
        self.pending = Some(message_id);
        CommitBundle {
            message_id,
            after_commit: self.base,
            payload: made.commit_message.to_bytes().unwrap().into(),
            roster_change: change.encode().into(),
            welcome: made.welcome_messages.first().map(|it| it.to_bytes().unwrap().into()),
            statements: Vec::new(),
        }
    }

    /// Posts a Commit; it waits for the log to reach it.
    pub(crate) fn commits(&mut self, world: &mut World, what: (Changes, RosterChange)) {
        // Two Commits of one channel keep a distance.
        for _ in 0..5 {
            world.tick(5_000).unwrap();
        }
        let bundle = self.seals(what);
        let commit = Request::Commit(CommitRequest { channel: self.channel, bundle });
        let answer = self.asks(world, &commit).unwrap();
        assert!(matches!(answer, Response::Accepted(_)), "{answer:?}");
    }

    fn claims(&mut self, world: &mut World, client: usize) -> (Bytes, DeviceRef) {
        let account = world.account(client).unwrap();
        let claim = ClaimKeyPackages { account, devices: Vec::new() };
        let claims = self.asks(world, &Request::ClaimKeyPackages(claim)).unwrap();
        let Response::Claims(claims) = claims else { panic!("no KeyPackages") };
        let device = DeviceRef { account, device: world.device(client).unwrap() };
        (claims.claimed[0].key_package.clone(), device)
    }

    /// Makes a group, and with its first Commit a channel with these clients.
    pub(crate) fn found(&mut self, world: &mut World, clients: &[usize]) {
        let context = ChannelContext {
            channel: self.channel,
            kind: ChannelKind::Group,
            title: "Founded elsewhere".to_owned(),
            description: String::new(),
            replaces: None,
            admins: [self.device.account].into(),
            policy_version: POLICY_VERSION,
        };
        let kind = ExtensionType::new(CHANNEL_EXTENSION);
        let mut extensions = ExtensionList::new();
        extensions.set_from(RequiredCapabilitiesExt::new(vec![kind], vec![], vec![])).unwrap();
        extensions.set(Extension::new(kind, context.encode()));
        let (id, none) = (GROUP.to_vec(), ExtensionList::default());
        let since = Some(MlsTime::from(world.now_ms / 1_000 - DAY));
        let made = self.client.create_group_with_id(id, extensions, none, since);
        self.group = Some(made.unwrap());
        let (mut changes, mut change) = (Changes::default(), RosterChange::default());
        for index in clients {
            let (key_package, device) = self.claims(world, *index);
            changes.adds.push(key_package);
            change.adds.insert(device);
        }
        let bundle = self.seals((changes, change));
        let create = CreateChannel {
            channel: self.channel,
            kind: ChannelKind::Group,
            bundle,
            retention_ms: 0,
            reset: None,
        };
        self.asks(world, &Request::CreateChannel(create)).unwrap();
        self.follow(world);
    }

    /// Adds a client.
    pub(crate) fn adds(&mut self, world: &mut World, client: usize) {
        let (key_package, device) = self.claims(world, client);
        let changes = Changes { adds: vec![key_package], removes: Vec::new() };
        let change = RosterChange { adds: [device].into(), ..RosterChange::default() };
        self.commits(world, (changes, change));
    }

    /// Removes a client, found by the certificate in its leaf.
    pub(crate) fn removes(&mut self, world: &mut World, client: usize) {
        let device = world.device(client).unwrap();
        let members = self.group().roster().members();
        let leaf = members.iter().find(|leaf| {
            let basic = leaf.signing_identity.credential.as_basic().unwrap();
            Certificate::verify(&basic.identifier).unwrap().device().device == device
        });
        let account = world.account(client).unwrap();
        let changes = Changes { adds: Vec::new(), removes: vec![leaf.unwrap().index] };
        let change =
            RosterChange { removes: [DeviceRef { account, device }].into(), ..Default::default() };
        self.commits(world, (changes, change));
    }
}
