//! `qpc recover`: an account back from its phrase. The phrase comes from a file or the terminal,
//! never from the command line.

use std::path::Path;

use qpc_client::view::Whoami;
use qpc_client::{Client, Phrase};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Place;
use super::register::{make_folder, protection};
use crate::args::Recover;
use crate::error::CliError;
use crate::output::Output;
use crate::passphrase;
use crate::plain::Plain;
use crate::session::Session;

/// Longest phrase file in bytes.
const LONGEST: u64 = 4_096;

#[derive(Serialize)]
struct Recovered {
    #[serde(flatten)]
    whoami: Whoami,
    generation: u32,
    kept: Vec<String>,
    revoked: Vec<String>,
}

impl Plain for Recovered {
    fn plain(&self) -> String {
        let list = |devices: &[String]| match devices {
            [] => "none".to_owned(),
            some => some.join(", "),
        };
        format!(
            "{}\nThis is the primary device now, with account key number {}.\nkept      {}\n\
             revoked   {}",
            self.whoami.plain(),
            self.generation,
            list(&self.kept),
            list(&self.revoked)
        )
    }
}

pub(super) async fn run(
    place: &Place,
    recover: Recover,
    output: &mut Output,
) -> Result<(), CliError> {
    let phrase = phrase(recover.phrase_file.as_deref())?;
    let protection = protection(place, recover.keeping)?;
    make_folder(place)?;
    let with = (&protection, phrase, recover.keep.as_slice());
    let (client, outcome) = Client::recover(&place.home(), &recover.server, with).await?;
    let session = Session::of(client.clone());
    let reachable = client.reachable().await;
    let whoami = client.whoami().await?;
    drop(client);
    let names = |devices: Vec<_>| devices.iter().map(ToString::to_string).collect();
    let recovered = Recovered {
        whoami,
        generation: outcome.generation,
        kept: names(outcome.kept),
        revoked: names(outcome.revoked),
    };
    let shown = output.records(&[recovered]);
    output.remark("channels appear here as members' clients add this device to them");
    let closed = session.close(output).await;
    shown.and(reachable.map_err(Into::into)).and(closed)
}

fn phrase(file: Option<&Path>) -> Result<Phrase, CliError> {
    let text = match file {
        Some(file) => passphrase::whole_file(file, LONGEST)?,
        None => {
            let instead = "no terminal to ask on: use --phrase-file FILE";
            let asked: Zeroizing<String> =
                passphrase::prompt("Recovery phrase, 24 words: ", instead)?;
            asked
        }
    };
    Ok(Phrase::parse(&text)?)
}
