//! The floor and the full server side by side, their ratios, and which of them are out of bounds.
//! Measures nothing.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::round::Round;
use crate::numbers::median;

/// What the ratios must keep to; `None` is not judged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    pub(super) cpu_at_most: Option<f64>,
    pub(super) throughput_at_least: Option<f64>,
    pub(super) p50_at_most: Option<f64>,
    pub(super) p99_at_most: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A number that every round has, and what its ratio must keep to.
struct Column {
    name: &'static str,
    of: fn(&Round) -> f64,
    bound: fn(&Bounds) -> Option<Bound>,
}

const COLUMNS: [Column; 13] = [
    Column { name: "accepted/s", of: |r| r.accepted_per_second, bound: Bounds::throughput },
    Column { name: "delivered/s", of: |r| r.delivered_per_second, bound: Bounds::throughput },
    Column { name: "accept p50 µs", of: |r| r.accept.p50_us, bound: Bounds::p50 },
    Column { name: "accept p90 µs", of: |r| r.accept.p90_us, bound: Bounds::free },
    Column { name: "accept p99 µs", of: |r| r.accept.p99_us, bound: Bounds::p99 },
    Column { name: "accept max µs", of: |r| r.accept.max_us, bound: Bounds::free },
    Column { name: "delivery p50 µs", of: |r| r.delivery.p50_us, bound: Bounds::p50 },
    Column { name: "delivery p90 µs", of: |r| r.delivery.p90_us, bound: Bounds::free },
    Column { name: "delivery p99 µs", of: |r| r.delivery.p99_us, bound: Bounds::p99 },
    Column { name: "delivery max µs", of: |r| r.delivery.max_us, bound: Bounds::free },
    Column { name: "CPU µs/message", of: |r| r.cpu_us, bound: Bounds::cpu },
    Column { name: "written B/message", of: |r| r.written, bound: Bounds::free },
    Column { name: "memory KiB", of: |r| r.resident_kib, bound: Bounds::free },
];

impl Bounds {
    fn throughput(&self) -> Option<Bound> {
        self.throughput_at_least.map(Bound::AtLeast)
    }

    fn cpu(&self) -> Option<Bound> {
        self.cpu_at_most.map(Bound::AtMost)
    }

    fn p50(&self) -> Option<Bound> {
        self.p50_at_most.map(Bound::AtMost)
    }

    fn p99(&self) -> Option<Bound> {
        self.p99_at_most.map(Bound::AtMost)
    }

    /// Shown, not judged.
    fn free(&self) -> Option<Bound> {
        None
    }
}

/// One column over all rounds, by medians; the ratio is the median of the rounds' ratios.
#[derive(Debug)]
struct Line {
    name: &'static str,
    floor: f64,
    full: f64,
    ratio: f64,
    bound: Option<Bound>,
}

impl Line {
    /// Not a number is out of bounds.
    fn is_within(&self) -> bool {
        match self.bound {
            Some(Bound::AtMost(most)) => self.ratio <= most,
            Some(Bound::AtLeast(least)) => self.ratio >= least,
            None => true,
        }
    }
}

/// All lines, and the rounds they come from.
#[derive(Debug)]
pub(super) struct Report {
    rounds: Vec<(Round, Round)>,
    lines: Vec<Line>,
}

impl Report {
    /// Of rounds with the floor first.
    ///
    /// # Errors
    /// When there is no round.
    pub(super) fn new(rounds: &[(Round, Round)], bounds: Bounds) -> Result<Self> {
        let line = |Column { name, of, bound }: &Column| {
            let over = |value: &dyn Fn(&(Round, Round)) -> f64| {
                median(rounds.iter().map(value).collect()).context("no round was measured")
            };
            Ok(Line {
                name,
                floor: over(&|(floor, _)| of(floor))?,
                full: over(&|(_, full)| of(full))?,
                ratio: over(&|(floor, full)| of(full) / of(floor))?,
                bound: bound(&bounds),
            })
        };
        let lines = COLUMNS.iter().map(line).collect::<Result<_>>()?;
        Ok(Self { rounds: rounds.to_vec(), lines })
    }

    /// Whether every ratio keeps to its bound.
    pub(super) fn is_within(&self) -> bool {
        self.lines.iter().all(Line::is_within)
    }

    fn json(&self) -> Value {
        let numbers = |round: &Round| -> Value {
            COLUMNS
                .iter()
                .map(|column| (column.name.to_owned(), json!((column.of)(round))))
                .collect()
        };
        let line = |line: &Line| {
            let (bound, limit) = match line.bound {
                Some(Bound::AtMost(most)) => (Some("at most"), Some(most)),
                Some(Bound::AtLeast(least)) => (Some("at least"), Some(least)),
                None => (None, None),
            };
            json!({
                "name": line.name,
                "floor": line.floor,
                "full": line.full,
                "ratio": line.ratio,
                "bound": bound,
                "limit": limit,
                "within": line.is_within(),
            })
        };
        json!({
            "benchmark": "messages",
            "rounds": self
                .rounds
                .iter()
                .map(|(floor, full)| json!({ "floor": numbers(floor), "full": numbers(full) }))
                .collect::<Vec<_>>(),
            "median": self.lines.iter().map(line).collect::<Vec<_>>(),
            "within": self.is_within(),
        })
    }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
pub(super) fn print(report: &Report, as_json: bool) {
    if as_json {
        println!("{}", report.json());
        return;
    }
    println!("medians of {} rounds        floor         full", report.rounds.len());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Quantiles;

    fn round(per_second: f64, us: f64) -> Round {
        let quantiles = Quantiles { p50_us: us, p90_us: us, p99_us: us, max_us: us };
        Round {
            accepted_per_second: per_second,
            delivered_per_second: per_second,
            accept: quantiles,
            delivery: quantiles,
            cpu_us: us,
            written: us,
            resident_kib: 1_024.0,
        }
    }

    #[test]
    fn each_ratio_is_judged_by_its_median() {
        let floor = round(1_000.0, 100.0);
        let rounds =
            [(floor, round(700.0, 150.0)), (floor, round(600.0, 160.0)), (floor, round(1.0, 9e9))];
        let within = |bounds| Report::new(&rounds, bounds).unwrap().is_within();
        let none = Bounds::default();
        assert!(within(none));
        assert!(within(Bounds { throughput_at_least: Some(0.6), ..none }));
        assert!(!within(Bounds { throughput_at_least: Some(0.61), ..none }));
        assert!(within(Bounds { cpu_at_most: Some(1.6), ..none }));
        assert!(!within(Bounds { cpu_at_most: Some(1.59), ..none }));
        assert!(!within(Bounds { p50_at_most: Some(1.5), ..none }));
        assert!(!within(Bounds { p99_at_most: Some(1.5), ..none }));
        assert!(Report::new(&[], none).is_err());
        let nothing = [(round(0.0, 0.0), round(0.0, 0.0))];
        let judged = Bounds { cpu_at_most: Some(1.6), ..none };
        assert!(!Report::new(&nothing, judged).unwrap().is_within());
    }
}
