//! The command line: subcommands, their exit codes, and how a failure is shown.
//!
//! Results go to stdout, everything else to stderr.

mod admin;
mod audit;
mod date;
mod init;
mod invite;
mod serve;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use qpc_server::ServerError;
use qpc_storage::StorageError;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed for another reason, named on stderr
  2  wrong command line
  3  wrong configuration file
  4  STORE_LOCKED: another process has the database
  5  the database cannot be opened: wrong key, damaged or newer than this program
  6  nothing done, because a file would have been overwritten
  7  the data directory holds no server, or a part of one: run `init` first
  8  `audit verify` found a line that is not what was written";

/// Messaging server: ordered, durable, opaque ciphertext over QUIC.
#[derive(Parser)]
#[command(name = "qpc-server", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make keys, certificate, database and a commented configuration file.
    Init(init::Arguments),
    /// Serve until SIGTERM or SIGINT; prints `ready URL` on stdout once it does.
    Serve(serve::Arguments),
    /// Print a one-use invite, whether the server runs or not.
    Invite(invite::Arguments),
    /// Ask and change what a server holds: accounts, sessions, invites, limits, metrics.
    Admin(admin::Arguments),
    /// Check the audit log.
    Audit(audit::Arguments),
}

/// Runs a command and shows its failure.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Init(arguments) => init::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Invite(arguments) => invite::run(&arguments),
        Command::Admin(arguments) => admin::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without stderr the exit code has to do.
            drop(writeln!(io::stderr(), "error: {error:#}"));
            exit_code(&error)
        }
    }
}

/// One line on stdout, at once.
fn print(line: impl std::fmt::Display) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    let code = match error.downcast_ref::<ServerError>() {
        Some(ServerError::Config { .. } | ServerError::Address(_)) => 3,
        Some(ServerError::Locked | ServerError::NoAnswer) => 4,
        Some(ServerError::Storage(
            StorageError::WrongKey
            | StorageError::NotEncrypted
            | StorageError::Corrupt(_)
            | StorageError::SchemaNewer { .. }
            | StorageError::KeyFile { .. },
        )) => 5,
        Some(ServerError::Exists(_)) => 6,
        Some(ServerError::NotInitialised(_) | ServerError::Unfinished(_)) => 7,
        Some(ServerError::AuditBroken(_)) => 8,
        Some(
            ServerError::Storage(_)
            | ServerError::Transport(_)
            | ServerError::DevNotLoopback
            | ServerError::Refused(_)
            | ServerError::NotRunning
            | ServerError::WriterPanicked
            | ServerError::System { .. },
        )
        | None => 1,
    };
    ExitCode::from(code)
}
