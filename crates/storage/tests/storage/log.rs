//! How long the write-ahead log gets, and what keeps it.
//! Never measures time: readers stand still as long as a test wants.

use std::sync::atomic::{AtomicBool, Ordering};

use qpc_storage::{Checkpoint, Options, Reader, Store, sql};

use crate::{Place, done, names, options, stored};

const CHECKPOINT: u32 = 20;
const LIMIT: u32 = 60;
/// Pages that one batch of [`write`] adds at most: the row's, the index's, the root, the first.
const BATCH: u64 = 8;

/// `busy_timeout_ms`: how long a batch waits for readers, at most.
fn open(place: &Place, busy_timeout_ms: u32) -> Store {
    let (checkpoint_pages, log_pages_max) = (CHECKPOINT, LIMIT);
    let options = Options { checkpoint_pages, log_pages_max, busy_timeout_ms, ..options() };
    Store::open(&place.path(), &options).unwrap()
}

fn write(store: &mut Store, number: usize) {
    let insert = "INSERT INTO item(name, body) VALUES (?1, zeroblob(3000))";
    done(store.transact(|tx| tx.execute(insert, [format!("{number:06}")])).unwrap());
}

/// Runs `meanwhile` while `reader` holds a snapshot of now.
fn while_reading<T>(reader: &mut Reader, meanwhile: impl FnOnce() -> T) -> T {
    let during = reader.read(|tx| {
        names(tx)?;
        Ok::<_, sql::Error>(meanwhile())
    });
    during.unwrap()
}

fn log_bytes(place: &Place) -> u64 {
    std::fs::metadata(place.dir.path().join("test.db-wal")).unwrap().len()
}

#[test]
fn case_172_a_long_reader_is_reported_by_the_checkpoint() {
    let place = Place::new();
    let mut store = open(&place, 0);
    let mut reader = store.reader().unwrap();
    let during = while_reading(&mut reader, || {
        write(&mut store, 0);
        store.checkpoint().unwrap()
    });
    assert!(during.blocked);
    let after = store.checkpoint().unwrap();
    assert_eq!(after, Checkpoint { blocked: false, log_pages: 0, moved_pages: 0 });
}

#[test]
fn case_172_the_log_stays_short_without_a_long_reader() {
    let place = Place::new();
    let mut store = open(&place, 0);
    let mut reader = store.reader().unwrap();
    for number in 0..500 {
        write(&mut store, number);
        assert_eq!(reader.read(names).unwrap().len(), number + 1);
        let log = store.log();
        assert!(log.log_pages < u64::from(CHECKPOINT) + BATCH, "{number}: {log:?}");
    }
    assert!(log_bytes(&place) < 4_200 * (u64::from(CHECKPOINT) + BATCH));
    store.close().unwrap();
}

#[test]
fn case_172_a_long_reader_is_reported_and_the_log_is_cut_when_it_ends() {
    let place = Place::new();
    let mut store = open(&place, 0);
    write(&mut store, 0);
    let mut reader = store.reader().unwrap();
    while_reading(&mut reader, || {
        for number in 1..200 {
            write(&mut store, number);
        }
        let log = store.log();
        assert!(log.blocked && log.log_pages > 2 * u64::from(LIMIT), "{log:?}");
        assert!(log.moved_pages < log.log_pages, "{log:?}");
        assert_eq!(stored(&store).len(), 200, "writing and reading go on");
    });
    write(&mut store, 200);
    assert_eq!(store.log(), Checkpoint { blocked: false, log_pages: 0, moved_pages: 0 });
    assert_eq!(log_bytes(&place), 0);
    assert_eq!(stored(&store).len(), 201);
}

#[test]
fn case_172_readers_that_never_pause_together_let_the_log_be_cut() {
    const CUTS: usize = 3;
    const BATCHES: usize = 20_000;
    let place = Place::new();
    let mut store = open(&place, 1_000);
    let readers = [(); 3].map(|()| store.reader().unwrap());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mut reader in readers {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    reader
                        .read(|tx| tx.query_row("SELECT count(*) FROM item", [], |_| Ok(())))
                        .unwrap();
                }
            });
        }
        let mut cuts = 0;
        for number in 0..BATCHES {
            let before = store.log().log_pages;
            write(&mut store, number);
            cuts += usize::from(store.log().log_pages < before);
            if cuts == CUTS {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(cuts, CUTS, "{:?}", store.log());
    });
}
