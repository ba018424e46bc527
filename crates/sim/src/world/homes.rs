//! Clients' homes: closed by a crash, copied, put back, damaged, opened through another VFS.

use std::path::PathBuf;

use anyhow::Result;
use qpc_client::Core;
use qpc_storage::{Options, Store, Tx, sql};

use super::World;
use super::client::{POOL, options};

impl World {
    /// Kills a client and opens its file again; it is offline then.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn crash(&mut self, index: usize) -> Result<()> {
        self.client(index)?.reopen()
    }

    /// Opens a client's file through another VFS from here on, until it is opened again; it is
    /// offline then.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open_through(&mut self, index: usize, vfs: &'static str) -> Result<()> {
        let client = self.client(index)?;
        (client.core, client.link) = (None, None);
        let options = Options { vfs: Some(vfs), ..options() };
        client.core = Some(Core::open(Store::open(&client.path, &options)?, POOL)?);
        Ok(())
    }

    /// Ends a client for good and says where its file is: somebody else opens it, by
    /// [`World::options`].
    ///
    /// # Errors
    /// When there is no such client.
    pub fn give_away(&mut self, index: usize) -> Result<PathBuf> {
        let client = self.client(index)?;
        if let Some(core) = client.core.take() {
            core.close()?;
        }
        client.link = None;
        Ok(client.path.clone())
    }

    /// How the files of clients are opened.
    pub fn options() -> Options {
        options()
    }

    /// Copies a client's file, as a backup tool would; it is offline then.
    ///
    /// # Errors
    /// When the file cannot be copied or opened.
    pub fn back_up(&mut self, index: usize) -> Result<()> {
        let client = self.client(index)?;
        (client.core, client.link) = (None, None);
        std::fs::copy(&client.path, client.path.with_extension("copy"))?;
        client.reopen()
    }

    /// Puts the copy back in place of the file; the client is offline then.
    ///
    /// # Errors
    /// When there is no copy, or it cannot be opened.
    pub fn restore(&mut self, index: usize) -> Result<()> {
        let client = self.client(index)?;
        (client.core, client.link) = (None, None);
        std::fs::copy(client.path.with_extension("copy"), &client.path)?;
        client.reopen()
    }

    /// Damages a client's file while it is closed; the client is offline then.
    ///
    /// # Errors
    /// When the file cannot be opened, or SQLite refuses.
    pub fn damage(&mut self, index: usize, statement: &str) -> Result<()> {
        self.damage_by(index, |tx| tx.execute(statement, []).map(drop))
    }

    /// The same, by whatever is done to its tables.
    ///
    /// # Errors
    /// As [`Self::damage`].
    pub fn damage_by(
        &mut self,
        index: usize,
        work: impl FnOnce(&Tx<'_>) -> sql::Result<()> + Send,
    ) -> Result<()> {
        let client = self.client(index)?;
        (client.core, client.link) = (None, None);
        let mut store = Store::open(&client.path, &options())?;
        let done = store.transact(work)?;
        drop(store);
        anyhow::ensure!(matches!(done, qpc_storage::Outcome::Done(())), "not damaged");
        client.reopen()
    }
}
