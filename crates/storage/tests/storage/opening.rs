//! Opening and refusing to open: keys, locks, foreign files, crashes.
//! Never judges a refused open by its error alone: the bytes must be the same afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use qpc_storage::{Durability, Key, Options, StorageError, Store, sql};

use crate::{ITEMS, Place, done, insert, names, options, stored};

fn wrong() -> Options {
    Options { key: Key::from_bytes([8; 32]), ..options() }
}

/// Name and content of every file, without the lock.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    named.filter(|(name, _)| !name.ends_with(".lock")).collect()
}

/// Copies the files of an open store: what a killed process leaves.
fn killed_copy(of: &Place) -> Place {
    let copy = Place::new();
    for suffix in ["", "-wal"] {
        let name = format!("test.db{suffix}");
        fs::copy(of.dir.path().join(&name), copy.dir.path().join(&name)).unwrap();
    }
    copy
}

#[test]
fn what_was_stored_is_there_after_reopening() {
    let place = Place::new();
    for (name, durability) in [("a", Durability::Full), ("b", Durability::Process)] {
        let options = options().with_durability(durability);
        let mut store = Store::open(&place.path(), &options).unwrap();
        done(store.transact(|tx| insert(tx, name)).unwrap());
        store.close().unwrap();
    }
    assert_eq!(place.files(), ["test.db", "test.db.lock"]);
    assert_eq!(stored(&place.open()), ["a", "b"]);
}

#[test]
fn a_file_holds_no_plaintext() {
    let place = Place::new();
    let mut store = place.open();
    done(store.transact(|tx| insert(tx, "a very visible name")).unwrap());
    let open = contents(place.dir.path());
    store.close().unwrap();
    for files in [open, contents(place.dir.path())] {
        for (name, bytes) in files.into_iter().filter(|(name, _)| !name.ends_with("-shm")) {
            for needle in [&b"very visible"[..], b"CREATE TABLE", b"SQLite format 3"] {
                let found = bytes.windows(needle.len()).any(|window| window == needle);
                assert!(!found, "{name} holds {}", String::from_utf8_lossy(needle));
            }
        }
    }
}

#[test]
fn case_169_wrong_key_leaves_the_file_as_it_was() {
    let place = Place::new();
    place.open().close().unwrap();
    let before = contents(place.dir.path());
    for open in [Store::open, Store::open_existing] {
        let refused = open(&place.path(), &wrong());
        assert!(matches!(refused, Err(StorageError::WrongKey)), "{refused:?}");
        assert_eq!(contents(place.dir.path()), before);
    }
    place.open();
}

#[test]
fn case_169_wrong_key_after_a_crash_leaves_file_and_log_as_they_were() {
    let place = Place::new();
    let mut store = place.open();
    done(store.transact(|tx| insert(tx, "in the log")).unwrap());
    let crashed = killed_copy(&place);
    let before = contents(crashed.dir.path());
    assert!(!before["test.db-wal"].is_empty());
    let refused = Store::open(&crashed.path(), &wrong());
    assert!(matches!(refused, Err(StorageError::WrongKey)), "{refused:?}");
    assert_eq!(contents(crashed.dir.path()), before);
    assert_eq!(stored(&crashed.open()), ["in the log"]);
}

#[test]
fn case_173_second_store_on_the_same_file_is_refused() {
    let place = Place::new();
    let mut store = place.open();
    let second = Store::open(&place.path(), &options());
    assert!(matches!(second, Err(StorageError::Locked)), "{second:?}");
    done(store.transact(|tx| insert(tx, "a")).unwrap());
    store.close().unwrap();
    assert_eq!(stored(&place.open()), ["a"]);
}

#[cfg(unix)]
#[test]
fn case_174_second_store_through_a_link_is_refused() {
    let place = Place::new();
    let _store = place.open();
    let link = place.dir.path().join("link.db");
    std::os::unix::fs::symlink(place.path(), &link).unwrap();
    assert!(matches!(Store::open(&link, &options()), Err(StorageError::Locked)));
}

#[test]
fn a_missing_store_is_not_created_by_open_existing() {
    let place = Place::new();
    let refused = Store::open_existing(&place.path(), &options());
    assert!(matches!(refused, Err(StorageError::NotFound)));
    assert!(place.files().is_empty());
    let nowhere = place.dir.path().join("no/such/test.db");
    let refused = Store::open(&nowhere, &options());
    assert!(matches!(refused, Err(StorageError::Filesystem(_))), "{refused:?}");
}

#[test]
fn plain_and_empty_files_are_refused_untouched() {
    for bytes in [&b""[..], b"short", b"SQLite format 3\0 and then some pages"] {
        let place = Place::new();
        fs::write(place.path(), bytes).unwrap();
        let refused = Store::open(&place.path(), &options());
        assert!(matches!(refused, Err(StorageError::NotEncrypted)), "{refused:?}");
        assert_eq!(fs::read(place.path()).unwrap(), bytes);
    }
}

#[test]
fn a_creation_that_was_killed_half_way_starts_again() {
    let place = Place::new();
    for suffix in ["new", "new-journal", "new-wal"] {
        fs::write(place.dir.path().join(format!("test.db.{suffix}")), b"half a page").unwrap();
    }
    place.open().close().unwrap();
    assert_eq!(place.files(), ["test.db", "test.db.lock"]);
}

#[test]
fn a_log_without_its_store_is_not_mixed_into_a_new_one() {
    let place = Place::new();
    let log = place.dir.path().join("test.db-wal");
    fs::write(&log, b"frames of a lost store").unwrap();
    let refused = Store::open(&place.path(), &options());
    assert!(matches!(refused, Err(StorageError::Filesystem(_))), "{refused:?}");
    assert!(!place.path().exists());
    assert_eq!(fs::read(&log).unwrap(), b"frames of a lost store");
}

#[test]
fn a_damaged_page_reads_as_corrupt_and_stops_the_store() {
    let place = Place::new();
    let mut store = place.open();
    done(store.transact(|tx| insert(tx, "a")).unwrap());
    store.close().unwrap();
    let mut bytes = fs::read(place.path()).unwrap();
    for page in 3..bytes.len() / 4096 {
        bytes[page * 4096 + 100] ^= 1;
    }
    fs::write(place.path(), bytes).unwrap();

    let options = Options { schemas: vec![], ..options() };
    let mut store = Store::open(&place.path(), &options).unwrap();
    let error = store.transact(|tx| names(tx).map(drop)).unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
    assert!(store.transact(|_| Ok::<_, sql::Error>(())).is_err());
}

#[test]
fn the_settings_that_guard_the_data_are_on() {
    let place = Place::new();
    let options = options().with_durability(Durability::Full);
    let mut store = Store::open(&place.path(), &options).unwrap();
    let read = store.transact(|tx| {
        let mut values = BTreeMap::new();
        for name in [
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "secure_delete",
            "auto_vacuum",
            "temp_store",
            "trusted_schema",
            "journal_size_limit",
            "cipher_hmac_algorithm",
        ] {
            let text = tx.pragma_query_value(None, name, |row| {
                let value = row.get_ref(0)?;
                let number = value.as_i64().map(|number| number.to_string());
                number.or_else(|_| Ok(value.as_str()?.to_owned()))
            })?;
            values.insert(name, text);
        }
        Ok::<_, sql::Error>(values)
    });
    let expected = [
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("foreign_keys", "1"),
        ("secure_delete", "1"),
        ("auto_vacuum", "2"),
        ("temp_store", "2"),
        ("trusted_schema", "0"),
        ("journal_size_limit", "16777216"),
        ("cipher_hmac_algorithm", "HMAC_SHA256"),
    ];
    let expected = expected.map(|(name, value)| (name, value.to_owned()));
    assert_eq!(done(read.unwrap()), BTreeMap::from(expected));
}

#[cfg(unix)]
#[test]
fn the_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let mut store = place.open();
    done(store.transact(|tx| insert(tx, "a")).unwrap());
    assert_eq!(place.files(), ["test.db", "test.db-shm", "test.db-wal", "test.db.lock"]);
    for name in place.files() {
        let mode = fs::metadata(place.dir.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn no_message_shows_the_key_or_the_path() {
    let place = Place::new();
    let shown = format!("{:?}", Options { schemas: vec![ITEMS], ..options() });
    assert!(shown.contains("Key(redacted)") && !shown.contains("7, 7"), "{shown}");
    place.open().close().unwrap();
    let error = Store::open(&place.path(), &wrong()).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("test.db") && !shown.contains("0808"), "{shown}");
}
