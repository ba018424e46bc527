//! `qpc verify`: the number two people compare to know that no server sits between them.

use crate::args::Verify;
use crate::error::CliError;
use crate::output::Output;
use crate::session::{ANSWER, Session};

pub(super) async fn run(
    session: &mut Session,
    output: &mut Output,
    verify: &Verify,
) -> Result<(), CliError> {
    let client = session.client();
    let number = if verify.yes || verify.unset {
        session.answer(ANSWER, client.mark_verified(&verify.name, verify.yes)).await?
    } else {
        session.answer(ANSWER, client.safety_number(&verify.name)).await?
    };
    output.records(&[number])
}
