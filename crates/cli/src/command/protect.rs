//! `qpc passphrase`: how the key of the home is kept. Needs no server.

use qpc_client::Protection;
use serde::Serialize;

use super::Place;
use crate::args::Passphrase;
use crate::error::CliError;
use crate::output::Output;
use crate::passphrase;
use crate::plain::Plain;
use crate::session::unlock;

#[derive(Serialize)]
struct Protected {
    protection: &'static str,
}

impl Plain for Protected {
    fn plain(&self) -> String {
        match self.protection {
            "passphrase" => "the home now needs its new passphrase".to_owned(),
            _ => {
                "the home now needs no passphrase: its key file is readable by you alone".to_owned()
            }
        }
    }
}

pub(super) fn run(place: &Place, change: &Passphrase, output: &mut Output) -> Result<(), CliError> {
    let home = place.existing()?;
    let unlock = unlock(&home, place.passphrase_file.as_deref())?;
    let (new, protection) = if change.remove {
        (Protection::KeyFile, "key_file")
    } else {
        let text = match &change.new_passphrase_file {
            Some(file) => passphrase::from_file(file)?,
            None => passphrase::chosen("no terminal to ask on: use --new-passphrase-file FILE")?,
        };
        (Protection::Passphrase(text), "passphrase")
    };
    home.change_protection(unlock, new)?;
    output.records(&[Protected { protection }])
}
