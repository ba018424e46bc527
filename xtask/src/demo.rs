//! Builds both programs and shows that they start.
//! Never touches files outside the build folder.

use std::path::Path;

use anyhow::Result;

use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fail where anything differs from what is promised; ask nothing.
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let build: &[&str] = if options.check {
        &[
            "cargo",
            "build",
            "--locked",
            "--bin",
            "qpc-server",
            "--bin",
            "qpc",
        ]
    } else {
        &["cargo", "build", "--bin", "qpc-server", "--bin", "qpc"]
    };
    shell::run(root, build)?;
    shell::run(root, &["target/debug/qpc-server", "--version"])?;
    shell::run(root, &["target/debug/qpc", "--version"])
}
