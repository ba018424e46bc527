//! One person with a home of their own: runs `qpc` as they would and shows what they see.
//! Never reads their files.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub(super) struct Person {
    pub(super) name: &'static str,
    colour: u8,
    qpc: PathBuf,
    home: PathBuf,
}

impl Person {
    pub(super) fn new(name: &'static str, colour: u8, (programs, folder): (&Path, &Path)) -> Self {
        Self { name, colour, qpc: programs.join("qpc"), home: folder.join(name) }
    }

    /// Their `qpc`, ready for a command.
    pub(super) fn qpc(&self) -> Command {
        let mut command = Command::new(&self.qpc);
        command.arg("--home").arg(&self.home);
        command
    }

    /// Runs a command that must succeed; what it prints is shown and returned.
    pub(super) fn does(&self, words: &[&str]) -> Result<String> {
        self.ends_with(0, words)
    }

    /// Runs a command that must end with this exit code.
    pub(super) fn ends_with(&self, code: i32, words: &[&str]) -> Result<String> {
        println!("{} $ qpc {}", self.shown_name(), typed(words));
        let output = self.output(words)?;
        let (results, remarks) = (text(&output.stdout), text(&output.stderr));
        for line in results.lines().chain(remarks.lines()) {
            println!("  {line}");
        }
        if output.status.code() != Some(code) {
            bail!("{}: `qpc {}`: {}, not {code}", self.name, typed(words), output.status);
        }
        Ok(results)
    }

    /// Runs a command unseen; its JSON objects.
    pub(super) fn asks(&self, words: &[&str]) -> Result<Vec<Value>> {
        let words = [&["--json"], words].concat();
        let output = self.output(&words)?;
        if !output.status.success() {
            bail!("{}: `qpc {}`: {}", self.name, typed(&words), text(&output.stderr));
        }
        let objects: serde_json::Result<Vec<Value>> =
            text(&output.stdout).lines().map(serde_json::from_str).collect();
        objects.with_context(|| format!("`qpc {}` printed no JSON", typed(&words)))
    }

    /// Who said what in a channel, as this person's own history has it.
    pub(super) fn remembers(&self, target: &str) -> Result<Vec<(String, String)>> {
        let field = |message: &Value, name: &str| {
            message.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let messages = self.asks(&["history", target, "--limit", "1000"])?;
        let said = messages.iter().filter(|message| field(message, "state") != "notice");
        Ok(said.map(|message| (field(message, "sender"), field(message, "text"))).collect())
    }

    fn output(&self, words: &[&str]) -> Result<Output> {
        self.qpc().args(words).stdin(Stdio::null()).output().context("cannot start qpc")
    }

    fn shown_name(&self) -> String {
        if std::io::stdout().is_terminal() {
            format!("\u{1b}[{}m{}\u{1b}[0m", self.colour, self.name)
        } else {
            self.name.to_owned()
        }
    }
}

/// As one would type it.
fn typed(words: &[&str]) -> String {
    let quoted = words.iter().map(|word| {
        if word.contains([' ', '#', '!', '\'']) { format!("{word:?}") } else { (*word).to_owned() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_would_split_is_quoted() {
        assert_eq!(typed(&["send", "bob", "Hello you", "a#b"]), "send bob \"Hello you\" \"a#b\"");
    }
}
