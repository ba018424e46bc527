//! `qpc-server`: the operator's program. Parses the command line, runs a command, names its exit
//! code.

mod command;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    command::run(command::Cli::parse())
}
