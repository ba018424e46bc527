//! One subscriber and all of them side by side, at the floor, too, by medians, and what is judged.
//! Measures nothing.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::numbers::{Quantiles, median};

/// What one round measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// Server CPU time of a delivery, µs.
    pub(super) cpu_us: f64,
    /// Bytes that the server wrote to disk for a message.
    pub(super) written: f64,
    /// From when a message was due until a subscriber had it.
    pub(super) delivery: Quantiles,
}

/// All that was measured.
#[derive(Debug)]
pub(super) struct Rounds {
    /// With one subscriber, at the full server.
    pub(super) alone: Vec<Round>,
    /// With all: the floor's and the full server's, in turns.
    pub(super) all: Vec<(Round, Round)>,
}

/// What a run must keep to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// CPU time of a delivery to all, µs.
    pub(super) cpu_at_most: f64,
    /// Bytes of a message to all, in those of a message to one.
    pub(super) written_at_most: f64,
}

type Column = (&'static str, fn(&Round) -> f64);

const COLUMNS: [Column; 4] = [
    ("CPU µs/delivery", |round| round.cpu_us),
    ("written B/message", |round| round.written),
    ("delivery p50 µs", |round| round.delivery.p50_us),
    ("delivery p99 µs", |round| round.delivery.p99_us),
];

/// One column by medians.
#[derive(Debug)]
struct Line {
    name: &'static str,
    alone: f64,
    floor: f64,
    full: f64,
}

/// Medians in the order of the columns, and the rounds.
#[derive(Debug)]
pub(super) struct Report {
    lines: Vec<Line>,
    rounds: Rounds,
    cpu_us: f64,
    /// CPU time of a delivery, in the floor's: the median of the rounds' ratios.
    cpu_ratio: f64,
    written_ratio: f64,
    limits: Limits,
}

impl Report {
    /// Of the rounds with one subscriber, and with all.
    ///
    /// # Errors
    /// When there is no round.
    pub(super) fn new(rounds: Rounds, limits: Limits) -> Result<Self> {
        let over = |values: Vec<f64>| median(values).context("no round was measured");
        let alone = |value: fn(&Round) -> f64| over(rounds.alone.iter().map(value).collect());
        let floor = |value: fn(&Round) -> f64| {
            over(rounds.all.iter().map(|(floor, _)| value(floor)).collect())
        };
        let full = |value: fn(&Round) -> f64| {
            over(rounds.all.iter().map(|(_, full)| value(full)).collect())
        };
        let line = |(name, value): &Column| {
            Ok(Line { name, alone: alone(*value)?, floor: floor(*value)?, full: full(*value)? })
        };
        let ratios = rounds.all.iter().map(|(floor, full)| full.cpu_us / floor.cpu_us).collect();
        Ok(Self {
            lines: COLUMNS.iter().map(line).collect::<Result<_>>()?,
            cpu_us: full(|round| round.cpu_us)?,
            cpu_ratio: over(ratios)?,
            written_ratio: full(|round| round.written)? / alone(|round| round.written)?,
            limits,
            rounds,
        })
    }

    /// Whether all is within its limit. Not a number is too much.
    pub(super) fn is_within(&self) -> bool {
        self.cpu_is_within() && self.written_is_within()
    }

    fn cpu_is_within(&self) -> bool {
        self.cpu_us <= self.limits.cpu_at_most
    }

    fn written_is_within(&self) -> bool {
        self.written_ratio <= self.limits.written_at_most
    }

    fn json(&self) -> Value {
        let numbers = |round: &Round| -> Value {
            COLUMNS.iter().map(|(name, value)| ((*name).to_owned(), json!(value(round)))).collect()
        };
        let pair = |(floor, full): &(Round, Round)| {
            json!({
                "floor": numbers(floor),
                "full": numbers(full),
            })
        };
        let line = |line: &Line| {
            json!({
                "name": line.name,
                "one": line.alone,
                "all": line.full,
                "floor": line.floor,
            })
        };
        let Rounds { alone, all } = &self.rounds;
        json!({
            "benchmark": "fanout",
            "rounds": {
                "one": alone.iter().map(numbers).collect::<Vec<_>>(),
                "all": all.iter().map(pair).collect::<Vec<_>>(),
            },
            "median": self.lines.iter().map(line).collect::<Vec<_>>(),
            "cpu_us_per_delivery": self.cpu_us,
            "cpu_ratio": self.cpu_ratio,
            "cpu_at_most": self.limits.cpu_at_most,
            "written_ratio": self.written_ratio,
            "written_at_most": self.limits.written_at_most,
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
    let rounds = report.rounds.all.len();
    println!("medians of {rounds} rounds   one subscriber          all   all at the floor");
    for Line { name, alone, floor, full } in &report.lines {
        println!("{name:<18}  {alone:>18.1}  {full:>11.1}  {floor:>17.1}");
    }
    println!("\nCPU of a delivery, full / floor {:.3}", report.cpu_ratio);
    let verdict = |within| if within { "within" } else { "ABOVE" };
    let Limits { cpu_at_most, written_at_most } = report.limits;
    let within = verdict(report.cpu_is_within());
    println!("{:.2} µs a delivery, {within} the limit of {cpu_at_most}", report.cpu_us);
    let within = verdict(report.written_is_within());
    let ratio = report.written_ratio;
    println!("written for all / for one {ratio:.3}, {within} the limit of {written_at_most}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cpu_us: f64, written: f64) -> Round {
        Round { cpu_us, written, delivery: Quantiles::default() }
    }

    #[test]
    fn cost_and_writes_are_judged_by_their_medians() {
        let floor = round(2.0, 1_000.0);
        let all = [round(4.0, 1_200.0), round(5.0, 1_250.0), round(900.0, 9e9)];
        let rounds = |alone: &[Round], all: &[Round]| Rounds {
            alone: alone.to_vec(),
            all: all.iter().map(|full| (floor, *full)).collect(),
        };
        let alone = [round(300.0, 1_000.0)];
        let judged = |cpu_at_most, written_at_most| {
            let limits = Limits { cpu_at_most, written_at_most };
            Report::new(rounds(&alone, &all), limits).unwrap()
        };
        assert!(judged(5.0, 1.25).is_within());
        assert!(!judged(4.9, 1.25).is_within());
        assert!(!judged(5.0, 1.24).is_within());
        assert_eq!(judged(5.0, 1.25).json()["cpu_ratio"], json!(2.5));
        let limits = Limits { cpu_at_most: 5.0, written_at_most: 1.25 };
        assert!(Report::new(rounds(&[], &all), limits).is_err());
        assert!(Report::new(rounds(&alone, &[]), limits).is_err());
        let nothing = [round(0.0, 0.0)];
        assert!(!Report::new(rounds(&nothing, &nothing), limits).unwrap().is_within());
    }
}
