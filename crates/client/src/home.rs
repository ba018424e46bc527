//! The home folder: one encrypted database, its lock, and how the key to it is kept.
//!
//! The database key is random and never changes; a passphrase seals it (Argon2id,
//! XChaCha20-Poly1305), so that changing the passphrase replaces one small file and never rewrites
//! the database.

mod attempts;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::Aead as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use qpc_proto::codec::{Reader, Writer};
use qpc_storage::{Key, Options, Outcome, Store};
use rand_core::{OsRng, RngCore as _};
use zeroize::Zeroizing;

use crate::clock::now_ms;
use crate::core::done;
use crate::error::ClientError;
use crate::machine::{Db, Machine};
use attempts::ATTEMPTS_FILE;

/// How the database key is kept.
#[derive(Clone)]
pub enum Protection {
    /// In a file that only its owner may read.
    KeyFile,
    /// Sealed under a passphrase.
    Passphrase(Zeroizing<String>),
    /// In the desktop's keyring.
    Keyring,
}

/// How the database key is had back.
#[derive(Clone)]
pub enum Unlock {
    /// From the key file or the keyring.
    Automatic,
    /// With the passphrase.
    Passphrase(Zeroizing<String>),
}

impl std::fmt::Debug for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Protection(redacted)")
    }
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unlock(redacted)")
    }
}

const DATABASE: &str = "qpc.db";
const KEY_FILE: &str = "key";
const SEALED_FILE: &str = "key.sealed";
const KEYRING_FILE: &str = "key.keyring";
const KEY_BYTES: u64 = 32;
const LABEL: &str = "qpc/v1 sealed key";
/// Argon2id: memory in KiB, passes, lanes (RFC 9106 section 4, second choice).
const ARGON2: (u32, u32, u32) = (65_536, 3, 1);
/// What a sealed file may ask of this machine.
const ARGON2_KIB_MAX: u32 = 1_048_576;
const ARGON2_PASSES_MAX: u32 = 64;

/// A client's folder.
#[derive(Debug, Clone)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// The folder at `path`, which need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether it holds a database.
    pub fn exists(&self) -> bool {
        self.file(DATABASE).exists()
    }

    /// What keeps the key, if anything does.
    pub(crate) fn kept_by(&self) -> Option<&'static str> {
        let kinds = [
            (KEY_FILE, "a file of this folder"),
            (SEALED_FILE, "a passphrase"),
            (KEYRING_FILE, "the keyring"),
        ];
        kinds.iter().find(|(name, _)| self.file(name).exists()).map(|(_, kind)| *kind)
    }

    /// Whether the key is sealed under a passphrase alone.
    ///
    /// # Errors
    /// [`ClientError::NoAccount`] when there is no database.
    pub fn needs_passphrase(&self) -> Result<bool, ClientError> {
        if !self.exists() {
            return Err(ClientError::NoAccount);
        }
        let open = self.file(KEY_FILE).exists() || self.file(KEYRING_FILE).exists();
        Ok(!open && self.file(SEALED_FILE).exists())
    }

    /// Makes the folder (0700) and a key kept as asked.
    pub(crate) fn create(&self, protection: &Protection) -> Result<(), ClientError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path)?;
        self.remove_cut_key()?;
        let kept = [KEY_FILE, SEALED_FILE, KEYRING_FILE].iter().any(|f| self.file(f).exists());
        if kept {
            return Ok(());
        }
        let mut bytes = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(bytes.as_mut());
        self.keep(&Key::from_bytes(*bytes), protection)
    }

    /// Makes the folder if need be and opens the database, whose key is kept as asked from here on.
    ///
    /// # Errors
    /// [`ClientError::AccountExists`] for a home in use, which stays as it is.
    pub(crate) fn open_new(&self, protection: &Protection) -> Result<Store, ClientError> {
        self.create(protection)?;
        let unlock = match protection {
            Protection::Passphrase(passphrase) => Unlock::Passphrase(passphrase.clone()),
            Protection::KeyFile | Protection::Keyring => Unlock::Automatic,
        };
        let mut store = self.open(&unlock)?;
        let in_use: Outcome<bool, ClientError> =
            store.transact(|tx| Ok(Db(tx).profile()?.is_some_and(|profile| profile.registered)))?;
        if done(in_use)? {
            return Err(ClientError::AccountExists);
        }
        // An earlier attempt may have kept the key another way.
        self.keep_only(&unlock, protection)?;
        Ok(store)
    }

    /// Opens the database; only one process can.
    pub(crate) fn open(&self, unlock: &Unlock) -> Result<Store, ClientError> {
        let key = self.key(unlock, now_ms())?;
        let options = Options::new(key, Machine::schemas());
        Ok(Store::open(&self.file(DATABASE), &options)?)
    }

    /// Keeps the key another way. The new way is on disk before the old one goes.
    ///
    /// # Errors
    /// [`ClientError::Key`] when the key cannot be had with `unlock`, and the home stays as it is.
    pub fn change_protection(&self, unlock: Unlock, new: Protection) -> Result<(), ClientError> {
        // Holding the database shows that the key is right and that nobody else changes it.
        let store = self.open(&unlock)?;
        let key = self.key(&unlock, now_ms())?;
        self.keep(&key, &new)?;
        self.forget_other_ways(&new)?;
        Ok(store.close()?)
    }

    /// Sees to it that the key is kept this way and no other; the caller holds the database.
    fn keep_only(&self, unlock: &Unlock, protection: &Protection) -> Result<(), ClientError> {
        if !self.file(file_of(protection)).exists() {
            self.keep(&self.key(unlock, now_ms())?, protection)?;
        }
        self.forget_other_ways(protection)
    }

    fn forget_other_ways(&self, protection: &Protection) -> Result<(), ClientError> {
        let stays = file_of(protection);
        for name in [KEY_FILE, SEALED_FILE, KEYRING_FILE] {
            if name != stays && self.file(name).exists() {
                if name == KEYRING_FILE {
                    self.entry()?.delete_credential().map_err(keyring_error)?;
                }
                fs::remove_file(self.file(name))?;
            }
        }
        Ok(fs::File::open(&self.path)?.sync_all()?)
    }

    /// A key file that a crash cut short opens nothing, and nothing was made with it yet.
    fn remove_cut_key(&self) -> Result<(), ClientError> {
        let file = self.file(KEY_FILE);
        let cut = fs::metadata(&file).is_ok_and(|known| known.is_file() && known.len() < KEY_BYTES);
        if cut && !self.exists() {
            fs::remove_file(file)?;
        }
        Ok(())
    }

    /// Deletes everything of this client here.
    ///
    /// # Errors
    /// [`ClientError::Filesystem`].
    pub fn wipe(self) -> Result<(), ClientError> {
        if self.file(KEYRING_FILE).exists() {
            self.entry()?.delete_credential().map_err(keyring_error)?;
        }
        let wal = format!("{DATABASE}-wal");
        let shm = format!("{DATABASE}-shm");
        let lock = format!("{DATABASE}.lock");
        let keys = [KEY_FILE, SEALED_FILE, KEYRING_FILE, ATTEMPTS_FILE];
        for name in keys.into_iter().chain([DATABASE, &wal, &shm, &lock]) {
            match fs::remove_file(self.file(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error.into());
                }
                Ok(()) | Err(_) => {}
            }
        }
        // Only if nothing of somebody else's is in it.
        match fs::remove_dir(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn key(&self, unlock: &Unlock, now_ms: u64) -> Result<Key, ClientError> {
        match unlock {
            Unlock::Passphrase(passphrase) if self.file(SEALED_FILE).exists() => {
                self.may_try(now_ms)?;
                let key = open_sealed(&fs::read(self.file(SEALED_FILE))?, passphrase)?;
                self.tried((key.is_some(), now_ms));
                key.ok_or_else(|| ClientError::Key("the passphrase is wrong".into()))
            }
            Unlock::Passphrase(_) | Unlock::Automatic if self.file(KEY_FILE).exists() => {
                Ok(Key::read(&self.file(KEY_FILE))?)
            }
            Unlock::Passphrase(_) | Unlock::Automatic if self.file(KEYRING_FILE).exists() => {
                let secret = Zeroizing::new(self.entry()?.get_secret().map_err(keyring_error)?);
                let bytes = secret.as_slice().try_into();
                Ok(Key::from_bytes(
                    bytes.map_err(|_| ClientError::Key("the keyring's entry is damaged".into()))?,
                ))
            }
            Unlock::Automatic if self.file(SEALED_FILE).exists() => Err(ClientError::Key(
                "this home needs its passphrase: use --passphrase-file".into(),
            )),
            Unlock::Passphrase(_) | Unlock::Automatic => Err(ClientError::NoAccount),
        }
    }

    fn keep(&self, key: &Key, protection: &Protection) -> Result<(), ClientError> {
        match protection {
            Protection::KeyFile if self.file(KEY_FILE).exists() => Ok(()),
            Protection::KeyFile => Ok(key.write_new(&self.file(KEY_FILE))?),
            Protection::Passphrase(passphrase) => {
                self.replace(SEALED_FILE, &seal(key, passphrase)?)
            }
            Protection::Keyring => {
                self.entry()?.set_secret(key.as_bytes()).map_err(keyring_error)?;
                self.replace(KEYRING_FILE, b"the key is in the keyring\n")
            }
        }
    }

    /// Writes a small file whole or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ClientError> {
        let new = self.file(&format!("{name}.new"));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.file(name))?;
        Ok(fs::File::open(&self.path)?.sync_all()?)
    }

    fn entry(&self) -> Result<keyring::Entry, ClientError> {
        let user = fs::canonicalize(&self.path)?.to_string_lossy().into_owned();
        keyring::Entry::new("qpc", &user).map_err(keyring_error)
    }
}

fn file_of(protection: &Protection) -> &'static str {
    match protection {
        Protection::KeyFile => KEY_FILE,
        Protection::Passphrase(_) => SEALED_FILE,
        Protection::Keyring => KEYRING_FILE,
    }
}

fn keyring_error(error: keyring::Error) -> ClientError {
    ClientError::Key(format!("the keyring cannot be used ({error}): use --passphrase instead"))
}

fn derive(
    passphrase: &Zeroizing<String>,
    salt: &[u8; 16],
    (kib, passes, lanes): (u32, u32, u32),
) -> Result<Zeroizing<[u8; 32]>, ClientError> {
    let damaged = |_| ClientError::Key("the sealed key file is damaged".into());
    let params = Params::new(kib, passes, lanes, Some(32)).map_err(damaged)?;
    let mut out = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, out.as_mut())
        .map_err(damaged)?;
    Ok(out)
}

fn seal(key: &Key, passphrase: &Zeroizing<String>) -> Result<Vec<u8>, ClientError> {
    if passphrase.is_empty() {
        return Err(ClientError::Usage("an empty passphrase protects nothing".into()));
    }
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    OsRng.fill_bytes(&mut salt);
    OsRng.fill_bytes(&mut nonce);
    let wrapping = derive(passphrase, &salt, ARGON2)?;
    let sealed = XChaCha20Poly1305::new(wrapping.as_slice().into())
        .encrypt(XNonce::from_slice(&nonce), key.as_bytes().as_slice())
        .map_err(|_| ClientError::Internal("sealing the key"))?;
    let (kib, passes, lanes) = ARGON2;
    let writer = Writer::with_label(LABEL).u32(kib).u32(passes).u32(lanes);
    Ok(writer.fixed(salt).fixed(nonce).var(sealed).finish())
}

/// The key; `None` when the passphrase is wrong.
fn open_sealed(bytes: &[u8], passphrase: &Zeroizing<String>) -> Result<Option<Key>, ClientError> {
    let damaged = |_| ClientError::Key("the sealed key file is damaged".into());
    let mut r = Reader::new(bytes);
    r.label(LABEL).map_err(damaged)?;
    let mut number = || r.u32().map_err(damaged);
    let cost = (number()?, number()?, number()?);
    let salt = r.array().map_err(damaged)?;
    let nonce: [u8; 24] = r.array().map_err(damaged)?;
    let sealed = r.var(64).map_err(damaged)?;
    r.finish().map_err(damaged)?;
    let (kib, passes, _) = cost;
    if kib > ARGON2_KIB_MAX || passes > ARGON2_PASSES_MAX {
        return Err(ClientError::Key("the sealed key file is damaged".into()));
    }
    let wrapping = derive(passphrase, &salt, cost)?;
    let opened = XChaCha20Poly1305::new(wrapping.as_slice().into())
        .decrypt(XNonce::from_slice(&nonce), sealed);
    let Ok(key) = opened.map(Zeroizing::new) else { return Ok(None) };
    let bytes = key.as_slice().try_into();
    let bytes = bytes.map_err(|_| ClientError::Key("the sealed key is damaged".into()))?;
    Ok(Some(Key::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn a_passphrase_seals_the_key_and_a_wrong_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        home.create(&Protection::Passphrase(passphrase("correct horse"))).unwrap();
        home.open(&Unlock::Passphrase(passphrase("correct horse"))).unwrap().close().unwrap();
        assert!(home.needs_passphrase().unwrap());
        let wrong = home.open(&Unlock::Passphrase(passphrase("battery")));
        assert!(matches!(wrong, Err(ClientError::Key(_))));
        assert!(matches!(home.open(&Unlock::Automatic), Err(ClientError::Key(_))));
    }

    #[test]
    fn protection_changes_without_touching_the_database_key() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        home.create(&Protection::KeyFile).unwrap();
        home.open(&Unlock::Automatic).unwrap().close().unwrap();
        let sealed = Protection::Passphrase(passphrase("one"));
        home.change_protection(Unlock::Automatic, sealed).unwrap();
        assert!(home.needs_passphrase().unwrap());
        assert!(!home.file(KEY_FILE).exists());
        let unlock = Unlock::Passphrase(passphrase("one"));
        home.change_protection(unlock, Protection::KeyFile).unwrap();
        assert!(!home.needs_passphrase().unwrap());
        home.open(&Unlock::Automatic).unwrap().close().unwrap();
        home.clone().wipe().unwrap();
        assert!(!dir.path().join("home").exists());
    }

    #[test]
    fn a_home_in_use_keeps_its_protection_whatever_is_tried_in_it() {
        use crate::register::Account;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        let mut store = home.open_new(&Protection::KeyFile).unwrap();
        let from = ("alice", "qpc://h:1/#00");
        let account = Account::prepare(&mut store, from, (1, &mut OsRng)).unwrap();
        account.registered(&mut store).unwrap();
        store.close().unwrap();
        let refused = home.open_new(&Protection::Passphrase(passphrase("one"))).unwrap_err();
        assert_eq!(refused.code(), "ACCOUNT_EXISTS");
        assert!(home.file(KEY_FILE).exists() && !home.file(SEALED_FILE).exists());
    }

    #[test]
    fn a_key_file_that_a_crash_cut_short_is_made_again_before_there_is_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        fs::write(home.file(KEY_FILE), [1; 7]).unwrap();
        home.create(&Protection::KeyFile).unwrap();
        home.open(&Unlock::Automatic).unwrap().close().unwrap();
        fs::write(home.file(KEY_FILE), [1; 7]).unwrap();
        home.create(&Protection::KeyFile).unwrap();
        assert!(home.open(&Unlock::Automatic).is_err(), "a database's key is never replaced");
    }

    #[test]
    fn case_174_a_second_process_on_a_home_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        home.create(&Protection::KeyFile).unwrap();
        let first = home.open(&Unlock::Automatic).unwrap();
        let second = home.open(&Unlock::Automatic).map(|_| ()).unwrap_err();
        assert_eq!(second.code(), "STORE_LOCKED");
        drop(first);
        assert!(home.open(&Unlock::Automatic).is_ok());
    }
}
