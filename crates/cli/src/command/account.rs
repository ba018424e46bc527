//! `qpc account` and `qpc accept`: what the server holds, the account's end, a changed key.

use std::path::Path;

use serde::Serialize;

use crate::args::Account;
use crate::confirm;
use crate::date::date_and_time;
use crate::error::CliError;
use crate::output::Output;
use crate::plain::Plain;
use crate::secret_file::{refuse_existing, write_new};
use crate::session::{ANSWER, Session};

#[derive(Serialize)]
struct Deletion {
    /// `null` when none is pending.
    delete_at_ms: Option<u64>,
}

impl Plain for Deletion {
    fn plain(&self) -> String {
        match self.delete_at_ms {
            Some(at_ms) => format!(
                "the account will be deleted on {}; until then `qpc account cancel-deletion` takes \
                 that back",
                date_and_time(at_ms)
            ),
            None => "no deletion is pending".to_owned(),
        }
    }
}

#[derive(Serialize)]
struct Exported {
    file: String,
}

impl Plain for Exported {
    fn plain(&self) -> String {
        format!("written to {}", self.file)
    }
}

/// `qpc account ...`.
pub(super) async fn run(
    session: &mut Session,
    output: &mut Output,
    account: &Account,
) -> Result<(), CliError> {
    let client = session.client();
    match account {
        Account::Export { out } => export(session, output, out.as_deref()).await,
        Account::Delete { yes } => {
            if !yes {
                confirm::can_ask("this ends the account and all its devices: add --yes")?;
                let question = "End this account and all its devices in 30 days?";
                confirm::ask(output, question, "nothing was asked for")?;
            }
            let delete_at_ms = Some(session.answer(ANSWER, client.delete_account()).await?);
            output.records(&[Deletion { delete_at_ms }])
        }
        Account::CancelDeletion => {
            session.answer(ANSWER, client.cancel_deletion()).await?;
            output.records(&[Deletion { delete_at_ms: None }])
        }
    }
}

async fn export(
    session: &mut Session,
    output: &mut Output,
    out: Option<&Path>,
) -> Result<(), CliError> {
    refuse_existing(out)?;
    let client = session.client();
    let json = session.answer(ANSWER, client.export()).await?;
    match out {
        Some(out) => {
            write_new(out, &json)?;
            output.records(&[Exported { file: out.display().to_string() }])
        }
        None => {
            let value: serde_json::Value = serde_json::from_slice(&json)
                .map_err(|_| CliError::Alarm("the server's export is no JSON".to_owned()))?;
            output.json_record(&value)?;
            output.flush()
        }
    }
}

/// `qpc accept NAME`.
pub(super) async fn accept(
    session: &mut Session,
    output: &mut Output,
    name: &str,
) -> Result<(), CliError> {
    let client = session.client();
    let contact = session.answer(ANSWER, client.accept(name)).await?;
    output.records(&[contact])
}
