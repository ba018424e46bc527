//! A process that runs beside the test: its lines as they come, its end, no wait without a bound.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use serde_json::Value;

use crate::server::PATIENCE;

/// Lines of a process that the test has not taken yet; more make it wait.
const LINES_MAX: usize = 4_096;

/// Lines of one stream; `None` once it has ended.
pub(crate) type Lines = Receiver<Option<String>>;

/// A `qpc` process; killed when dropped.
pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
}

impl Running {
    /// Starts `command`, whose streams are pipes, and hands each line of its output to `hear`.
    pub(crate) fn start<T: Send + 'static>(
        mut command: Command,
        to: SyncSender<T>,
        hear: impl Fn(Option<String>) -> T + Send + 'static,
    ) -> Self {
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || read(out, |line| to.send(hear(line)).is_ok()));
        Self { input: child.stdin.take(), child }
    }

    /// Writes a line to its standard input; `false` if it is gone.
    pub(crate) fn feed(&mut self, line: &str) -> bool {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").and_then(|()| input.flush()).is_ok()
    }

    /// Ends its standard input.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        signal("TERM", &self.child);
    }

    /// How it ended, once its output has.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A process with a channel of its own.
pub(crate) struct Alone {
    pub(crate) process: Running,
    lines: Lines,
}

impl Alone {
    pub(crate) fn start(command: Command) -> Self {
        let (to, lines) = sync_channel(LINES_MAX);
        Self { process: Running::start(command, to, |line| line), lines }
    }

    /// Its next line as JSON; `None` once it has ended.
    pub(crate) fn next(&self) -> Option<Value> {
        let line = self.lines.recv_timeout(PATIENCE).expect("no line came in time")?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The next object that `is` so; those before it are passed over.
    pub(crate) fn until(&self, is: impl Fn(&Value) -> bool) -> Value {
        std::iter::from_fn(|| self.next()).find(is).expect("it ended before")
    }

    /// Its other lines, and how it ended.
    pub(crate) fn rest(self) -> (Vec<Value>, ExitStatus) {
        let rest = std::iter::from_fn(|| self.next()).collect();
        (rest, self.process.ended())
    }
}

/// The lines of a stream, read by a thread.
pub(crate) fn lines_of(stream: impl Read + Send + 'static) -> Lines {
    let (to, lines) = sync_channel(LINES_MAX);
    std::thread::spawn(move || read(stream, |line| to.send(line).is_ok()));
    lines
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

pub(crate) fn signal(name: &str, child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

#[expect(clippy::disallowed_methods, reason = "how long a real process takes is asserted here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What the processes of a failed test said last.
pub(crate) fn show_logs(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- {}\n{}", path.display(), last.join("\n"));
        }
    }
}
