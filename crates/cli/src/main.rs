//! The `qpc` program: parses the command line, runs one command, ends with a documented exit code.
//!
//! Talks to people and scripts only; everything it says about messages comes from `qpc_client`.

mod app;
mod args;
mod command;
mod confirm;
mod date;
mod error;
mod escape;
mod input;
mod interrupt;
mod output;
mod passphrase;
mod plain;
mod qr;
mod secret_file;
mod session;
mod target;

use std::process::ExitCode;

fn main() -> ExitCode {
    app::run(std::env::args_os().collect())
}
