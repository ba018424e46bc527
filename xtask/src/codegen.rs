//! Generates the wire types from the contract, or compares them with what is committed.
//! The generator itself is a test of this package, so that `cargo test` notices drift too.

use std::path::Path;

use anyhow::Result;

use crate::shell::Step;

#[derive(clap::Args)]
pub(crate) struct Mode {
    /// Only compare; fail where the committed code differs.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(root: &Path, mode: &Mode) -> Result<()> {
    let environment: &[(&str, &str)] = if mode.check { &[] } else { &[("QPC_WRITE", "1")] };
    // No `-p`: features then unify over the workspace.
    let words = &["cargo", "test", "--quiet", "--test", "codegen"];
    Step { words, environment }.run(root)
}
