//! `qpc register`: a new home with new keys, known to one server, and the phrase that gets the
//! account back.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use qpc_client::view::Whoami;
use qpc_client::{Client, Progress, Protection, Registration};
use serde::Serialize;

use super::{Place, phrase};
use crate::args::{Keeping, Register};
use crate::error::CliError;
use crate::output::Output;
use crate::passphrase;
use crate::secret_file::refuse_existing;
use crate::session::Session;

/// What a registration prints.
#[derive(Serialize)]
struct Registered<'a> {
    #[serde(flatten)]
    whoami: &'a Whoami,
    /// `null` when it went to a file.
    recovery_phrase: Option<&'a str>,
}

pub(super) async fn run(
    place: &Place,
    register: Register,
    output: &mut Output,
) -> Result<(), CliError> {
    let home = place.home();
    let file = register.recovery_file.as_deref();
    refuse_existing(file)?;
    let protection = protection(place, register.keeping)?;
    make_folder(place)?;
    let registration = Registration { name: register.name, server: register.server, protection };
    let tell = |progress: Progress| match progress {
        Progress::ProofOfWork { bits } => output.remark(&format!(
            "the server wants a proof of work of {bits} bits: this takes a moment"
        )),
    };
    let client = Client::register(&home, registration, tell).await?;
    let session = Session::of(client);
    let shown = introduce(&session, output, file).await;
    if shown.is_err() {
        output.remark("the account is made; `qpc phrase` shows its recovery phrase");
    }
    let closed = session.close(output).await;
    shown.and(closed)
}

async fn introduce(
    session: &Session,
    output: &mut Output,
    file: Option<&Path>,
) -> Result<(), CliError> {
    let client = session.client();
    let whoami = client.whoami().await?;
    if !output.json() {
        output.record(&whoami)?;
    }
    let words = match client.phrase().await? {
        Some(phrase) => phrase::show(output, &phrase, file)?,
        None => None,
    };
    if output.json() {
        let recovery_phrase = words.as_ref().map(|words| words.as_str());
        output.json_record(&Registered { whoami: &whoami, recovery_phrase })?;
    }
    phrase::forget(output, &client).await?;
    output.remark("next: `qpc dm NAME` opens a channel, `qpc chat --plain NAME` talks in it");
    Ok(())
}

/// How the key of a new home is to be kept.
pub(super) fn protection(place: &Place, keeping: Keeping) -> Result<Protection, CliError> {
    match (&place.passphrase_file, keeping.keyring) {
        (Some(_), true) => Err(CliError::Usage(
            "--keyring and --passphrase-file are two ways to keep the key: choose one".to_owned(),
        )),
        (None, true) => Ok(Protection::Keyring),
        (Some(file), false) => Ok(Protection::Passphrase(passphrase::from_file(file)?)),
        (None, false) if keeping.passphrase => {
            let instead = "no terminal to ask on: use --passphrase-file FILE";
            Ok(Protection::Passphrase(passphrase::chosen(instead)?))
        }
        (None, false) => Ok(Protection::KeyFile),
    }
}

/// Only the owner may look in; what is already there keeps its rights.
pub(super) fn make_folder(place: &Place) -> Result<(), CliError> {
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

    fn keeping(passphrase: bool, keyring: bool) -> Keeping {
        Keeping { passphrase, keyring }
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

        assert!(matches!(protection(&without, keeping(false, false)), Ok(Protection::KeyFile)));
        assert!(matches!(protection(&without, keeping(false, true)), Ok(Protection::Keyring)));
        for asked in [false, true] {
            let Ok(Protection::Passphrase(text)) = protection(&with, keeping(asked, false)) else {
                panic!("not a passphrase");
            };
            assert_eq!(text.as_str(), "correct horse");
        }
        assert!(matches!(protection(&with, keeping(false, true)), Err(CliError::Usage(_))));
    }
}
