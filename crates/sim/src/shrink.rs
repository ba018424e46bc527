//! Makes a failing run small: leaves operations out as long as it fails the same way (delta
//! debugging). Every operation draws from a generator of its own, so the others stay as they were.

use crate::only::Only;
use crate::scenario::{Failure, Run, run};

/// A failure with as few operations as were found.
#[derive(Debug)]
pub struct Shrunken {
    /// The operations that are left.
    pub only: Only,
    /// How it fails with these alone.
    pub failure: Failure,
    /// Runs that it took.
    pub runs: u32,
}

/// Leaves out of a failing run what it does not need to fail, in at most so many further runs.
/// None if it does not fail the same way again.
pub fn shrink(of: &Run, first: &Failure, runs_max: u32) -> Option<Shrunken> {
    let mut search = Search { of, kind: first.kind(), runs: 0, runs_max, last: None };
    let upto = first.at.map_or(of.operations, |at| at.saturating_add(1));
    let mut kept: Vec<u32> = of.numbers().take_while(|number| *number < upto).collect();
    if !search.fails(&kept) {
        return None;
    }
    let mut size = kept.len().div_ceil(2);
    while size > 0 && search.may_go_on() {
        let mut from = 0;
        while from < kept.len() && search.may_go_on() {
            let upto = from.saturating_add(size).min(kept.len());
            let (before, rest) = (kept.get(..from), kept.get(upto..));
            let less: Vec<u32> = before.into_iter().chain(rest).flatten().copied().collect();
            if search.fails(&less) {
                kept = less;
            } else {
                from = upto;
            }
        }
        size /= 2;
    }
    let failure = search.last?;
    Some(Shrunken { only: kept.into_iter().collect(), failure, runs: search.runs })
}

struct Search<'r> {
    of: &'r Run,
    kind: String,
    runs: u32,
    runs_max: u32,
    /// The failure of the smallest run that failed.
    last: Option<Failure>,
}

impl Search<'_> {
    fn may_go_on(&self) -> bool {
        self.runs < self.runs_max
    }

    fn fails(&mut self, kept: &[u32]) -> bool {
        self.runs = self.runs.saturating_add(1);
        let only = Some(kept.iter().copied().collect());
        match run(&Run { only, ..self.of.clone() }) {
            Err(failure) if failure.kind() == self.kind => {
                self.last = Some(failure);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }
}
