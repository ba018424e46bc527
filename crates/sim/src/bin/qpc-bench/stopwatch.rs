//! Clocks: the CPU time of a process, and what a piece of work took. Reads, never judges.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Clock ticks in a second as `/proc` counts them: fixed on Linux, whatever the kernel's own.
const TICKS_PER_SECOND: u32 = 100;

/// CPU time that a process has used so far, in the kernel too, in steps of 10 ms.
///
/// # Errors
/// When there is no such process, or no `/proc`.
pub(crate) fn cpu_of(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} is unlike proc_pid_stat(5)"))?;
    Ok(Duration::from_secs(ticks) / TICKS_PER_SECOND)
}

/// `utime` and `stime`, the 14th and 15th field; the second may hold anything, in brackets.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<u64>().ok()?.saturating_add(system.parse().ok()?))
}

/// A running stopwatch.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "measuring time is what this program is for")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_hides_no_field() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(ticks(&format!("42 (a) b (c)) {rest}")), Some(300));
        assert_eq!(ticks("42 (a) S 1"), None);
        assert!(cpu_of(std::process::id()).is_ok());
    }
}
