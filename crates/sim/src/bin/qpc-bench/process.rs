//! What a process has used: CPU time, bytes written to disk, memory. Reads `/proc`, never judges.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// The kernel counts CPU time for programs in hundredths of a second (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time in the program and in the kernel, of threads that have ended, too.
    pub(crate) cpu: Duration,
    /// Bytes that it caused to be written to a disk.
    pub(crate) written: u64,
    /// Memory that it holds, KiB.
    pub(crate) resident_kib: u64,
}

impl Usage {
    /// Of the process with this id.
    ///
    /// # Errors
    /// When there is none, it is another user's, or the kernel keeps no such count.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        Self::parse(&read("stat")?, &read("io")?, &read("status")?).context("/proc is odd")
    }

    /// Bytes that the calling thread caused to be written to a disk: what other threads of this
    /// process do meanwhile is not in them.
    ///
    /// # Errors
    /// When the kernel keeps no such count.
    pub(crate) fn written_by_this_thread() -> Result<u64> {
        let path = "/proc/thread-self/io";
        let io = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        field(&io, "write_bytes:").context("/proc is odd")
    }

    fn parse(stat: &str, io: &str, status: &str) -> Option<Self> {
        // The name may hold anything but ends at the last bracket; the state is behind it.
        let (_, behind_name) = stat.rsplit_once(')')?;
        let mut times = behind_name.split_whitespace().skip(11).map(str::parse::<u32>);
        let ticks = times.next()?.ok()?.checked_add(times.next()?.ok()?)?;
        Some(Self {
            cpu: TICK.checked_mul(ticks)?,
            written: field(io, "write_bytes:")?,
            resident_kib: field(status, "VmRSS:")?,
        })
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 9 9 20 0 4 0 100 1 1";
        let io = "rchar: 1\nwchar: 2\nwrite_bytes: 8192\ncancelled_write_bytes: 3\n";
        let used = Usage::parse(stat, io, "VmHWM:\t 99 kB\nVmRSS:\t    2048 kB\n");
        let cpu = Duration::from_secs(3);
        assert_eq!(used, Some(Usage { cpu, written: 8_192, resident_kib: 2_048 }));
        assert_eq!(Usage::parse("7 (a) S 1", io, "VmRSS: 1 kB"), None);
        assert!(Usage::of(std::process::id()).unwrap().resident_kib > 0);
    }
}
