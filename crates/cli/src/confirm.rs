//! Questions that a person answers on the terminal. Without a terminal the answer is never yes.

use std::io::{BufRead as _, IsTerminal as _};

use crate::error::CliError;
use crate::output::Output;

/// Refuses where nobody could answer.
pub(crate) fn can_ask(instead: &str) -> Result<(), CliError> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(CliError::Usage(instead.to_owned()))
}

/// Asks; anything but `yes` is refused with `otherwise`.
pub(crate) fn ask(output: &mut Output, question: &str, otherwise: &str) -> Result<(), CliError> {
    output.complain(&format!("{question} Type yes: "));
    if line("the answer")?.trim() == "yes" {
        return Ok(());
    }
    Err(CliError::Usage(otherwise.to_owned()))
}

/// One line of standard input.
pub(crate) fn line(what: &str) -> Result<String, CliError> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|source| CliError::Input { what: what.to_owned(), source })?;
    Ok(line)
}
