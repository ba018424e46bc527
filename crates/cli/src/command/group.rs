//! `qpc dm` and `qpc group`: changes of channels, each done when the server has accepted it.

use crate::args::Group;
use crate::confirm;
use crate::error::CliError;
use crate::output::Output;
use crate::session::{ANSWER, Session};

/// `qpc dm NAME`.
pub(super) async fn direct(
    session: &mut Session,
    output: &mut Output,
    name: &str,
) -> Result<(), CliError> {
    let client = session.client();
    let channel = session.answer(ANSWER, client.dm(name)).await?;
    output.records(&[channel])
}

/// `qpc reset TARGET`.
pub(super) async fn reset(
    session: &mut Session,
    output: &mut Output,
    (target, yes): (&str, bool),
) -> Result<(), CliError> {
    if !yes {
        let question = format!("End the channel {target} and go on in a new one?");
        confirm::ask(output, &question, "nothing was changed")?;
    }
    let client = session.client();
    let channel = session.answer(ANSWER, client.reset(target)).await?;
    output.records(&[channel])
}

/// `qpc group ...`.
pub(super) async fn run(
    session: &mut Session,
    output: &mut Output,
    group: &Group,
) -> Result<(), CliError> {
    let client = session.client();
    let channel = match group {
        Group::Create { title, retention } => {
            session.answer(ANSWER, client.group_create(title, *retention)).await
        }
        Group::Add { group, names } => session.answer(ANSWER, client.group_add(group, names)).await,
        Group::Remove { group, names } => {
            session.answer(ANSWER, client.group_remove(group, names)).await
        }
        Group::Rename { group, title } => {
            session.answer(ANSWER, client.group_rename(group, title)).await
        }
        Group::Describe { group, description } => {
            session.answer(ANSWER, client.group_describe(group, description)).await
        }
        Group::Promote { group, name } => {
            session.answer(ANSWER, client.group_role((group, name), true)).await
        }
        Group::Demote { group, name } => {
            session.answer(ANSWER, client.group_role((group, name), false)).await
        }
        Group::Leave { group } => session.answer(ANSWER, client.group_leave(group)).await,
    }?;
    output.records(&[channel])
}
