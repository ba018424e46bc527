//! `qpc-chaos`: the real programs over a network and on processes that misbehave by a seed, and a
//! soak of them in peace. Fails when a message is lost, doubled or out of order, an outbox does not
//! drain, or what a process holds keeps growing.

mod chaos;
mod check;
mod ledger;
mod life;
mod party;
mod person;
mod plot;
mod process;
mod programs;
mod proxy;
mod report;
mod sample;
mod server;
mod soak;
mod trend;
mod weather;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;

/// Exit code when nothing could be judged; 1 is a broken promise.
const FAILED: u8 = 2;

/// Runs `qpc-server` and several `qpc` under faults, and checks that every message arrives once.
#[derive(Debug, Parser)]
#[command(name = "qpc-chaos", version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Test the `qpc` and `qpc-server` of this folder instead of building them.
    #[arg(long, global = true)]
    programs: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    chaos: chaos::Arguments,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The same programs under a steady load and without faults; what they hold must not grow.
    Soak(soak::Arguments),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(cli: &Cli) -> Result<bool> {
    programs::choose(cli.programs.as_deref())?;
    match &cli.command {
        None => chaos::run(&cli.chaos),
        Some(Command::Soak(arguments)) => soak::run(arguments),
    }
}

/// Minutes of the command line, with fractions.
fn minutes(text: &str) -> Result<Duration> {
    let minutes: f64 = text.parse().context("not a number")?;
    Duration::try_from_secs_f64(minutes * 60.0).context("not a time")
}

/// Where everything of a run lies; kept when it failed, for whoever looks for the cause.
struct Folder(Option<tempfile::TempDir>);

impl Folder {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("qpc-chaos-").tempdir()?;
        Ok(Self(Some(folder)))
    }

    fn path(&self) -> Result<PathBuf> {
        Ok(self.0.as_ref().context("the folder is gone")?.path().to_owned())
    }

    /// Leaves it on the disk; its path.
    fn keep(&mut self) -> Option<PathBuf> {
        self.0.take().map(tempfile::TempDir::keep)
    }
}
