//! Commands that only show what this home knows. They work without a server.

use std::time::Duration;

use crate::error::CliError;
use crate::output::Output;
use crate::session::{ANSWER, Session};

/// How long notices wait for what the server told since.
const CATCH_UP: Duration = Duration::from_secs(10);

/// `qpc whoami`.
pub(super) async fn whoami(session: &mut Session, output: &mut Output) -> Result<(), CliError> {
    let client = session.client();
    let whoami = session.answer(ANSWER, client.whoami()).await?;
    output.records(&[whoami])
}

/// `qpc contacts`.
pub(super) async fn contacts(session: &mut Session, output: &mut Output) -> Result<(), CliError> {
    let client = session.client();
    let contacts = session.answer(ANSWER, client.contacts()).await?;
    if contacts.is_empty() {
        output.remark("no contacts yet: `qpc dm NAME` meets somebody");
    }
    output.records(&contacts)
}

/// `qpc channels`.
pub(super) async fn channels(session: &mut Session, output: &mut Output) -> Result<(), CliError> {
    let client = session.client();
    let channels = session.answer(ANSWER, client.channels()).await?;
    if channels.is_empty() {
        output.remark("no channels yet: `qpc dm NAME` or `qpc group create TITLE` makes one");
    }
    output.records(&channels)
}

/// `qpc members TARGET`.
pub(super) async fn members(
    session: &mut Session,
    output: &mut Output,
    target: &str,
) -> Result<(), CliError> {
    let client = session.client();
    let members = session.answer(ANSWER, client.members(target)).await?;
    output.records(&members)
}

/// `qpc history TARGET --limit N`.
pub(super) async fn history(
    session: &mut Session,
    output: &mut Output,
    (target, limit): (&str, u64),
) -> Result<(), CliError> {
    let client = session.client();
    let messages = session.answer(ANSWER, client.history(target, limit)).await?;
    output.records(&messages)
}

/// `qpc devices`.
pub(super) async fn devices(session: &mut Session, output: &mut Output) -> Result<(), CliError> {
    let client = session.client();
    let devices = session.answer(ANSWER, client.devices()).await?;
    output.records(&devices)
}

/// `qpc losses [TARGET]`.
pub(super) async fn losses(
    session: &mut Session,
    output: &mut Output,
    target: Option<&str>,
) -> Result<(), CliError> {
    let client = session.client();
    let losses = session.answer(ANSWER, client.losses(target)).await?;
    if losses.is_empty() {
        output.remark("nothing was lost");
    }
    output.records(&losses)
}

/// `qpc notices`.
pub(super) async fn notices(session: &mut Session, output: &mut Output) -> Result<(), CliError> {
    let client = session.client();
    // What the server told since is the news; without a connection the old ones are still of use.
    if let Err(error) = session.answer(CATCH_UP, client.caught_up()).await {
        output.remark(&format!("there may be newer ones at the server: {error}"));
    }
    let notices = session.answer(ANSWER, client.notices(false)).await?;
    if notices.is_empty() {
        output.remark("no notices");
    }
    output.records(&notices)?;
    if let Some(last) = notices.last() {
        client.mark_notices_seen(last.id).await?;
    }
    Ok(())
}
