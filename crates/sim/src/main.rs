//! `cargo sim`: runs seeds and prints what they did; a failing seed prints its trace and the
//! command that repeats it.

use std::process::ExitCode;

use clap::Parser;
use qpc_sim::run;

/// Runs seeded simulations of the whole system.
#[derive(Debug, Parser)]
#[command(name = "qpc-sim", version)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Random events per seed.
    #[arg(long, default_value_t = 400)]
    ops: u32,
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (mut events, mut faults, mut messages) = (0_u64, 0_u64, 0_usize);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        match run(seed, arguments.ops) {
            Ok(report) => {
                events = events.saturating_add(report.events);
                faults = faults.saturating_add(report.faults);
                messages = messages.saturating_add(report.messages);
                println!(
                    "seed {seed}: {} events, {} faults, {} messages, trace {}",
                    report.events,
                    report.faults,
                    report.messages,
                    report.digest.get(..16).unwrap_or_default()
                );
            }
            Err(failure) => {
                for line in &failure.trace {
                    println!("  {line}");
                }
                println!("seed {seed} FAILED: {:#}", failure.error);
                println!("repeat it: cargo sim --seed {seed} --seeds 1 --ops {}", arguments.ops);
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{} seeds: {events} events, {faults} faults, {messages} messages; every invariant held",
        arguments.seeds
    );
    ExitCode::SUCCESS
}
