//! The figures of a catch-up, printed, and whether they are within their limits. Measures nothing.

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Arguments;
use super::home::Taken;
use crate::numbers::median;

/// Medians over the rounds; and a message that comes alone.
pub(super) struct Report {
    /// By the clock on the wall, and of the client's CPU time.
    per_second: f64,
    per_cpu_second: f64,
    transactions: f64,
    /// Bytes a message.
    written: f64,
    alone_written: f64,
    alone_cpu_us: f64,
}

impl Report {
    /// # Errors
    /// When nothing was measured, or nothing reached a disk.
    pub(super) fn new(rounds: &[Taken], alone: &Taken) -> Result<Self> {
        let of = |each: fn(&Taken) -> f64| {
            median(rounds.iter().map(each).collect()).context("no rounds")
        };
        let report = Self {
            per_second: of(|taken| f64::from(taken.messages) / taken.wall.as_secs_f64())?,
            per_cpu_second: of(|taken| f64::from(taken.messages) / taken.cpu.as_secs_f64())?,
            transactions: of(|taken| f64::from(taken.transactions))?,
            written: of(written)?,
            alone_written: written(alone),
            alone_cpu_us: alone.cpu.as_secs_f64() * 1e6 / f64::from(alone.messages),
        };
        let wrote = report.written > 0.0 && report.alone_written > 0.0;
        wrote.then_some(report).context("nothing reached a disk: is the file system in memory?")
    }

    fn is_within(&self, arguments: &Arguments) -> bool {
        self.per_second >= arguments.at_least
            && self.written <= arguments.written_at_most
            && self.alone_written <= arguments.alone_at_most
    }
}

/// Bytes a message.
fn written(taken: &Taken) -> f64 {
    let bytes = u32::try_from(taken.written).unwrap_or(u32::MAX);
    f64::from(bytes) / f64::from(taken.messages)
}

/// Prints the report; whether it is within the limits.
#[expect(clippy::print_stdout, reason = "this is what the program is for")]
pub(super) fn print(report: &Report, arguments: &Arguments) -> bool {
    let within = report.is_within(arguments);
    let Arguments { at_least, written_at_most, alone_at_most, messages, .. } = arguments;
    let Report { per_second, per_cpu_second, transactions, written, .. } = report;
    let Report { alone_written, alone_cpu_us, .. } = report;
    if arguments.json {
        let report = json!({
            "benchmark": "catchup",
            "messages": messages,
            "per_second": per_second,
            "at_least": at_least,
            "per_cpu_second": per_cpu_second,
            "transactions": transactions,
            "written": written,
            "written_at_most": written_at_most,
            "alone_written": alone_written,
            "alone_at_most": alone_at_most,
            "alone_cpu_us": alone_cpu_us,
            "within": within,
        });
        println!("{report}");
        return within;
    }
    println!("messages a CPU second  {per_cpu_second:>9.0}");
    println!("transactions           {transactions:>9.0}");
    println!("bytes a message        {written:>9.0} (at most {written_at_most})");
    println!("bytes of one alone     {alone_written:>9.0} (at most {alone_at_most})");
    println!("CPU µs of one alone    {alone_cpu_us:>9.0}");
    let verdict = if within { "all within the limits" } else { "NOT all within the limits" };
    println!("{per_second:.0} messages a second (at least {at_least}), {verdict}");
    within
}
