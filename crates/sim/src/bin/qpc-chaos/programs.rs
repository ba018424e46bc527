//! Where the programs under test lie: where the command line says, or beside this one and built by
//! it in the same profile, so that one command is enough and no stale program is tested.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

/// The folder that the command line names.
static GIVEN: OnceLock<PathBuf> = OnceLock::new();

/// Takes the programs of a folder, or builds them.
///
/// # Errors
/// When they don't build.
pub(crate) fn choose(given: Option<&Path>) -> Result<()> {
    match given {
        // Once per process: a second choice would change nothing.
        Some(folder) => drop(GIVEN.set(folder.to_owned())),
        None => build()?,
    }
    Ok(())
}

/// The program of that name.
///
/// # Errors
/// When it is missing.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let folder = GIVEN.get().map_or_else(folder, |given| Ok(given.clone()))?;
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}

/// `target/debug` of `target/debug/qpc-chaos`.
fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("this program has no folder")?.to_owned())
}

fn build() -> Result<()> {
    let folder = folder()?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let target = folder.parent().context("no target folder")?;
    // Without `-p`: features then unify over the whole workspace, and no C code is built twice.
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--workspace", "--profile", profile])
        .args(["--bin", "qpc", "--bin", "qpc-server", "--target-dir"])
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the programs under test do not build");
    Ok(())
}
