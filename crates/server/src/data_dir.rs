//! The files of one server: what they are called, how they are made and opened.
//!
//! Overwrites nothing. The directory and its secrets are readable by their owner alone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use qpc_storage::{Key, Options, StorageError, Store};
use qpc_transport::{CERTIFICATE_FILE, KEY_FILE, ServerIdentity};
use rand_core::{OsRng, RngCore as _};
use zeroize::Zeroizing;

use crate::config::{self, Config};
use crate::error::ServerError;
use crate::node::{Node, Policy, schemas};

/// Files whose presence means that a server lives here.
const OWN_FILES: [&str; 5] = [SERVER_KEY, KEY_FILE, CERTIFICATE_FILE, DATABASE, CONFIG];
const SERVER_KEY: &str = "server.key";
const DATABASE: &str = "server.db";
const CONFIG: &str = "config.toml";
const ADMIN_SOCKET: &str = "admin.sock";
const VIEWER_SOCKET: &str = "viewer.sock";
const AUDIT: &str = "audit";

/// A server's directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// Names a directory; touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.root.join(CONFIG)
    }

    /// The socket that a running server answers its operator on.
    pub fn admin_socket(&self) -> PathBuf {
        self.root.join(ADMIN_SOCKET)
    }

    /// The socket on which it answers those who may ask and change nothing.
    pub fn viewer_socket(&self) -> PathBuf {
        self.root.join(VIEWER_SOCKET)
    }

    /// The directory of the audit log.
    pub fn audit(&self) -> PathBuf {
        self.root.join(AUDIT)
    }

    /// Whether `init` has run here.
    pub fn is_initialised(&self) -> bool {
        self.root.join(DATABASE).exists()
    }

    /// Makes keys, certificate, database and configuration. `hosts` go into the certificate; the
    /// first becomes the public address. With none, the server is for this machine. The
    /// certificate's validity counts from `now_ms`, Unix milliseconds.
    ///
    /// # Errors
    /// [`ServerError::Exists`] or [`ServerError::Unfinished`] when any of the files is there,
    /// before anything is written; else what the system, [`ServerError::Storage`] or
    /// [`ServerError::Transport`] say.
    pub fn init(&self, hosts: &[String], now_ms: u64) -> Result<(), ServerError> {
        if let Some(file) = self.own_file() {
            let unfinished = ServerError::Unfinished(self.root.clone());
            return Err(if self.is_cut() { unfinished } else { ServerError::Exists(file) });
        }
        let hosts: Vec<_> =
            hosts.iter().map(|host| config::Endpoint::parse(host)).collect::<Result<_, _>>()?;
        self.create_root()?;
        self.refuse_shared()?;
        let mut key = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(key.as_mut());
        Key::from_bytes(*key).write_new(&self.root.join(SERVER_KEY))?;
        self.write_identity(&hosts, now_ms)?;
        self.write_config(hosts.first())?;
        // Last: a database means that all the rest is there.
        let mut store = Store::open(&self.root.join(DATABASE), &self.options()?)?;
        Node::open(&mut store, Policy::default(), &mut OsRng)?;
        Ok(store.close()?)
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`ServerError::NotInitialised`], or as [`Config::read`].
    pub fn read_config(&self) -> Result<Config, ServerError> {
        self.require()?;
        Config::read(&self.config())
    }

    /// Opens the database, which no other process may have open.
    ///
    /// # Errors
    /// [`ServerError::NotInitialised`], [`ServerError::Locked`], or [`ServerError::Storage`] when
    /// it is damaged or of another key.
    pub fn open_store(&self) -> Result<Store, ServerError> {
        self.require()?;
        let opened = Store::open_existing(&self.root.join(DATABASE), &self.options()?);
        opened.map_err(|error| {
            if matches!(error, StorageError::Locked) { ServerError::Locked } else { error.into() }
        })
    }

    /// The TLS identity.
    ///
    /// # Errors
    /// [`ServerError::NotInitialised`], or [`ServerError::Transport`] when it cannot be read.
    pub fn identity(&self) -> Result<ServerIdentity, ServerError> {
        self.require()?;
        Ok(ServerIdentity::load(&self.root)?)
    }

    fn require(&self) -> Result<(), ServerError> {
        self.refuse_shared()?;
        if self.is_initialised() { Ok(()) } else { Err(self.absent()) }
    }

    /// Why there is no server here.
    fn absent(&self) -> ServerError {
        if self.is_cut() {
            ServerError::Unfinished(self.root.clone())
        } else {
            ServerError::NotInitialised(self.root.clone())
        }
    }

    /// Whether there are keys, and not the database that comes last.
    fn is_cut(&self) -> bool {
        let keys = [SERVER_KEY, KEY_FILE].iter().any(|name| self.root.join(name).exists());
        keys && !self.is_initialised()
    }

    fn own_file(&self) -> Option<PathBuf> {
        let files = OWN_FILES.iter().map(|name| self.root.join(name));
        files.into_iter().find(|file| file.symlink_metadata().is_ok())
    }

    /// Refuses a directory in which anybody may put files, such as another `admin.sock`.
    ///
    /// # Errors
    /// [`ServerError::System`] with `PermissionDenied`.
    pub fn refuse_shared(&self) -> Result<(), ServerError> {
        let shared =
            fs::metadata(&self.root).is_ok_and(|root| root.permissions().mode() & 0o002 != 0);
        if shared {
            let why = "others may write there: run chmod o-w on it";
            let error = io::Error::new(io::ErrorKind::PermissionDenied, why);
            return Err(ServerError::system(format!("using {}", self.root.display()))(error));
        }
        Ok(())
    }

    fn options(&self) -> Result<Options, ServerError> {
        let key = Key::read(&self.root.join(SERVER_KEY))?;
        Ok(Options::new(key, schemas()))
    }

    fn create_root(&self) -> Result<(), ServerError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(ServerError::system(format!("creating {}", self.root.display())))
    }

    fn write_identity(&self, hosts: &[config::Endpoint], now_ms: u64) -> Result<(), ServerError> {
        let mut names: Vec<_> = hosts.iter().map(|host| host.host.clone()).collect();
        if names.is_empty() {
            names.extend(["localhost", "127.0.0.1"].map(str::to_owned));
        }
        Ok(ServerIdentity::generate(&names, now_ms)?.save(&self.root)?)
    }

    fn write_config(&self, host: Option<&config::Endpoint>) -> Result<(), ServerError> {
        let text = config::example_for(host.map(ToString::to_string).as_deref());
        write_new(&self.config(), &text)
            .map_err(ServerError::system(format!("writing {}", self.config().display())))
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
}
