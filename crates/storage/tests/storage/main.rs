//! The store as its users see it: every test has a directory and a file of its own.
//! Never syncs to the disk where a test is not about durability.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod batch;
mod copies;
mod faults;
mod fork;
mod key_file;
mod log;
mod migration;
mod opening;
mod reading;

use std::path::PathBuf;

use qpc_storage::{
    Durability, Key, Migration, Options, Outcome, Schema, StorageError, Store, Tx, sql,
};
use tempfile::TempDir;

const ITEMS: Schema = Schema {
    name: "items",
    migrations: &[Migration {
        name: "create",
        sql: "CREATE TABLE item(name TEXT PRIMARY KEY, body BLOB) STRICT;",
    }],
    oldest_reader: 1,
};

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("test.db")
    }

    fn open(&self) -> Store {
        Store::open(&self.path(), &options()).unwrap()
    }

    /// Names of the files, sorted.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn options() -> Options {
    options_for(vec![ITEMS])
}

fn options_for(schemas: Vec<Schema>) -> Options {
    Options::new(Key::from_bytes([7; 32]), schemas).with_durability(Durability::Process)
}

fn insert(tx: &Tx<'_>, name: &str) -> Result<(), StorageError> {
    tx.prepare_cached("INSERT INTO item(name) VALUES (?1)")?.execute([name])?;
    Ok(())
}

fn names(tx: &Tx<'_>) -> Result<Vec<String>, sql::Error> {
    let mut statement = tx.prepare_cached("SELECT name FROM item ORDER BY name")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// What a fresh connection sees.
fn stored(store: &Store) -> Vec<String> {
    store.reader().unwrap().read(names).unwrap()
}

fn done<T, E: std::fmt::Debug>(outcome: Outcome<T, E>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        Outcome::Refused(error) => panic!("refused: {error:?}"),
        Outcome::Panicked => panic!("panicked"),
    }
}
