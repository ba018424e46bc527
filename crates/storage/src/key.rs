//! The raw 256-bit database key and its file. Never derives, prints or logs one.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::StorageError;

/// A raw SQLCipher key, 32 bytes; no key derivation runs at start.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(redacted)")
    }
}

impl Key {
    /// A key of these 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The `PRAGMA key` that opens a file with it.
    pub(crate) fn pragma(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(96));
        text.push_str("PRAGMA key = \"x'");
        for byte in self.0.iter() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text.push_str("'\"");
        text
    }

    /// Reads a key file: exactly 32 raw bytes, readable by its owner alone.
    ///
    /// # Errors
    /// [`StorageError::KeyFile`] for a wrong length or mode, [`StorageError::Filesystem`] when it
    /// cannot be read.
    pub fn read(path: &Path) -> Result<Self, StorageError> {
        let mut file = File::open(path)?;
        check_mode(&file)?;
        let mut bytes = Zeroizing::new([0; 32]);
        file.read_exact(bytes.as_mut())
            .map_err(|_| StorageError::KeyFile("it is too short"))?;
        if file.read(&mut [0])? != 0 {
            return Err(StorageError::KeyFile("it is too long"));
        }
        Ok(Self(bytes))
    }

    /// Writes a new key file (mode 0600), durably.
    ///
    /// # Errors
    /// [`StorageError::Filesystem`], also when the file exists: it is never overwritten.
    pub fn write_new(&self, path: &Path) -> Result<(), StorageError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        file.write_all(self.0.as_slice())?;
        file.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            })?
            .sync_all()?;
        }
        Ok(())
    }
}

#[cfg(unix)]
fn check_mode(file: &File) -> Result<(), StorageError> {
    use std::os::unix::fs::PermissionsExt as _;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(StorageError::KeyFile("others may read it: chmod 600"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_: &File) -> Result<(), StorageError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_round_trips_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = Key::from_bytes([9; 32]);
        key.write_new(&path).unwrap();
        assert_eq!(Key::read(&path).unwrap().as_bytes(), key.as_bytes());
        assert!(Key::from_bytes([1; 32]).write_new(&path).is_err());
        assert_eq!(Key::read(&path).unwrap().as_bytes(), key.as_bytes());
    }

    #[test]
    fn a_wrong_length_or_an_open_mode_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        for len in [0, 31, 33] {
            std::fs::write(&path, vec![0; len]).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(
                matches!(Key::read(&path), Err(StorageError::KeyFile(_))),
                "{len}"
            );
        }
        std::fs::write(&path, [0; 32]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Key::read(&path), Err(StorageError::KeyFile(_))));
    }

    #[test]
    fn a_key_never_shows_in_debug() {
        assert_eq!(format!("{:?}", Key::from_bytes([3; 32])), "Key(redacted)");
    }
}
