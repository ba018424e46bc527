//! Which operations of a run take place: numbers and ranges, as a command line says them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};

/// The most operations that a list may name.
const OPERATIONS_MAX: usize = 1_000_000;

/// Numbers of operations, from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Only(BTreeSet<u32>);

impl Only {
    /// The operations, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }
}

impl FromIterator<u32> for Only {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl FromStr for Only {
    type Err = anyhow::Error;

    /// Reads `3,17,40-52`.
    fn from_str(text: &str) -> Result<Self> {
        let mut numbers = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let of = |text: &str| text.parse::<u32>().with_context(|| format!("no number: {part}"));
            let (first, last) = (of(first)?, of(last)?);
            ensure!(first <= last, "{part} goes backwards");
            let room = OPERATIONS_MAX.saturating_sub(numbers.len());
            ensure!(usize::try_from(last.saturating_sub(first))? < room, "{part} names too many");
            numbers.extend(first..=last);
        }
        Ok(Self(numbers))
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut between = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if(|next| Some(*next) == last.checked_add(1)) {
                last = next;
            }
            if first == last {
                write!(f, "{between}{first}")?;
            } else {
                write!(f, "{between}{first}-{last}")?;
            }
            between = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_read_and_written() {
        let only: Only = "52, 3,17,40-51".parse().unwrap();
        assert_eq!(only.iter().count(), 15);
        assert_eq!(only.to_string(), "3,17,40-52");
        assert_eq!(only.to_string().parse::<Only>().unwrap(), only);
        assert_eq!("".parse::<Only>().unwrap().to_string(), "");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["x", "3-", "5-4", "0-4000000000"] {
            assert!(text.parse::<Only>().is_err(), "{text}");
        }
    }
}
