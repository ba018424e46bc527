//! `qpc register`: a new home with new keys, known to one server.

use std::os::unix::fs::DirBuilderExt as _;
use std::time::Duration;

use qpc_client::{Client, Protection, Registration};

use super::Place;
use crate::args::Register;
use crate::error::CliError;
use crate::output::Output;
use crate::passphrase;
use crate::session::Session;

const REGISTER: Duration = Duration::from_secs(60);

pub(super) async fn run(
    place: &Place,
    register: Register,
    output: &mut Output,
) -> Result<(), CliError> {
    let home = place.home();
    let protection = protection(place, &register)?;
    make_folder(place)?;
    let registration = Registration { name: register.name, server: register.server, protection };
    let registered = tokio::time::timeout(REGISTER, Client::register(&home, registration));
    let client = registered.await.map_err(|_| {
        CliError::Unreachable(format!("no answer within {} s", REGISTER.as_secs()))
    })??;
    let session = Session::of(client);
    let shown = introduce(&session, output).await;
    let closed = session.close(output).await;
    shown.and(closed)
}

async fn introduce(session: &Session, output: &mut Output) -> Result<(), CliError> {
    let whoami = session.client().whoami().await?;
    output.records(&[whoami])?;
    output.remark("next: `qpc dm NAME` opens a channel, `qpc chat --plain NAME` talks in it");
    Ok(())
}

fn protection(place: &Place, register: &Register) -> Result<Protection, CliError> {
    match (&place.passphrase_file, register.keyring) {
        (Some(_), true) => Err(CliError::Usage(
            "--keyring and --passphrase-file are two ways to keep the key: choose one".to_owned(),
        )),
        (None, true) => Ok(Protection::Keyring),
        (Some(file), false) => Ok(Protection::Passphrase(passphrase::from_file(file)?)),
        (None, false) if register.passphrase => {
            let instead = "no terminal to ask on: use --passphrase-file FILE";
            Ok(Protection::Passphrase(passphrase::chosen(instead)?))
        }
        (None, false) => Ok(Protection::KeyFile),
    }
}

/// Only the owner may look in; what is already there keeps its rights.
fn make_folder(place: &Place) -> Result<(), CliError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&place.folder)
        .map_err(|source| CliError::HomeNotMade { path: place.folder.clone(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    fn register(passphrase: bool, keyring: bool) -> Register {
        Register { name: "a".to_owned(), server: "u".to_owned(), passphrase, keyring }
    }

    #[test]
    fn a_new_folder_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("share/qpc");
        let place = Place { folder: folder.clone(), passphrase_file: None };
        make_folder(&place).unwrap();
        make_folder(&place).unwrap();
        let mode = std::fs::metadata(folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn how_the_key_is_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "correct horse\n").unwrap();
        let without = Place { folder: PathBuf::new(), passphrase_file: None };
        let with = Place { folder: PathBuf::new(), passphrase_file: Some(file.path().to_owned()) };

        assert!(matches!(protection(&without, &register(false, false)), Ok(Protection::KeyFile)));
        assert!(matches!(protection(&without, &register(false, true)), Ok(Protection::Keyring)));
        for asked in [false, true] {
            let Ok(Protection::Passphrase(text)) = protection(&with, &register(asked, false))
            else {
                panic!("not a passphrase");
            };
            assert_eq!(text.as_str(), "correct horse");
        }
        assert!(matches!(protection(&with, &register(false, true)), Err(CliError::Usage(_))));
    }
}
