//! The order of opening: version gate, lock, creation, key, check after a crash, migrations.
//! Never replaces a file that exists.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::{Store, connect, schema};
use crate::key::{new_private_file, sync_directory_of};
use crate::{Durability, Options, StorageError};

/// First bytes of a database that is not encrypted.
const PLAIN_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What to do if there is no file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Refuse,
}

/// What a store keeps from its opening.
pub(super) struct Opened<'o> {
    pub(super) path: PathBuf,
    pub(super) options: &'o Options,
    pub(super) lock: Lock,
}

pub(super) fn open(
    path: &Path,
    options: &Options,
    missing: Missing,
) -> Result<Store, StorageError> {
    connect::prepare_library()?;
    if missing == Missing::Refuse && !exists(path)? {
        return Err(StorageError::NotFound);
    }
    let path = resolve(path).map_err(StorageError::from_io)?;
    let lock = Lock::take(&path)?;
    if !exists(&path)? {
        if missing == Missing::Refuse {
            return Err(StorageError::NotFound);
        }
        create(&path, options.durability, |draft| connect::initialise(draft, options))?;
    }
    refuse_plain(&path)?;
    let suspect = is_suspect(&path, &lock)?;
    let mut conn = connect::writer(&path, options, suspect)?;
    lock.mark_open();
    schema::migrate(&mut conn, &options.schemas)?;
    Store::new(conn, Opened { path, options, lock })
}

pub(super) fn exists(path: &Path) -> Result<bool, StorageError> {
    path.try_exists().map_err(StorageError::from_io)
}

/// One name for one file: two links to it must meet at the same lock.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    if path.try_exists()? {
        return path.canonicalize();
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok(parent.unwrap_or(Path::new(".")).canonicalize()?.join(name))
}

/// Whether the last process may have died with the store open.
pub(super) fn is_suspect(path: &Path, lock: &Lock) -> Result<bool, StorageError> {
    let log = match fs::metadata(connect::beside(path, "-wal")) {
        Ok(log) => log.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(StorageError::from_io(error)),
    };
    Ok(log > 0 || lock.says_open()?)
}

/// Creates the file under another name and renames it when it is whole, so that a crash leaves
/// no file or a good one.
pub(super) fn create<T>(
    path: &Path,
    durability: Durability,
    fill: impl FnOnce(&Path) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    refuse_orphaned_log(path)?;
    let draft = connect::beside(path, ".new");
    for suffix in ["", "-journal", "-wal", "-shm"] {
        remove_if_there(&connect::beside(&draft, suffix)).map_err(StorageError::from_io)?;
    }
    let file = new_private_file(&draft).map_err(StorageError::from_io)?;
    let made = fill(&draft)?;
    publish(&file, &draft, path, durability).map_err(StorageError::from_io)?;
    Ok(made)
}

/// SQLite would apply a left-over log to the new file, which it does not belong to.
fn refuse_orphaned_log(path: &Path) -> Result<(), StorageError> {
    if exists(&connect::beside(path, "-wal"))? {
        let advice = "a log is left without its store; restore the store or move the log away";
        return Err(StorageError::from_io(io::Error::new(io::ErrorKind::AlreadyExists, advice)));
    }
    Ok(())
}

fn publish(file: &File, draft: &Path, path: &Path, durability: Durability) -> io::Result<()> {
    match durability {
        Durability::Process => fs::rename(draft, path),
        Durability::Full => {
            file.sync_all()?;
            fs::rename(draft, path)?;
            sync_directory_of(path)
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// A file of ours begins with a random salt; an empty one was never ours.
pub(super) fn refuse_plain(path: &Path) -> Result<(), StorageError> {
    let mut start = Vec::with_capacity(PLAIN_MAGIC.len());
    let file = File::open(path).map_err(StorageError::from_io)?;
    let limit = PLAIN_MAGIC.len().try_into().unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut start).map_err(StorageError::from_io)?;
    if start.len() < PLAIN_MAGIC.len() || start == PLAIN_MAGIC {
        return Err(StorageError::NotEncrypted);
    }
    Ok(())
}
