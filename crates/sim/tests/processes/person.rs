//! One person's `qpc`: a home folder, and commands run on it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::programs::program;
use crate::running::Alone;
use crate::server::log;

/// Somebody with a home.
pub(crate) struct Person {
    pub(crate) home: PathBuf,
    folder: PathBuf,
    name: String,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    /// The `code` of a failure said in JSON, beside the exit code.
    pub(crate) fn failure(&self) -> (i32, String) {
        let last = self.err.lines().last().unwrap_or_default();
        let report: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{self:?}"));
        assert!(!report["error"]["message"].as_str().unwrap().is_empty());
        (self.code, report["error"]["code"].as_str().unwrap().to_owned())
    }

    /// Its output, one JSON object a line.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Person {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self { home: folder.join(name), folder: folder.to_owned(), name: name.to_owned() }
    }

    /// A `qpc` command on this home.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("qpc"));
        command.arg("--home").arg(&self.home).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        finish(self.command(arguments), "")
    }

    /// Runs a command with lines on its standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Outcome {
        finish(self.command(arguments), input)
    }

    /// Runs a command that must succeed; its output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "{} {arguments:?}: {outcome:?}", self.name);
        outcome.out
    }

    /// Runs a command that must succeed, with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let outcome = self.run(&[&["--json"], arguments].concat());
        assert_eq!(outcome.code, 0, "{} {arguments:?}: {outcome:?}", self.name);
        outcome.objects()
    }

    /// How a command fails, in JSON: its exit code and the name of the failure.
    pub(crate) fn failure(&self, arguments: &[&str]) -> (i32, String) {
        self.run(&[&["--json"], arguments].concat()).failure()
    }

    /// A command that talks JSON and runs beside the test.
    pub(crate) fn beside(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&[&["--json"], arguments].concat());
        command.stdin(Stdio::piped()).stderr(log(&self.folder, &self.name));
        command
    }

    /// The same, started.
    pub(crate) fn start(&self, arguments: &[&str]) -> Alone {
        Alone::start(self.beside(arguments))
    }

    /// What others wrote and no earlier call has given: texts, in order.
    pub(crate) fn received(&self) -> Vec<String> {
        texts(&self.json(&["recv"]), "received")
    }

    /// The one channel of that title.
    pub(crate) fn channel(&self, title: &str) -> Value {
        let channels = self.json(&["channels"]);
        channels.into_iter().find(|channel| channel["title"] == title).expect("a channel")
    }
}

/// The texts of messages in a state.
pub(crate) fn texts(messages: &[Value], state: &str) -> Vec<String> {
    let of_state = messages.iter().filter(|message| message["state"] == state);
    of_state.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
}

fn finish(mut command: Command, input: &str) -> Outcome {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing may be gone already.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code().expect("no signal ended it"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
