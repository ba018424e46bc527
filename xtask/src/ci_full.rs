//! The long tier of checks: `.ci/run`, then what takes too long for every change.
//! Steps whose tool is missing say so and are skipped; nothing else is.

use std::path::Path;

use anyhow::Result;

use crate::shell::{self, Step};

/// Simulated runs, each under its own seed.
const SEEDS: &str = "2000";
/// One fuzzing campaign, per target.
const FUZZ_TIME: &str = "-max_total_time=120";
/// SQLite's C code and LLVM's sanitizer disagree about one global; Rust code is not concerned.
const ASAN: (&str, &str) = ("ASAN_OPTIONS", "detect_odr_violation=0");

pub(crate) fn run(root: &Path) -> Result<()> {
    shell::run(root, &["bash", ".ci/run"])?;
    shell::run(root, &["cargo", "sim", "--seeds", SEEDS])?;
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
        let words = &[
            "rustup", "run", "nightly", "cargo", "fuzz", "run", target, "--", FUZZ_TIME,
        ];
        Step {
            words,
            environment: &[ASAN],
        }
        .run(root)?;
    }
    Ok(())
}
