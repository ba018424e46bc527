//! What a process and its database hold at a moment. Reads `/proc` and sizes of files, never
//! judges.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Of one process, or of several together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Memory, KiB.
    pub(crate) resident_kib: u64,
    /// Open file descriptors.
    pub(crate) descriptors: u64,
    /// Size of the database, bytes.
    pub(crate) database: u64,
    /// Size of its write-ahead log, bytes.
    pub(crate) wal: u64,
    /// Bytes written to a disk so far.
    pub(crate) written: u64,
}

impl Held {
    /// Of the process with this id, which has that database open.
    ///
    /// # Errors
    /// When there is none, or the kernel keeps no such count.
    pub(crate) fn of(process: u32, database: &Path) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd"))?.count();
        let mut wal = database.as_os_str().to_owned();
        wal.push("-wal");
        Ok(Self {
            resident_kib: field(&read("status")?, "VmRSS:").context("no VmRSS")?,
            descriptors: u64::try_from(descriptors)?,
            database: size(database),
            wal: size(Path::new(&wal)),
            written: field(&read("io")?, "write_bytes:").context("no write_bytes")?,
        })
    }

    /// The sum of both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            resident_kib: self.resident_kib.saturating_add(other.resident_kib),
            descriptors: self.descriptors.saturating_add(other.descriptors),
            database: self.database.saturating_add(other.database),
            wal: self.wal.saturating_add(other.wal),
            written: self.written.saturating_add(other.written),
        }
    }
}

/// A log that is not there has no bytes.
fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_something() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("a.db");
        std::fs::write(&database, [0; 100]).unwrap();
        std::fs::write(dir.path().join("a.db-wal"), [0; 7]).unwrap();
        let held = Held::of(std::process::id(), &database).unwrap();
        assert!(held.resident_kib > 0 && held.descriptors > 2);
        assert_eq!((held.database, held.wal), (100, 7));
        assert_eq!(held.and(held).database, 200);
    }
}
