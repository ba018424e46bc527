//! Looks for what was said in the bytes that the server and a client keep on disk. Knows no file
//! format: a plain search, shown to find the same words where they are readable.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::story::SAID;
use super::{Stage, heading, server};

/// First bytes of an SQLite database that is not encrypted.
const SQLITE: &[u8] = b"SQLite format 3\0";
const BYTES_SHOWN: usize = 32;

pub(super) fn show(stage: &Stage) -> Result<()> {
    heading("What the server kept");
    let kept = files(&server::data_dir(&stage.folder))?;
    unreadable("server", &kept)?;
    unreadable("alice", &files(&stage.folder.join(stage.alice.name))?)?;

    let screen = stage.bob.remembers("alice")?.into_iter().map(|(_, text)| text);
    let screen = screen.collect::<Vec<_>>().join("\n").into_bytes();
    let readable = found(&screen);
    ensure!(readable > 0, "the search finds nothing even on bob's screen");
    println!("  bob's screen: the same search finds {readable} of them.");
    Ok(())
}

fn unreadable(whose: &str, kept: &[(String, Vec<u8>)]) -> Result<()> {
    let all: Vec<u8> = kept.iter().flat_map(|(_, bytes)| bytes).copied().collect();
    let database = kept.iter().find(|(name, _)| name.ends_with(".db"));
    let (name, bytes) = database.with_context(|| format!("{whose} has no database"))?;
    ensure!(!bytes.starts_with(SQLITE), "{whose}/{name} is not encrypted");
    let found = found(&all);
    println!(
        "  {whose}: {} bytes in {} files; of the {} messages it holds {found} readable.",
        all.len(),
        kept.len(),
        SAID.len()
    );
    println!("  {whose}/{name} begins {}", hex(bytes.get(..BYTES_SHOWN).unwrap_or(bytes)));
    ensure!(found == 0, "{whose} keeps {found} messages readable");
    Ok(())
}

/// Every regular file of a folder.
fn files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((name, fs::read(entry.path())?));
        }
    }
    files.sort();
    Ok(files)
}

/// How many of the messages stand in `bytes`.
fn found(bytes: &[u8]) -> usize {
    SAID.iter().filter(|text| contains(bytes, text.as_bytes())).count()
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        write!(hex, "{byte:02x}").ok();
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readable_message_is_found_anywhere() {
        let [first, .., last] = SAID;
        let bytes = format!("\u{0}{first}\u{1}xx{last}");
        assert_eq!(found(bytes.as_bytes()), 2);
        assert_eq!(found(b"short"), 0);
    }

    #[test]
    fn readable_files_fail_the_proof() {
        let file = |bytes: &[u8]| vec![("server.db".to_owned(), bytes.to_vec())];
        assert!(unreadable("server", &file(b"\x8f\x01 noise")).is_ok());
        assert!(unreadable("server", &file(SQLITE)).is_err());
        assert!(unreadable("server", &file(SAID.concat().as_bytes())).is_err());
        assert!(unreadable("server", &[]).is_err());
    }
}
