//! The floor and the full server side by side: medians, ratios, and which of them are out of
//! bounds. Measures nothing.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::numbers::median;

/// What a ratio must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A number that every round has, and what its ratio must keep to, if it is judged.
pub(crate) struct Column<R> {
    pub(crate) name: &'static str,
    pub(crate) of: fn(&R) -> f64,
    pub(crate) bound: Option<Bound>,
}

/// One column over all rounds, by medians; the ratio is the median of the rounds' ratios.
#[derive(Debug)]
struct Line {
    name: &'static str,
    floor: f64,
    full: f64,
    ratio: f64,
    bound: Option<Bound>,
    /// Of each round, the floor's and the full server's.
    rounds: Vec<(f64, f64)>,
}

impl Line {
    fn new<R>(column: &Column<R>, rounds: &[(R, R)]) -> Result<Self> {
        let of = |(floor, full): &(R, R)| ((column.of)(floor), (column.of)(full));
        let rounds: Vec<(f64, f64)> = rounds.iter().map(of).collect();
        let over = |value: fn(&(f64, f64)) -> f64| {
            median(rounds.iter().map(value).collect()).context("no round was measured")
        };
        Ok(Self {
            name: column.name,
            floor: over(|(floor, _)| *floor)?,
            full: over(|(_, full)| *full)?,
            ratio: over(|(floor, full)| full / floor)?,
            bound: column.bound,
            rounds,
        })
    }

    /// Not a number is out of bounds.
    fn is_within(&self) -> bool {
        match self.bound {
            Some(Bound::AtMost(most)) => self.ratio <= most,
            Some(Bound::AtLeast(least)) => self.ratio >= least,
            None => true,
        }
    }

    fn json(&self) -> Value {
        let (bound, limit) = match self.bound {
            Some(Bound::AtMost(most)) => (Some("at most"), Some(most)),
            Some(Bound::AtLeast(least)) => (Some("at least"), Some(least)),
            None => (None, None),
        };
        json!({
            "name": self.name,
            "floor": self.floor,
            "full": self.full,
            "ratio": self.ratio,
            "bound": bound,
            "limit": limit,
            "within": self.is_within(),
        })
    }
}

/// All lines of a benchmark.
#[derive(Debug)]
pub(crate) struct Report {
    benchmark: &'static str,
    lines: Vec<Line>,
}

impl Report {
    /// Of rounds with the floor first.
    ///
    /// # Errors
    /// When there is no round.
    pub(crate) fn new<R>(
        benchmark: &'static str,
        rounds: &[(R, R)],
        columns: &[Column<R>],
    ) -> Result<Self> {
        let lines =
            columns.iter().map(|column| Line::new(column, rounds)).collect::<Result<_>>()?;
        Ok(Self { benchmark, lines })
    }

    /// Whether every ratio keeps to its bound.
    pub(crate) fn is_within(&self) -> bool {
        self.lines.iter().all(Line::is_within)
    }

    fn rounds(&self) -> usize {
        self.lines.first().map_or(0, |line| line.rounds.len())
    }

    fn json(&self) -> Value {
        let side = |round: usize, of: fn(&(f64, f64)) -> f64| -> Value {
            let number =
                |line: &Line| (line.name.to_owned(), json!(line.rounds.get(round).map(of)));
            self.lines.iter().map(number).collect()
        };
        let round = |round| {
            json!({
                "floor": side(round, |(floor, _)| *floor),
                "full": side(round, |(_, full)| *full),
            })
        };
        json!({
            "benchmark": self.benchmark,
            "rounds": (0..self.rounds()).map(round).collect::<Vec<_>>(),
            "median": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "within": self.is_within(),
        })
    }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
pub(crate) fn print(report: &Report, as_json: bool) {
    if as_json {
        println!("{}", report.json());
        return;
    }
    println!("medians of {} rounds        floor         full", report.rounds());
    for Line { name, floor, full, .. } in &report.lines {
        println!("{name:<18}  {floor:>11.1}  {full:>11.1}");
    }
    println!("\nfull / floor");
    for line in &report.lines {
        let within = if line.is_within() { "within" } else { "OUT OF" };
        let verdict = match line.bound {
            Some(Bound::AtMost(most)) => format!("{within} the limit of at most {most}"),
            Some(Bound::AtLeast(least)) => format!("{within} the limit of at least {least}"),
            None => String::new(),
        };
        let text = format!("{:<18}  {:>11.3}  {verdict}", line.name, line.ratio);
        println!("{}", text.trim_end());
    }
}

/// Measures both servers in turns, the order alternating, so that a machine that slows down slows
/// both. A first round of each does not count: caches fill, files grow, clients' windows open.
///
/// # Errors
/// Those of a round.
pub(crate) async fn in_turns<R>(
    rounds: u32,
    mut floor: impl AsyncFnMut() -> Result<R>,
    mut full: impl AsyncFnMut() -> Result<R>,
) -> Result<Vec<(R, R)>> {
    floor().await?;
    full().await?;
    let mut measured = Vec::new();
    for number in 0..rounds {
        let pair = if number % 2 == 0 {
            let first = floor().await?;
            (first, full().await?)
        } else {
            let first = full().await?;
            (floor().await?, first)
        };
        measured.push(pair);
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ratio_is_judged_by_its_median() {
        let rounds = [(100.0, 150.0), (100.0, 160.0), (100.0, 9e9)];
        let within = |rounds: &[(f64, f64)], bound| {
            let column = Column { name: "x", of: |round| *round, bound };
            Report::new("b", rounds, &[column]).unwrap().is_within()
        };
        assert!(within(&rounds, None));
        assert!(within(&rounds, Some(Bound::AtMost(1.6))));
        assert!(!within(&rounds, Some(Bound::AtMost(1.59))));
        assert!(within(&rounds, Some(Bound::AtLeast(1.6))));
        assert!(!within(&rounds, Some(Bound::AtLeast(1.61))));
        assert!(!within(&[(0.0, 0.0)], Some(Bound::AtMost(1.6))), "not a number");
        assert!(!within(&[(0.0, 0.0)], Some(Bound::AtLeast(0.1))), "not a number");
        let none: [Column<f64>; 0] = [];
        assert!(Report::new("b", &rounds, &none).is_ok());
        let column = Column { name: "x", of: |round: &f64| *round, bound: None };
        assert!(Report::new("b", &[], &[column]).is_err(), "no round");
    }

    #[test]
    fn each_round_is_told_with_both_sides() {
        let column =
            Column { name: "x", of: |round: &f64| *round, bound: Some(Bound::AtMost(2.0)) };
        let told = Report::new("b", &[(1.0, 3.0)], &[column]).unwrap().json();
        assert_eq!(told["rounds"][0], json!({ "floor": { "x": 1.0 }, "full": { "x": 3.0 } }));
        assert_eq!((&told["within"], &told["median"][0]["ratio"]), (&json!(false), &json!(3.0)));
    }
}
