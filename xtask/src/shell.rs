//! Runs other programs from the workspace root, each printed before it starts.
//! Never goes through a shell, so nothing is quoted or expanded.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// One program with its arguments and extra environment.
pub(crate) struct Step<'a> {
    pub(crate) words: &'a [&'a str],
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

impl Step<'_> {
    /// Runs it in `root` with inherited output; any exit status but success is an error.
    pub(crate) fn run(&self, root: &Path) -> Result<()> {
        let line = self.words.join(" ");
        println!("+ {line}");
        let (program, arguments) = self.words.split_first().context("a step names a program")?;
        let status = Command::new(program)
            .args(arguments)
            .envs(self.environment.iter().copied())
            .current_dir(root)
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("cannot start `{line}`"))?;
        if !status.success() {
            bail!("`{line}` failed: {status}");
        }
        Ok(())
    }
}

/// Runs `words` in `root`.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<()> {
    Step { words, environment: &[] }.run(root)
}

/// What `words` prints, or `None` where the program is missing or fails.
pub(crate) fn output(root: &Path, words: &[&str]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
