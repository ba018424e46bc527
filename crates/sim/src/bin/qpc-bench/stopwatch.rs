//! Clocks: the CPU time of a process, and what a piece of work took. Reads, never judges.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// CPU time that the threads of a process have used so far, in the kernel too. Threads that have
/// ended are not in it: a server that is measured ends none.
///
/// # Errors
/// When there is no such process, or the kernel keeps no statistics of its scheduler.
pub(crate) fn cpu_of(process: u32) -> Result<Duration> {
    let threads = format!("/proc/{process}/task");
    let mut sum = Duration::ZERO;
    for thread in std::fs::read_dir(&threads).with_context(|| format!("reading {threads}"))? {
        sum = sum.saturating_add(spent(&thread?.path())?);
    }
    Ok(sum)
}

/// CPU time that the calling thread has used so far.
///
/// # Errors
/// As [`cpu_of`].
pub(crate) fn cpu_of_this_thread() -> Result<Duration> {
    spent(Path::new("/proc/thread-self"))
}

fn spent(thread: &Path) -> Result<Duration> {
    let path = thread.join("schedstat");
    let stat = std::fs::read_to_string(&path);
    let stat = stat.with_context(|| format!("reading {}", path.display()))?;
    on_cpu(&stat).with_context(|| format!("{} is odd", path.display()))
}

/// The first of its numbers, nanoseconds.
fn on_cpu(schedstat: &str) -> Option<Duration> {
    schedstat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// A running stopwatch; a copy shows the same.
#[derive(Debug, Clone, Copy)]
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
    fn work_counts() {
        assert_eq!(on_cpu("1500 20 3\n"), Some(Duration::from_nanos(1_500)));
        assert_eq!(on_cpu("x 20 3"), None);
        let before = cpu_of_this_thread().unwrap();
        let work = || (0..1_000_000_u64).map(std::hint::black_box).sum::<u64>();
        assert!(work() > 0);
        assert!(cpu_of_this_thread().unwrap() >= before);
    }
}
