//! `qpc logout`: ends this device's tokens, and on request deletes everything that is here.
//! Never deletes without a clear yes.

use qpc_client::ClientError;
use serde::Serialize;

use super::Place;
use crate::confirm;
use crate::error::CliError;
use crate::output::Output;
use crate::plain::Plain;
use crate::session::ANSWER;

/// How far to go.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) wipe: bool,
    pub(super) yes: bool,
}

#[derive(Serialize)]
struct LoggedOut {
    logged_out: bool,
    wiped: bool,
}

impl Plain for LoggedOut {
    fn plain(&self) -> String {
        let server = if self.logged_out { "logged out" } else { "the server was not told" };
        let home = if self.wiped { "deleted" } else { "kept; the next command logs in again" };
        format!("{server}; keys and messages here: {home}")
    }
}

pub(super) async fn run(
    place: &Place,
    extent: Extent,
    output: &mut Output,
) -> Result<(), CliError> {
    let home = place.existing()?;
    if extent.wipe && !extent.yes {
        confirm(place, output)?;
    }
    let mut session = match place.open().await {
        // A registration that was never finished: there is no session to end.
        Err(CliError::Client(ClientError::NoAccount)) if extent.wipe => {
            home.wipe()?;
            return output.records(&[LoggedOut { logged_out: false, wiped: true }]);
        }
        opened => opened?,
    };
    let client = session.client();
    let told = session.answer(ANSWER, client.logout()).await;
    // The lock goes with the last handle.
    drop(client);
    let closed = session.close(output).await;
    let outcome = told.and(closed);
    if extent.wipe {
        if let Err(error) = &outcome {
            output.remark(&error.to_string());
        }
        home.wipe()?;
        return output.records(&[LoggedOut { logged_out: outcome.is_ok(), wiped: true }]);
    }
    outcome?;
    output.records(&[LoggedOut { logged_out: true, wiped: false }])
}

fn confirm(place: &Place, output: &mut Output) -> Result<(), CliError> {
    confirm::can_ask("--wipe deletes keys and messages: add --yes")?;
    let folder = place.folder.display();
    let question = format!("Delete all keys and messages in {folder} for good?");
    confirm::ask(output, &question, "nothing was deleted")
}
