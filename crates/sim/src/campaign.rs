//! A campaign: runs of one seed after the other, over many starts of the program, added up in a
//! small file. What ran on different code is never added: each commit has rows of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::counts::Counts;

/// Seeds in a row, run on one commit in one way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The commit; `-dirty` behind it if files were changed since.
    pub commit: String,
    /// Operations of each run.
    pub operations_each: u32,
    /// The first seed.
    pub first: u64,
    /// How many seeds, one after the other.
    pub seeds: u64,
    /// Those that failed.
    pub failed: Vec<u64>,
    /// Time that it took, in seconds.
    pub seconds: u64,
    /// Events of all runs.
    pub events: u64,
    /// Messages written.
    pub messages: u64,
    /// Operations, by kind.
    pub operations: Counts,
    /// Faults that happened, by kind.
    pub faults: Counts,
}

impl Row {
    /// A row without seeds yet.
    pub fn new(commit: &str, operations_each: u32, first: u64) -> Self {
        Self { commit: commit.to_owned(), operations_each, first, ..Self::default() }
    }

    /// The seed behind the last.
    pub fn next(&self) -> u64 {
        self.first.saturating_add(self.seeds)
    }

    fn add(&mut self, more: &Self) {
        self.seeds = self.seeds.saturating_add(more.seeds);
        self.failed.extend(&more.failed);
        self.seconds = self.seconds.saturating_add(more.seconds);
        self.events = self.events.saturating_add(more.events);
        self.messages = self.messages.saturating_add(more.messages);
        self.operations.add(&more.operations);
        self.faults.add(&more.faults);
    }
}

/// The file of a campaign.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// What ran, in order.
    pub rows: Vec<Row>,
    #[serde(skip)]
    path: PathBuf,
}

impl Campaign {
    /// Reads a file; an empty campaign if there is none.
    ///
    /// # Errors
    /// When the file can't be read, or is none of a campaign.
    pub fn open(path: &Path) -> Result<Self> {
        let mut campaign = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is no campaign", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        campaign.path = path.to_owned();
        Ok(campaign)
    }

    /// The seed behind all that ran, on whatever commit.
    pub fn next(&self) -> u64 {
        self.rows.iter().map(Row::next).max().unwrap_or(1)
    }

    /// Adds what ran to the last row if it goes on from there in the same way, or as a row of its
    /// own, and writes the file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn add(&mut self, ran: &Row) -> Result<()> {
        if ran.seeds == 0 {
            return Ok(());
        }
        let goes_on = |row: &&mut Row| {
            let way = |row: &Row| (row.commit.clone(), row.operations_each);
            way(row) == way(ran) && row.next() == ran.first
        };
        match self.rows.last_mut().filter(goes_on) {
            Some(row) => row.add(ran),
            None => self.rows.push(ran.clone()),
        }
        let text = serde_json::to_string_pretty(self)?;
        let draft = self.path.with_extension("draft");
        fs::write(&draft, text).with_context(|| draft.display().to_string())?;
        fs::rename(&draft, &self.path).with_context(|| self.path.display().to_string())
    }

    /// All rows together, whatever their commit: for the eye alone.
    pub fn total(&self) -> Row {
        let mut total = Row::default();
        self.rows.iter().for_each(|row| total.add(row));
        total
    }
}

/// The commit of the working tree that this runs in.
///
/// # Errors
/// When git can't tell.
pub fn commit() -> Result<String> {
    let git = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("git").args(arguments).output().context("git")?;
        ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Ok(if changed.is_empty() { head } else { format!("{head}-dirty") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(commit: &str, first: u64) -> Row {
        let mut row = Row { seeds: 10, ..Row::new(commit, 400, first) };
        row.operations.note("write");
        row
    }

    #[test]
    fn it_goes_on_where_it_stopped_and_adds_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("campaign.json");
        let mut campaign = Campaign::open(&path).unwrap();
        assert_eq!(campaign.next(), 1);
        campaign.add(&ran("a", 1)).unwrap();
        let mut campaign = Campaign::open(&path).unwrap();
        assert_eq!(campaign.next(), 11);
        campaign.add(&ran("a", 11)).unwrap();
        assert_eq!(campaign.rows.len(), 1);
        assert_eq!((campaign.rows[0].seeds, campaign.rows[0].operations.of("write")), (20, 2));
    }

    #[test]
    fn commits_and_gaps_are_not_mixed() {
        let dir = tempfile::tempdir().unwrap();
        let mut campaign = Campaign::open(&dir.path().join("campaign.json")).unwrap();
        campaign.add(&ran("a", 1)).unwrap();
        campaign.add(&ran("b", 11)).unwrap();
        campaign.add(&ran("b", 100)).unwrap();
        campaign.add(&Row { seeds: 0, ..ran("b", 110) }).unwrap();
        let rows: Vec<_> = campaign.rows.iter().map(|row| (&*row.commit, row.first)).collect();
        assert_eq!(rows, [("a", 1), ("b", 11), ("b", 100)]);
        assert_eq!((campaign.total().seeds, campaign.next()), (30, 110));
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("campaign.json");
        fs::write(&path, "[1]").unwrap();
        assert!(Campaign::open(&path).is_err());
    }
}
