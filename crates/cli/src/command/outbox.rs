//! `qpc outbox`: what is not sent and why, and what a person does about it. A message is named by
//! its local number.

use std::time::Duration;

use qpc_client::view::{Message, MessageState};
use serde::Serialize;

use crate::args::Outbox;
use crate::error::CliError;
use crate::output::Output;
use crate::plain::Plain;
use crate::session::{ANSWER, Session};

/// A message with the number that names it.
#[derive(Serialize)]
#[serde(transparent)]
struct Listed(Message);

impl Plain for Listed {
    fn plain(&self) -> String {
        format!("{}  {}", self.0.id, self.0.plain())
    }
}

/// `qpc outbox ...`.
pub(super) async fn run(
    session: &mut Session,
    output: &mut Output,
    outbox: &Outbox,
) -> Result<(), CliError> {
    match outbox {
        Outbox::List => list(session, output).await,
        Outbox::Resend { ids, timeout } => {
            resend(session, output, (ids, Duration::from_secs(*timeout))).await
        }
        Outbox::Cancel { ids } => cancel(session, output, ids).await,
    }
}

async fn list(session: &mut Session, output: &mut Output) -> Result<(), CliError> {
    let client = session.client();
    let waiting = session.answer(ANSWER, client.outbox()).await?;
    if waiting.is_empty() {
        output.remark("nothing waits: all own messages are sent");
    }
    output.records(&waiting.into_iter().map(Listed).collect::<Vec<_>>())
}

async fn resend(
    session: &mut Session,
    output: &mut Output,
    (ids, limit): (&[u64], Duration),
) -> Result<(), CliError> {
    let client = session.client();
    for id in ids {
        session.answer(ANSWER, client.resend(*id)).await?;
    }
    // What is not settled by then is told below by its state.
    let settled = session.answer(limit, client.settled()).await;
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        all.push(Listed(session.answer(ANSWER, client.message(*id)).await?));
    }
    output.records(&all)?;
    let refused = all.iter().find(|listed| listed.0.state == MessageState::Refused);
    if let Some(Listed(message)) = refused {
        return Err(CliError::Refused(message.reason.clone().unwrap_or_default()));
    }
    let waits =
        |listed: &Listed| matches!(listed.0.state, MessageState::Waiting | MessageState::Sealed);
    if all.iter().any(waits) { settled } else { Ok(()) }
}

async fn cancel(session: &mut Session, output: &mut Output, ids: &[u64]) -> Result<(), CliError> {
    let client = session.client();
    for id in ids {
        let message = session.answer(ANSWER, client.cancel(*id)).await?;
        output.records(&[Listed(message)])?;
    }
    Ok(())
}
