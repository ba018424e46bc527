//! What happened, in order, and its digest: two runs of a seed have the same.

use sha2::{Digest as _, Sha256};

use crate::counts::Counts;

/// Lines kept for a failure's report.
const KEPT: usize = 400;

/// The events of one run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Sha256,
    last: std::collections::VecDeque<String>,
    /// Number of events.
    pub events: u64,
    /// The faults among them, by kind.
    pub faults: Counts,
}

impl Trace {
    /// Notes an event.
    pub fn note(&mut self, line: String) {
        self.hash.update(line.as_bytes());
        self.hash.update([0]);
        self.events = self.events.saturating_add(1);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Notes a fault of a kind.
    pub fn fault(&mut self, kind: &str, line: &str) {
        self.faults.note(kind);
        self.note(format!("FAULT {kind}: {line}"));
    }

    /// SHA-256 over all events so far, as hexadecimal.
    pub fn digest(&self) -> String {
        self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The last events, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }
}
