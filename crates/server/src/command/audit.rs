//! `qpc-server audit verify`: reads the audit log and says whether it is what was written.

use std::path::PathBuf;

use anyhow::Result;
use qpc_server::audit::{Head, Report, verify};
use qpc_server::{DataDir, ServerError, admin};

use super::date::date_and_time;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Check every line, and the end against what the database knows; exit code 8 at the first
    /// that is wrong.
    Verify {
        /// The server's files.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let Command::Verify { data_dir, json } = &arguments.command;
    let dir = DataDir::new(data_dir);
    // First: what is written meanwhile comes behind it.
    let (known, running) = match admin::audit_head(&dir) {
        Ok(known) => known,
        // Whoever may read the files may check them without the database.
        Err(ServerError::NoAnswer) => (None, true),
        Err(error) => return Err(error.into()),
    };
    let report = verify(&dir.audit(), known, running)?;
    super::print(if *json { as_json(&report, known) } else { as_text(&report, known) })?;
    match report.broken {
        None => Ok(()),
        Some(broken) => Err(ServerError::AuditBroken(broken).into()),
    }
}

fn as_text(report: &Report, known: Option<Head>) -> String {
    let date = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), date_and_time);
    let end = if known.is_some() { "compared" } else { "not compared: the database tells nothing" };
    let verdict = if report.broken.is_none() { "OK" } else { "BROKEN" };
    format!(
        "files  {}\nlines  {}\nfirst  {}\nlast   {}\nend    {end}\n{verdict}",
        report.files,
        report.lines,
        date(report.first_ms),
        date(report.last_ms),
    )
}

fn as_json(report: &Report, known: Option<Head>) -> String {
    let broken = report.broken.as_ref().map(|broken| {
        serde_json::json!({ "file": broken.file, "line": broken.line, "what": broken.what })
    });
    serde_json::json!({
        "files": report.files,
        "lines": report.lines,
        "first_ms": report.first_ms,
        "last_ms": report.last_ms,
        "end_compared": known.is_some(),
        "broken": broken,
    })
    .to_string()
}
