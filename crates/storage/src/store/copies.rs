//! Whole files: is a copy good, back into place with it, and under another key.
//! Never changes a file in place: a new one is made beside it, checked, and takes its name.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::lock::Lock;
use super::log::Log;
use super::{check, connect, open, schema};
use crate::key::sync_directory_of;
use crate::{Key, Options, StorageError, sql};

/// What [`verify`] found in a good copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its size, in pages of 4 KiB.
    pub pages: u64,
    /// The schemas of the options and the version that the file has of each; 0 if it has none.
    pub schemas: Vec<(&'static str, u32)>,
}

/// Checks a copy that nobody has open: the key, every page, every index, and that this program can
/// follow its schemas. Writes nothing, neither to the file nor beside it.
///
/// # Errors
/// `NotFound`, `NotEncrypted`, `WrongKey`, `Corrupt` and `SchemaNewer`; `Filesystem` if a log lies
/// beside the file: then it is an open or a killed store and no copy.
pub fn verify(path: &Path, options: &Options) -> Result<Verified, StorageError> {
    connect::prepare_library()?;
    if !open::exists(path)? {
        return Err(StorageError::NotFound);
    }
    open::refuse_plain(path)?;
    let log = connect::beside(path, "-wal");
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        let advice = "a log lies beside the file; open the store and close it, or copy it again";
        return Err(StorageError::from_io(io::Error::other(advice)));
    }
    let conn = connect::sealed(path, options)?;
    check::full(&conn)?;
    let schemas = schema::versions(&conn, &options.schemas)?;
    let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    Ok(Verified { pages: u64::try_from(pages).unwrap_or(0), schemas })
}

/// Makes the store `to` of the copy `from`, once [`verify`] is content with what was copied. A
/// crash leaves no store at `to` or a whole one.
///
/// # Errors
/// Those of [`verify`]; `Filesystem` if there is a file at `to`, or a log beside it; `Full`;
/// `Locked` while another process makes it.
pub fn restore(from: &Path, to: &Path, options: &Options) -> Result<Verified, StorageError> {
    let to = open::resolve(to).map_err(StorageError::from_io)?;
    let _lock = Lock::take(&to)?;
    if open::exists(&to)? {
        let advice = "there is a store already; move it away first";
        let exists = io::Error::new(io::ErrorKind::AlreadyExists, advice);
        return Err(StorageError::from_io(exists));
    }
    if !open::exists(from)? {
        return Err(StorageError::NotFound);
    }
    open::create(&to, options.durability, |draft| {
        copy_bytes(from, draft).map_err(StorageError::from_io)?;
        verify(draft, options)
    })
}

fn copy_bytes(from: &Path, to: &Path) -> io::Result<()> {
    let mut to = OpenOptions::new().write(true).open(to)?;
    io::copy(&mut File::open(from)?, &mut to).map(drop)
}

/// Gives the store at `path`, which nobody has open, another key. A crash leaves a store that
/// opens with the old key or with the new one, and nothing of it is lost: keep both until this
/// returns.
///
/// # Errors
/// Those of [`crate::Store::open_existing`] and [`verify`], and `Full`: the store is as it was.
pub fn rekey(path: &Path, options: &Options, key: &Key) -> Result<(), StorageError> {
    rekey_watched((path, options), key, |_| {})
}

/// Where a process can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    LogMoved,
    Copied,
    Checked,
    Replaced,
}

fn rekey_watched(
    (path, options): (&Path, &Options),
    key: &Key,
    mut reached: impl FnMut(Step),
) -> Result<(), StorageError> {
    connect::prepare_library()?;
    if !open::exists(path)? {
        return Err(StorageError::NotFound);
    }
    let path = open::resolve(path).map_err(StorageError::from_io)?;
    let lock = Lock::take(&path)?;
    open::refuse_plain(&path)?;
    let suspect = open::is_suspect(&path, &lock)?;
    move_log(connect::writer(&path, options, suspect)?)?;
    // The log must be gone for good: under the new key its pages would be noise.
    sync_directory_of(&path).map_err(StorageError::from_io)?;
    reached(Step::LogMoved);
    let under_new_key = Options { key: key.clone(), ..options.clone() };
    open::create(&path, options.durability, |draft| {
        connect::copy(&connect::sealed(&path, options)?, draft, &under_new_key)?;
        reached(Step::Copied);
        verify(draft, &under_new_key)?;
        reached(Step::Checked);
        Ok(())
    })?;
    reached(Step::Replaced);
    lock.mark_shut();
    Ok(())
}

fn move_log(mut conn: sql::Connection) -> Result<(), StorageError> {
    Log::follow(&mut conn)?.empty(&conn)?;
    conn.close().map_err(|(_, error)| StorageError::from_sql(error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::{Durability, Migration, Outcome, Schema, Store, Tx};

    const NOTES: Schema = Schema {
        name: "notes",
        migrations: &[Migration { name: "create", sql: "CREATE TABLE note(body TEXT NOT NULL)" }],
        oldest_reader: 1,
    };
    const ROWS: usize = 200;

    fn options(key: u8) -> Options {
        Options::new(Key::from_bytes([key; 32]), vec![NOTES]).with_durability(Durability::Process)
    }

    fn store_of(dir: &TempDir) -> PathBuf {
        let path = dir.path().join("notes.db");
        let mut store = Store::open(&path, &options(1)).unwrap();
        let written = store.transact(|tx| -> Result<(), sql::Error> {
            let mut insert = tx.prepare("INSERT INTO note(body) VALUES (?1)")?;
            (0..ROWS).try_for_each(|number| insert.execute([format!("{number}")]).map(drop))
        });
        assert!(matches!(written, Ok(Outcome::Done(()))));
        path
    }

    /// What a killed process leaves.
    fn image(dir: &TempDir) -> TempDir {
        let image = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), image.path().join(entry.file_name())).unwrap();
        }
        image
    }

    fn rows(path: &Path, key: u8) -> Result<usize, StorageError> {
        let store = Store::open_existing(path, &options(key))?;
        let count = |tx: &Tx<'_>| tx.query_row("SELECT count(*) FROM note", [], |row| row.get(0));
        store.reader()?.read::<_, sql::Error>(count).map_err(StorageError::from)
    }

    #[test]
    fn case_171_a_rekey_killed_at_any_step_opens_under_one_of_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = store_of(&dir);
        let mut images = Vec::new();
        let (new, old) = (Key::from_bytes([2; 32]), options(1));
        rekey_watched((&path, &old), &new, |step| images.push((step, image(&dir)))).unwrap();
        images.push((Step::Replaced, image(&dir)));
        assert_eq!(images.len(), 5);
        for (step, image) in images {
            let path = image.path().join("notes.db");
            let opened = [1, 2].map(|key| rows(&path, key));
            let replaced = step == Step::Replaced;
            let (opens, refuses) = if replaced { (1, 0) } else { (0, 1) };
            assert!(matches!(opened.get(opens), Some(Ok(ROWS))), "{step:?} {opened:?}");
            let refused = opened.get(refuses);
            assert!(matches!(refused, Some(Err(StorageError::WrongKey))), "{step:?} {refused:?}");
            // Once more, from whatever was left.
            if !replaced {
                rekey(&path, &old, &new).unwrap();
                assert_eq!(rows(&path, 2).unwrap(), ROWS);
            }
        }
    }

    #[test]
    fn case_171_a_rekey_after_a_crash_takes_the_log_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.db");
        let mut store = Store::open(&path, &options(1)).unwrap();
        let insert = |tx: &Tx<'_>| tx.execute("INSERT INTO note(body) VALUES ('in the log')", []);
        assert!(matches!(store.transact(insert), Ok(Outcome::Done(1))));
        let crashed = image(&dir);
        let path = crashed.path().join("notes.db");
        assert!(fs::metadata(connect::beside(&path, "-wal")).unwrap().len() > 0);
        rekey(&path, &options(1), &Key::from_bytes([2; 32])).unwrap();
        assert_eq!(rows(&path, 2).unwrap(), 1);
    }

    #[test]
    fn a_rekey_of_an_open_store_or_under_a_wrong_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = store_of(&dir);
        let new = Key::from_bytes([2; 32]);
        let wrong = rekey(&path, &options(3), &new);
        assert!(matches!(wrong, Err(StorageError::WrongKey)), "{wrong:?}");
        let store = Store::open(&path, &options(1)).unwrap();
        let locked = rekey(&path, &options(1), &new);
        assert!(matches!(locked, Err(StorageError::Locked)), "{locked:?}");
        drop(store);
        assert_eq!(rows(&path, 1).unwrap(), ROWS);
    }

    #[test]
    fn a_path_survives_the_way_through_a_uri() {
        let dir = tempfile::tempdir().unwrap();
        let path = store_of(&dir);
        let odd = dir.path().join("a b%41?mode=rw#é.db");
        Store::open(&path, &options(1)).unwrap().close().unwrap();
        fs::copy(&path, &odd).unwrap();
        assert_eq!(verify(&odd, &options(1)).unwrap().schemas, [("notes", 1)]);
    }
}
