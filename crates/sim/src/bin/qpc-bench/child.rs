//! A server in a process of its own: started, asked for its CPU time, ended with its owner.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use qpc_proto::limits::INVITE_BYTES;
use qpc_transport::ServerUrl;

use crate::process::Usage;
use crate::serve::What;
use crate::stopwatch::cpu_of;

/// A running child.
pub(crate) struct Child {
    process: std::process::Child,
    /// Where it listens.
    pub(crate) url: ServerUrl,
    /// One for each account that may register there.
    pub(crate) invites: Vec<Bytes>,
}

impl Child {
    /// Starts this program again as a server with its files in `dir`, and waits until it listens.
    ///
    /// # Errors
    /// When it does not start, or says something else than where it listens.
    pub(crate) fn start(what: What, dir: &Path, invites: u32) -> Result<Self> {
        let own = std::env::current_exe().context("finding this program")?;
        let mut process = Command::new(own)
            .args(["serve", what.as_str(), "--invites", &invites.to_string(), "--dir"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a server")?;
        let said = process.stdout.take().map(BufReader::new).context("it has no output")?;
        let mut lines = said.lines();
        let mut codes = Vec::new();
        loop {
            let line = lines.next().context("the server ended before it was ready")??;
            if let Some(url) = line.strip_prefix("ready ") {
                return Ok(Self { process, url: url.parse()?, invites: codes });
            }
            codes.push(invite(&line)?);
        }
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.process.id())
    }

    /// The CPU time that it has used.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of(self.process.id())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// An invite's code from the line that names it.
fn invite(line: &str) -> Result<Bytes> {
    let hex = line.strip_prefix("invite ").context("the server said something else")?;
    let digits = |at: usize| hex.get(at..at.saturating_add(2)).context("a code is too short");
    let byte = |at: usize| Ok(u8::from_str_radix(digits(at.saturating_mul(2))?, 16)?);
    (0..INVITE_BYTES).map(byte).collect::<Result<Vec<u8>>>().map(Bytes::from)
}
