//! One person's `qpc`: a home folder, and commands run on it one after the other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::{Outcome, finish};
use crate::programs::program;

/// The longest that one command may take.
const COMMAND_MAX: Duration = Duration::from_secs(180);

/// Somebody with a home.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) name: &'static str,
    folder: PathBuf,
}

impl Person {
    pub(crate) fn new(folder: &Path, name: &'static str) -> Self {
        Self { name, folder: folder.to_owned() }
    }

    /// Where what `qpc` says on standard error goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// The database of the home.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join(self.name).join("qpc.db")
    }

    /// A `qpc --json` command on this home.
    ///
    /// # Errors
    /// When there is no program.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("qpc")?);
        command.arg("--home").arg(self.folder.join(self.name)).arg("--json").args(words);
        Ok(command)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) fn run(&self, words: &[&str]) -> Result<Outcome> {
        finish(&mut self.command(words)?, &self.log(), COMMAND_MAX)
    }

    /// Runs a command that must succeed; its objects.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn ok(&self, words: &[&str]) -> Result<Vec<Value>> {
        let outcome = self.run(words)?;
        let (name, code) = (self.name, outcome.code);
        ensure!(code == Some(0), "{name}: qpc {words:?} ended with {code:?}");
        outcome.lines.iter().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// All channels, by what to call them on the command line.
    ///
    /// # Errors
    /// When the command fails.
    pub(crate) fn channels(&self) -> Result<Vec<Channel>> {
        self.ok(&["channels"])?.iter().map(Channel::read).collect()
    }
}

/// A channel as `qpc channels` shows it.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) cursor: u64,
    pub(crate) outbox: u64,
}

impl Channel {
    fn read(value: &Value) -> Result<Self> {
        Ok(Self {
            id: text(value, "channel")?.to_owned(),
            status: text(value, "status")?.to_owned(),
            cursor: number(value, "cursor")?,
            outbox: number(value, "outbox")?,
        })
    }
}

/// A field that is a text.
///
/// # Errors
/// When it is none.
pub(crate) fn text<'v>(value: &'v Value, name: &str) -> Result<&'v str> {
    let field = value.get(name).and_then(Value::as_str);
    field.with_context(|| format!("no text {name} in {value}"))
}

/// A field that is a number.
///
/// # Errors
/// When it is none.
pub(crate) fn number(value: &Value, name: &str) -> Result<u64> {
    let field = value.get(name).and_then(Value::as_u64);
    field.with_context(|| format!("no number {name} in {value}"))
}
