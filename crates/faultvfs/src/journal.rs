//! What was written, synced and deleted, in order, and what of it outlives a cut of the power.
//!
//! Unsynced writes may be kept, dropped or torn at sectors, each on its own; unsynced creations
//! and deletions may be undone. Bytes of another write are never touched. Knows no real file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// A file, as long as it isn't deleted.
pub(crate) type FileId = usize;

#[derive(Debug)]
enum Event {
    /// A file that was there with this content, or (`None`) a new one.
    Open {
        file: FileId,
        path: PathBuf,
        content: Option<Vec<u8>>,
    },
    Write {
        file: FileId,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: FileId,
        len: u64,
    },
    Sync {
        file: FileId,
        failed: bool,
    },
    Delete {
        path: PathBuf,
        synced: bool,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    events: Vec<Event>,
    known: BTreeMap<PathBuf, FileId>,
    files: FileId,
    closed: bool,
}

impl Journal {
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// Forgets everything and notes nothing more.
    pub(crate) fn close(&mut self) {
        *self = Journal { closed: true, ..Journal::default() };
    }

    /// Where syncs and deletions stand.
    pub(crate) fn boundaries(&self) -> Vec<usize> {
        let is_boundary =
            |event: &Event| matches!(event, Event::Sync { .. } | Event::Delete { .. });
        let numbered = self.events.iter().enumerate();
        numbered.filter(|(_, event)| is_boundary(event)).map(|(number, _)| number).collect()
    }

    /// Whether SQLite deleted what it had at `path`, or never had anything.
    pub(crate) fn is_deleted(&self, path: &Path) -> bool {
        !self.known.contains_key(path)
    }

    /// A file is opened that has `content`, or none and was created.
    pub(crate) fn open(&mut self, path: &Path, content: Option<Vec<u8>>) -> FileId {
        if let Some(known) = self.known.get(path) {
            return *known;
        }
        let file = self.files;
        self.files += 1;
        self.known.insert(path.to_owned(), file);
        self.note(Event::Open { file, path: path.to_owned(), content });
        file
    }

    pub(crate) fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) {
        self.note(Event::Write { file, offset, bytes: bytes.to_vec() });
    }

    pub(crate) fn truncate(&mut self, file: FileId, len: u64) {
        self.note(Event::Truncate { file, len });
    }

    pub(crate) fn sync(&mut self, file: FileId, failed: bool) {
        self.note(Event::Sync { file, failed });
    }

    pub(crate) fn delete(&mut self, path: &Path, synced: bool) {
        if self.known.remove(path).is_some() {
            self.note(Event::Delete { path: path.to_owned(), synced });
        }
    }

    fn note(&mut self, event: Event) {
        if !self.closed {
            self.events.push(event);
        }
    }

    /// The files after the power went before event `at`.
    pub(crate) fn survivors(&self, at: usize, seed: u64) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut disk = Disk::default();
        for event in self.events.iter().take(at) {
            disk.take(event);
        }
        disk.cut(&mut Chance::new(seed))
    }
}

/// What is on the disk for certain, and what may be.
#[derive(Default)]
struct Disk<'j> {
    files: Vec<Image<'j>>,
    /// Which file each path led to: on the disk first, now last.
    paths: BTreeMap<&'j Path, Vec<Option<FileId>>>,
}

#[derive(Default)]
struct Image<'j> {
    durable: Vec<u8>,
    /// Since then, in order.
    changes: Vec<(State, &'j Event)>,
    /// Created, and its directory not yet synced.
    unlinked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not synced yet.
    Pending,
    /// A sync failed: the system has forgotten that it must be written.
    Lost,
    /// Synced, above something lost.
    Synced,
}

impl<'j> Disk<'j> {
    fn take(&mut self, event: &'j Event) {
        match event {
            Event::Open { path, content, file } => {
                let before = if content.is_some() { vec![] } else { vec![None] };
                let history = self.paths.entry(path).or_insert(before);
                history.push(Some(*file));
                let durable = content.clone().unwrap_or_default();
                self.files.push(Image { durable, unlinked: content.is_none(), ..Image::default() });
            }
            Event::Write { file, .. } | Event::Truncate { file, .. } => {
                if let Some(image) = self.files.get_mut(*file) {
                    image.changes.push((State::Pending, event));
                }
            }
            Event::Sync { file, failed } => self.sync(*file, *failed),
            Event::Delete { path, synced } => {
                if let Some(history) = self.paths.get_mut(path.as_path()) {
                    history.push(None);
                }
                if *synced {
                    self.sync_directory();
                }
            }
        }
    }

    /// As in SQLite's VFS for Unix, the first sync of a new file syncs its directory.
    fn sync(&mut self, file: FileId, failed: bool) {
        let Some(image) = self.files.get_mut(file) else {
            return;
        };
        image.settle(if failed { State::Lost } else { State::Synced });
        if !failed && std::mem::take(&mut image.unlinked) {
            self.sync_directory();
        }
    }

    fn sync_directory(&mut self) {
        for history in self.paths.values_mut() {
            history.drain(..history.len().saturating_sub(1));
        }
    }

    fn cut(&self, chance: &mut Chance) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut left = BTreeMap::new();
        for (path, history) in &self.paths {
            let file = chance.pick(history).copied().flatten();
            if let Some(image) = file.and_then(|file| self.files.get(file)) {
                left.insert((*path).to_owned(), image.cut(chance));
            }
        }
        left
    }
}

impl Image<'_> {
    fn settle(&mut self, to: State) {
        for (state, _) in self.changes.iter_mut().filter(|(state, _)| *state == State::Pending) {
            *state = to;
        }
        if self.changes.iter().all(|(state, _)| *state == State::Synced) {
            for (_, event) in std::mem::take(&mut self.changes) {
                apply(&mut self.durable, event, |_| true);
            }
        }
    }

    fn cut(&self, chance: &mut Chance) -> Vec<u8> {
        let mut content = self.durable.clone();
        for (state, event) in &self.changes {
            match (state, chance.fate()) {
                (State::Synced, _) | (_, Fate::Kept) => apply(&mut content, event, |_| true),
                (State::Pending | State::Lost, Fate::Torn) => {
                    apply(&mut content, event, |_| chance.flip());
                }
                (State::Pending | State::Lost, Fate::Dropped) => {}
            }
        }
        content
    }
}

/// Applies the sectors of a change that `survives` says yes to.
fn apply(content: &mut Vec<u8>, event: &Event, mut survives: impl FnMut(usize) -> bool) {
    match event {
        Event::Write { offset, bytes, .. } => {
            let mut at = usize::try_from(*offset).unwrap_or(usize::MAX);
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let len = rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES);
                let (sector, behind) = rest.split_at(len);
                if survives(at / SECTOR_BYTES) {
                    put(content, at, sector);
                }
                (at, rest) = (at + len, behind);
            }
        }
        Event::Truncate { len, .. } => {
            if survives(0) {
                content.resize(usize::try_from(*len).unwrap_or(usize::MAX), 0);
            }
        }
        Event::Open { .. } | Event::Sync { .. } | Event::Delete { .. } => {}
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
}

enum Fate {
    Kept,
    Dropped,
    Torn,
}

/// The seed's choices: of every four seeds one drops all that is not synced, one keeps all.
struct Chance {
    state: u64,
    all: Option<bool>,
}

impl Chance {
    fn new(seed: u64) -> Chance {
        let all = match seed % 4 {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        Chance { state: seed, all }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn flip(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }

    fn fate(&mut self) -> Fate {
        match (self.all, self.next() % 3) {
            (Some(true), _) | (None, 0) => Fate::Kept,
            (Some(false), _) | (None, 1) => Fate::Dropped,
            (None, _) => Fate::Torn,
        }
    }

    fn pick<'h, T>(&mut self, history: &'h [T]) -> Option<&'h T> {
        let count = u64::try_from(history.len()).unwrap_or(1).max(1);
        match self.all {
            Some(false) => history.first(),
            Some(true) => history.last(),
            None => history.get(usize::try_from(self.next() % count).unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROP_ALL: u64 = 0;
    const KEEP_ALL: u64 = 1;

    fn left(journal: &Journal, seed: u64) -> Option<Vec<u8>> {
        journal.survivors(journal.len(), seed).remove(Path::new("a"))
    }

    #[test]
    fn what_is_synced_stays_and_the_rest_may_go() {
        let mut journal = Journal::default();
        let file = journal.open(Path::new("a"), Some(b"old".to_vec()));
        journal.write(file, 0, b"synced");
        journal.sync(file, false);
        journal.write(file, 0, b"UN");
        assert_eq!(left(&journal, DROP_ALL).unwrap(), b"synced");
        assert_eq!(left(&journal, KEEP_ALL).unwrap(), b"UNnced");
        assert_eq!(journal.survivors(2, DROP_ALL)[Path::new("a")], b"old");
    }

    #[test]
    fn a_write_is_torn_at_sectors_only() {
        let mut journal = Journal::default();
        let file = journal.open(Path::new("a"), Some(vec![0; 2048]));
        journal.write(file, 100, &[1; 1500]);
        let mut shapes = std::collections::BTreeSet::new();
        for seed in 0..2_000 {
            let content = left(&journal, seed).unwrap();
            let shape = [100, 512, 1024, 1536].map(|at| content[at] == 1);
            let mut expected = vec![0; 2048];
            for (written, range) in shape.iter().zip([100..512, 512..1024, 1024..1536, 1536..1600])
            {
                expected[range].fill(u8::from(*written));
            }
            assert_eq!(content, expected, "seed {seed}");
            shapes.insert(shape);
        }
        assert_eq!(shapes.len(), 16, "every subset of the sectors comes up");
    }

    #[test]
    fn a_new_file_may_be_missing_until_it_is_synced() {
        let mut journal = Journal::default();
        let file = journal.open(Path::new("a"), None);
        journal.write(file, 0, b"new");
        assert_eq!(left(&journal, DROP_ALL), None);
        assert_eq!(left(&journal, KEEP_ALL).unwrap(), b"new");
        journal.sync(file, false);
        assert_eq!(left(&journal, DROP_ALL).unwrap(), b"new");
    }

    #[test]
    fn a_deleted_file_may_come_back_until_the_directory_is_synced() {
        let mut journal = Journal::default();
        let file = journal.open(Path::new("a"), None);
        journal.write(file, 0, b"first");
        journal.sync(file, false);
        journal.delete(Path::new("a"), false);
        assert_eq!(left(&journal, DROP_ALL).unwrap(), b"first");
        assert_eq!(left(&journal, KEEP_ALL), None);
        let file = journal.open(Path::new("a"), None);
        journal.write(file, 0, b"second");
        assert_eq!(left(&journal, DROP_ALL).unwrap(), b"first");
        journal.sync(file, false);
        assert_eq!(left(&journal, DROP_ALL).unwrap(), b"second");
        journal.delete(Path::new("a"), true);
        assert_eq!(left(&journal, DROP_ALL), None);
    }

    #[test]
    fn a_later_sync_does_not_save_what_a_failed_one_lost() {
        let mut journal = Journal::default();
        let file = journal.open(Path::new("a"), Some(b"....".to_vec()));
        journal.write(file, 0, b"ab");
        journal.sync(file, true);
        journal.write(file, 2, b"cd");
        journal.sync(file, false);
        assert_eq!(left(&journal, DROP_ALL).unwrap(), b"..cd");
        assert_eq!(left(&journal, KEEP_ALL).unwrap(), b"abcd");
    }
}
