//! A `qpc-server` process and its data directory, which outlives each of its lives.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::person::Person;
use crate::programs::program;
use crate::running::{Lines, lines_of, now, signal};

/// The longest that any wait of these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A server that can be killed and started again on its port.
pub(crate) struct Server {
    folder: TempDir,
    life: Option<Life>,
    pub(crate) url: String,
}

struct Life {
    child: Child,
    _out: Lines,
}

impl Server {
    /// A new server on a free port.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("qpc-processes-").tempdir().unwrap();
        let (life, url) = live(folder.path(), ("127.0.0.1:0", &["--dev"]));
        Self { folder, life: Some(life), url }
    }

    /// The same as an operator runs it, with a configuration of its own. It can't be restarted.
    pub(crate) fn start_with(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("qpc-processes-").tempdir().unwrap();
        let data = folder.path().join("server");
        let mut init = Command::new(program("qpc-server"));
        let init = init.args(["init", "--data-dir"]).arg(&data).output().unwrap();
        assert!(init.status.success(), "{init:?}");
        std::fs::write(data.join("config.toml"), config).unwrap();
        let (life, url) = live(folder.path(), ("127.0.0.1:0", &[]));
        Self { folder, life: Some(life), url }
    }

    /// The folder in which everything of the test lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("qpc://").unwrap().split('/').next().unwrap()
    }

    /// SHA-256 of its public key, 64 hex digits.
    pub(crate) fn fingerprint(&self) -> &str {
        self.url.split('#').nth(1).unwrap()
    }

    /// Starts it again where it was; the time it took to be ready.
    pub(crate) fn restart(&mut self) -> Duration {
        assert!(self.life.is_none(), "it runs");
        let start = now();
        let (life, url) = live(self.folder.path(), (self.address(), &["--dev"]));
        self.life = Some(life);
        assert_eq!(url, self.url, "a restart changes nothing that clients know");
        start.elapsed()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut life = self.life.take().unwrap();
        life.child.kill().unwrap();
        life.child.wait().unwrap();
    }

    /// SIGTERM; how it ended, and after how long.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let mut life = self.life.take().unwrap();
        let start: Instant = now();
        signal("TERM", &life.child);
        (life.child.wait().unwrap(), start.elapsed())
    }

    /// Somebody with an account here.
    pub(crate) fn register(&self, name: &str) -> Person {
        let person = self.stranger(name);
        person.ok(&["register", name, "--server", &self.url]);
        person
    }

    /// Somebody with a home that is still empty.
    pub(crate) fn stranger(&self, name: &str) -> Person {
        Person::new(self.folder.path(), name)
    }

    /// Alice, bob and the direct channel between them.
    pub(crate) fn pair(&self) -> (Person, Person) {
        let (alice, bob) = (self.register("alice"), self.register("bob"));
        alice.ok(&["dm", "bob"]);
        bob.ok(&["recv"]);
        (alice, bob)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(life) = &mut self.life {
            drop(life.child.kill());
            drop(life.child.wait());
        }
        if std::thread::panicking() {
            crate::running::show_logs(self.folder.path());
        }
    }
}

fn live(folder: &Path, (listen, flags): (&str, &[&str])) -> (Life, String) {
    let mut child = Command::new(program("qpc-server"))
        .args(["serve", "--listen", listen, "--data-dir"])
        .arg(folder.join("server"))
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log(folder, "server"))
        .spawn()
        .unwrap();
    let out = lines_of(child.stdout.take().unwrap());
    let Ok(Some(line)) = out.recv_timeout(PATIENCE) else {
        drop(child.kill());
        crate::running::show_logs(folder);
        panic!("the server did not start: {:?}", child.wait());
    };
    let url = line.strip_prefix("ready ").expect("one line, `ready URL`").to_owned();
    (Life { child, _out: out }, url)
}

/// Where a process's standard error goes, shown if the test fails.
pub(crate) fn log(folder: &Path, name: &str) -> File {
    let path = folder.join(format!("{name}.log"));
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}
