//! Disks that are full, fail or lose their power, at every call of a workload.
//! Never judges by the error alone: what is in the store afterwards decides.

use std::path::Path;

use qpc_faultvfs::{Cut, Fault, FaultVfs, Op, Plan};
use qpc_storage::{Durability, Job, Options, Outcome, Reader, StorageError, Store, Tx, sql};

use crate::{ITEMS, Place, done, options_for};

const ROWS: usize = 3;
/// Enough for several checkpoints on the way.
const BATCHES: usize = 8;

/// Few pages of log, so that a short workload has checkpoints of both kinds.
fn options_on(vfs: &FaultVfs) -> Options {
    Options {
        checkpoint_pages: 12,
        log_pages_max: 30,
        busy_timeout_ms: 0,
        vfs: Some(vfs.name()),
        ..options_for(vec![ITEMS]).with_durability(Durability::Full)
    }
}

/// Rows of their own and a common one that each batch rewrites.
fn batch(number: usize) -> Vec<Job<'static, (), StorageError>> {
    let row = move |row: usize| -> Job<'static, (), StorageError> {
        Box::new(move |tx| {
            let body = vec![u8::try_from(number).unwrap(); 2_500];
            tx.prepare_cached("INSERT INTO item(name, body) VALUES (?1, ?2)")?
                .execute((format!("{number}.{row}"), body))?;
            Ok(())
        })
    };
    let count: Job<'static, (), StorageError> = Box::new(move |tx| {
        let upsert = "INSERT INTO item(name, body) VALUES ('count', ?1)
                      ON CONFLICT(name) DO UPDATE SET body = excluded.body";
        tx.prepare_cached(upsert)?.execute([(number + 1).to_string().into_bytes()])?;
        Ok(())
    });
    (0..ROWS).map(row).chain([count]).collect()
}

/// How many batches are there; all of them are whole.
fn batches(tx: &Tx<'_>) -> Result<usize, sql::Error> {
    let count = "SELECT coalesce(max(CAST(body AS INTEGER)), 0) FROM item WHERE name = 'count'";
    let count: usize = tx.query_row(count, [], |row| row.get(0))?;
    let whole = "SELECT count(*) FROM item WHERE length(body) = 2500 AND name LIKE ?1";
    for number in 0..count {
        let rows: usize = tx.query_row(whole, [format!("{number}.%")], |row| row.get(0))?;
        assert_eq!(rows, ROWS, "batch {number} of {count} is not whole");
    }
    let all: usize = tx.query_row("SELECT count(*) FROM item", [], |row| row.get(0))?;
    assert_eq!(all, count * ROWS + usize::from(count > 0), "there is more than the batches");
    Ok(count)
}

fn seen(reader: &mut Reader) -> usize {
    reader.read(batches).unwrap()
}

/// Opens what is left with the system's VFS and returns how many batches it has.
fn reopened(path: &Path) -> usize {
    let store = Store::open_existing(path, &options_for(vec![ITEMS])).unwrap();
    let mut reader = store.reader().unwrap();
    let check = |tx: &Tx<'_>| tx.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    assert_eq!(reader.read::<String, sql::Error>(check).unwrap(), "ok");
    seen(&mut reader)
}

fn apply(store: &mut Store, number: usize) -> Result<(), StorageError> {
    let outcomes = store.apply(batch(number))?;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done(()))));
    Ok(())
}

/// Batches in two lives of the store. Returns how many events there were at each answer.
fn acknowledged(vfs: &FaultVfs, path: &Path) -> Vec<usize> {
    let mut answers = Vec::new();
    for life in 0..2 {
        let mut store = Store::open(path, &options_on(vfs)).unwrap();
        if life == 0 {
            answers.push(vfs.events());
        }
        for number in (0..BATCHES).map(|number| life * BATCHES + number) {
            apply(&mut store, number).unwrap();
            answers.push(vfs.events());
        }
        done(store.transact(|tx| tx.execute("UPDATE item SET body = body", [])).unwrap());
        store.close().unwrap();
    }
    answers
}

fn check_cut(vfs: &FaultVfs, cut: Cut, answers: &[usize]) {
    let left = tempfile::tempdir().unwrap();
    vfs.power_loss(cut, left.path()).unwrap();
    let there = reopened(&left.path().join("test.db"));
    let promised = answers.iter().filter(|answer| **answer <= cut.at).count() - 1;
    let begun = promised + 1;
    assert!((promised..=begun).contains(&there), "{promised} promised, {there} there: {cut:?}");
}

#[test]
fn case_164_loss_of_power_at_every_sync_keeps_whole_batches() {
    let (vfs, place) = (FaultVfs::register().unwrap(), Place::new());
    let answers = acknowledged(&vfs, &place.path());
    let boundaries = vfs.boundaries().into_iter().filter(|at| *at >= answers[0]);
    let mut cuts = 0;
    for at in boundaries.flat_map(|at| [at, at + 1]) {
        for seed in 0..6 {
            check_cut(&vfs, Cut { at, seed: seed + 100 * u64::try_from(at).unwrap() }, &answers);
            cuts += 1;
        }
    }
    assert!(cuts > 6 * 4 * BATCHES, "{cuts} cuts are fewer than the workload has syncs");
}

#[test]
fn case_164_loss_of_power_between_any_two_calls_keeps_whole_batches() {
    let (vfs, place) = (FaultVfs::register().unwrap(), Place::new());
    let answers = acknowledged(&vfs, &place.path());
    for at in answers[0]..=vfs.events() {
        let seed = u64::try_from(at).unwrap();
        check_cut(&vfs, Cut { at, seed }, &answers);
    }
}

/// A workload in which every change of a file may be told that the disk is full. Whether it was.
fn fill_up(fault: Fault, after: u64) -> bool {
    let (vfs, place) = (FaultVfs::register().unwrap(), Place::new());
    let mut store = place.open();
    apply(&mut store, 0).unwrap();
    store.close().unwrap();

    let on = vec![Op::Write, Op::Truncate, Op::ShmGrow];
    vfs.set(Plan { on, ..Plan::from(Op::Write, after, fault) });
    let mut store = Store::open(&place.path(), &options_on(&vfs)).unwrap_or_else(|error| {
        assert!(error.is_full(), "open, {fault:?} after {after}: {error:?}");
        vfs.heal();
        Store::open(&place.path(), &options_on(&vfs)).unwrap()
    });
    let mut reader = store.reader().unwrap();
    for number in 1..BATCHES {
        if let Err(error) = apply(&mut store, number) {
            assert!(error.is_full(), "batch {number}, {fault:?} after {after}: {error:?}");
            assert_eq!(seen(&mut reader), number, "reads go on, and see nothing of the batch");
            let again = apply(&mut store, number);
            assert!(again.is_err_and(|error| error.is_full()), "the disk is still full");
            vfs.heal();
            apply(&mut store, number).unwrap();
        }
        assert_eq!(seen(&mut reader), number + 1);
    }
    drop(reader);
    let emptied = store.checkpoint();
    assert!(emptied.as_ref().err().is_none_or(StorageError::is_full), "{emptied:?}");
    vfs.heal();
    store.checkpoint().unwrap();
    store.close().unwrap();
    assert_eq!(reopened(&place.path()), BATCHES);
    vfs.hits() > 0
}

#[test]
fn case_166_no_space_at_any_call_is_retryable_and_heals() {
    for fault in [Fault::NoSpace, Fault::ShortWrite] {
        let faults = (0..).take_while(|after| fill_up(fault, *after)).count();
        assert!(faults > 4 * BATCHES, "{faults} calls are fewer than the workload has writes");
    }
}

#[test]
fn case_166_no_space_for_the_index_of_the_log_is_retryable_and_heals() {
    let (vfs, place) = (FaultVfs::register().unwrap(), Place::new());
    let options = Options { checkpoint_pages: 1 << 20, log_pages_max: 1 << 20, ..options_on(&vfs) };
    let mut store = Store::open(&place.path(), &options).unwrap();
    apply(&mut store, 0).unwrap();
    // The first part of the index knows 4,062 pages.
    let big = |tx: &Tx<'_>| {
        tx.execute("INSERT INTO item(name, body) VALUES ('big', zeroblob(4096 * 4100))", [])?;
        tx.execute("DELETE FROM item WHERE name = 'big'", [])
    };
    vfs.set(Plan::from(Op::ShmGrow, 0, Fault::NoSpace));
    let error = store.transact(big).unwrap_err();
    assert!(error.is_full() && vfs.hits() > 0, "{error:?}");
    assert_eq!(seen(&mut store.reader().unwrap()), 1);
    vfs.heal();
    done(store.transact(big).unwrap());
    apply(&mut store, 1).unwrap();
    store.close().unwrap();
    assert_eq!(reopened(&place.path()), 2);
}

/// A workload in which one call fails. Whether it did.
fn fail_once(on: Op, after: u64) -> bool {
    let (vfs, place) = (FaultVfs::register().unwrap(), Place::new());
    place.open().close().unwrap();
    let mut store = Store::open(&place.path(), &options_on(&vfs)).unwrap();
    vfs.set(Plan { lasting: false, ..Plan::from(on, after, Fault::Io) });
    let mut promised = 0;
    while promised < BATCHES && vfs.hits() == 0 {
        match apply(&mut store, promised) {
            Ok(()) => promised += 1,
            Err(error) => {
                assert!(error.is_fatal(), "{on:?} {after}: {error:?}");
                assert!(vfs.hits() > 0, "{error:?} without a cause");
            }
        }
    }
    let failed = vfs.hits() > 0;
    if failed {
        let refused = apply(&mut store, promised);
        assert!(
            matches!(&refused, Err(StorageError::Io(_))),
            "after {on:?} {after} failed the store took a batch: {refused:?}"
        );
        assert!(store.checkpoint().is_err_and(|error| error.is_fatal()));
    }
    let closed = store.close();
    assert!(closed.is_ok() || !failed && vfs.hits() > 0, "{closed:?}");
    for seed in 0..4 {
        let (cut, left) = (Cut { at: vfs.events(), seed }, tempfile::tempdir().unwrap());
        vfs.power_loss(cut, left.path()).unwrap();
        let there = reopened(&left.path().join("test.db"));
        assert!((promised..=promised + 1).contains(&there), "{on:?} {after}, power lost: {there}");
    }
    let there = reopened(&place.path());
    assert!((promised..=promised + 1).contains(&there), "{on:?} {after}: {promised} {there}");
    vfs.hits() > 0
}

#[test]
fn case_167_a_failed_write_is_fatal_and_never_acknowledged() {
    let faults = (0..).take_while(|after| fail_once(Op::Write, *after)).count();
    assert!(faults > 4 * BATCHES, "{faults} calls are fewer than the workload has writes");
}

#[test]
fn case_167_a_failed_sync_is_fatal_and_never_repeated() {
    let faults = (0..).take_while(|after| fail_once(Op::Sync, *after)).count();
    assert!(faults > BATCHES, "{faults} calls are fewer than the workload has syncs");
}

/// Takes the next number, as a log does.
fn take_number(tx: &Tx<'_>) -> Result<u32, StorageError> {
    let next = "SELECT coalesce(max(CAST(name AS INTEGER)), 0) + 1 FROM item";
    let next: u32 = tx.query_row(next, [], |row| row.get(0))?;
    crate::insert(tx, &format!("{next:03}"))?;
    Ok(next)
}

#[test]
fn case_143_a_rolled_back_job_leaves_no_hole() {
    const JOBS: u32 = 5;
    for failing in 0..JOBS {
        for panics in [false, true] {
            let place = Place::new();
            let mut store = place.open();
            let job = |number| -> Job<'static, u32, StorageError> {
                Box::new(move |tx| {
                    let taken = take_number(tx)?;
                    assert!(number != failing || !panics, "a bug in a job");
                    if number == failing { Err(StorageError::NotFound) } else { Ok(taken) }
                })
            };
            let outcomes = store.apply((0..JOBS).map(job).collect()).unwrap();
            let taken: Vec<_> = outcomes
                .into_iter()
                .filter_map(|outcome| match outcome {
                    Outcome::Done(number) => Some(number),
                    Outcome::Refused(_) | Outcome::Panicked => None,
                })
                .collect();
            assert_eq!(taken, (1..JOBS).collect::<Vec<_>>(), "job {failing} failed");
            let names: Vec<_> = taken.iter().map(|number| format!("{number:03}")).collect();
            assert_eq!(crate::stored(&store), names);
        }
    }
}

#[test]
fn case_143_a_batch_that_fails_at_any_job_leaves_no_trace() {
    for failing in 0..=ROWS {
        let place = Place::new();
        let mut store = place.open();
        store.apply(batch(0)).unwrap();
        store.checkpoint().unwrap();
        let before = std::fs::read(place.path()).unwrap();
        let mut jobs = batch(1);
        let fatal =
            || sql::Error::SqliteFailure(sql::ffi::Error::new(sql::ffi::SQLITE_CORRUPT), None);
        jobs[failing] = Box::new(move |tx| {
            crate::insert(tx, "half a job")?;
            Err(fatal().into())
        });
        assert!(store.apply(jobs).is_err());
        store.close().unwrap();
        assert!(std::fs::read(place.path()).unwrap() == before, "job {failing} left a trace");
        assert_eq!(reopened(&place.path()), 1);
    }
}

#[test]
fn case_167_a_reader_that_could_not_read_reads_on_once_the_disk_is_well() {
    let place = Place::new();
    let vfs = FaultVfs::register().unwrap();
    let mut store = Store::open(&place.path(), &options_on(&vfs)).unwrap();
    let mut reader = store.reader().unwrap();
    let mut failed = 0;
    for number in 0..40 {
        // What was just written is in no reader's cache. After so many good reads one fails.
        apply(&mut store, number).unwrap();
        let plan = Plan::from(Op::Read, u64::try_from(number).unwrap(), Fault::Io);
        vfs.set(Plan { lasting: false, ..plan });
        let read = reader.read(rows);
        vfs.heal();
        let all = reader.read(rows).unwrap();
        match read {
            Ok(seen) => assert_eq!(seen, all),
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 20, "{failed}");
    apply(&mut store, 255).unwrap();
    vfs.set(Plan::from(Op::Read, 0, Fault::Io));
    for _ in 0..2 {
        reader.read(rows).unwrap_err();
    }
    vfs.heal();
    assert!(reader.read(rows).unwrap() > 0);
}

fn rows(tx: &Tx<'_>) -> Result<u32, sql::Error> {
    tx.query_row("SELECT count(*) FROM item WHERE body NOT NULL", [], |row| row.get(0))
}
