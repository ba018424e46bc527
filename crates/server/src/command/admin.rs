//! `qpc-server admin`: an operator's questions to the running server, or to its database.
//!
//! Prints a table for people, or a JSON object a line; what the answers mean is the library's.

mod table;

use std::path::PathBuf;

use anyhow::Result;
use qpc_server::DataDir;
use qpc_server::admin::{self, AccountRow, Answer, Question};

use super::date::date_and_time;
use table::Table;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The server's files.
    #[arg(long, value_name = "DIR", global = true, default_value = ".")]
    data_dir: PathBuf,
    /// Print JSON, an object a line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List all accounts.
    Accounts,
    /// Let nobody in at an account, and end its connections.
    Suspend {
        /// The account.
        name: String,
    },
    /// Let an account in again.
    Resume {
        /// The account.
        name: String,
    },
    /// List the invites that may still be used; `qpc-server invite` makes one.
    Invites,
    /// Change an invite.
    #[command(subcommand)]
    Invite(Invite),
    /// List the limits that are configured.
    Limits,
    /// List or end the sessions of an account.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Sessions {
        /// The account.
        #[arg(required = true)]
        name: Option<String>,
        #[command(subcommand)]
        command: Option<Sessions>,
    },
    /// Print what the server has counted, in Prometheus' text format.
    Metrics,
}

#[derive(clap::Subcommand)]
enum Invite {
    /// Take an invite back.
    Revoke {
        /// As `admin invites` shows it.
        id: String,
    },
}

#[derive(clap::Subcommand)]
enum Sessions {
    /// End all of them; its devices log in again by themselves.
    End {
        /// The account.
        name: String,
    },
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let desk = Desk { dir: DataDir::new(&arguments.data_dir), json: arguments.json };
    match &arguments.command {
        Command::Accounts => desk.accounts(),
        Command::Suspend { name } => desk.done(&Question::Suspend { name: name.clone() }),
        Command::Resume { name } => desk.done(&Question::Resume { name: name.clone() }),
        Command::Invites => desk.show(&Question::Invites),
        Command::Invite(Invite::Revoke { id }) => {
            desk.done(&Question::RevokeInvite { id: id.clone() })
        }
        Command::Limits => desk.show(&Question::Limits),
        Command::Sessions { command: Some(Sessions::End { name }), .. } => {
            desk.done(&Question::EndSessions { name: name.clone() })
        }
        Command::Sessions { name, command: None } => {
            desk.show(&Question::Sessions { name: name.clone().unwrap_or_default() })
        }
        Command::Metrics => desk.show(&Question::Metrics),
    }
}

struct Desk {
    dir: DataDir,
    json: bool,
}

impl Desk {
    /// Every page of the accounts.
    fn accounts(&self) -> Result<()> {
        let mut all: Vec<AccountRow> = Vec::new();
        loop {
            let after = all.last().map(|account| account.name.clone());
            let answer = admin::ask(&self.dir, &Question::Accounts { after })?;
            let Answer::Accounts { accounts, more } = answer else {
                return Err(admin::unexpected().into());
            };
            all.extend(accounts);
            if !more {
                return self.rows(&all, Table::accounts);
            }
        }
    }

    fn done(&self, question: &Question) -> Result<()> {
        let Answer::Done { devices } = admin::ask(&self.dir, question)? else {
            return Err(admin::unexpected().into());
        };
        if self.json {
            return super::print(serde_json::json!({ "done": true, "devices_cut_off": devices }));
        }
        match devices {
            0 => super::print("done"),
            _ => super::print(format_args!("done; devices cut off: {devices}")),
        }
    }

    fn show(&self, question: &Question) -> Result<()> {
        match admin::ask(&self.dir, question)? {
            Answer::Invites(rows) => self.rows(&rows, Table::invites),
            Answer::Sessions(rows) => self.rows(&rows, Table::sessions),
            Answer::Limits(rows) => self.rows(&rows, Table::limits),
            Answer::Metrics(text) => super::print(text.trim_end()),
            Answer::Invite(_)
            | Answer::Accounts { .. }
            | Answer::AuditHead(_)
            | Answer::Done { .. }
            | Answer::Error(_) => Err(admin::unexpected().into()),
        }
    }

    fn rows<T: serde::Serialize>(&self, rows: &[T], table: fn(&[T]) -> Table) -> Result<()> {
        if self.json {
            for row in rows {
                super::print(serde_json::to_string(row)?)?;
            }
            return Ok(());
        }
        super::print(table(rows))
    }
}

fn date(unix_ms: Option<u64>) -> String {
    unix_ms.map_or_else(|| "-".to_owned(), date_and_time)
}
