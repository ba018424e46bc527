//! `qpc doctor`: what is wrong here and what to do about it. Mends nothing.

use std::time::Duration;

use qpc_client::view::{Finding, Severity};

use super::Place;
use crate::error::CliError;
use crate::escape::visible;
use crate::output::Output;
use crate::plain::Plain;
use crate::session::Session;

impl Plain for Finding {
    fn plain(&self) -> String {
        let mark = match self.severity {
            Severity::Ok => "ok      ",
            Severity::Unchecked => "?       ",
            Severity::Warning => "warning ",
            Severity::Problem => "PROBLEM ",
        };
        let fix = self.fix.as_deref().map(|fix| format!("\n        -> {}", visible(fix)));
        format!("{mark}{}: {}{}", self.code, visible(&self.text), fix.unwrap_or_default())
    }
}

/// `qpc doctor --timeout S`.
pub(super) async fn run(
    place: &Place,
    (session, output): (&mut Session, &mut Output),
    timeout: u64,
) -> Result<(), CliError> {
    let findings = session.client().doctor(&place.home(), Duration::from_secs(timeout)).await?;
    output.records(&findings)?;
    let problems = findings.iter().filter(|f| f.severity == Severity::Problem).count();
    match problems {
        0 => Ok(()),
        _ => Err(CliError::Unwell(problems)),
    }
}
