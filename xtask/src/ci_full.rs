//! The long tier of checks: `.ci/run`, then what takes too long for every change.
//! Steps whose tool is missing say so and are skipped; nothing else is.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::shell;

/// Simulated runs, each under its own seed.
const SEEDS: &str = "2000";
/// The server killed a thousand times under load, two hundred lies of a server at random places, a
/// death at every single write of server and clients, twelve weeks of simulated time.
const LONG_TESTS: [&str; 14] = [
    "cargo",
    "test",
    "--locked",
    "--workspace",
    "--test",
    "processes",
    "--test",
    "cases",
    "--test",
    "crashpoints",
    "--test",
    "weeks",
    "--",
    "--ignored",
];
/// Real programs under faults of network and processes.
const CHAOS: [&str; 5] = ["cargo", "chaos", "--minutes", "5", "--seed=1"];
/// One fuzzing campaign, per target.
const FUZZ_TIME: &str = "-max_total_time=120";
/// Where a campaign keeps what it finds; the committed corpora are only read.
const FOUND: &str = "fuzz/target/found";

pub(crate) fn run(root: &Path) -> Result<()> {
    shell::run(root, &["bash", ".ci/run"])?;
    shell::run(root, &["cargo", "xtask", "mutants"])?;
    shell::run(root, &["cargo", "sim", "--seeds", SEEDS])?;
    shell::run(root, &LONG_TESTS)?;
    shell::run(root, &CHAOS)?;
    shell::run(root, &["cargo", "demo", "--check"])?;
    fuzz(root)
}

fn fuzz(root: &Path) -> Result<()> {
    let list = ["rustup", "run", "nightly", "cargo", "fuzz", "list"];
    let Some(targets) = shell::output(root, &list) else {
        println!("skipped: fuzzing wants a nightly toolchain and cargo-fuzz");
        return Ok(());
    };
    for target in targets.lines() {
        let (found, seeds) = (format!("{FOUND}/{target}"), format!("fuzz/corpus/{target}"));
        fs::create_dir_all(root.join(&found)).with_context(|| format!("cannot make {found}"))?;
        let words = [
            "rustup", "run", "nightly", "cargo", "fuzz", "run", target, &found, &seeds, "--",
            FUZZ_TIME,
        ];
        shell::run(root, &words)?;
    }
    Ok(())
}
