//! Where a passphrase comes from: a file, or the terminal. Never from the command line or the
//! environment, where other processes could read it, and never echoed.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::CliError;

/// Longest passphrase in bytes.
const LONGEST: u64 = 1_024;

/// The text of `file`, of at most `longest` bytes.
pub(crate) fn whole_file(file: &Path, longest: u64) -> Result<Zeroizing<String>, CliError> {
    let bytes = read(file, longest.saturating_add(1))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > longest) {
        return Err(CliError::Usage(format!("{}: longer than {longest} bytes", file.display())));
    }
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| CliError::Usage(format!("{}: not UTF-8", file.display())))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn read(file: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let unreadable = |source| CliError::Input { what: file.display().to_string(), source };
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(8_192));
    opened.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// The first line of `file`.
pub(crate) fn from_file(file: &Path) -> Result<Zeroizing<String>, CliError> {
    // Room for `\r\n`.
    let bytes = read(file, LONGEST + 2)?;
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    let line = std::str::from_utf8(first)
        .map_err(|_| CliError::Usage(format!("{}: not UTF-8", file.display())))?;
    let line = Zeroizing::new(line.to_owned());
    if line.is_empty() {
        return Err(CliError::Usage(format!("{}: its first line is empty", file.display())));
    }
    if u64::try_from(line.len()).is_ok_and(|length| length > LONGEST) {
        let place = file.display();
        return Err(CliError::Usage(format!("{place}: longer than {LONGEST} bytes")));
    }
    Ok(line)
}

/// The passphrase of an existing home, asked for on the terminal.
pub(crate) fn asked() -> Result<Zeroizing<String>, CliError> {
    prompt("Passphrase: ", "this home has a passphrase: name a file with --passphrase-file")
}

/// A new passphrase, asked for twice.
pub(crate) fn chosen(instead: &str) -> Result<Zeroizing<String>, CliError> {
    let first = prompt("New passphrase: ", instead)?;
    let second = prompt("The same again: ", instead)?;
    if first != second {
        return Err(CliError::Usage("the two passphrases differ: nothing was changed".to_owned()));
    }
    if first.is_empty() {
        return Err(CliError::Usage("an empty passphrase protects nothing".to_owned()));
    }
    Ok(first)
}

/// Asks on the terminal without an echo.
pub(crate) fn prompt(question: &str, instead: &str) -> Result<Zeroizing<String>, CliError> {
    if !std::io::stderr().is_terminal() {
        return Err(CliError::PassphraseNeeded(instead.to_owned()));
    }
    rpassword::prompt_password(question)
        .map(Zeroizing::new)
        .map_err(|error| CliError::PassphraseNeeded(format!("{instead} ({error})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<Zeroizing<String>, CliError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passphrase");
        std::fs::write(&file, bytes).unwrap();
        from_file(&file)
    }

    #[test]
    fn the_first_line_without_its_end() {
        for bytes in [&b"correct horse"[..], b"correct horse\n", b"correct horse\r\nmore"] {
            assert_eq!(first(bytes).unwrap().as_str(), "correct horse");
        }
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert!(matches!(first(b""), Err(CliError::Usage(_))));
        assert!(matches!(first(b"\nsecond"), Err(CliError::Usage(_))));
        assert_eq!(first(&[b'x'; 1_024]).unwrap().len(), 1_024);
        assert!(matches!(first(&[b'x'; 1_025]), Err(CliError::Usage(_))));
        assert!(matches!(first(b"\xff"), Err(CliError::Usage(_))));
    }

    #[test]
    fn a_missing_file_names_itself() {
        let error = from_file(Path::new("/nonexistent/passphrase")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/passphrase"));
    }
}
