//! The 256-bit key of a database and the file that a server keeps it in.
//! Never derives a key from a password and never prints one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use zeroize::Zeroizing;

use crate::StorageError;

const KEY_BYTES: usize = 32;

/// A database key: 32 bytes, wiped on drop, redacted in `Debug`.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    /// A key from 32 uniformly random or derived bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Key {
        Key(Zeroizing::new(bytes))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Reads a key file: exactly 32 raw bytes, on Unix readable by its owner alone.
    ///
    /// # Errors
    /// [`StorageError::KeyFile`] for a missing file, a wrong length or an open mode;
    /// [`StorageError::Filesystem`] when it cannot be read.
    pub fn read(path: &Path) -> Result<Key, StorageError> {
        let mut file = File::open(path).map_err(refused_if(
            io::ErrorKind::NotFound,
            "does not exist; restore it or create a new store",
        ))?;
        refuse_shared_mode(&file)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let shorter = "is shorter than 32 bytes; restore it";
        file.read_exact(bytes.as_mut_slice())
            .map_err(refused_if(io::ErrorKind::UnexpectedEof, shorter))?;
        if file.read(&mut [0]).map_err(StorageError::from_io)? != 0 {
            return Err(refused("is longer than 32 bytes; it must hold raw bytes and no newline"));
        }
        Ok(Key(bytes))
    }

    /// Writes a new key file with mode 0600 and syncs it and its directory.
    ///
    /// # Errors
    /// [`StorageError::KeyFile`] if the file exists, which is never overwritten;
    /// [`StorageError::Full`] or [`StorageError::Filesystem`] if it cannot be written, and then
    /// no file is left behind.
    pub fn write_new(&self, path: &Path) -> Result<(), StorageError> {
        let mut file = new_private_file(path).map_err(refused_if(
            io::ErrorKind::AlreadyExists,
            "exists already and is never overwritten",
        ))?;
        let written = file
            .write_all(self.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_directory_of(path));
        written.map_err(|error| {
            if let Err(leftover) = fs::remove_file(path) {
                tracing::warn!(error = %leftover, "an incomplete key file could not be removed");
            }
            StorageError::from_io(error)
        })
    }

    /// The value of SQLCipher's `key` pragma for a raw key: `x'` and 64 hex digits and `'`.
    pub(crate) fn literal(&self) -> Zeroizing<String> {
        let mut literal = Zeroizing::new(String::with_capacity(2 * KEY_BYTES + 3));
        literal.push_str("x'");
        for byte in self.0.iter() {
            for nibble in [byte >> 4, byte & 0x0f] {
                literal.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        literal.push('\'');
        literal
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

fn refused(reason: &'static str) -> StorageError {
    StorageError::KeyFile { reason }
}

fn refused_if(kind: io::ErrorKind, reason: &'static str) -> impl FnOnce(io::Error) -> StorageError {
    move |error| {
        if error.kind() == kind { refused(reason) } else { StorageError::from_io(error) }
    }
}

#[cfg(unix)]
fn refuse_shared_mode(file: &File) -> Result<(), StorageError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(StorageError::from_io)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(refused("is readable by others; run chmod 600 on it"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_shared_mode(_file: &File) -> Result<(), StorageError> {
    Ok(())
}

/// Creates a file that only its owner can read; fails if it exists.
pub(crate) fn new_private_file(path: &Path) -> io::Result<File> {
    private(OpenOptions::new().write(true).create_new(true)).open(path)
}

/// Sets mode 0600 for a file that `options` may create.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes the creation or renaming of `path` durable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if cfg!(unix) {
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
