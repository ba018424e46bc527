//! What it costs to store rows of 1 KiB in one synced commit, and to read a page of them. The files
//! are made where temporary files go: the disk there is part of the numbers.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't begin ends")]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use qpc_storage::{Job, Key, Migration, Options, Schema, StorageError, Store, Tx};
use tempfile::TempDir;

fn main() {
    divan::main();
}

const ROWS: Schema = Schema {
    name: "rows",
    migrations: &[Migration {
        name: "create",
        sql: "CREATE TABLE row(no INTEGER PRIMARY KEY, payload BLOB NOT NULL)",
    }],
    oldest_reader: 1,
};
const PAYLOAD: [u8; 1_024] = [7; 1_024];
/// Rows of a page.
const PAGE: u64 = 512;

fn open() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(Key::from_bytes([7; 32]), vec![ROWS]);
    let store = Store::open(&dir.path().join("bench.db"), &options).unwrap();
    (dir, store)
}

fn insert(tx: &Tx<'_>) -> Result<(), StorageError> {
    tx.prepare_cached("INSERT INTO row(payload) VALUES (?1)")?.execute([PAYLOAD])?;
    Ok(())
}

fn apply(store: &mut Store, rows: u64) {
    let job = || -> Job<'_, (), StorageError> { Box::new(insert) };
    store.apply((0..rows).map(|_| job()).collect()).unwrap();
}

#[divan::bench(args = [1, 8, 64, 256])]
fn apply_inserts(bencher: Bencher<'_, '_>, rows: u64) {
    let (_dir, mut store) = open();
    bencher.counter(ItemsCount::new(rows)).bench_local(|| apply(&mut store, rows));
}

#[divan::bench]
fn read_page(bencher: Bencher<'_, '_>) {
    let (_dir, mut store) = open();
    apply(&mut store, 4 * PAGE);
    let mut reader = store.reader().unwrap();
    bencher.counter(ItemsCount::new(PAGE)).bench_local(|| {
        let read = reader.read(|tx| {
            let mut select =
                tx.prepare_cached("SELECT payload FROM row WHERE no > ?1 ORDER BY no LIMIT ?2")?;
            let rows = select.query_map([PAGE, PAGE], |row| row.get::<_, Vec<u8>>(0))?;
            rows.map(|row| row.map(black_box)).collect::<Result<Vec<_>, _>>()
        });
        read.map_err(StorageError::from).unwrap()
    });
}
