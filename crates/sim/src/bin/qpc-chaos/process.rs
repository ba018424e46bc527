//! A program that runs beside this one: its lines as they come, signals, its end.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Lines of a process that nobody has taken yet; more make it wait.
pub(crate) const LINES_MAX: usize = 16_384;
/// Between two looks at a process that is about to end.
const LOOK: Duration = Duration::from_millis(5);

/// Now, by the clock that never jumps.
#[expect(clippy::disallowed_methods, reason = "real programs run in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

impl Process {
    /// Starts `command` and hands each line of its output to `hear`, `None` at the end. Its errors
    /// go into `log`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start<T: Send + 'static>(
        command: &mut Command,
        log: &Path,
        to: SyncSender<T>,
        hear: impl Fn(Option<String>) -> T + Send + 'static,
    ) -> Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(append(log)?);
        let mut child = command.spawn().context("starting a program")?;
        let out = child.stdout.take().context("it has no output")?;
        std::thread::spawn(move || read(out, |line| to.send(hear(line)).is_ok()));
        Ok(Self { input: child.stdin.take(), child })
    }

    /// The same with a channel of its own.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn alone(
        command: &mut Command,
        log: &Path,
    ) -> Result<(Self, Receiver<Option<String>>)> {
        let (to, lines) = sync_channel(LINES_MAX);
        Ok((Self::start(command, log, to, |line| line)?, lines))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input; `false` if it is gone.
    pub(crate) fn feed(&mut self, line: &str) -> bool {
        let Some(input) = self.input.as_mut() else { return false };
        writeln!(input, "{line}").and_then(|()| input.flush()).is_ok()
    }

    /// Ends its standard input.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// SIGKILL, and gone when this returns.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal by its name, such as `STOP`.
    ///
    /// # Errors
    /// When there is no `kill`, or the process is gone.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status()?;
        ensure!(status.success(), "kill -s {name} {id}: {status}");
        Ok(())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// How it ended, within a time.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let until = now() + limit;
        while now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOK);
        }
        bail!("process {} does not end", self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How a command ended, and its lines.
pub(crate) struct Outcome {
    /// `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) lines: Vec<String>,
}

/// Runs a command to its end, within a time.
///
/// # Errors
/// When it does not start or does not end.
pub(crate) fn finish(command: &mut Command, log: &Path, limit: Duration) -> Result<Outcome> {
    let told = format!("{command:?}");
    let (mut process, out) = Process::alone(command, log)?;
    process.end_input();
    let until = now() + limit;
    let mut lines = Vec::new();
    loop {
        match out.recv_timeout(until.saturating_duration_since(now())) {
            Ok(Some(line)) => lines.push(line),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => bail!("{told} does not end"),
        }
    }
    Ok(Outcome { code: process.wait(limit)?.code(), lines })
}

/// A file that programs append what they say to.
fn append(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("opening {}", path.display()))
}

fn read(stream: impl Read, hear: impl Fn(Option<String>) -> bool) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        if !hear(Some(line)) {
            return;
        }
    }
    hear(None);
}
