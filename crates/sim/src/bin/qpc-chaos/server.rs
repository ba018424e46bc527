//! A `qpc-server` process and its data directory, which outlives each of its lives.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::{Process, finish, now};
use crate::programs::program;

/// The longest that a start may take after any end.
const START_MAX: Duration = Duration::from_secs(60);
/// What SIGTERM may take; the server's own grace is shorter.
const STOP_MAX: Duration = Duration::from_secs(60);
/// All clients share one address here, and a killed one's connections linger. Members change keys
/// as often as they like.
const CONFIG: &str = r#"connections_per_network_max = 4096
commit_burst = 1000
commit_seconds = 1
commit_channel_seconds = 0
[rates]
address = { count = 5000, per = "second", burst = 5000 }
register = { count = 1000, per = "second", burst = 1000 }
login = { count = 1000, per = "second", burst = 1000 }
refresh = { count = 1000, per = "second", burst = 1000 }
lookup = { count = 1000, per = "second", burst = 1000 }
upload = { count = 1000, per = "second", burst = 1000 }
"#;

/// A server that can be killed and started again on its port.
pub(crate) struct Server {
    folder: PathBuf,
    process: Option<Process>,
    address: SocketAddr,
    fingerprint: String,
    /// The longest start so far.
    pub(crate) slowest: Duration,
}

impl Server {
    /// A new server on a free port, with its files in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let data = folder.join("server");
        let mut init = Command::new(program("qpc-server")?);
        init.args(["init", "--data-dir"]).arg(&data);
        let made = finish(&mut init, &folder.join("server.log"), START_MAX)?;
        ensure!(made.code == Some(0), "qpc-server init ended with {:?}", made.code);
        std::fs::write(data.join("config.toml"), CONFIG)?;
        let (process, url) = live(folder, "127.0.0.1:0")?;
        let (address, fingerprint) = parts(&url)?;
        let (folder, process) = (folder.to_owned(), Some(process));
        Ok(Self { folder, process, address, fingerprint, slowest: Duration::ZERO })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that a client behind `proxy` is given.
    pub(crate) fn url(&self, proxy: SocketAddr) -> String {
        format!("qpc://{proxy}/#{}", self.fingerprint)
    }

    /// Where its database lies.
    pub(crate) fn database(&self) -> Result<PathBuf> {
        let data = self.folder.join("server");
        let is_database = |path: &PathBuf| path.extension().is_some_and(|end| end == "db");
        let mut files = std::fs::read_dir(data)?.flatten().map(|entry| entry.path());
        files.find(is_database).context("the server has no database")
    }

    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it is gone by itself: it crashed.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the server is down")?;
        if let Some(status) = process.ended()? {
            bail!("the server ended by itself: {status}");
        }
        process.kill()
    }

    /// Starts it where it was.
    ///
    /// # Errors
    /// When it does not start, or elsewhere.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let start = now();
        let (process, url) = live(&self.folder, &self.address.to_string())?;
        ensure!(parts(&url)?.1 == self.fingerprint, "it has another key now");
        self.process = Some(process);
        self.slowest = self.slowest.max(start.elapsed());
        Ok(())
    }

    /// SIGTERM, to its end, and its audit log read.
    ///
    /// # Errors
    /// When it does not end in order, or its audit log is not what it wrote.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the server is down")?;
        process.signal("TERM")?;
        let status = process.wait(STOP_MAX)?;
        ensure!(status.code() == Some(0), "the server stopped with {status}");
        let mut verify = Command::new(program("qpc-server")?);
        verify.args(["audit", "verify", "--data-dir"]).arg(self.folder.join("server"));
        let read = finish(&mut verify, &self.folder.join("server.log"), STOP_MAX)?;
        ensure!(read.code == Some(0), "the audit log: {:?}", read.lines);
        Ok(())
    }
}

fn live(folder: &Path, listen: &str) -> Result<(Process, String)> {
    let mut command = Command::new(program("qpc-server")?);
    command.args(["serve", "--dev", "--listen", listen, "--data-dir"]).arg(folder.join("server"));
    let (process, lines) = Process::alone(&mut command, &folder.join("server.log"))?;
    match lines.recv_timeout(START_MAX) {
        Ok(Some(line)) => {
            let url = line.strip_prefix("ready ").context("it said something else than ready")?;
            Ok((process, url.to_owned()))
        }
        Ok(None) | Err(_) => bail!("the server did not start: {}/server.log", folder.display()),
    }
}

/// Address and fingerprint of `qpc://ADDRESS/#FINGERPRINT`.
fn parts(url: &str) -> Result<(SocketAddr, String)> {
    let rest = url.strip_prefix("qpc://").context("no URL")?;
    let (address, fingerprint) = rest.split_once("/#").context("no fingerprint")?;
    Ok((address.parse()?, fingerprint.to_owned()))
}
