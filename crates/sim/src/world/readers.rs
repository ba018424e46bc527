//! What a server and its clients have on disk, as a reader beside them sees it. Changes nothing.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use qpc_storage::Reader;

use super::World;

impl World {
    /// Reads a client's database, while it goes on.
    ///
    /// # Errors
    /// When there is no such client, or its file can't be opened.
    pub fn reader(&self, index: usize) -> Result<Reader> {
        let client = self.clients.get(index).context("no such client")?;
        Ok(client.core.as_ref().context("the client is down")?.reader()?)
    }

    /// Reads the server's database, while it goes on.
    ///
    /// # Errors
    /// When it is down, or its file can't be opened.
    pub fn server_reader(&self) -> Result<Reader> {
        self.server.reader()
    }

    /// The databases: the server's, and those of the clients in the order of their numbers.
    pub fn databases(&self) -> Vec<PathBuf> {
        let clients = self.clients.iter().map(|client| client.path.clone());
        std::iter::once(self.server_path()).chain(clients).collect()
    }
}
