//! The server as a child process: started, waited for, killed. Never outlives its owner.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context as _, Result};

const READY_WITHIN: Duration = Duration::from_secs(60);
const LOG: &str = "server.log";
const LOG_LINES_SHOWN: usize = 20;

pub(super) struct Server {
    programs: PathBuf,
    folder: PathBuf,
    /// `qpc://127.0.0.1:PORT/#FINGERPRINT`
    pub(super) url: String,
    child: Child,
}

impl Server {
    /// Starts it and waits for its `ready` line. Without a port it takes a free one.
    pub(super) fn start(programs: &Path, folder: &Path, port: Option<u16>) -> Result<Self> {
        let log = File::options().create(true).append(true).open(folder.join(LOG))?;
        let child = Command::new(programs.join("qpc-server"))
            .args(["serve", "--dev", "--data-dir"])
            .arg(data_dir(folder))
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", port.unwrap_or(0)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start qpc-server")?;
        let mut server = Self {
            programs: programs.to_owned(),
            folder: folder.to_owned(),
            url: String::new(),
            child,
        };
        server.url = server.ready()?;
        Ok(server)
    }

    fn ready(&mut self) -> Result<String> {
        let output = self.child.stdout.take().context("the server's output is piped")?;
        let (sender, receiver) = sync_channel(1);
        // The thread ends with the line, or with the server's end.
        std::thread::spawn(move || {
            let mut line = String::new();
            if BufReader::new(output).read_line(&mut line).is_ok() {
                sender.send(line).ok();
            }
        });
        let line = receiver.recv_timeout(READY_WITHIN).context("the server is not ready")?;
        let url = line.trim().strip_prefix("ready ");
        Ok(url.with_context(|| format!("not a ready line: {line:?}"))?.to_owned())
    }

    /// SIGKILL: no chance to write anything.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again where the clients know it.
    pub(super) fn restart(&mut self) -> Result<()> {
        let address = self.url.strip_prefix("qpc://").and_then(|rest| rest.split('/').next());
        let port = address.and_then(|address| address.rsplit(':').next());
        let port = port.context("the URL has a port")?.parse()?;
        let url = self.url.clone();
        *self = Self::start(&self.programs, &self.folder, Some(port))?;
        anyhow::ensure!(self.url == url, "it came back as {}, not as {url}", self.url);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The server's files.
pub(super) fn data_dir(folder: &Path) -> PathBuf {
    folder.join("server")
}

/// The end of the server's log, on standard error.
pub(super) fn show_log(folder: &Path) {
    let Ok(log) = std::fs::read_to_string(folder.join(LOG)) else { return };
    let lines: Vec<&str> = log.lines().collect();
    eprintln!("The server's log ends:");
    for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES_SHOWN)) {
        eprintln!("  {line}");
    }
}
