//! Members with a database each, and the entries that pass between them; nothing here knows what a
//! verdict should be.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "Clippy excuses test functions, not the functions they share"
)]

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use openmls::prelude::tls_codec::{Serialize as _, VLBytes};
use openmls_rust_crypto::RustCrypto;
use qpc_credential::{AccountKey, Certificate, CertificateBody, DeviceEntry, DeviceList};
use qpc_credential::{Statement, StatementBody};
use qpc_mls::context::{ChannelContext, POLICY_VERSION};
use qpc_mls::engine::{
    CommitEntry, CommitPlan, GroupView, Joined, MlsGroupId, NewKeyPackage, Opened, Place,
    SealedCommit,
};
use qpc_mls::{Applied, Device, Engine, MlsError, Verdict, schema};
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::chain::{sha256, statements_digest};
use qpc_proto::message::{ChannelKind, DeviceRef, Identity, WelcomePointer};
use qpc_proto::roster::RosterChange;
use qpc_proto::{AccountId, ChannelId, DeviceId, Digest, PublicKey, Signature};
use qpc_storage::{Durability, Key, Options, Outcome, Store, Tx, sql};
use tempfile::TempDir;

pub(crate) const SUITE: openmls::prelude::Ciphersuite =
    openmls::prelude::Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
pub(crate) const GROUP: MlsGroupId = [7; 32];
pub(crate) const CHANNEL: ChannelId = ChannelId([9; 16]);
pub(crate) const HEAD: Digest = Digest([5; 32]);
const YEAR_MS: u64 = 365 * 24 * 3_600_000;

const TABLES: [&str; 9] = [
    "mls_group",
    "mls_message_secrets",
    "mls_own_leaf_node",
    "mls_proposal",
    "mls_epoch_key_pairs",
    "mls_signature_key_pair",
    "mls_encryption_key_pair",
    "mls_key_package",
    "mls_psk",
];

/// OpenMLS compares lifetimes with this clock, so the tests must live in its time.
#[expect(clippy::disallowed_methods, reason = "OpenMLS reads it too; only used as a base")]
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A Commit as the log would hold it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) payload: Vec<u8>,
    pub(crate) change: Vec<u8>,
    pub(crate) statements: Vec<Bytes>,
    pub(crate) accepted_at_ms: u64,
    pub(crate) welcome: Option<Vec<u8>>,
}

impl Entry {
    pub(crate) fn read(&self) -> CommitEntry<'_> {
        CommitEntry {
            payload: &self.payload,
            roster_change: &self.change,
            statements: &self.statements,
            accepted_at_ms: self.accepted_at_ms,
        }
    }
}

/// A device of an account of its own (or of `Party::sibling`'s account).
pub(crate) struct Party {
    pub(crate) engine: Engine,
    pub(crate) certificate: Certificate,
    /// The group that everything below is about.
    pub(crate) group: MlsGroupId,
    key: SigningKey,
    store: Option<Store>,
    dir: TempDir,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

pub(crate) fn sign(key: &SigningKey) -> impl Fn(&[u8]) -> Signature + '_ {
    |tbs| Signature(key.sign(tbs).to_bytes())
}

/// The certificate of device `device` (with the key of that seed) of account `account`.
pub(crate) fn certificate((account, device): (u8, u8), not_after_ms: u64) -> Certificate {
    certificate_over((account, device, device), (1, not_after_ms))
}

/// The root's statement of its account's key, which is the same in every generation.
fn account_key(account: u8, generation: u32) -> Bytes {
    let (root, primary) = (key(account), key(account + 1));
    AccountKey { root: public(&root), generation, key: public(&primary) }.sign(sign(&root))
}

/// The statement of an account's device list of some generation and version.
pub(crate) fn devices_statement(
    account: u8,
    (generation, version): (u32, u64),
    devices: &[&Party],
) -> Bytes {
    let mut entries: Vec<_> = devices.iter().map(|party| party.certificate.entry).collect();
    entries.sort_by_key(|entry| entry.device);
    let id = qpc_credential::account_id(&public(&key(account)));
    let list = DeviceList {
        account: id,
        generation,
        version,
        name: format!("user{account}"),
        devices: entries,
    };
    qpc_credential::devices_statement(&Identity {
        account: id,
        account_key: account_key(account, generation),
        device_list: list.sign(sign(&key(account + 1))),
    })
}

/// The certificate of a device of these seeds (account, device id, device key) by the account key.
pub(crate) fn certificate_over(
    (account, device, device_key): (u8, u8, u8),
    (list_version, not_after_ms): (u64, u64),
) -> Certificate {
    let primary = key(account + 1);
    let statement = account_key(account, 1);
    let entry =
        DeviceEntry { device: DeviceId([device; 16]), key: public(&key(device_key)), not_after_ms };
    let body = CertificateBody { list_version, entry, name: format!("user{account}") };
    let bytes = Certificate::sign(&statement, &body, sign(&primary));
    Certificate::verify(&bytes).unwrap()
}

fn open(dir: &TempDir) -> Store {
    let options =
        Options::new(Key::from_bytes([3; 32]), vec![schema()]).with_durability(Durability::Process);
    Store::open(&dir.path().join("member.db"), &options).unwrap()
}

impl Party {
    /// Seeds `account` and `account + 1` are root and account key, `account + 2` the device's.
    pub(crate) fn new(account: u8) -> Self {
        Self::device_of(account, account + 2)
    }

    pub(crate) fn device_of(account: u8, device: u8) -> Self {
        Self::until((account, device), now_ms() + YEAR_MS)
    }

    pub(crate) fn until((account, device): (u8, u8), not_after_ms: u64) -> Self {
        Self::made((account, device, device), (1, not_after_ms))
    }

    /// Seeds of account, device id and device key.
    pub(crate) fn with_key(seeds: (u8, u8, u8)) -> Self {
        Self::made(seeds, (1, now_ms() + YEAR_MS))
    }

    /// A device that came to its account with a later list.
    pub(crate) fn linked((account, device): (u8, u8), list_version: u64) -> Self {
        Self::made((account, device, device), (list_version, now_ms() + YEAR_MS))
    }

    fn made((account, device, device_key): (u8, u8, u8), listed: (u64, u64)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificate = certificate_over((account, device, device_key), listed);
        let key = key(device_key);
        let bytes = certificate.as_bytes().to_vec();
        let engine = Engine::new(Device::new(certificate.device(), bytes, key.clone()));
        Self { engine, certificate, group: GROUP, key, store: Some(open(&dir)), dir }
    }

    pub(crate) fn id(&self) -> DeviceRef {
        self.certificate.device()
    }

    pub(crate) fn account(&self) -> AccountId {
        self.id().account
    }

    /// One that has nothing in memory.
    pub(crate) fn another_engine(&self) -> Engine {
        Engine::new(self.engine.device().clone())
    }

    /// Closes the database and opens it again, with nothing in memory.
    pub(crate) fn reopen(&mut self) {
        self.store = None;
        self.engine = self.another_engine();
        self.store = Some(open(&self.dir));
    }

    /// One transaction.
    pub(crate) fn run<T: Send>(
        &mut self,
        work: impl FnOnce(&Engine, &Tx<'_>) -> Result<T, MlsError> + Send,
    ) -> Result<T, MlsError> {
        let engine = &self.engine;
        match self.store.as_mut().unwrap().transact(|tx| work(engine, tx)).unwrap() {
            Outcome::Done(value) => Ok(value),
            Outcome::Refused(error) => Err(error),
            Outcome::Panicked => panic!("a step panicked"),
        }
    }

    pub(crate) fn create(&mut self, context: &ChannelContext) {
        let group = self.group;
        self.run(|engine, tx| engine.create(tx, &group, (context, now_ms()))).unwrap();
    }

    pub(crate) fn key_package(&mut self) -> NewKeyPackage {
        self.run(|engine, tx| engine.key_package(tx, false, now_ms())).unwrap()
    }

    pub(crate) fn try_commit(&mut self, base: u64, plan: &CommitPlan) -> Result<Entry, MlsError> {
        let group = self.group;
        let sealed: SealedCommit =
            self.run(|engine, tx| engine.commit(tx, &group, (&place(base), plan)))?;
        Ok(Entry {
            payload: sealed.payload,
            change: sealed.change.encode(),
            statements: plan.statements.clone(),
            accepted_at_ms: now_ms(),
            welcome: sealed.welcome,
        })
    }

    pub(crate) fn commit(&mut self, base: u64, plan: &CommitPlan) -> Entry {
        self.try_commit(base, plan).unwrap()
    }

    pub(crate) fn judge(&mut self, entry: &Entry) -> Verdict {
        let group = self.group;
        self.run(|engine, tx| engine.judge(tx, &group, &entry.read())).unwrap()
    }

    /// Who made a Commit that this member can't open.
    pub(crate) fn committer(&mut self, entry: &Entry) -> Option<DeviceRef> {
        let (group, read) = (self.group, (entry.payload.as_slice(), entry.accepted_at_ms));
        self.run(|engine, tx| engine.committer(tx, &group, read)).unwrap()
    }

    pub(crate) fn judge_pending(&mut self, entry: &Entry) -> Verdict {
        let group = self.group;
        self.run(|engine, tx| engine.judge_pending(tx, &group, &entry.read())).unwrap()
    }

    /// The log reached the own Commit.
    pub(crate) fn merge(&mut self, entry: &Entry) -> Applied {
        let group = self.group;
        let Verdict::Applied(applied) = self.judge_pending(entry) else {
            panic!("the own Commit is not in force")
        };
        self.run(|engine, tx| engine.merge_pending(tx, &group)).unwrap();
        applied
    }

    pub(crate) fn clear(&mut self) {
        let group = self.group;
        self.run(|engine, tx| engine.clear_pending(tx, &group)).unwrap();
    }

    pub(crate) fn try_join(&mut self, pointer: &WelcomePointer, welcome: &[u8]) -> JoinResult {
        let joined = self.run(|engine, tx| engine.join(tx, pointer, welcome))?;
        self.group = joined.group;
        Ok(joined)
    }

    pub(crate) fn join(&mut self, entry: &Entry) -> Joined {
        let welcome = entry.welcome.as_deref().expect("the Commit adds nobody");
        self.try_join(&pointer(welcome), welcome).unwrap()
    }

    pub(crate) fn seal(&mut self, base: u64, text: &[u8]) -> Vec<u8> {
        let group = self.group;
        self.run(|engine, tx| engine.seal(tx, &group, (&place(base), text))).unwrap()
    }

    pub(crate) fn open(&mut self, payload: &[u8]) -> Result<Opened, MlsError> {
        let group = self.group;
        self.run(|engine, tx| engine.open(tx, &group, payload))
    }

    pub(crate) fn reads(&mut self, payload: &[u8], text: &[u8]) {
        assert_eq!(self.open(payload).unwrap().plaintext.as_slice(), text);
    }

    pub(crate) fn view(&mut self) -> GroupView {
        let group = self.group;
        self.run(|engine, tx| engine.view(tx, &group)).unwrap()
    }

    /// Everything that the engine keeps, byte for byte.
    pub(crate) fn state(&mut self) -> Vec<String> {
        self.run(|_, tx| Ok(TABLES.iter().flat_map(|table| rows(tx, table)).collect())).unwrap()
    }

    pub(crate) fn leave_statement(&self, channel: ChannelId) -> Bytes {
        self.statement(channel, StatementBody::Leave)
    }

    /// `SignWithLabel` (RFC 9420 section 5.1.2).
    pub(crate) fn sign_labelled(&self, label: &str, content: &[u8]) -> [u8; 64] {
        let label = VLBytes::new(format!("MLS 1.0 {label}").into_bytes());
        let content = VLBytes::new(content.to_vec());
        let labelled = [label, content].map(|part| part.tls_serialize_detached().unwrap());
        sign(&self.key)(&labelled.concat()).0
    }

    /// What this device says in a channel.
    pub(crate) fn statement(&self, channel: ChannelId, body: StatementBody) -> Bytes {
        let statement = Statement {
            channel,
            certificate: self.certificate.clone(),
            issued_at_ms: now_ms(),
            body,
        };
        statement.sign(sign(&self.key))
    }
}

pub(crate) type JoinResult = Result<Joined, MlsError>;

fn rows(tx: &Tx<'_>, table: &str) -> Vec<String> {
    let mut statement = tx.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
    let columns = statement.column_count();
    let line = |row: &sql::Row<'_>| {
        let values: Vec<_> = (0..columns).map(|at| row.get_ref(at).unwrap()).collect();
        Ok(format!("{table} {values:?}"))
    };
    statement.query_map([], line).unwrap().map(Result::unwrap).collect()
}

pub(crate) fn place(base: u64) -> Place {
    Place { channel: CHANNEL, base_commit: base, head_seq: base, head: HEAD }
}

/// The authenticated data that goes with a declared change.
pub(crate) fn aad(base: u64, change: &RosterChange, statements: &[Bytes]) -> Aad {
    Aad {
        channel: CHANNEL,
        base_commit: base,
        head_seq: base,
        head: HEAD.short(),
        commit: Some(CommitBinding {
            roster_change: change.digest(),
            statements: statements_digest(statements),
        }),
    }
}

pub(crate) fn pointer(welcome: &[u8]) -> WelcomePointer {
    WelcomePointer {
        channel: CHANNEL,
        kind: ChannelKind::Group,
        join_seq: 1,
        head: HEAD,
        welcome_hash: sha256(welcome),
        inviter: AccountId([0; 16]),
    }
}

pub(crate) fn context(admins: &[&Party]) -> ChannelContext {
    ChannelContext {
        channel: CHANNEL,
        kind: ChannelKind::Group,
        title: "Fishing".to_owned(),
        admins: admins.iter().map(|party| party.account()).collect(),
        description: String::new(),
        replaces: None,
        policy_version: POLICY_VERSION,
    }
}

pub(crate) fn adding(packages: &[&NewKeyPackage]) -> CommitPlan {
    let adds = packages.iter().map(|package| package.bytes.clone()).collect();
    CommitPlan { adds, ..CommitPlan::default() }
}

pub(crate) fn removing(devices: &[&Party]) -> CommitPlan {
    let removes = devices.iter().map(|party| party.id()).collect();
    CommitPlan { removes, ..CommitPlan::default() }
}

/// Alice (admin), Bob and Carol in one group, at base 1.
pub(crate) fn trio() -> [Party; 3] {
    let (mut alice, mut bob, mut carol) = (Party::new(10), Party::new(20), Party::new(30));
    let context = context(&[&alice]);
    alice.create(&context);
    let plan = adding(&[&bob.key_package(), &carol.key_package()]);
    let entry = alice.commit(0, &plan);
    alice.merge(&entry);
    bob.join(&entry);
    carol.join(&entry);
    [alice, bob, carol]
}

/// All stand in the same epoch with the same keys.
pub(crate) fn assert_in_step(parties: &mut [&mut Party]) {
    let views: Vec<GroupView> = parties.iter_mut().map(|party| party.view()).collect();
    for view in &views {
        assert_eq!(view.epoch, views[0].epoch);
        assert_eq!(view.epoch_authenticator, views[0].epoch_authenticator);
        assert_eq!(view.context, views[0].context);
        let devices = |view: &GroupView| -> Vec<_> {
            view.members.iter().map(|m| (m.index, m.certificate.device())).collect()
        };
        assert_eq!(devices(view), devices(&views[0]));
    }
}

/// The crypto of honest members.
pub(crate) fn crypto() -> RustCrypto {
    RustCrypto::default()
}

/// The committer (first) and all others skip an entry alike.
pub(crate) fn void_for_all(
    entry: &Entry,
    why: qpc_mls::VoidReason,
    [committer, others @ ..]: [&mut Party; 3],
) {
    assert_eq!(committer.judge_pending(entry), Verdict::Void(why));
    committer.clear();
    for party in others {
        let before = party.state();
        assert_eq!(party.judge(entry), Verdict::Void(why));
        assert_eq!(party.state(), before);
    }
}

pub(crate) fn applies(party: &mut Party, entry: &Entry) -> Applied {
    match party.judge(entry) {
        Verdict::Applied(applied) => applied,
        other @ (Verdict::Void(_) | Verdict::Unjudged(_)) => panic!("not in force: {other:?}"),
    }
}
