//! `qpc-bench messages`: what a message costs the server that ships, against one that only stores
//! it and hands it on.
//!
//! Both are measured in turns in one run, over the same transport and the same kind of database.

pub(crate) mod follower;
pub(crate) mod poster;
mod report;
pub(crate) mod round;
pub(crate) mod setup;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::child::Child;
use crate::serve::What;
use crate::sides::{self, Report};
use report::Bounds;
use round::{Course, Load, Round};

/// Messages of a pair in a round without a rate: enough that the CPU time, which the kernel tells
/// in hundredths of a second, is known to a hundredth or two.
const ROUND_MESSAGES: u32 = 2_000;
/// How long a round with a rate lasts, and how many there are: many short ones, because a disk is
/// slow for seconds at a time, and such times should meet both servers.
const ROUND_SECONDS: u32 = 2;
const ROUNDS_AT_RATE: u32 = 25;
/// Rounds without a rate.
const ROUNDS: u32 = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; each measures the floor and the full server, in alternating order [without a rate:
    /// 5, with one: 25].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: Option<u32>,
    /// Pairs of a sender and a receiver, each with a channel of its own.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pairs: u32,
    /// Messages of each pair in a round [without a rate: 2000, with one: those of 2 seconds].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    messages: Option<u32>,
    /// Messages of a sender that may be on their way to being accepted, in a closed loop.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=64))]
    window: u32,
    /// Messages that a sender puts into one request, of those that are due when it sends [all that
    /// the window has room for].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    batch: Option<u32>,
    /// Send so many messages a second, all pairs together, whether they are accepted or not.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Fail when a message costs more than this times the floor's CPU time [without a rate: 1.6].
    #[arg(long)]
    cpu_at_most: Option<f64>,
    /// Fail below this times the floor's messages a second [without a rate: 0.6].
    #[arg(long)]
    throughput_at_least: Option<f64>,
    /// Fail when half of the messages take longer than this times the floor's [with a rate: 1.3].
    #[arg(long)]
    p50_at_most: Option<f64>,
    /// Fail when one in a hundred takes longer than this times the floor's [with a rate: 1.6].
    #[arg(long)]
    p99_at_most: Option<f64>,
    /// Where the servers' files go; the databases are synced to this disk.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn load(&self) -> Load {
        let Self { pairs, window, rate, .. } = *self;
        let batch = self.batch.unwrap_or(window);
        let usual = || match rate {
            Some(rate) => rate.saturating_mul(ROUND_SECONDS).div_ceil(pairs),
            None => ROUND_MESSAGES,
        };
        Load { messages: self.messages.unwrap_or_else(usual), window, batch, rate, pairs }
    }

    /// What was asked for; else what a closed loop shows (cost) or a rate does (waiting).
    fn bounds(&self) -> Bounds {
        let of = |asked: Option<f64>, usual, with_rate| {
            asked.or((self.rate.is_some() == with_rate).then_some(usual))
        };
        Bounds {
            cpu_at_most: of(self.cpu_at_most, 1.6, false),
            throughput_at_least: of(self.throughput_at_least, 0.6, false),
            p50_at_most: of(self.p50_at_most, 1.3, true),
            p99_at_most: of(self.p99_at_most, 1.6, true),
        }
    }
}

/// Measures, prints, and judges.
///
/// # Errors
/// When a server does not start, or a single message is refused, lost, doubled, changed or comes
/// out of order.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let rounds = measure(arguments).await?;
    let report = Report::new("messages", &rounds, &arguments.bounds().columns())?;
    sides::print(&report, arguments.json);
    Ok(if report.is_within() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rounds: of each, the floor's and the full server's.
async fn measure(arguments: &Arguments) -> Result<Vec<(Round, Round)>> {
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let (load, pairs) = (arguments.load(), arguments.pairs);
    let floor = Child::start(What::Floor, &dir.path().join("floor"), 0)?;
    let full = Child::start(What::Full, &dir.path().join("full"), pairs)?;
    ensure!(full.invites.len() == usize::try_from(pairs)?, "an invite is missing");
    let at_floor = setup::pairs(&floor.url, &setup::floor(pairs)).await?;
    let parties = setup::full(&full.url, &full.invites).await?;
    let at_full = setup::pairs(&full.url, &parties).await?;
    let (mut floor, mut full) = (Course::new(floor, at_floor), Course::new(full, at_full));
    let at_floor = async || floor.round(&load).await;
    let usual = if load.rate.is_some() { ROUNDS_AT_RATE } else { ROUNDS };
    let rounds = arguments.rounds.unwrap_or(usual);
    sides::in_turns(rounds, at_floor, async || full.round(&load).await).await
}
