//! Copies: verified, restored, and refused when they are not whole. And a check after a crash.
//! Never looks at a refused file's error alone: its bytes must be what they were.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use qpc_storage::{
    Durability, Key, Migration, Options, Schema, StorageError, Store, restore, sql, verify,
};

use crate::{ITEMS, Place, done, insert, options, options_for, stored};

const PAGE_BYTES: usize = 4096;

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    named.collect()
}

/// A store with some pages, closed.
fn filled(rows: usize) -> Place {
    let place = Place::new();
    let mut store = place.open();
    fill(&mut store, rows);
    store.close().unwrap();
    place
}

fn fill(store: &mut Store, rows: usize) {
    let filled = store.transact(|tx| {
        for number in 0..rows {
            tx.prepare_cached("INSERT INTO item(name, body) VALUES (?1, randomblob(3000))")?
                .execute([format!("row {number:06}")])?;
        }
        Ok::<_, sql::Error>(())
    });
    done(filled.unwrap());
}

fn copy_of(place: &Place) -> Place {
    let copy = Place::new();
    place.open().reader().unwrap().copy_to(&copy.path()).unwrap();
    copy
}

fn damage(path: &Path, page: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[page * PAGE_BYTES + 100] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// What a killed process leaves: the files of an open store, and a lock that nobody holds.
fn killed(rows: usize) -> Place {
    let (place, copy) = (Place::new(), Place::new());
    let mut store = place.open();
    fill(&mut store, rows);
    store.checkpoint().unwrap();
    done(store.transact(|tx| insert(tx, "in the log")).unwrap());
    for (name, bytes) in contents(place.dir.path()) {
        if !name.ends_with("-shm") {
            fs::write(copy.dir.path().join(name), bytes).unwrap();
        }
    }
    copy
}

#[test]
fn a_good_copy_is_verified_and_left_alone() {
    let copy = copy_of(&filled(50));
    let before = contents(copy.dir.path());
    let verified = verify(&copy.path(), &options()).unwrap();
    assert_eq!(verified.schemas, [("items", 1)]);
    assert_eq!(usize::try_from(verified.pages).unwrap() * PAGE_BYTES, before["test.db"].len());
    assert!(contents(copy.dir.path()) == before, "no lock, no log, no byte");
}

#[test]
fn a_copy_with_any_page_damaged_is_refused() {
    let place = filled(20);
    let mut store = place.open();
    // Free pages belong to the copy, too.
    done(
        store.transact(|tx| tx.execute("DELETE FROM item WHERE name < 'row 000010'", [])).unwrap(),
    );
    store.close().unwrap();
    let copy = copy_of(&place);
    let good = fs::read(copy.path()).unwrap();
    for page in 0..good.len() / PAGE_BYTES {
        damage(&copy.path(), page);
        let before = contents(copy.dir.path());
        let refused = verify(&copy.path(), &options());
        assert!(
            matches!(refused, Err(StorageError::Corrupt(_) | StorageError::WrongKey)),
            "page {page}: {refused:?}"
        );
        assert!(page == 0 || matches!(refused, Err(StorageError::Corrupt(_))), "page {page}");
        assert!(contents(copy.dir.path()) == before, "page {page}");
        fs::write(copy.path(), &good).unwrap();
    }
    verify(&copy.path(), &options()).unwrap();
}

#[test]
fn a_copy_that_is_cut_short_is_refused() {
    let copy = copy_of(&filled(20));
    let good = fs::read(copy.path()).unwrap();
    for len in [good.len() - PAGE_BYTES, good.len() - 1, good.len() / 2 + 7] {
        fs::write(copy.path(), &good[..len]).unwrap();
        let refused = verify(&copy.path(), &options());
        assert!(matches!(refused, Err(StorageError::Corrupt(_))), "{len}: {refused:?}");
    }
}

#[test]
fn verify_refuses_what_is_no_copy_of_this_store() {
    let copy = copy_of(&filled(5));
    let wrong = Options { key: Key::from_bytes([8; 32]), ..options() };
    assert!(matches!(verify(&copy.path(), &wrong), Err(StorageError::WrongKey)));
    let missing = copy.dir.path().join("missing");
    assert!(matches!(verify(&missing, &options()), Err(StorageError::NotFound)));
    assert!(!missing.exists());

    const NEWER: Schema = Schema {
        migrations: &[ITEMS.migrations[0], Migration { name: "more", sql: "CREATE TABLE b(c);" }],
        oldest_reader: 2,
        ..ITEMS
    };
    let place = Place::new();
    Store::open(&place.path(), &options_for(vec![NEWER])).unwrap().close().unwrap();
    let refused = verify(&place.path(), &options());
    assert!(matches!(refused, Err(StorageError::SchemaNewer { .. })), "{refused:?}");
    let crashed = killed(5);
    let refused = verify(&crashed.path(), &options());
    assert!(matches!(refused, Err(StorageError::Filesystem(_))), "{refused:?}");
}

#[test]
fn case_178_a_copy_is_restored_into_an_empty_place_only() {
    let copy = copy_of(&filled(30));
    let target = Place::new();
    let verified = restore(&copy.path(), &target.path(), &options()).unwrap();
    assert_eq!(verified, verify(&copy.path(), &options()).unwrap());
    assert_eq!(stored(&target.open()).len(), 30);

    let before = contents(target.dir.path());
    let refused = restore(&copy.path(), &target.path(), &options());
    assert!(matches!(refused, Err(StorageError::Filesystem(_))), "{refused:?}");
    assert!(contents(target.dir.path()) == before);
    // A link leads to the file, not around the refusal.
    #[cfg(unix)]
    {
        let link = target.dir.path().join("link.db");
        std::os::unix::fs::symlink(target.path(), &link).unwrap();
        assert!(restore(&copy.path(), &link, &options()).is_err());
    }
}

#[test]
fn a_damaged_copy_is_not_restored() {
    let copy = copy_of(&filled(30));
    damage(&copy.path(), 7);
    let target = Place::new();
    let refused = restore(&copy.path(), &target.path(), &options());
    assert!(matches!(refused, Err(StorageError::Corrupt(_))), "{refused:?}");
    assert!(!target.path().exists());
    // And the next try starts anew.
    let good = copy_of(&filled(3));
    restore(&good.path(), &target.path(), &options()).unwrap();
    assert_eq!(target.files(), ["test.db", "test.db.lock"]);
}

#[test]
fn a_restore_beside_a_log_is_refused() {
    let copy = copy_of(&filled(3));
    let target = Place::new();
    fs::write(target.dir.path().join("test.db-wal"), b"frames of a lost store").unwrap();
    let refused = restore(&copy.path(), &target.path(), &options());
    assert!(matches!(refused, Err(StorageError::Filesystem(_))), "{refused:?}");
    assert!(!target.path().exists());
}

#[test]
fn a_whole_store_opens_after_a_crash() {
    let crashed = killed(30);
    assert_eq!(stored(&crashed.open()).len(), 31);
}

#[test]
fn damage_is_found_before_a_store_that_was_not_closed_is_handed_out() {
    let pages = fs::metadata(killed(30).path()).unwrap().len() / u64::try_from(PAGE_BYTES).unwrap();
    for page in 1..usize::try_from(pages).unwrap() {
        for log_too in [true, false] {
            let crashed = killed(30);
            damage(&crashed.path(), page);
            if !log_too {
                fs::remove_file(crashed.dir.path().join("test.db-wal")).unwrap();
            }
            let before = contents(crashed.dir.path());
            let refused = Store::open(&crashed.path(), &options());
            match refused {
                Err(error) => assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}"),
                // The log has a newer copy of the page, or nothing uses it.
                Ok(store) => assert!(log_too && stored(&store).len() == 31, "page {page}"),
            }
            if !log_too {
                let after = contents(crashed.dir.path());
                let kept = before.iter().all(|(name, bytes)| after.get(name) == Some(bytes));
                assert!(kept, "page {page}: {:?}", after.keys());
            }
        }
    }
}

#[test]
fn a_store_that_was_closed_is_not_checked_again() {
    let place = filled(30);
    damage(&place.path(), 20);
    let store = place.open();
    drop(store);
    let refused = Store::open(&place.path(), &options());
    assert!(matches!(refused, Err(StorageError::Corrupt(_))), "dropped, not closed: {refused:?}");
}

/// What a start after a crash costs; `docs/testing/README.md` has the command and the numbers.
#[test]
#[ignore = "measures"]
#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn time_of_the_check_of_100_mb() {
    let place = Place::new();
    let options = options().with_durability(Durability::Process);
    let mut store = Store::open(&place.path(), &options).unwrap();
    for part in 0..25 {
        let filled = store.transact(|tx| {
            for number in 0..1000 {
                tx.prepare_cached("INSERT INTO item(name, body) VALUES (?1, randomblob(3900))")?
                    .execute([format!("row {part}.{number}")])?;
            }
            Ok::<_, sql::Error>(())
        });
        done(filled.unwrap());
    }
    store.close().unwrap();
    let mib = fs::metadata(place.path()).unwrap().len() >> 20;
    let time = |what: &str, run: &dyn Fn()| {
        let began = Instant::now();
        run();
        println!("{what}, {mib} MiB: {} ms", began.elapsed().as_millis());
    };
    let reopen = || Store::open(&place.path(), &options).unwrap();
    time("open after a clean stop", &|| reopen().close().unwrap());
    drop(reopen());
    time("open after a crash", &|| reopen().close().unwrap());
    time("verify", &|| drop(verify(&place.path(), &options).unwrap()));
}
