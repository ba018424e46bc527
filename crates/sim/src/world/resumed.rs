//! A world that goes on from files: those of a world at rest, or what a dead process left of one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use qpc_client::link::Linking;
use qpc_client::{ClientError, Core};
use qpc_proto::ChannelId;
use qpc_proto::RequestId;
use qpc_proto::message::Response;
use qpc_storage::Store;

use super::World;
use super::client::{POOL, SimClient, options};
use super::devices::SERVER;
use crate::server::SimServer;

impl World {
    /// Ends a world and copies its files into a folder.
    ///
    /// # Errors
    /// When they can't be copied.
    pub fn leave(mut self, into: &Path) -> Result<()> {
        self.clients.clear();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir()?);
        drop(self);
        copy(dir.path(), into)
    }

    /// Copies the files of a world, as they are, into a folder.
    ///
    /// # Errors
    /// When they can't be copied.
    pub fn copy_to(&self, into: &Path) -> Result<()> {
        copy(self.dir.path(), into)
    }

    /// Begins from copies of the files in a folder: a server, and clients of these names in the
    /// order of their numbers. Whose registration was not finished finishes it; whose link was not,
    /// finishes it if the primary device has answered, and is left out otherwise.
    ///
    /// # Errors
    /// When a database can't be opened, or the server refuses.
    pub fn resume((seed, now_ms): (u64, u64), files: &Path, names: &[&str]) -> Result<Self> {
        let mut world = Self::new(seed, 0)?;
        let dir = tempfile::tempdir()?;
        copy(files, dir.path())?;
        world.server = SimServer::start(dir.path().join("server.db"), &mut world.rng)?;
        world.dir = dir;
        // Nobody remembers what the server said to those who died.
        world.model = None;
        world.now_ms = world.now_ms.max(now_ms);
        for (index, name) in names.iter().enumerate() {
            if names.iter().take(index).any(|before| before == name) {
                world.resume_linked(name)?;
            } else {
                world.resume_client(name)?;
            }
        }
        Ok(world)
    }

    /// Says that a text was written before this world began; see [`World::write`].
    pub fn wrote(&mut self, index: usize, (channel, text): (&ChannelId, &str)) {
        self.written.insert(text.to_owned(), (index, *channel));
    }

    /// The number of clients.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Whether a client is out, and knows.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn is_out(&mut self, index: usize) -> Result<bool> {
        Ok(self.client(index)?.is_stopped())
    }

    /// What a client said that a person should look at, and forgets it.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn take_alarms(&mut self, index: usize) -> Result<Vec<String>> {
        Ok(std::mem::take(&mut self.client(index)?.alarms))
    }

    fn path_of_next(&self) -> PathBuf {
        self.dir.path().join(format!("client{}.db", self.clients.len()))
    }

    fn resume_client(&mut self, name: &str) -> Result<()> {
        let path = self.path_of_next();
        match self.register((name, path.clone())) {
            Err(error) if has_account(&error) => {
                let core = Core::open(Store::open(&path, &options())?, POOL)?;
                self.clients.push(SimClient::over((name.to_owned(), path), core));
                Ok(())
            }
            registered => registered,
        }
    }

    fn resume_linked(&mut self, name: &str) -> Result<()> {
        let path = self.path_of_next();
        let mut store = Store::open(&path, &options())?;
        let clock = (self.now_ms, &mut self.rng);
        match Linking::prepare(&mut store, (SERVER, None), clock) {
            Err(ClientError::AccountExists) => {}
            Err(error) => return Err(error.into()),
            Ok(linking) => {
                let mut raw = self.raw();
                let asked = (RequestId::ZERO, &linking.request());
                let Ok(Response::Relayed(relayed)) = self.ask_raw(&mut raw, asked)? else {
                    return Ok(());
                };
                if relayed.sealed.is_empty() {
                    return Ok(());
                }
                linking.finish(&mut store, (&relayed.sealed, &mut self.rng))?;
            }
        }
        let core = Core::open(store, POOL)?;
        self.clients.push(SimClient::over((name.to_owned(), path), core));
        Ok(())
    }
}

fn has_account(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::AccountExists))
}

/// Copies the files of a folder that has no folders in it.
fn copy(from: &Path, into: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().context("a file without a name")?;
        fs::copy(&path, into.join(name)).with_context(|| format!("copying {}", path.display()))?;
    }
    Ok(())
}
