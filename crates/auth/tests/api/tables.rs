//! What becomes of every table when an account is exported or erased, and when an older file is
//! opened.

use std::collections::BTreeMap;

use bytes::Bytes;
use qpc_proto::Digest;
use qpc_proto::message::RegistrationMode::Open;
use qpc_proto::message::{LinkRelay, LinkSide};
use qpc_storage::{Durability, Key, Number, Options, Schema, Store, Tx, sql};

use crate::support::{Device, NOW, Person, World};

type Exported = Result<&'static str, &'static str>;
type Erased = Result<(), &'static str>;

/// Where a table stands in an export, and whether an erasure empties it of an account.
const TABLES: &[(&str, Exported, Erased)] = &[
    ("accounts", Ok("account"), Ok(())),
    ("account_keys", Ok("account_keys"), Ok(())),
    ("device_lists", Ok("device_lists"), Ok(())),
    ("devices", Ok("devices"), Ok(())),
    ("tokens", Ok("sessions"), Ok(())),
    ("deletions", Ok("deletion"), Ok(())),
    ("invites", Err("names no account"), Err("of the operator, not of an account")),
    ("links", Err("names no account"), Err("names no account, and lives ten minutes")),
    ("spent", Err("made by the erasure"), Err("hashes alone, so that no key serves twice")),
];

fn tables(tx: &Tx<'_>) -> Vec<String> {
    let names = "SELECT name FROM sqlite_master WHERE type = 'table'";
    let mut query = tx.prepare(names).unwrap();
    let names = query.query_map([], |row| row.get(0)).unwrap();
    let mut names: Vec<String> = names.map(Result::unwrap).collect();
    names.retain(|name| !matches!(name.as_str(), "auth_migrations" | "storage_meta"));
    names.sort();
    names
}

fn rows(tx: &Tx<'_>) -> BTreeMap<String, u64> {
    let count = |table: String| {
        let query = format!("SELECT COUNT(*) FROM {table}");
        let count = tx.query_row(&query, [], |row| row.get::<_, Number>(0)).unwrap();
        (table, count.0)
    };
    tables(tx).into_iter().map(count).collect()
}

/// An account that has something in every table that can name one.
fn full() -> (World, Person) {
    let mut world = World::new(Open);
    let (alice, linked) = (Person::new(1, "alice"), Device::new(9));
    world.register(&alice.registration()).unwrap();
    world.link(&alice, 2, &[&alice.first(), &linked]).unwrap();
    world.revoke(&alice, 3, &[&alice.first()]).unwrap();
    world.login(&alice.login(), NOW).unwrap();
    (world, alice)
}

#[test]
fn every_table_is_accounted_for_in_export_and_erasure() {
    let (mut world, alice) = full();
    let device = alice.device_ref();
    let list = alice.next_list(4, &[]);
    let at_ms = world.as_device(device, |auth, call| auth.request_deletion(call, &list)).unwrap();
    let (export, before) = world
        .at(NOW, None, |auth, call, _| {
            Ok((auth.export(call.tx, &device.account, NOW)?, rows(call.tx)))
        })
        .unwrap();
    let mut known: Vec<_> = TABLES.iter().map(|(table, ..)| (*table).to_owned()).collect();
    known.sort();
    let found: Vec<_> = before.keys().cloned().collect();
    assert_eq!(found, known, "a table is missing here, in the export or in the erasure");
    for (table, exported, erased) in TABLES {
        if let Ok(place) = exported {
            assert!(before[*table] > 0, "{table} is empty");
            assert!(!export[*place].is_null(), "{table} is not in the export");
        }
        assert!(exported.is_err() || erased.is_ok(), "{table} is exported and kept");
    }
    let published = world.at(at_ms, None, |auth, call, _| auth.next_deletion(call.tx, at_ms));
    published.unwrap().unwrap();
    world.erase_all();
    let after = world.at(NOW, None, |_, call, _| Ok(rows(call.tx))).unwrap();
    for (table, _, erased) in TABLES.iter().filter(|(_, _, erased)| erased.is_ok()) {
        assert_eq!(after[*table], 0, "{table} {erased:?}");
    }
    // The root, and of two devices id and key.
    assert_eq!(after["spent"], 5);
}

#[test]
fn an_erasure_leaves_other_accounts_whole() {
    let (mut world, alice) = full();
    let bob = Person::new(2, "bob");
    world.register(&bob.registration()).unwrap();
    world.login(&bob.login(), NOW).unwrap();
    let bytes = Bytes::from_static(b"offer");
    let relay = LinkRelay { rendezvous: Digest([1; 32]), side: LinkSide::New, offer: bytes };
    world.at(NOW, None, |auth, call, _| auth.relay(call, &relay)).unwrap();
    let export = |world: &mut World| {
        let account = bob.device_ref().account;
        world.at(NOW, None, |auth, call, _| auth.export(call.tx, &account, NOW)).unwrap()
    };
    let before = export(&mut world);
    world.delete(&alice, 4);
    assert_eq!(export(&mut world), before);
    world.login(&bob.login(), NOW).unwrap();
}

fn open(path: &std::path::Path, schema: Schema) -> Store {
    let options = Options::new(Key::from_bytes([3; 32]), vec![schema]);
    Store::open(path, &options.with_durability(Durability::Process)).unwrap()
}

#[test]
fn a_file_of_the_first_version_gets_its_skeletons() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.db");
    let all = qpc_auth::schema();
    let first = Schema { migrations: &all.migrations[..1], oldest_reader: 1, ..qpc_auth::schema() };
    let mut store = open(&path, first);
    // Two old names that look alike stay, each its own.
    let insert = |tx: &Tx<'_>| {
        for (number, name) in [(1_u8, "modern0l"), (2, "modern01"), (3, "bob")] {
            tx.execute(
                "INSERT INTO accounts (account_id, root, name, created_at_ms)
                 VALUES (?1, ?2, ?3, 5)",
                ([number; 16], [number; 32], name),
            )?;
        }
        Ok::<_, sql::Error>(())
    };
    store.transact(insert).unwrap();
    drop(store);
    let mut store = open(&path, all);
    let read = |tx: &Tx<'_>| {
        let mut query = tx.prepare("SELECT skeleton FROM accounts ORDER BY account_id")?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        rows.collect::<sql::Result<Vec<_>>>()
    };
    let skeletons = store.transact(read).unwrap();
    let expected = ["rnodernol", "rnodernol", "bob"].map(str::to_owned).to_vec();
    assert_eq!(skeletons, qpc_storage::Outcome::Done(expected));
}
