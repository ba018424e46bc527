//! Group commit, savepoints and what a failing job can and cannot do to its neighbours.
//! Never looks at SQL beyond the test's own table.

use qpc_storage::{Job, Outcome, StorageError, Store, Tx, sql};

use crate::{Place, done, insert, names, stored};

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("not allowed")]
    NotAllowed,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<sql::Error> for Refusal {
    fn from(error: sql::Error) -> Refusal {
        StorageError::from(error).into()
    }
}

type Step = Job<'static, usize, Refusal>;

fn add(name: &'static str) -> Step {
    Box::new(move |tx| {
        insert(tx, name)?;
        Ok(name.len())
    })
}

fn add_then_refuse(name: &'static str) -> Step {
    Box::new(move |tx| {
        insert(tx, name)?;
        Err(Refusal::NotAllowed)
    })
}

fn add_then_panic(name: &'static str) -> Step {
    Box::new(move |tx| {
        insert(tx, name)?;
        let inside: Result<usize, Refusal> = tx.savepoint(|_| panic!("a bug in a job"));
        inside
    })
}

/// Limits the file to `pages` pages more than it has.
fn leave_room(store: &mut Store, pages: u32) {
    let limited = store.transact(|tx| {
        let now: u32 = tx.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        let limit = format!("PRAGMA max_page_count = {}", now + pages);
        tx.query_row(&limit, [], |row| row.get::<_, u32>(0))
    });
    done(limited.unwrap());
}

fn insert_big(tx: &Tx<'_>) -> Result<usize, sql::Error> {
    tx.execute("INSERT INTO item(name, body) VALUES ('big', zeroblob(200000))", [])
}

#[test]
fn a_refused_and_a_panicking_job_leave_the_others_stored() {
    let place = Place::new();
    let mut store = place.open();
    let jobs = vec![
        add("first"),
        add_then_refuse("refused"),
        add("second"),
        add_then_panic("panicked"),
        add("third"),
    ];
    let outcomes = store.apply(jobs).unwrap();
    assert!(matches!(
        outcomes.as_slice(),
        [
            Outcome::Done(5),
            Outcome::Refused(Refusal::NotAllowed),
            Outcome::Done(6),
            Outcome::Panicked,
            Outcome::Done(5),
        ]
    ));
    drop(store);
    assert_eq!(stored(&place.open()), ["first", "second", "third"]);
}

#[test]
fn a_job_sees_what_the_jobs_before_it_wrote() {
    let place = Place::new();
    let mut store = place.open();
    let count: Step = Box::new(|tx| Ok(names(tx)?.len()));
    let outcomes = store.apply(vec![add("a"), add_then_refuse("b"), count]).unwrap();
    assert!(matches!(outcomes.as_slice(), [_, _, Outcome::Done(1)]));
}

#[test]
fn a_constraint_error_refuses_one_job_only() {
    let place = Place::new();
    let mut store = place.open();
    let outcomes = store.apply(vec![add("a"), add("a"), add("b")]).unwrap();
    assert!(matches!(outcomes[1], Outcome::Refused(Refusal::Storage(StorageError::Sql(_)))));
    assert_eq!(stored(&store), ["a", "b"]);
}

#[test]
fn savepoints_nest_and_roll_back_alone() {
    let place = Place::new();
    let mut store = place.open();
    let outcome = store.transact(|tx| {
        insert(tx, "outer")?;
        tx.savepoint(|tx| {
            insert(tx, "middle")?;
            let inner = tx.savepoint(|tx| {
                insert(tx, "inner")?;
                Err::<(), _>(Refusal::NotAllowed)
            });
            assert!(matches!(inner, Err(Refusal::NotAllowed)));
            insert(tx, "after")?;
            Ok::<_, Refusal>(())
        })?;
        let undone: Result<(), Refusal> = tx.savepoint(|tx| {
            tx.savepoint(|tx| insert(tx, "kept inside, lost outside"))?;
            Err(Refusal::NotAllowed)
        });
        assert!(undone.is_err());
        Ok::<_, Refusal>(())
    });
    done(outcome.unwrap());
    assert_eq!(stored(&store), ["after", "middle", "outer"]);
}

#[test]
fn case_166_no_space_in_a_job_fails_the_whole_batch_and_heals() {
    let place = Place::new();
    let mut store = place.open();
    leave_room(&mut store, 3);
    let big: Step = Box::new(|tx| Ok(insert_big(tx)?));
    let error = store.apply(vec![add("before"), big, add("behind")]).unwrap_err();
    assert!(error.is_full(), "{error:?}");
    assert!(stored(&store).is_empty());

    leave_room(&mut store, 1_000);
    let big: Step = Box::new(|tx| Ok(insert_big(tx)?));
    store.apply(vec![add("before"), big]).unwrap();
    assert_eq!(stored(&store), ["before", "big"]);
}

#[test]
fn a_job_that_goes_on_after_its_transaction_is_gone_stores_nothing() {
    let place = Place::new();
    let mut store = place.open();
    leave_room(&mut store, 3);
    let result = store.transact(|tx| {
        assert!(tx.savepoint(insert_big).is_err());
        assert!(tx.is_autocommit(), "the premise: SQLite rolled back everything");
        assert!(insert(tx, "stray").is_err());
        Ok::<_, Refusal>(())
    });
    assert!(matches!(result, Err(StorageError::Sql(_))), "{result:?}");
    assert!(stored(&store).is_empty());
    store.apply(vec![add("later")]).unwrap();
    assert_eq!(stored(&store), ["later"]);
}

#[test]
fn a_job_cannot_commit_by_itself() {
    let place = Place::new();
    let mut store = place.open();
    let result = store.transact(|tx| {
        insert(tx, "early")?;
        assert!(tx.execute_batch("COMMIT").is_err());
        Ok::<_, Refusal>(())
    });
    assert!(result.is_err());
    assert!(stored(&store).is_empty());
}

#[test]
fn case_167_after_a_fatal_failure_nothing_more_is_written() {
    let place = Place::new();
    let mut store = place.open();
    let io = || sql::Error::SqliteFailure(sql::ffi::Error::new(sql::ffi::SQLITE_IOERR_FSYNC), None);
    let failing: Step = Box::new(move |_| Err(io().into()));
    let error = store.apply(vec![add("before"), failing]).unwrap_err();
    assert!(error.is_fatal() && matches!(error, StorageError::Io(_)));
    let again = store.apply(vec![add("after")]).unwrap_err();
    assert!(matches!(again, StorageError::Io(_)));
    assert!(store.checkpoint().is_err());
    assert!(stored(&store).is_empty());
    store.close().unwrap();
    assert!(stored(&place.open()).is_empty());
}

#[test]
fn jobs_may_borrow_and_come_from_another_thread() {
    let place = Place::new();
    let mut store = place.open();
    let owned = String::from("borrowed");
    let job: Job<'_, (), StorageError> = Box::new(|tx| insert(tx, &owned));
    let outcomes = std::thread::scope(|scope| scope.spawn(|| store.apply(vec![job])).join());
    outcomes.unwrap().unwrap();
    assert_eq!(stored(&store), ["borrowed"]);
}

#[test]
fn case_186_deleted_bytes_are_gone_after_a_checkpoint() {
    let place = Place::new();
    let mut store = place.open();
    store.apply(vec![add("a"), add("b")]).unwrap();
    let full = store.checkpoint().unwrap();
    assert!(!full.blocked);
    let log = std::fs::metadata(place.dir.path().join("test.db-wal")).unwrap();
    assert_eq!(log.len(), 0, "the log keeps no old page");
    let secure = store.transact(|tx| tx.query_row("PRAGMA secure_delete", [], |row| row.get(0)));
    assert_eq!(done::<i64, sql::Error>(secure.unwrap()), 1);
}

#[test]
fn free_pages_go_back_to_the_file_system() {
    let place = Place::new();
    let mut store = place.open();
    done(store.transact(insert_big).unwrap());
    done(store.transact(|tx| tx.execute("DELETE FROM item", [])).unwrap());
    store.checkpoint().unwrap();
    let before = std::fs::metadata(place.path()).unwrap().len();
    store.release_pages(1_000).unwrap();
    store.checkpoint().unwrap();
    let after = std::fs::metadata(place.path()).unwrap().len();
    assert!(after + 150_000 < before, "{before} -> {after}");
}
