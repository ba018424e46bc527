//! Reads a whole audit log and says whether it is the one that was written: no line edited,
//! removed, added or moved, and none cut off before the line that the database knows.
//!
//! Changes nothing. Who can write both the files and the database can forge both.

use std::fmt;
use std::path::Path;

use super::files::{for_each_line, numbers, path};
use super::line::{self, Head, Line, Says};
use crate::error::ServerError;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Files read.
    pub files: usize,
    /// Lines read, those after a break not among them.
    pub lines: u64,
    /// Time of the first line, Unix milliseconds.
    pub first_ms: Option<u64>,
    /// Time of the last line that was read, Unix milliseconds.
    pub last_ms: Option<u64>,
    /// The first place where the log is not what was written.
    pub broken: Option<Break>,
}

/// Where and how a log is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Name of the file.
    pub file: String,
    /// Number of the line, from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: {}", self.file, self.line, self.what)
    }
}

/// Checks the log in `dir`. `known` is the last line that the database knows. A server that is
/// writing (`live`) may have its last line half written.
///
/// # Errors
/// [`ServerError::System`] when a file cannot be read.
pub fn verify(dir: &Path, known: Option<Head>, live: bool) -> Result<Report, ServerError> {
    let failed = || ServerError::system(format!("reading the audit log {}", dir.display()));
    let numbers = numbers(dir).map_err(failed())?;
    let mut reading = Reading { known: known.unwrap_or(Head::START), ..Reading::default() };
    let last = numbers.last().copied();
    for number in numbers {
        if reading.broken.is_none() {
            reading.begin(number);
        }
        if reading.broken.is_some() {
            break;
        }
        let may_tear = live && Some(number) == last;
        for_each_line(&path(dir, number), |bytes, whole| {
            if !whole && may_tear {
                return false;
            }
            reading.line(bytes, whole);
            reading.broken.is_none()
        })
        .map_err(failed())?;
    }
    Ok(reading.end())
}

#[derive(Default)]
struct Reading {
    known: Head,
    files: usize,
    /// Number of the file that is read, and of the line in it.
    at: (u64, u64),
    lines: u64,
    first: Option<(Line, Break)>,
    last: Option<Line>,
    /// The first line follows what a later line says has expired.
    excused: bool,
    broken: Option<Break>,
}

impl Reading {
    fn begin(&mut self, number: u64) {
        let (before, _) = self.at;
        let follows = self.files == 0 || before.checked_add(1) == Some(number);
        self.files = self.files.saturating_add(1);
        self.at = (number, 0);
        if !follows {
            self.at.1 = 1;
            self.breaks("the file before it is missing");
        }
    }

    fn line(&mut self, bytes: &[u8], whole: bool) {
        self.at.1 = self.at.1.saturating_add(1);
        let Some(line) = line::read(bytes).filter(|_| whole) else {
            let what = if whole { "no line of an audit log" } else { "the line is torn" };
            return self.breaks(what);
        };
        if let Some(what) = self.fault(&line) {
            return self.breaks(what);
        }
        if let Says::Expired(until) = line.says
            && let Some((first, _)) = &self.first
        {
            self.excused |=
                (until.seq.checked_add(1), until.hash) == (Some(first.head.seq), first.prev);
        }
        self.lines = self.lines.saturating_add(1);
        if self.first.is_none() {
            let place = self.place(format!(
                "the log begins at line number {}, and no later line says that older ones expired",
                line.head.seq
            ));
            self.first = Some((line.clone(), place));
        }
        self.last = Some(line);
    }

    /// What is wrong with a line that can be read.
    fn fault(&self, line: &Line) -> Option<String> {
        if let Some(last) = &self.last {
            let expected = last.head.seq.saturating_add(1);
            if line.head.seq != expected {
                return Some(format!("number {} stands where {expected} should", line.head.seq));
            }
            if line.prev != last.head.hash {
                let what = "it does not follow the line before it: one of the two was edited";
                return Some(what.to_owned());
            }
        }
        if let Says::Altered(from, to) = line.says {
            let found = format!("lines {from} to {to} were gone or different at a start");
            return Some(found);
        }
        (line.head.seq == self.known.seq && line.head != self.known)
            .then(|| "the database knows another line of this number".to_owned())
    }

    fn end(mut self) -> Report {
        if self.broken.is_none()
            && !self.excused
            && let Some((first, place)) = &self.first
            && (first.head.seq, first.prev) != (1, Head::START.hash)
        {
            self.broken = Some(place.clone());
        }
        let last_seq = self.last.as_ref().map_or(0, |last| last.head.seq);
        if self.broken.is_none() && last_seq < self.known.seq {
            self.at.1 = self.at.1.saturating_add(1);
            self.breaks(format!(
                "the log ends here at number {last_seq}, and the database knows number {}",
                self.known.seq
            ));
        }
        Report {
            files: self.files,
            lines: self.lines,
            first_ms: self.first.map(|(line, _)| line.at_ms),
            last_ms: self.last.map(|line| line.at_ms),
            broken: self.broken,
        }
    }

    fn breaks(&mut self, what: impl Into<String>) {
        self.broken = Some(self.place(what.into()));
    }

    fn place(&self, what: String) -> Break {
        let (number, line) = self.at;
        Break { file: format!("{number:08}.jsonl"), line, what }
    }
}
