//! Medians over the rounds, the ratio, and how they are printed. Measures nothing.

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::numbers::median;

/// What one round measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// One signature check, µs.
    pub(super) check_us: f64,
    /// Server CPU time of a bare handshake, µs.
    pub(super) bare_us: f64,
    /// Server CPU time of a login with its handshake, µs.
    pub(super) full_us: f64,
    /// Logins in a second of the wall's clock.
    pub(super) logins_per_second: f64,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.full_us / (self.bare_us + self.check_us)
    }
}

/// Medians, each for itself; the ratio is the median of the rounds' ratios.
#[derive(Debug)]
pub(super) struct Report {
    rounds: Vec<Round>,
    median: Round,
    ratio: f64,
    at_most: f64,
}

impl Report {
    /// # Errors
    /// When there is no round.
    pub(super) fn new(rounds: &[Round], at_most: f64) -> Result<Self> {
        let of = |value: fn(&Round) -> f64| {
            median(rounds.iter().map(value).collect()).context("no round was measured")
        };
        let median = Round {
            check_us: of(|round| round.check_us)?,
            bare_us: of(|round| round.bare_us)?,
            full_us: of(|round| round.full_us)?,
            logins_per_second: of(|round| round.logins_per_second)?,
        };
        Ok(Self { rounds: rounds.to_vec(), median, ratio: of(Round::ratio)?, at_most })
    }

    /// Whether a login costs no more than it may. Not a number is too much.
    pub(super) fn is_within(&self) -> bool {
        self.ratio <= self.at_most
    }

    fn json(&self) -> serde_json::Value {
        let of = |round: &Round| {
            json!({
                "signature_check_us": round.check_us,
                "bare_us": round.bare_us,
                "login_us": round.full_us,
                "logins_per_second": round.logins_per_second,
                "ratio": round.ratio(),
            })
        };
        json!({
            "benchmark": "login",
            "rounds": self.rounds.iter().map(of).collect::<Vec<_>>(),
            "median": {
                "signature_check_us": self.median.check_us,
                "bare_us": self.median.bare_us,
                "login_us": self.median.full_us,
                "logins_per_second": self.median.logins_per_second,
            },
            "ratio": self.ratio,
            "at_most": self.at_most,
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
    println!("round  check µs  bare µs  login µs  logins/s  ratio");
    for (round, number) in report.rounds.iter().zip(1_u32..) {
        println!("{number:>5}  {}  {:>5.3}", columns(round), round.ratio());
    }
    println!("  all  {}  {:>5.3}  (medians)", columns(&report.median), report.ratio);
    let verdict = if report.is_within() { "within" } else { "ABOVE" };
    println!("ratio {:.3}, {verdict} the limit of {}", report.ratio, report.at_most);
}

fn columns(round: &Round) -> String {
    let Round { check_us, bare_us, full_us, logins_per_second } = round;
    format!("{check_us:>8.1}  {bare_us:>7.1}  {full_us:>8.1}  {logins_per_second:>8.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(check_us: f64, bare_us: f64, full_us: f64) -> Round {
        Round { check_us, bare_us, full_us, logins_per_second: 1_000.0 }
    }

    #[test]
    fn the_ratio_is_judged_by_its_median() {
        let rounds =
            [round(50.0, 450.0, 600.0), round(50.0, 450.0, 650.0), round(50.0, 450.0, 5_000.0)];
        let report = Report::new(&rounds, 1.4).unwrap();
        assert!((report.ratio - 1.3).abs() < 1e-9, "{}", report.ratio);
        assert!(report.is_within());
        assert!(!Report::new(&rounds, 1.2).unwrap().is_within());
        assert!(Report::new(&[], 1.4).is_err());
        assert!(!Report::new(&[round(0.0, 0.0, 0.0)], 1.4).unwrap().is_within());
    }
}
