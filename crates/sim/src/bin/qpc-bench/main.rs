//! `qpc-bench`: measures what server and client cost on this machine, and fails when that is too
//! much.
//!
//! Servers run as child processes of this program, so that their CPU time is theirs alone.

mod account;
mod catchup;
mod child;
mod content;
mod drain;
mod fanout;
mod floor;
mod idle;
mod login;
mod messages;
mod mls;
mod numbers;
mod process;
mod serve;
mod sides;
mod stopwatch;
mod wire;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Exit code when something could not be measured; 1 is a measurement above its limit.
const FAILED: u8 = 2;

/// Measures what server and client cost on this machine.
#[derive(Debug, Parser)]
#[command(name = "qpc-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Server CPU time of a login, against the bare handshake and one signature check.
    Login(login::Arguments),
    /// Reading what came while nobody was connected, against the same server.
    Drain(drain::Arguments),
    /// Reading what came while a client was away: what that costs the client.
    Catchup(catchup::Arguments),
    /// Handing one message to many subscribers.
    Fanout(fanout::Arguments),
    /// Memory that a client holds at the server while it is logged in and says nothing.
    Idle(idle::Arguments),
    /// Throughput, latency and cost of messages, against a server that only stores and forwards.
    Messages(messages::Arguments),
    /// A server to be measured, until standard input ends.
    #[command(hide = true)]
    Serve(serve::Arguments),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Login(arguments) => runtime.block_on(login::run(&arguments)),
        Command::Catchup(arguments) => catchup::run(&arguments),
        Command::Drain(arguments) => runtime.block_on(drain::run(&arguments)),
        Command::Fanout(arguments) => runtime.block_on(fanout::run(&arguments)),
        Command::Idle(arguments) => runtime.block_on(idle::run(&arguments)),
        Command::Messages(arguments) => runtime.block_on(messages::run(&arguments)),
        Command::Serve(arguments) => {
            runtime.block_on(serve::run(&arguments)).map(|()| ExitCode::SUCCESS)
        }
    }
}
