//! One subscriber and all of them side by side, by medians, and what is judged. Measures nothing.

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

/// Medians with one subscriber and with all, in the order of the columns, and the rounds.
#[derive(Debug)]
pub(super) struct Report {
    lines: Vec<(&'static str, f64, f64)>,
    rounds: (Vec<Round>, Vec<Round>),
    cpu_us: f64,
    written_ratio: f64,
    limits: Limits,
}

impl Report {
    /// Of the rounds with one subscriber, and with all.
    ///
    /// # Errors
    /// When there is no round.
    pub(super) fn new(rounds: (Vec<Round>, Vec<Round>), limits: Limits) -> Result<Self> {
        let of = |rounds: &[Round], value: fn(&Round) -> f64| {
            median(rounds.iter().map(value).collect()).context("no round was measured")
        };
        let (alone, all) = (&rounds.0, &rounds.1);
        let line = |(name, value): &Column| Ok((*name, of(alone, *value)?, of(all, *value)?));
        let written = |rounds| of(rounds, |round| round.written);
        Ok(Self {
            lines: COLUMNS.iter().map(line).collect::<Result<_>>()?,
            cpu_us: of(all, |round| round.cpu_us)?,
            written_ratio: written(all)? / written(alone)?,
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
        let side = |rounds: &[Round]| rounds.iter().map(numbers).collect::<Vec<_>>();
        let line = |(name, one, all): &(&str, f64, f64)| {
            json!({
                "name": name,
                "one": one,
                "all": all,
            })
        };
        json!({
            "benchmark": "fanout",
            "rounds": { "one": side(&self.rounds.0), "all": side(&self.rounds.1) },
            "median": self.lines.iter().map(line).collect::<Vec<_>>(),
            "cpu_us_per_delivery": self.cpu_us,
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
    let rounds = report.rounds.1.len();
    println!("medians of {rounds} rounds   one subscriber          all");
    for (name, alone, all) in &report.lines {
        println!("{name:<18}  {alone:>18.1}  {all:>11.1}");
    }
    let verdict = |within| if within { "within" } else { "ABOVE" };
    let Limits { cpu_at_most, written_at_most } = report.limits;
    let within = verdict(report.cpu_is_within());
    println!("\n{:.2} µs a delivery, {within} the limit of {cpu_at_most}", report.cpu_us);
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
        let alone = vec![round(300.0, 1_000.0)];
        let all = vec![round(4.0, 1_200.0), round(5.0, 1_250.0), round(900.0, 9e9)];
        let within = |cpu_at_most, written_at_most| {
            let limits = Limits { cpu_at_most, written_at_most };
            Report::new((alone.clone(), all.clone()), limits).unwrap().is_within()
        };
        assert!(within(5.0, 1.25));
        assert!(!within(4.9, 1.25));
        assert!(!within(5.0, 1.24));
        let limits = Limits { cpu_at_most: 5.0, written_at_most: 1.25 };
        assert!(Report::new((Vec::new(), all.clone()), limits).is_err());
        let nothing = vec![round(0.0, 0.0)];
        assert!(!Report::new((nothing.clone(), nothing), limits).unwrap().is_within());
    }
}
