//! How often something happened, by kind: operations and faults of a run, of many, of a campaign.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Numbers by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// One more of a kind.
    pub fn note(&mut self, kind: &str) {
        self.note_many(kind, 1);
    }

    fn note_many(&mut self, kind: &str, more: u64) {
        match self.0.get_mut(kind) {
            Some(count) => *count = count.saturating_add(more),
            None => drop(self.0.insert(kind.to_owned(), more)),
        }
    }

    /// Those of another run too.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            self.note_many(kind, *count);
        }
    }

    /// Of one kind.
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    /// Of all kinds together.
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |total, count| total.saturating_add(*count))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (kind, count) in &self.0 {
            write!(f, "{between}{kind} {count}")?;
            between = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_by_kind() {
        let (mut one, mut two) = (Counts::default(), Counts::default());
        one.note("write");
        two.note("write");
        two.note("add");
        one.add(&two);
        assert_eq!((one.total(), one.of("write"), one.of("leave")), (3, 2, 0));
        assert_eq!(one.to_string(), "add 1, write 2");
    }
}
