//! `qpc phrase`, and the phrase that `qpc register` shows: once, and deleted here only after it was
//! written out.

use std::path::Path;

use qpc_client::{Client, Phrase};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::output::Output;
use crate::secret_file::{refuse_existing, write_new};
use crate::session::{ANSWER, Session};

/// Words in a row on a screen.
const ROW: usize = 4;

#[derive(Serialize)]
struct Shown<'a> {
    /// `null` when it went to a file.
    recovery_phrase: Option<&'a str>,
}

/// `qpc phrase`.
pub(super) async fn run(
    session: &mut Session,
    output: &mut Output,
    file: Option<&Path>,
) -> Result<(), CliError> {
    refuse_existing(file)?;
    let client = session.client();
    let phrase = session.answer(ANSWER, client.phrase()).await?;
    let Some(phrase) = phrase else {
        return Err(CliError::Usage(
            "the phrase is not here: it was shown when the account was made, or this device was \
             linked; nothing but the phrase itself has it"
                .to_owned(),
        ));
    };
    let words = show(output, &phrase, file)?;
    if output.json() {
        let recovery_phrase = words.as_ref().map(|words| words.as_str());
        output.json_record(&Shown { recovery_phrase })?;
    }
    forget(output, &client).await
}

/// Writes the phrase to the file, or as text where people read; for JSON, gives the words back.
pub(super) fn show(
    output: &mut Output,
    phrase: &Phrase,
    file: Option<&Path>,
) -> Result<Option<Zeroizing<String>>, CliError> {
    let words = phrase.words();
    if let Some(file) = file {
        let line = Zeroizing::new(format!("{}\n", words.as_str()));
        write_new(file, line.as_bytes())?;
        output.remark(&format!(
            "the recovery phrase is in {}: keep it offline, nothing else here has it",
            file.display()
        ));
        return Ok(None);
    }
    if output.json() {
        return Ok(Some(words));
    }
    output.line("")?;
    output.line("Recovery phrase. It is shown only now: write it down and keep it offline. Who")?;
    output.line("has it has the account; without it a lost device is a lost account.")?;
    for line in rows(&words) {
        output.line(&line)?;
    }
    Ok(None)
}

/// Deletes the root, now that standard output or the file has the phrase.
pub(super) async fn forget(output: &mut Output, client: &Client) -> Result<(), CliError> {
    output.flush()?;
    Ok(client.forget_root().await?)
}

/// Numbered words in columns.
fn rows(words: &str) -> Vec<Zeroizing<String>> {
    let words: Vec<&str> = words.split(' ').collect();
    let numbered: Vec<_> = (1..).zip(words).collect();
    numbered
        .chunks(ROW)
        .map(|row| {
            let cells = row.iter().map(|(number, word)| format!("{number:>4}. {word:<8}"));
            let row = Zeroizing::new(cells.collect::<String>());
            Zeroizing::new(row.trim_end().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::capture;

    fn phrase() -> Phrase {
        let text = [vec!["zoo"; 23], vec!["vote"]].concat().join(" ");
        Phrase::parse(&text).unwrap()
    }

    #[test]
    fn the_phrase_in_six_rows_can_be_typed_back() {
        let (mut output, results, _) = capture::output(false);
        assert!(show(&mut output, &phrase(), None).unwrap().is_none());
        let text = results.text();
        assert!(text.contains("shown only now"), "{text}");
        let rows: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(rows.len(), 6);
        assert_eq!(Phrase::parse(&rows.join("\n")).unwrap().words(), phrase().words());
    }

    #[test]
    fn a_file_gets_it_instead_of_the_screen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("phrase");
        for json in [false, true] {
            let (mut output, results, remarks) = capture::output(json);
            let again = show(&mut output, &phrase(), Some(&file));
            assert_eq!(again.is_err(), json, "an existing file is never replaced");
            assert!(!results.text().contains("zoo") && !remarks.text().contains("zoo"));
        }
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(Phrase::parse(&text).unwrap().words(), phrase().words());
    }
}
