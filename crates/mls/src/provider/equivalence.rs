//! Random sequences of writes and deletes leave the tables and the reference in-memory storage
//! with the same reads. The values are shapes of their own, for those of OpenMLS are private.

#![allow(clippy::arithmetic_side_effects, reason = "counters of a test; an overflow fails it")]

use openmls_rust_crypto::MemoryStorage;
use openmls_traits::storage::{CURRENT_VERSION as V, Entity, Key, StorageProvider, traits as of};
use qpc_storage::{Durability, Options, Outcome};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use super::{ProviderError, Store, schema};

const CASES: u64 = 64;
const OPERATIONS: u32 = 48;
const METHODS: u32 = 35;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Id {
    number: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    One(Vec<u8>),
    Two(u64, Option<String>),
    Fields { flag: bool, fixed: [u8; 4] },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Value {
    bytes: Vec<u8>,
    shape: Shape,
    pairs: Vec<(u32, Option<Box<Value>>)>,
}

macro_rules! roles {
    ($type:ident: $($role:ident)*) => { $(impl of::$role<V> for $type {})* };
}

impl Key<V> for Id {}
impl Entity<V> for Id {}
impl Entity<V> for Value {}
roles!(Id: GroupId SignaturePublicKey HashReference PskId EncryptionKey EpochKey ProposalRef);
roles!(Value: QueuedProposal TreeSync GroupContext InterimTranscriptHash ConfirmationTag);
roles!(Value: SignatureKeyPair PskBundle HpkeKeyPair GroupState GroupEpochSecrets LeafNodeIndex);
roles!(Value: MessageSecrets ResumptionPskStore KeyPackage MlsGroupJoinConfig LeafNode);

#[derive(Debug)]
struct Operation {
    method: u32,
    group: Id,
    key: Id,
    leaf: u32,
    reference: Id,
    value: Value,
}

fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    rng.next_u32() % bound
}

fn bytes(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; below(rng, 80) as usize];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn value(rng: &mut ChaCha8Rng, depth: u32) -> Value {
    let shape = match below(rng, 4) {
        0 => Shape::Empty,
        1 => Shape::One(bytes(rng)),
        2 => Shape::Two(rng.next_u64(), (below(rng, 2) == 0).then(|| "text".into())),
        _ => Shape::Fields { flag: below(rng, 2) == 0, fixed: rng.next_u32().to_be_bytes() },
    };
    let pairs = (0..depth).map(|n| (n, (n != 1).then(|| Box::new(value(rng, 0)))));
    let pairs = pairs.collect();
    Value { bytes: bytes(rng), shape, pairs }
}

fn id(rng: &mut ChaCha8Rng) -> Id {
    Id { number: below(rng, 3) }
}

// Each proposal has its own reference, as in OpenMLS; the reference storage breaks on a repeat.
fn operation(rng: &mut ChaCha8Rng, step: u32) -> Operation {
    let method = below(rng, METHODS);
    let reference = if method == 22 { step } else { below(rng, step + 1) };
    Operation {
        method,
        group: id(rng),
        key: id(rng),
        leaf: below(rng, 2),
        reference: Id { number: reference },
        value: value(rng, 3),
    }
}

fn apply<S: StorageProvider<V>>(s: &S, op: &Operation) -> Result<(), S::Error> {
    let (g, k, v, r) = (&op.group, &op.key, &op.value, &op.reference);
    match op.method {
        0 => s.write_mls_join_config(g, v),
        1 => s.write_group_state(g, v),
        2 => s.write_own_leaf_index(g, v),
        3 => s.write_tree(g, v),
        4 => s.write_context(g, v),
        5 => s.write_interim_transcript_hash(g, v),
        6 => s.write_confirmation_tag(g, v),
        7 => s.write_group_epoch_secrets(g, v),
        8 => s.write_message_secrets(g, v),
        9 => s.write_resumption_psk_store(g, v),
        10 => s.delete_group_config(g),
        11 => s.delete_group_state(g),
        12 => s.delete_own_leaf_index(g),
        13 => s.delete_tree(g),
        14 => s.delete_context(g),
        15 => s.delete_interim_transcript_hash(g),
        16 => s.delete_confirmation_tag(g),
        17 => s.delete_group_epoch_secrets(g),
        18 => s.delete_message_secrets(g),
        19 => s.delete_all_resumption_psk_secrets(g),
        20 => s.append_own_leaf_node(g, v),
        21 => s.delete_own_leaf_nodes(g),
        22 => s.queue_proposal(g, r, v),
        23 => s.remove_proposal(g, r),
        24 => s.clear_proposal_queue::<Id, Id>(g),
        25 => s.write_encryption_epoch_key_pairs(g, k, op.leaf, &[v.clone(), v.clone()]),
        26 => s.delete_encryption_epoch_key_pairs(g, k, op.leaf),
        27 => s.write_signature_key_pair(k, v),
        28 => s.write_encryption_key_pair(k, v),
        29 => s.write_key_package(k, v),
        30 => s.write_psk(k, v),
        31 => s.delete_signature_key_pair(k),
        32 => s.delete_encryption_key_pair(k),
        33 => s.delete_key_package(k),
        34 => s.delete_psk(k),
        method => panic!("no method {method}"),
    }
}

#[derive(Debug, PartialEq)]
struct Reads {
    single: [Option<Value>; 10],
    keyed: [Option<Value>; 4],
    lists: [Vec<Value>; 3],
    references: Vec<Id>,
    proposals: Vec<(Id, Value)>,
}

fn read<S: StorageProvider<V>>(s: &S, g: &Id, k: &Id) -> Result<Reads, S::Error> {
    Ok(Reads {
        single: [
            s.mls_group_join_config(g)?,
            s.group_state(g)?,
            s.own_leaf_index(g)?,
            s.tree(g)?,
            s.group_context(g)?,
            s.interim_transcript_hash(g)?,
            s.confirmation_tag(g)?,
            s.group_epoch_secrets(g)?,
            s.message_secrets(g)?,
            s.resumption_psk_store(g)?,
        ],
        keyed: [s.signature_key_pair(k)?, s.encryption_key_pair(k)?, s.key_package(k)?, s.psk(k)?],
        lists: [
            s.own_leaf_nodes(g)?,
            s.encryption_epoch_key_pairs(g, k, 0)?,
            s.encryption_epoch_key_pairs(g, k, 1)?,
        ],
        references: s.queued_proposal_refs(g)?,
        proposals: s.queued_proposals(g)?,
    })
}

fn compare(seed: u64, ours: &Store<'_>) -> Result<usize, ProviderError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let reference = MemoryStorage::default();
    let mut present = 0;
    for step in 0..OPERATIONS {
        let op = operation(&mut rng, step);
        apply(&reference, &op).unwrap();
        apply(ours, &op)?;
        let expected = read(&reference, &op.group, &op.key).unwrap();
        let found = read(ours, &op.group, &op.key)?;
        assert_eq!(found, expected, "seed {seed}, step {step}: {op:?}");
        present += found.single.iter().flatten().count() + found.proposals.len();
    }
    for (group, key) in (0..9).map(|n| (Id { number: n / 3 }, Id { number: n % 3 })) {
        let expected = read(&reference, &group, &key).unwrap();
        assert_eq!(read(ours, &group, &key)?, expected, "seed {seed}, {group:?}");
    }
    Ok(present)
}

fn on_empty_tables<T>(test: impl FnOnce(&Store<'_>) -> Result<T, ProviderError> + Send) -> T {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        durability: Durability::Process,
        ..Options::new(qpc_storage::Key::from_bytes([7; 32]), vec![schema()])
    };
    let mut store = qpc_storage::Store::open(&dir.path().join("db"), &options).unwrap();
    match store.transact(|tx| test(&Store::new(tx))).unwrap() {
        Outcome::Done(value) => value,
        Outcome::Refused(error) => panic!("{error}: {error:?}"),
        Outcome::Panicked => panic!("the case above panicked"),
    }
}

#[test]
fn same_reads_as_the_reference_after_the_same_writes() {
    let present = on_empty_tables(|ours| {
        let mut present = 0;
        for seed in 0..CASES {
            present += compare(seed, ours)?;
            for table in [
                "mls_group",
                "mls_message_secrets",
                "mls_own_leaf_node",
                "mls_proposal",
                "mls_epoch_key_pairs",
                "mls_signature_key_pair",
                "mls_encryption_key_pair",
                "mls_key_package",
                "mls_psk",
            ] {
                ours.tx.execute(&format!("DELETE FROM {table}"), [])?;
            }
        }
        Ok(present)
    });
    assert!(present > 5_000, "the sequences hardly stored anything: {present}");
}

#[test]
fn case_175_two_appenders_lose_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(175);
    let values: Vec<Value> = (0..6).map(|_| value(&mut rng, 0)).collect();
    on_empty_tables(|first| {
        let second = Store::new(first.tx);
        let group = Id { number: 1 };
        for (turn, value) in values.iter().enumerate() {
            let (ours, other) = if turn % 2 == 0 { (first, &second) } else { (&second, first) };
            let seen: Vec<Value> = other.own_leaf_nodes(&group)?;
            assert_eq!(seen.len(), turn);
            ours.append_own_leaf_node(&group, value)?;
            let reference = Id { number: 100 - u32::try_from(turn).unwrap() };
            ours.queue_proposal(&group, &reference, value)?;
        }
        let leaves: Vec<Value> = first.own_leaf_nodes(&group)?;
        assert_eq!(leaves, values);
        let proposals: Vec<(Id, Value)> = first.queued_proposals(&group)?;
        let queued: Vec<Value> = proposals.into_iter().map(|(_, value)| value).collect();
        assert_eq!(queued, values);
        Ok(())
    });
}

#[test]
fn a_repeated_proposal_stays_one_and_keeps_its_place() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (old, new) = (value(&mut rng, 0), value(&mut rng, 0));
    let (group, first, second) = (Id { number: 0 }, Id { number: 8 }, Id { number: 3 });
    on_empty_tables(|ours| {
        ours.queue_proposal(&group, &first, &old)?;
        ours.queue_proposal(&group, &second, &old)?;
        ours.queue_proposal(&group, &first, &new)?;
        let queued: Vec<(Id, Value)> = ours.queued_proposals(&group)?;
        assert_eq!(queued, [(first, new), (second, old)]);
        ours.remove_proposal(&group, &first)?;
        let left: Vec<Id> = ours.queued_proposal_refs(&group)?;
        assert_eq!(left, [second]);
        Ok(())
    });
}

#[test]
fn a_damaged_value_is_an_error_not_an_absence() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let key = Id { number: 0 };
    on_empty_tables(|ours| {
        ours.write_psk(&key, &value(&mut rng, 1))?;
        ours.tx.execute("UPDATE mls_psk SET value = x'c1'", [])?;
        let read: Result<Option<Value>, ProviderError> = ours.psk(&key);
        assert!(matches!(read, Err(ProviderError::Decode)));
        Ok(())
    });
}

/// A database from before message secrets had a table of their own.
#[test]
fn message_secrets_of_an_older_file_are_carried_over() {
    let dir = tempfile::tempdir().unwrap();
    let (path, value) = (dir.path().join("old.db"), value(&mut ChaCha8Rng::seed_from_u64(9), 2));
    let options = |schema| Options {
        durability: Durability::Process,
        ..Options::new(qpc_storage::Key::from_bytes([3; 32]), vec![schema])
    };
    let first = schema().migrations.split_at(1).0;
    let old = qpc_storage::Schema { migrations: first, oldest_reader: 1, ..schema() };
    let id = Id { number: 7 };
    let (key, stored) = (super::codec::encode(&id).unwrap(), super::codec::encode(&value).unwrap());
    let mut store = qpc_storage::Store::open(&path, &options(old)).unwrap();
    let put = "INSERT INTO mls_group (group_id, kind, value) VALUES (?1, ?2, ?3)";
    let done = store.transact(|tx| {
        for kind in [4, 9, 11] {
            tx.execute(put, (key.as_slice(), kind, stored.as_slice()))?;
        }
        Ok::<_, qpc_storage::sql::Error>(())
    });
    assert_eq!(done.unwrap(), Outcome::Done(()));
    store.close().unwrap();
    let mut store = qpc_storage::Store::open(&path, &options(schema())).unwrap();
    let done = store.transact(|tx| {
        let ours = Store::new(tx);
        let read: Option<Value> = StorageProvider::<V>::message_secrets(&ours, &id)?;
        assert_eq!(read.as_ref(), Some(&value));
        let rest: Vec<i64> = ours.all("SELECT kind FROM mls_group", [], |row| Ok(row.get(0)?))?;
        assert_eq!(rest, [4]);
        Ok::<_, ProviderError>(())
    });
    assert!(matches!(done, Ok(Outcome::Done(()))), "{done:?}");
}
