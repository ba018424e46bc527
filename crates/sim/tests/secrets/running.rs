//! The programs as people run them, with `--log trace`: what they write to standard error and into
//! the audit log, searched for what this test knows.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use qpc_proto::limits::INVITE_BYTES;
use qpc_storage::Key;
use serde_json::Value;
use tempfile::TempDir;

use crate::needles::Needles;
use crate::programs::program;

const TEXT: &str = "what the postman must never read";
const TITLE: &str = "Guild of locksmiths 7413";

/// A process of the run; its standard error goes to a file of its own.
struct Program {
    child: Child,
    out: std::io::Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let number = std::fs::read_dir(folder).unwrap().count();
        let log = std::fs::File::create(folder.join(format!("{number}.log"))).unwrap();
        let mut child = Command::new(program(name))
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, out }
    }

    /// A `qpc` of somebody.
    fn qpc(folder: &Path, who: &str, arguments: &[&str]) -> Self {
        Self::start(
            folder,
            "qpc",
            &[&["--json", "--log", "trace", "--home", who], arguments].concat(),
        )
    }

    fn line(&mut self) -> String {
        self.out.next().expect("a line").unwrap()
    }

    fn object(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Gives it a line to read, and waits for its end; what it printed besides.
    fn end(mut self, input: &str) -> Vec<Value> {
        writeln!(self.child.stdin.take().unwrap(), "{input}").unwrap_or_default();
        let rest = self.out.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert!(self.child.wait().unwrap().success(), "{rest:?}");
        rest
    }
}

/// A `qpc-server` that is killed with its test.
struct Serving(Program);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.child.kill().unwrap_or_default();
        self.0.child.wait().map(drop).unwrap_or_default();
    }
}

fn ok(folder: &Path, who: &str, arguments: &[&str]) -> Vec<Value> {
    Program::qpc(folder, who, arguments).end("")
}

/// An account by invite, with its phrase and invite among what is searched for.
fn register(folder: &Path, who: &str, needles: &mut Needles) -> String {
    let mut inviting = Program::start(folder, "qpc-server", &["invite", "--data-dir", "server"]);
    let url = inviting.line();
    inviting.child.wait().unwrap();
    let code = url.split('/').nth(3).and_then(|rest| rest.split('#').next()).unwrap();
    assert_eq!(code.len(), 2 * INVITE_BYTES, "{url}");
    needles.text("an invite", code);
    let registered = ok(folder, who, &["register", who, "--server", &url]);
    let phrase = registered[0]["recovery_phrase"].as_str().unwrap().to_owned();
    assert_eq!(phrase.split(' ').count(), 24);
    needles.text("a phrase", &phrase);
    phrase
}

/// Links the home `device` to the account of `primary`.
fn link(
    folder: &Path,
    (primary, device, url): (&str, &str, &str),
    needles: &mut Needles,
) -> String {
    let mut linking = Program::qpc(folder, device, &["device", "link", "--server", url]);
    let shown = linking.object();
    let code = shown["code"].as_str().unwrap().to_owned();
    needles.text("a link's code", &code);
    Program::qpc(folder, primary, &["device", "add", "--code-stdin", "--yes"]).end(&code);
    linking.end("").pop().unwrap()["device"].as_str().unwrap().to_owned()
}

fn people(folder: &Path, url: &str, needles: &mut Needles) {
    let phrase = register(folder, "alice", needles);
    register(folder, "bob", needles);
    ok(folder, "alice", &["dm", "bob"]);
    ok(folder, "alice", &["send", "bob", TEXT]);
    ok(folder, "alice", &["group", "create", TITLE]);
    ok(folder, "alice", &["group", "add", TITLE, "bob"]);
    let received = ok(folder, "bob", &["recv"]);
    assert!(received.iter().any(|message| message["text"] == TEXT), "{received:?}");
    let phone = link(folder, ("alice", "phone", url), needles);
    ok(folder, "phone", &["recv"]);
    ok(folder, "alice", &["device", "revoke", &phone, "--yes"]);
    ok(folder, "alice", &["account", "export", "--out", "export.json"]);
    std::fs::write(folder.join("phrase"), phrase).unwrap();
    let recover = ["recover", "--server", url, "--phrase-file", "phrase"];
    ok(folder, "again", &recover);
    needles.text("a message", TEXT);
    needles.text("a title", TITLE);
    for home in ["alice", "bob", "phone", "again"] {
        let key = Key::read(&folder.join(home).join("key")).unwrap();
        needles.bytes("a home's key", key.as_bytes());
    }
    let key = Key::read(&folder.join("server/server.key")).unwrap();
    needles.bytes("the server's key", key.as_bytes());
}

/// Everything that was logged, the audit log too.
fn logged(folder: &Path) -> Vec<u8> {
    let files = |dir: &Path, suffix: &str| -> Vec<u8> {
        let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let named = paths.filter(|path| path.to_string_lossy().ends_with(suffix));
        named.flat_map(|path| std::fs::read(path).unwrap()).collect()
    };
    let audit = files(&folder.join("server/audit"), ".jsonl");
    assert!(!audit.is_empty(), "no audit log");
    [files(folder, ".log"), audit].concat()
}

#[test]
fn the_programs_log_no_secret() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path();
    let init = Program::start(folder, "qpc-server", &["init", "--data-dir", "server"]);
    init.out.for_each(drop);
    let serve = ["serve", "--data-dir", "server", "--listen", "127.0.0.1:0", "--log", "trace"];
    let mut serving = Serving(Program::start(folder, "qpc-server", &serve));
    let url = serving.0.line().strip_prefix("ready ").unwrap().to_owned();
    let mut needles = Needles::default();
    people(folder, &url, &mut needles);
    drop(serving);
    let logged = logged(folder);
    let shown = |text: &str| logged.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(shown("TRACE") && shown("quinn") && shown("qpc_server"), "it is a full log");
    let found = needles.found_in(&logged);
    assert!(found.is_empty(), "{found:?}");
}
