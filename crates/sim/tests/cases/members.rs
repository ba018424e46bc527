//! Members whose program is not ours: a real account at the real server, a real MLS state, and
//! whatever they like to send. Built over the engine's own hostile members.

#[expect(dead_code, reason = "shared with the engine's tests, which use the rest")]
#[path = "../../../mls/tests/engine/hostile.rs"]
pub(crate) mod hostile;
#[expect(dead_code, reason = "shared with the engine's tests, which use the rest")]
#[path = "../../../mls/tests/engine/support.rs"]
pub(crate) mod support;

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_credential::{Posted, Said, StatementBody};
use qpc_mls::Verdict;
use qpc_mls::context::{ChannelContext, POLICY_VERSION};
use qpc_mls::engine::{CommitEntry, CommitPlan, Place};
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::binding::Purpose;
use qpc_proto::chain::statements_digest;
use qpc_proto::message::{
    ChannelKind, ClaimKeyPackages, CommitBundle, CommitRequest, CreateChannel, Enqueue, Entry,
    EntryKind, Fetch, Login, NewEntry, Page, Register, Request, Response, Statement,
    UploadKeyPackages, WelcomePointer, inbox_channel,
};
use qpc_proto::roster::RosterChange;
use qpc_proto::{
    AccountId, ChannelId, Digest, ErrorBody, ErrorCode, MessageId, RequestId, Signature,
};
use qpc_sim::World;

use hostile::{Attack, Lie};
use support::{Party, devices_statement, now_ms};

/// Seed of its keys; no other account of a world has them.
const SEED: u8 = 100;

/// A member with a program of its own.
pub(crate) struct Member {
    pub(crate) party: Party,
    pub(crate) channel: ChannelId,
    /// The last entry read, and the head there.
    pub(crate) cursor: u64,
    head: Digest,
    pub(crate) base: u64,
    pub(crate) last: u64,
    /// Message ids and request ids, by count.
    sent: u8,
    asked: u8,
}

/// What the server makes of something.
pub(crate) type Answer = Result<u64, ErrorCode>;

impl Member {
    /// Registers an account and uploads KeyPackages.
    pub(crate) fn register(world: &mut World, channel: ChannelId) -> Self {
        let mut party = Party::new(SEED);
        let Posted::Devices(identity) =
            Posted::verify(&devices_statement(SEED, (1, 1), &[&party]), &channel).unwrap()
        else {
            panic!("no list")
        };
        let identity = identity.to_message();
        let mut raw = world.raw();
        let register = Request::Register(Register {
            name: format!("user{SEED}"),
            account_key: identity.account_key,
            device_list: identity.device_list,
            device: party.id().device,
            proof: sign(&raw.binding().to_be_signed(&party.id(), Purpose::Register)),
            invite: Bytes::new(),
            proof_of_work: None,
        });
        world.ask_raw(&mut raw, (RequestId([1; 16]), &register)).unwrap().unwrap();
        let key_packages = (0..3).map(|_| party.key_package().bytes.into()).collect();
        let (cursor, head) = (0, Digest::ZERO);
        let mut member = Self { party, channel, cursor, head, base: 0, last: 0, sent: 0, asked: 1 };
        let upload =
            Request::UploadKeyPackages(UploadKeyPackages { key_packages, last_resort: None });
        member.asks(world, &upload).unwrap();
        member
    }

    /// A member of a group of client 0, who adds it.
    pub(crate) fn enter(world: &mut World, channel: ChannelId) -> Self {
        let mut member = Self::register(world, channel);
        let account = member.party.account();
        world.user(0, |m, s| m.change_members(s, &channel, (true, &[account]))).unwrap();
        world.settle().unwrap();
        member.join(world);
        member
    }

    fn join(&mut self, world: &mut World) {
        let inbox = inbox_channel(&self.party.id().device);
        let page = self.fetches(world, (inbox, 0));
        let entry = page.entries.iter().rev().find(|entry| entry.kind == EntryKind::Welcome);
        let entry = entry.expect("nobody invited it");
        let pointer = WelcomePointer::decode(&entry.payload).unwrap();
        assert_eq!(pointer.channel, self.channel);
        self.party.try_join(&pointer, entry.welcome.as_ref().unwrap()).unwrap();
        (self.cursor, self.head) = (pointer.join_seq, pointer.head);
        (self.base, self.last) = (pointer.join_seq, pointer.join_seq);
    }

    /// The other side of a direct channel of client 0, who opens it.
    pub(crate) fn opposite(world: &mut World) -> Self {
        let mut member = Self::register(world, support::CHANNEL);
        let account = member.party.account();
        member.channel = world.user(0, |m, s| m.direct(s, &account)).unwrap().channel;
        world.settle().unwrap();
        member.join(world);
        member
    }

    /// The founder, and so an admin, of a group with these clients in it.
    pub(crate) fn found(world: &mut World, others: &[usize]) -> Self {
        let others: Vec<_> = others.iter().map(|other| world.account(*other).unwrap()).collect();
        Self::found_of(world, &others)
    }

    /// The same with these accounts in it.
    pub(crate) fn found_of(world: &mut World, others: &[AccountId]) -> Self {
        let mut member = Self::register(world, support::CHANNEL);
        member.founds(world, (None, others));
        world.settle().unwrap();
        member
    }

    /// Makes a group with these accounts in it, which may say that it takes another's place.
    pub(crate) fn founds(
        &mut self,
        world: &mut World,
        (replaces, others): (Option<ChannelId>, &[AccountId]),
    ) {
        let (member, channel) = (self, support::CHANNEL);
        (member.channel, member.party.group) = (channel, support::GROUP);
        (member.cursor, member.head, member.base, member.last) = (0, Digest::ZERO, 0, 0);
        let context = ChannelContext {
            channel,
            kind: ChannelKind::Group,
            title: "Trap".to_owned(),
            admins: [member.party.account()].into(),
            description: String::new(),
            replaces,
            policy_version: POLICY_VERSION,
        };
        member.party.create(&context);
        let mut plan = CommitPlan::default();
        for other in others {
            plan.adds.extend(member.claims(world, *other));
        }
        let bundle = member.seals(&plan);
        let create = CreateChannel {
            channel,
            kind: ChannelKind::Group,
            bundle,
            retention_ms: 0,
            reset: None,
        };
        member.asks(world, &Request::CreateChannel(create)).unwrap();
        member.follow(world);
    }

    /// A KeyPackage of each device of an account.
    pub(crate) fn claims(&mut self, world: &mut World, account: AccountId) -> Vec<Vec<u8>> {
        let claim = ClaimKeyPackages { account, devices: Vec::new() };
        let claims = self.asks(world, &Request::ClaimKeyPackages(claim)).unwrap();
        let Response::Claims(claims) = claims else { panic!("no KeyPackages") };
        claims.claimed.iter().map(|claimed| claimed.key_package.to_vec()).collect()
    }

    /// Asks on a connection of its own; tokens would not last.
    fn asks(&mut self, world: &mut World, request: &Request) -> Result<Response, ErrorBody> {
        let mut raw = world.raw();
        let device = self.party.id();
        let proof = sign(&raw.binding().to_be_signed(&device, Purpose::Login));
        let login = Request::Login(Login { device, proof });
        world.ask_raw(&mut raw, (RequestId::ZERO, &login)).unwrap().unwrap();
        self.asked += 1;
        let id = if request.method().takes_request_id() { [self.asked; 16] } else { [0; 16] };
        world.ask_raw(&mut raw, (RequestId(id), request)).unwrap()
    }

    fn fetches(&mut self, world: &mut World, (channel, after_seq): (ChannelId, u64)) -> Page {
        let fetch = Request::Fetch(Fetch { channel, after_seq, bytes_max: 0 });
        let Response::Page(page) = self.asks(world, &fetch).unwrap() else { panic!("no page") };
        page
    }

    /// Whether the server still lets it read.
    pub(crate) fn may_read(&mut self, world: &mut World) -> bool {
        let fetch = Fetch { channel: self.channel, after_seq: self.cursor, bytes_max: 0 };
        matches!(self.asks(world, &Request::Fetch(fetch)), Ok(Response::Page(_)))
    }

    /// The whole log that it may read.
    pub(crate) fn log(&mut self, world: &mut World) -> Vec<Entry> {
        self.fetches(world, (self.channel, 0)).entries
    }

    /// Reads on and judges Commits, own ones too.
    pub(crate) fn follow(&mut self, world: &mut World) {
        for entry in self.fetches(world, (self.channel, self.cursor)).entries {
            (self.cursor, self.head) = (entry.seq, entry.head);
            if entry.kind != EntryKind::Commit {
                continue;
            }
            self.last = entry.seq;
            let read = CommitEntry {
                payload: &entry.payload,
                roster_change: &entry.roster_change,
                statements: &entry.statements,
                accepted_at_ms: entry.accepted_at_ms,
            };
            let group = self.party.group;
            let own = entry.message_id.0 == [self.sent; 16];
            let applied = self.party.run(|engine, tx| {
                let pending = own && engine.judge_pending(tx, &group, &read).is_ok();
                if pending {
                    engine.merge_pending(tx, &group)?;
                    return Ok(true);
                }
                Ok(matches!(engine.judge(tx, &group, &read)?, Verdict::Applied(_)))
            });
            if applied.unwrap() {
                self.base = entry.seq;
            }
        }
    }

    fn place(&self) -> Place {
        Place {
            channel: self.channel,
            base_commit: self.base,
            head_seq: self.cursor,
            head: self.head,
        }
    }

    /// The authenticated data of a Commit that declares a change.
    pub(crate) fn aad(&self, change: &RosterChange, statements: &[Bytes]) -> Aad {
        Aad {
            channel: self.channel,
            base_commit: self.base,
            head_seq: self.cursor,
            head: self.head.short(),
            commit: Some(CommitBinding {
                roster_change: change.digest(),
                statements: statements_digest(statements),
            }),
        }
    }

    fn message_id(&mut self) -> MessageId {
        self.sent += 1;
        MessageId([self.sent; 16])
    }

    /// An honest Commit, pending; one that was before is dropped.
    pub(crate) fn seals(&mut self, plan: &CommitPlan) -> CommitBundle {
        self.party.clear();
        let (place, group) = (self.place(), self.party.group);
        let sealed =
            self.party.run(|engine, tx| engine.commit(tx, &group, (&place, plan))).unwrap();
        CommitBundle {
            message_id: self.message_id(),
            after_commit: self.last,
            payload: sealed.payload.into(),
            roster_change: sealed.change.encode().into(),
            welcome: sealed.welcome.map(Into::into),
            statements: plan.statements.clone(),
        }
    }

    /// A Commit of a crooked engine; what it declares is bound, and may be a lie.
    pub(crate) fn crooked(
        &mut self,
        (change, statements): (&RosterChange, &[Bytes]),
        attack: Attack,
    ) -> CommitBundle {
        let aad = self.aad(change, statements);
        CommitBundle {
            message_id: self.message_id(),
            after_commit: self.last,
            payload: self.party.attack(&aad, attack).into(),
            roster_change: change.encode().into(),
            welcome: None,
            statements: statements.to_vec(),
        }
    }

    pub(crate) fn commits(&mut self, world: &mut World, bundle: CommitBundle) -> Answer {
        let commit = Request::Commit(CommitRequest { channel: self.channel, bundle });
        place_of(self.asks(world, &commit))
    }

    /// A message, sealed honestly.
    pub(crate) fn message(&mut self, text: &[u8]) -> Bytes {
        let (place, group) = (self.place(), self.party.group);
        self.party.run(|engine, tx| engine.seal(tx, &group, (&place, text))).unwrap().into()
    }

    /// A message that says what was read before it.
    pub(crate) fn message_after(&mut self, head_seq: u64, text: &[u8]) -> Bytes {
        let (place, group) = (Place { head_seq, ..self.place() }, self.party.group);
        self.party.run(|engine, tx| engine.seal(tx, &group, (&place, text))).unwrap().into()
    }

    /// A Commit that says what was read before it.
    pub(crate) fn commit_after(&mut self, head_seq: u64) -> CommitBundle {
        let read = std::mem::replace(&mut self.cursor, head_seq);
        let bundle = self.seals(&CommitPlan::default());
        self.cursor = read;
        self.party.clear();
        bundle
    }

    /// Posts bytes as an application entry.
    pub(crate) fn posts(&mut self, world: &mut World, payload: Bytes) -> Answer {
        let message_id = self.message_id();
        let entries = vec![NewEntry { message_id, after_commit: self.last, payload }];
        let enqueue = Request::Enqueue(Enqueue { channel: self.channel, entries });
        let answer = self.asks(world, &enqueue).map_err(|refusal| refusal.code)?;
        let Response::Enqueued(answer) = answer else { panic!("posted: {answer:?}") };
        match answer.refusal {
            Some(refusal) => Err(refusal.code),
            None => Ok(answer.accepted[0].seq),
        }
    }

    /// Posts bytes as a statement.
    pub(crate) fn states(&mut self, world: &mut World, statement: Bytes) -> Answer {
        let request = Request::Statement(Statement { channel: self.channel, statement });
        place_of(self.asks(world, &request))
    }

    /// What it says it made of a Commit.
    pub(crate) fn verdict(&self, said: Said) -> Bytes {
        let statement = qpc_credential::Statement {
            channel: self.channel,
            certificate: self.party.certificate.clone(),
            issued_at_ms: now_ms(),
            body: StatementBody::Verdict(said),
        };
        statement.sign(sign)
    }

    /// The HPKE keys of clients' leaves.
    pub(crate) fn keys_of(&mut self, world: &mut World, clients: &[usize]) -> Vec<Vec<u8>> {
        let leaves: Vec<u32> = clients.iter().map(|client| self.leaf_of(world, *client)).collect();
        self.party.bare(Lie::None, |group, _, _| {
            let of = |leaf: &u32| group.members().find(|member| member.index.u32() == *leaf);
            leaves.iter().filter_map(of).map(|member| member.encryption_key).collect()
        })
    }

    /// A Commit that these clients can't open and all others can.
    pub(crate) fn splits(&mut self, world: &mut World, victims: &[usize]) -> u64 {
        let lie = Lie::RubbishForAll(self.keys_of(world, victims));
        let attack = Attack { lie, ..Attack::default() };
        let lie = self.crooked((&RosterChange::default(), &[]), attack);
        self.commits(world, lie).unwrap()
    }

    /// The leaf of a client.
    pub(crate) fn leaf_of(&mut self, world: &mut World, client: usize) -> u32 {
        let device = world.device(client).unwrap();
        let members = self.party.view().members;
        members.iter().find(|leaf| leaf.certificate.device().device == device).unwrap().index
    }
}

/// Accounts of a device each, whose KeyPackages lie at the server and who never come again.
pub(crate) fn strangers(world: &mut World, seeds: std::ops::Range<u8>) -> Vec<AccountId> {
    seeds.map(|seed| Stranger::register(world, seed).party.account()).collect()
}

/// A device that follows no log, and says what it likes.
pub(crate) struct Stranger {
    pub(crate) party: Party,
    seed: u8,
    asked: u8,
}

impl Stranger {
    /// Registers an account and uploads a KeyPackage.
    pub(crate) fn register(world: &mut World, seed: u8) -> Self {
        let party = Party::new(seed);
        let statement = devices_statement(seed, (1, 1), &[&party]);
        let Posted::Devices(identity) = Posted::verify(&statement, &support::CHANNEL).unwrap()
        else {
            panic!("no list")
        };
        let identity = identity.to_message();
        let mut raw = world.raw();
        let mut stranger = Self { party, seed, asked: 1 };
        let register = Request::Register(Register {
            name: format!("user{seed}"),
            account_key: identity.account_key,
            device_list: identity.device_list,
            device: stranger.party.id().device,
            proof: stranger.proof(&raw, Purpose::Register),
            invite: Bytes::new(),
            proof_of_work: None,
        });
        world.ask_raw(&mut raw, (RequestId([1; 16]), &register)).unwrap().unwrap();
        let key_packages = vec![stranger.party.key_package().bytes.into()];
        let upload = UploadKeyPackages { key_packages, last_resort: None };
        stranger.asks(world, &Request::UploadKeyPackages(upload)).unwrap();
        stranger
    }

    fn proof(&self, raw: &qpc_sim::Raw, purpose: Purpose) -> Signature {
        let key = SigningKey::from_bytes(&[self.seed + 2; 32]);
        let proof = raw.binding().to_be_signed(&self.party.id(), purpose);
        Signature(key.sign(&proof).to_bytes())
    }

    fn asks(&mut self, world: &mut World, request: &Request) -> Result<Response, ErrorBody> {
        let mut raw = world.raw();
        let device = self.party.id();
        let login = Request::Login(Login { device, proof: self.proof(&raw, Purpose::Login) });
        world.ask_raw(&mut raw, (RequestId::ZERO, &login)).unwrap().unwrap();
        self.asked += 1;
        let id = if request.method().takes_request_id() { [self.asked; 16] } else { [0; 16] };
        world.ask_raw(&mut raw, (RequestId(id), request)).unwrap()
    }

    /// Posts what it says it made of a Commit.
    pub(crate) fn votes(
        &mut self,
        world: &mut World,
        (channel, said): (ChannelId, Said),
    ) -> Answer {
        let statement = self.party.statement(channel, StatementBody::Verdict(said));
        self.states(world, (channel, statement))
    }

    /// Posts bytes as a statement.
    pub(crate) fn states(
        &mut self,
        world: &mut World,
        (channel, statement): (ChannelId, Bytes),
    ) -> Answer {
        place_of(self.asks(world, &Request::Statement(Statement { channel, statement })))
    }
}

fn place_of(answer: Result<Response, ErrorBody>) -> Answer {
    let answer = answer.map_err(|refusal| refusal.code)?;
    let Response::Accepted(accepted) = answer else { panic!("asked for a place: {answer:?}") };
    Ok(accepted.seq)
}

/// Signs with the device's key: the third seed of a party.
fn sign(bytes: &[u8]) -> Signature {
    Signature(SigningKey::from_bytes(&[SEED + 2; 32]).sign(bytes).to_bytes())
}

/// The party's clock is the machine's, as OpenMLS's is.
#[test]
fn the_clock_of_a_party_is_that_of_a_world() {
    let world = World::new(1, 0).unwrap();
    assert!(world.now_ms.abs_diff(now_ms()) < 3_600_000);
}
