//! `cargo sim`: runs seeds and prints what they did; a failing seed is made small and printed with
//! its trace and the command that repeats it.

mod workers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use qpc_sim::campaign::{Campaign, Row, commit};
use qpc_sim::{Failure, Only, Report, Run, shrink};
use workers::Workers;

/// How often a line of progress is printed, and a campaign's file written.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Runs seeded simulations of the whole system.
#[derive(Debug, Parser)]
#[command(name = "qpc-sim", version)]
struct Arguments {
    /// How many seeds to run; 1 with `--only`.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; a campaign goes on behind its last.
    #[arg(long)]
    seed: Option<u64>,
    /// Operations of each run.
    #[arg(long, default_value_t = 400)]
    ops: u32,
    /// Of these operations only some take place, such as `3,17,40-52`.
    #[arg(long)]
    only: Option<Only>,
    /// Runs at the same time; as many as there are cores, if it does not say.
    #[arg(long)]
    jobs: Option<usize>,
    /// Adds what ran to this file, and goes on where it stopped.
    #[arg(long)]
    campaign: Option<PathBuf>,
    /// Runs that making a failure small may take; 0 leaves it as it is.
    #[arg(long, default_value_t = 300)]
    shrink: u32,
    /// Goes on after a failing seed.
    #[arg(long)]
    keep_going: bool,
    /// Prints a line for each seed, with the digest of its trace.
    #[arg(long)]
    digests: bool,
}

fn main() -> ExitCode {
    match simulate(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how fast it goes, for the eye alone")]
fn clock() -> Instant {
    Instant::now()
}

/// True if every invariant held.
fn simulate(arguments: &Arguments) -> Result<bool> {
    ensure!(
        arguments.only.is_none() || arguments.campaign.is_none(),
        "--only repeats a run: it is no part of a campaign"
    );
    let mut campaign = arguments.campaign.as_deref().map(Campaign::open).transpose()?;
    let commit = if campaign.is_some() { commit()? } else { String::new() };
    let next = campaign.as_ref().map_or(1, Campaign::next);
    let first = arguments.seed.unwrap_or(next);
    let seeds = arguments.seeds.unwrap_or(if arguments.only.is_some() { 1 } else { 20 });
    let mut tally = Tally::new(Row::new(&commit, arguments.ops, first));
    let template = Run { only: arguments.only.clone(), ..Run::new(first, arguments.ops) };
    let jobs = arguments.jobs.unwrap_or_else(workers::cores);
    let workers = Workers::start((first, seeds), &template, jobs);
    let mut kept = 0;
    while let Some(result) = workers.next() {
        match result {
            Ok(report) => tally.ran(&report, arguments.digests),
            Err(failure) => {
                tally.failed(&failure);
                let run = Run { seed: failure.seed, ..template.clone() };
                explain(&run, failure, arguments.shrink);
                if !arguments.keep_going {
                    break;
                }
            }
        }
        if tally.is_due() {
            tally.say();
            kept = keep(&mut campaign, (&mut tally, kept))?;
        }
    }
    keep(&mut campaign, (&mut tally, kept))?;
    tally.end(campaign.as_ref());
    Ok(tally.row.failed.is_empty())
}

/// Writes what ran since the last time into the campaign's file.
fn keep(campaign: &mut Option<Campaign>, (tally, kept): (&mut Tally, u64)) -> Result<u64> {
    let Some(campaign) = campaign else { return Ok(kept) };
    let mut more = std::mem::take(&mut tally.unsaved);
    more.commit.clone_from(&tally.row.commit);
    more.operations_each = tally.row.operations_each;
    more.first = tally.row.first.saturating_add(kept);
    more.seconds = tally.lap();
    campaign.add(&more)?;
    Ok(kept.saturating_add(more.seeds))
}

/// What has run so far.
struct Tally {
    row: Row,
    /// What of it is in no file yet.
    unsaved: Row,
    began: Instant,
    lapped: Instant,
    said: Instant,
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
impl Tally {
    fn new(row: Row) -> Self {
        let now = clock();
        Self { row, unsaved: Row::default(), began: now, lapped: now, said: now }
    }

    fn ran(&mut self, report: &Report, digests: bool) {
        for row in [&mut self.row, &mut self.unsaved] {
            row.seeds = row.seeds.saturating_add(1);
            row.events = row.events.saturating_add(report.events);
            row.messages =
                row.messages.saturating_add(u64::try_from(report.messages).unwrap_or(u64::MAX));
            row.operations.add(&report.operations);
            row.faults.add(&report.faults);
        }
        if digests {
            println!(
                "seed {}: {} events, {} faults, {} messages, trace {}",
                report.seed,
                report.events,
                report.faults.total(),
                report.messages,
                report.digest.get(..16).unwrap_or_default()
            );
        }
    }

    fn failed(&mut self, failure: &Failure) {
        for row in [&mut self.row, &mut self.unsaved] {
            row.seeds = row.seeds.saturating_add(1);
            row.failed.push(failure.seed);
        }
    }

    fn is_due(&mut self) -> bool {
        let due = self.said.elapsed() >= PROGRESS_EVERY;
        if due {
            self.said = clock();
        }
        due
    }

    /// Whole seconds since the last call.
    fn lap(&mut self) -> u64 {
        let seconds = self.lapped.elapsed().as_secs();
        self.lapped = self.lapped.checked_add(Duration::from_secs(seconds)).unwrap_or_else(clock);
        seconds
    }

    fn say(&self) {
        let row = &self.row;
        let seconds = self.began.elapsed().as_secs().max(1);
        println!(
            "{} seeds ({} a minute), {} operations, {} faults, {} messages, {} failed",
            row.seeds,
            row.seeds.saturating_mul(60).checked_div(seconds).unwrap_or(0),
            row.operations.total(),
            row.faults.total(),
            row.messages,
            row.failed.len()
        );
    }

    fn end(&self, campaign: Option<&Campaign>) {
        println!("operations: {}", self.row.operations);
        println!("faults: {}", self.row.faults);
        self.say();
        if let Some(campaign) = campaign {
            let total = campaign.total();
            println!(
                "the campaign so far: {} seeds, {} operations, {} faults, {} failed, {} rows",
                total.seeds,
                total.operations.total(),
                total.faults.total(),
                total.failed.len(),
                campaign.rows.len()
            );
        }
        match self.row.failed.as_slice() {
            [] => println!("every invariant held"),
            failed => println!("FAILED: {failed:?}"),
        }
    }
}

/// Prints a failure as small as it can be made.
#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn explain(run: &Run, failure: Failure, runs_max: u32) {
    let (seed, ops) = (run.seed, run.operations);
    println!("seed {seed} FAILED: {:#}", failure.error);
    println!("repeat it: cargo sim --seed {seed} --seeds 1 --ops {ops}{}", only(run.only.as_ref()));
    let small = if runs_max > 0 { shrink(run, &failure, runs_max) } else { None };
    let Some(small) = small else {
        if runs_max > 0 {
            println!("it does not fail the same way again");
        }
        failure.trace.iter().for_each(|line| println!("  {line}"));
        return;
    };
    small.failure.trace.iter().for_each(|line| println!("  {line}"));
    let left = small.only.iter().count();
    println!("seed {seed} with {left} operations ({} runs): {:#}", small.runs, small.failure.error);
    println!("repeat it: cargo sim --seed {seed} --ops {ops}{}", only(Some(&small.only)));
}

fn only(only: Option<&Only>) -> String {
    only.map(|only| format!(" --only {only}")).unwrap_or_default()
}
