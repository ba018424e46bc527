//! The audit log's files: opened where they ended, appended to, begun anew, deleted when old.
//!
//! A torn end is moved aside, never dropped. Knows lines, but no events.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::line::{self, Head, LINE_BYTES_MAX, Line};

/// A torn end that was moved aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Torn {
    /// Number of its file.
    pub(super) file: u64,
    pub(super) bytes: u64,
}

/// The files, the last one open.
pub(super) struct Files {
    dir: PathBuf,
    /// Oldest first, never empty; the last is the open one.
    known: VecDeque<Known>,
    open: File,
    /// Bytes of the open file that are whole lines.
    len: u64,
    /// A write failed and may have left a part of a line.
    dirty: bool,
}

struct Known {
    number: u64,
    /// Absent in an empty file, and in one whose first line cannot be read.
    first: Option<Line>,
}

/// What [`Files::open`] found.
pub(super) struct Found {
    pub(super) files: Files,
    pub(super) head: Head,
    pub(super) torn: Option<Torn>,
    /// Whether the line that the database knows stands in the files as it should.
    pub(super) knows: bool,
}

impl Files {
    /// Opens the files of `dir`, which is made if it is missing, and looks for the line `sought`.
    pub(super) fn open(dir: &Path, sought: Head) -> io::Result<Found> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut numbers = numbers(dir)?;
        if numbers.is_empty() {
            create(dir, 1)?;
            numbers.push(1);
        }
        let mut known = VecDeque::new();
        for number in numbers {
            known.push_back(Known { number, first: first_line(&path(dir, number))? });
        }
        let last = known.back().map_or(1, |known| known.number);
        let torn = set_torn_end_aside(dir, last)?;
        let open = OpenOptions::new().append(true).open(path(dir, last))?;
        let len = open.metadata()?.len();
        let mut files = Self { dir: dir.to_owned(), known, open, len, dirty: false };
        files.reread_first()?;
        let (head, knows) = files.end(sought)?;
        Ok(Found { files, head, torn, knows })
    }

    /// The last line of all, and whether `sought` is one of the lines. Reads from the file that
    /// should hold it on.
    fn end(&self, sought: Head) -> io::Result<(Head, bool)> {
        let before =
            |known: &&Known| known.first.as_ref().is_some_and(|first| first.head.seq <= sought.seq);
        let from = self.known.iter().rev().find(before).map_or(0, |known| known.number);
        let oldest = self.known.front().and_then(|known| known.first.as_ref());
        // What has expired can't be compared.
        let expired = oldest.is_some_and(|first| first.head.seq > sought.seq);
        let (mut head, mut knows) = (Head::START, expired || sought == Head::START);
        for known in self.known.iter().filter(|known| known.number >= from) {
            for_each_line(&path(&self.dir, known.number), |bytes, _| {
                if let Some(line) = line::read(bytes) {
                    head = line.head;
                    knows |= head == sought;
                }
                true
            })?;
        }
        Ok((head, knows))
    }

    /// Number of the open file.
    pub(super) fn number(&self) -> u64 {
        self.known.back().map_or(1, |known| known.number)
    }

    /// Whether another line should begin a file: this one is full, or its first line is older than
    /// `before_ms`.
    pub(super) fn is_done(&self, bytes_max: u64, before_ms: u64) -> bool {
        let first = self.known.back().and_then(|known| known.first.as_ref());
        self.len >= bytes_max || first.is_some_and(|first| first.at_ms < before_ms)
    }

    /// Begins a file. What the one before it holds is on disk then.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.sync()?;
        let number = self.number().saturating_add(1);
        create(&self.dir, number)?;
        self.open = OpenOptions::new().append(true).open(path(&self.dir, number))?;
        self.len = 0;
        self.known.push_back(Known { number, first: None });
        Ok(())
    }

    /// Appends whole lines; after an error none of them counts.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.open.set_len(self.len)?;
            self.dirty = false;
        }
        self.dirty = true;
        self.open.write_all(lines)?;
        self.dirty = false;
        self.len = self.len.saturating_add(u64::try_from(lines.len()).unwrap_or(u64::MAX));
        if let Some(known) = self.known.back_mut()
            && known.first.is_none()
        {
            let first = lines.split(|byte| *byte == b'\n').next();
            known.first = first.and_then(line::read);
        }
        Ok(())
    }

    /// Waits until all that was appended is on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.open.sync_data()
    }

    /// The oldest file, if all its lines are older than `before_ms`: its number, and its last line
    /// as far as the next file names it.
    pub(super) fn oldest_expired(&self, before_ms: u64) -> Option<(u64, Head)> {
        let next = self.known.get(1)?.first.as_ref()?;
        let last = Head { seq: next.head.seq.saturating_sub(1), hash: next.prev };
        (next.at_ms < before_ms).then_some(())?;
        self.known.front().map(|oldest| (oldest.number, last))
    }

    /// Deletes the oldest file, unless it is the open one.
    pub(super) fn delete_oldest(&mut self) -> io::Result<()> {
        if self.known.len() > 1
            && let Some(oldest) = self.known.pop_front()
        {
            fs::remove_file(path(&self.dir, oldest.number))?;
        }
        Ok(())
    }

    fn reread_first(&mut self) -> io::Result<()> {
        let path = path(&self.dir, self.number());
        if let Some(known) = self.known.back_mut() {
            known.first = first_line(&path)?;
        }
        Ok(())
    }
}

/// Numbers of the files in `dir`, ascending.
pub(super) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(dir)? {
        let name = file?.path();
        let stem = name.file_stem().and_then(|stem| stem.to_str());
        let number = stem.and_then(|stem| stem.parse::<u64>().ok());
        numbers.extend(number.filter(|number| path(dir, *number) == name));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// `NNNNNNNN.jsonl`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.jsonl"))
}

/// Hands over each line without its line feed, and whether it had one, until `each` says no. A
/// longer line than any is handed over in parts.
pub(super) fn for_each_line(
    path: &Path,
    mut each: impl FnMut(&[u8], bool) -> bool,
) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        if whole {
            line.pop();
        }
        if !each(&line, whole) {
            return Ok(());
        }
    }
}

fn create(dir: &Path, number: u64) -> io::Result<()> {
    let path = path(dir, number);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    File::open(dir)?.sync_all()
}

fn first_line(path: &Path) -> io::Result<Option<Line>> {
    let mut first = None;
    for_each_line(path, |bytes, whole| {
        first = line::read(bytes).filter(|_| whole);
        false
    })?;
    Ok(first)
}

/// Cuts off what follows the last line that can be read, after copying it to a file beside it.
fn set_torn_end_aside(dir: &Path, number: u64) -> io::Result<Option<Torn>> {
    let path = path(dir, number);
    let (mut at, mut good) = (0_u64, 0_u64);
    for_each_line(&path, |bytes, whole| {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_add(whole.into());
        at = at.saturating_add(len);
        if whole && line::read(bytes).is_some() {
            good = at;
        }
        true
    })?;
    if at == good {
        return Ok(None);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
    file.seek(SeekFrom::Start(good))?;
    let aside = path.with_extension("torn");
    let mut aside = OpenOptions::new().append(true).create(true).mode(0o600).open(aside)?;
    io::copy(&mut file, &mut aside)?;
    aside.sync_all()?;
    File::open(dir)?.sync_all()?;
    file.set_len(good)?;
    file.sync_all()?;
    Ok(Some(Torn { file: number, bytes: at - good }))
}
