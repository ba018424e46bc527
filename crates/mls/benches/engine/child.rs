//! What is counted: operations of the engine in a transaction each, and the same calls of OpenMLS
//! over its storage in memory, with one commit of the bytes that the engine left changed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::{
    GroupId, KeyPackageIn, MlsGroup, MlsMessageBodyIn, MlsMessageIn, ProtocolMessage,
    ProtocolVersion, StagedWelcome,
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;
use qpc_mls::Engine;
use qpc_mls::engine::CommitPlan;
use qpc_storage::{Migration, Schema, Store};

use crate::groups::{
    GROUP, MEASURED, Person, TEXT, done, files, join_config, open, place, pointer, pointer_to,
};
use crate::rows::Rows;

/// Whose work is counted.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    Ours,
    Floor,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Floor => "floor",
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Operation {
    Seal,
    Open,
    Add,
    Join,
}

impl Operation {
    pub(crate) const ALL: [Self; 4] = [Self::Seal, Self::Open, Self::Add, Self::Join];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
            Self::Add => "add",
            Self::Join => "join",
        }
    }

    /// Whether it can be done again in the group that it leaves.
    pub(crate) fn repeats(self) -> bool {
        matches!(self, Self::Seal | Self::Open)
    }
}

/// The floor's table: one row that is written over.
pub(crate) fn schema() -> Schema {
    const MIGRATIONS: &[Migration] =
        &[Migration { name: "row", sql: "CREATE TABLE row(no INTEGER PRIMARY KEY, value BLOB)" }];
    Schema { name: "floor", migrations: MIGRATIONS, oldest_reader: 1 }
}

/// Runs `count` operations and ends the process as it stands: what closing would write belongs to
/// no operation.
pub(crate) fn run((side, operation): (&str, &str), count: u64, dir: &Path) -> ! {
    let side = if side == Side::Ours.name() { Side::Ours } else { Side::Floor };
    let operation = Operation::ALL.into_iter().find(|known| known.name() == operation).unwrap();
    let file = files(dir, side);
    // Each child begins from the same file.
    let before = format!("{}.db", beginning(operation));
    let copy = file("copy.db");
    for suffix in ["", "-wal", "-shm"] {
        let _gone = std::fs::remove_file(with(&copy, suffix));
    }
    if file(&before).exists() {
        std::fs::copy(file(&before), &copy).unwrap();
    }
    let mut store = open(&copy);
    let start = written(&copy);
    match side {
        Side::Ours => ours(&mut store, operation, (count, &file)),
        Side::Floor => floor(&mut store, operation, (count, dir)),
    }
    println!("written: {}", written(&copy).saturating_sub(start));
    std::process::exit(0);
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Bytes in the log of a database.
fn written(path: &Path) -> u64 {
    std::fs::metadata(with(path, "-wal")).map_or(0, |file| file.len())
}

fn read(file: &impl Fn(&str) -> PathBuf, name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

fn ours(store: &mut Store, operation: Operation, (count, file): (u64, &impl Fn(&str) -> PathBuf)) {
    let engine = Person::new(MEASURED).engine();
    for number in 0..count {
        one_of_ours((&engine, &mut *store), operation, (number, file));
    }
}

/// One operation in a transaction of its own.
fn one_of_ours(
    (engine, store): (&Engine, &mut Store),
    operation: Operation,
    (number, file): (u64, &impl Fn(&str) -> PathBuf),
) {
    match operation {
        Operation::Seal => {
            done(store, |tx| engine.seal(tx, &GROUP, (&place(), &TEXT)));
        }
        Operation::Open => {
            let payload = read(file, &format!("text{number}"));
            done(store, |tx| engine.open(tx, &GROUP, &payload));
        }
        Operation::Add => {
            let plan = CommitPlan { adds: vec![read(file, "package")], ..CommitPlan::default() };
            done(store, |tx| engine.commit(tx, &GROUP, (&place(), &plan)));
        }
        Operation::Join => {
            let welcome = read(file, "welcome");
            let named = pointer_to(read(file, "hash").as_slice().try_into().unwrap());
            done(store, |tx| engine.join(tx, &named, &welcome));
        }
    }
}

/// Where a child begins from.
fn beginning(operation: Operation) -> &'static str {
    if operation == Operation::Join { "before" } else { "after" }
}

/// Runs `count` operations of the engine and leaves the bytes that each of them changed in files.
pub(crate) fn note_changes(dir: &Path, operation: Operation, count: u64) {
    let file = files(dir, Side::Ours);
    let copy = file("noted.db");
    std::fs::copy(file(&format!("{}.db", beginning(operation))), &copy).unwrap();
    let (engine, mut store) = (Person::new(MEASURED).engine(), open(&copy));
    let mut rows = Rows::read(&mut store);
    for number in 0..count {
        one_of_ours((&engine, &mut store), operation, (number, &file));
        let after = Rows::read(&mut store);
        std::fs::write(dir.join(changes(operation, number)), after.changed_since(&rows)).unwrap();
        rows = after;
    }
    store.close().unwrap();
}

/// The bytes that an operation of the engine changed.
fn changes(operation: Operation, number: u64) -> String {
    format!("{}{number}.changed", operation.name())
}

fn floor(store: &mut Store, operation: Operation, (count, dir): (u64, &Path)) {
    let file = &files(dir, Side::Floor);
    let provider = thaw(&file(&format!("{}.map", beginning(operation))));
    let person = Person::new(MEASURED);
    let mut group = match operation {
        Operation::Join => None,
        Operation::Seal | Operation::Open | Operation::Add => {
            MlsGroup::load(provider.storage(), &GroupId::from_slice(&GROUP)).unwrap()
        }
    };
    for number in 0..count {
        match (operation, group.as_mut()) {
            (Operation::Seal, Some(group)) => {
                group.set_aad(place_aad());
                let made = group.create_message(&provider, &person, &TEXT).unwrap();
                made.to_bytes().unwrap();
            }
            (Operation::Open, Some(group)) => {
                let message = message(&read(file, &format!("text{number}")));
                group.process_message(&provider, message).unwrap();
            }
            (Operation::Add, Some(group)) => add(group, &provider, &read(file, "package")),
            (_, _) => drop(join(&provider, &read(file, "welcome"))),
        }
        let value = std::fs::read(dir.join(changes(operation, number))).unwrap();
        let put = "INSERT INTO row (no, value) VALUES (1, ?1)
            ON CONFLICT (no) DO UPDATE SET value = excluded.value";
        done(store, |tx| Ok(tx.prepare_cached(put)?.execute([&value]).map(drop)?));
    }
}

/// As long as the engine's.
fn place_aad() -> Vec<u8> {
    vec![1; 50]
}

fn message(bytes: &[u8]) -> ProtocolMessage {
    let MlsMessageBodyIn::PrivateMessage(message) =
        MlsMessageIn::tls_deserialize_exact(bytes).unwrap().extract()
    else {
        std::process::exit(2);
    };
    message.into()
}

fn add(group: &mut MlsGroup, provider: &OpenMlsRustCrypto, package: &[u8]) {
    let package = KeyPackageIn::tls_deserialize_exact(package).unwrap();
    let package = package.validate(provider.crypto(), ProtocolVersion::Mls10).unwrap();
    group.set_aad(vec![1; 114]);
    let bundle = group
        .commit_builder()
        .force_self_update(true)
        .propose_adds([package])
        .load_psks(provider.storage())
        .unwrap()
        .build(provider.rand(), provider.crypto(), &Person::new(MEASURED), |_| true)
        .unwrap()
        .stage_commit(provider)
        .unwrap();
    let (commit, welcome, _) = bundle.into_messages();
    commit.to_bytes().unwrap();
    welcome.unwrap().to_bytes().unwrap();
}

fn join(provider: &OpenMlsRustCrypto, welcome: &[u8]) -> MlsGroup {
    let MlsMessageBodyIn::Welcome(welcome) =
        MlsMessageIn::tls_deserialize_exact(welcome).unwrap().extract()
    else {
        std::process::exit(2);
    };
    let staged = StagedWelcome::new_from_welcome(provider, &join_config(), welcome, None).unwrap();
    staged.into_group(provider).unwrap()
}

/// The measured device joins, and its database is left in a file.
pub(crate) fn join_ours(file: &impl Fn(&str) -> PathBuf, welcome: &[u8]) {
    std::fs::copy(file("before.db"), file("after.db")).unwrap();
    let mut store = open(&file("after.db"));
    let engine = Person::new(MEASURED).engine();
    done(&mut store, |tx| {
        engine.join(tx, &pointer(welcome), welcome)?;
        engine.seal(tx, &GROUP, (&place(), &TEXT))
    });
    store.close().unwrap();
}

/// As above; what is in memory is left in a file.
pub(crate) fn join_floor(
    file: &impl Fn(&str) -> PathBuf,
    provider: &OpenMlsRustCrypto,
    welcome: &[u8],
) {
    freeze(provider, &file("before.map"));
    let mut group = join(provider, welcome);
    group.create_message(provider, &Person::new(MEASURED), &TEXT).unwrap();
    freeze(provider, &file("after.map"));
}

fn freeze(provider: &OpenMlsRustCrypto, path: &Path) {
    let values = provider.storage().values.read().unwrap();
    std::fs::write(path, rmp_serde::to_vec(&*values).unwrap()).unwrap();
}

fn thaw(path: &Path) -> OpenMlsRustCrypto {
    let values: HashMap<Vec<u8>, Vec<u8>> =
        rmp_serde::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let provider = OpenMlsRustCrypto::default();
    *provider.storage().values.write().unwrap() = values;
    provider
}
