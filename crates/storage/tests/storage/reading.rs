//! Readers beside the writer. Never checks how SQLite isolates, only that it does.

use qpc_storage::{Outcome, Reader, StorageError, Store, Tx, sql};

use crate::{Place, done, insert, names};

fn assert_send<T: Send>() {}

#[test]
fn store_and_reader_may_move_to_another_thread() {
    assert_send::<Store>();
    assert_send::<Reader>();
}

#[test]
fn a_reader_sees_only_what_is_committed() {
    let place = Place::new();
    let mut store = place.open();
    let mut reader = store.reader().unwrap();
    let outcome = store.transact(|tx| {
        insert(tx, "a")?;
        assert!(reader.read(names)?.is_empty());
        Ok::<_, StorageError>(())
    });
    assert!(matches!(outcome, Ok(Outcome::Done(()))));
    assert_eq!(reader.read(names).unwrap(), ["a"]);
}

#[test]
fn a_read_is_one_snapshot_while_the_writer_goes_on() {
    let place = Place::new();
    let mut store = place.open();
    let mut reader = store.reader().unwrap();
    let seen = reader.read(|tx| {
        let before = names(tx)?;
        store.transact(|tx| insert(tx, "a")).unwrap();
        Ok::<_, sql::Error>((before, names(tx)?))
    });
    assert_eq!(seen.unwrap(), (vec![], vec![]));
    assert_eq!(reader.read(names).unwrap(), ["a"]);
}

#[test]
fn a_reader_cannot_write() {
    let place = Place::new();
    let store = place.open();
    let mut reader = store.reader().unwrap();
    assert!(reader.read(|tx| insert(tx, "a")).is_err());
    assert!(reader.read(names).unwrap().is_empty());
}

#[test]
fn a_panic_in_a_read_ends_the_snapshot() {
    let place = Place::new();
    let mut store = place.open();
    let mut reader = store.reader().unwrap();
    let panicking = std::panic::AssertUnwindSafe(|| {
        reader.read(|tx| {
            names(tx)?;
            panic!("a bug in a read");
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok::<(), sql::Error>(())
        })
    });
    assert!(std::panic::catch_unwind(panicking).is_err());
    store.transact(|tx| insert(tx, "a")).unwrap();
    assert!(!store.checkpoint().unwrap().blocked);
    assert_eq!(reader.read(names).unwrap(), ["a"]);
}

#[test]
fn the_lock_lasts_as_long_as_the_last_reader() {
    let place = Place::new();
    let store = place.open();
    let reader = store.reader().unwrap();
    store.close().unwrap();
    let refused = Store::open(&place.path(), &crate::options());
    assert!(matches!(refused, Err(StorageError::Locked)));
    drop(reader);
    place.open();
}

#[test]
fn case_178_a_copy_under_writes_is_whole_and_opens_with_the_same_key() {
    let place = Place::new();
    let mut store = place.open();
    let rows: Vec<_> = (0..500).map(|number| format!("row {number:03}")).collect();
    let stored = store.transact(|tx| {
        tx.execute("UPDATE item SET body = NULL", [])?;
        rows.iter().try_for_each(|name| insert(tx, name))
    });
    assert!(matches!(stored, Ok(Outcome::Done(()))));
    let (mut reader, copy) = (store.reader().unwrap(), Place::new());
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| reader.copy_to(&copy.path()));
        for number in 0..50 {
            store.transact(|tx| insert(tx, &format!("written meanwhile {number}"))).unwrap();
        }
        copying.join().unwrap().unwrap();
    });
    assert_eq!(copy.files(), ["test.db"]);
    let mut copied = copy.open().reader().unwrap();
    let check = |tx: &Tx<'_>| tx.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    assert_eq!(copied.read::<String, sql::Error>(check).unwrap(), "ok");
    let names = copied.read(names).unwrap();
    assert_eq!(names[..500], rows);
}

#[test]
fn a_copy_never_replaces_a_file() {
    let place = Place::new();
    let mut reader = place.open().reader().unwrap();
    let target = place.dir.path().join("precious");
    std::fs::write(&target, b"precious").unwrap();
    assert!(matches!(reader.copy_to(&target), Err(StorageError::Filesystem(_))));
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
}

#[test]
fn a_statement_is_planned_once_whatever_is_bound() {
    let place = Place::new();
    let mut store = place.open();
    let mut reader = store.reader().unwrap();
    let planned_again = |tx: &Tx<'_>| -> Result<i32, StorageError> {
        let newest = "SELECT DISTINCT name FROM item ORDER BY name DESC LIMIT ?1";
        let mut statement = tx.prepare_cached(newest)?;
        for limit in 1..20 {
            let rows = statement.query_map([limit], |row| row.get::<_, String>(0))?;
            assert!(rows.collect::<Result<Vec<_>, _>>()?.len() <= 2);
        }
        Ok(statement.get_status(sql::StatementStatus::RePrepare))
    };
    let written = store.transact(|tx| {
        insert(tx, "a")?;
        insert(tx, "b")?;
        planned_again(tx)
    });
    assert_eq!(done(written.unwrap()), 0);
    assert_eq!(reader.read(planned_again).unwrap(), 0);
}
