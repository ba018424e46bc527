//! The workspace's own chores: style and boundary checks, the case table, code generation,
//! mutants, demo.
//! Never part of what ships.
#![allow(clippy::print_stdout, reason = "a command-line tool reports on standard output")]

mod cases;
mod ci_full;
mod codegen;
mod demo;
mod mutants;
mod shell;
mod tidy;
mod tokens;
mod tree;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

#[derive(Parser)]
#[command(name = "xtask", about = "Chores of the quicprochat workspace")]
enum Task {
    /// Check style budgets, forbidden names and imports, and the crate table.
    Tidy,
    /// Check, or write anew, which test covers which case (docs/cases.toml).
    Cases(cases::Mode),
    /// Generate the wire types from proto/qpc/v1 (`--check`: only compare).
    Codegen(codegen::Mode),
    /// Break the product by the patches in crates/sim/mutants: a test must notice each.
    Mutants(mutants::Options),
    /// Everything of .ci/run, then all mutants, the long simulation, fuzzing and the demo.
    CiFull,
    /// A server and two people who talk over it, on this machine.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    match task {
        Task::Tidy => tidy::run(root),
        Task::Cases(mode) => cases::run(root, &mode),
        Task::Codegen(mode) => codegen::run(root, &mode),
        Task::Mutants(options) => mutants::run(root, &options),
        Task::CiFull => ci_full::run(root),
        Task::Demo(options) => demo::run(root, &options),
    }
}
