//! Which call fails and how. Counts calls; never makes one.

use rusqlite::ffi;

/// A kind of call that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bytes from a file.
    Read,
    /// Bytes to a file.
    Write,
    /// A file to the disk.
    Sync,
    /// A file to another length.
    Truncate,
    /// A file away.
    Delete,
    /// More shared memory for the index of the write-ahead log.
    ShmGrow,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space is left, and nothing happens.
    NoSpace,
    /// There is space for the first half of a write; as [`Fault::NoSpace`] for other calls.
    ShortWrite,
    /// The device fails. What a failed sync should have saved may be lost, even if a later sync
    /// succeeds.
    Io,
    /// The process aborts, and nothing of the call has happened.
    Abort,
    /// The process aborts in the middle: half of a write is in the file; as [`Fault::Abort`] for
    /// other calls.
    AbortHalfway,
}

impl Fault {
    /// Ends the process, if that is the order. What the system was given before stays in the files.
    pub(crate) fn abort_if_ordered(self) {
        match self {
            Fault::Abort | Fault::AbortHalfway => std::process::abort(),
            Fault::NoSpace | Fault::ShortWrite | Fault::Io => {}
        }
    }
}

/// From which call on, and which.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Only calls of these kinds are counted and fail.
    pub on: Vec<Op>,
    /// How many of them succeed first.
    pub after: u64,
    /// How the next one fails.
    pub fault: Fault,
    /// Whether all behind it fail, too.
    pub lasting: bool,
}

impl Plan {
    /// After `after` good calls of one kind all others of it fail.
    pub fn from(on: Op, after: u64, fault: Fault) -> Plan {
        Plan { on: vec![on], after, fault, lasting: true }
    }
}

/// The orders and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    plan: Option<Plan>,
    matched: u64,
    hits: u64,
    calls: Vec<Op>,
}

impl Faults {
    pub(crate) fn set(&mut self, plan: Option<Plan>) {
        (self.plan, self.matched) = (plan, 0);
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }

    pub(crate) fn calls(&self, on: &[Op]) -> u64 {
        let count = self.calls.iter().filter(|op| on.contains(op)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Counts a call and says how it fails, if it does.
    pub(crate) fn next(&mut self, op: Op) -> Option<Fault> {
        self.calls.push(op);
        let plan = self.plan.as_ref().filter(|plan| plan.on.contains(&op))?;
        let number = self.matched;
        self.matched += 1;
        let fails = if plan.lasting { number >= plan.after } else { number == plan.after };
        self.hits += u64::from(fails);
        fails.then_some(plan.fault)
    }
}

/// What SQLite's own VFS for Unix answers to such a failure; nobody hears of the end of a process.
pub(crate) fn code(op: Op, fault: Fault) -> i32 {
    fault.abort_if_ordered();
    match (op, fault) {
        (Op::Read, _) => ffi::SQLITE_IOERR_READ,
        (Op::Write, Fault::NoSpace | Fault::ShortWrite) => ffi::SQLITE_FULL,
        (Op::Write, Fault::Io | Fault::Abort | Fault::AbortHalfway) => ffi::SQLITE_IOERR_WRITE,
        (Op::Sync, _) => ffi::SQLITE_IOERR_FSYNC,
        (Op::Truncate, _) => ffi::SQLITE_IOERR_TRUNCATE,
        (Op::Delete, _) => ffi::SQLITE_IOERR_DELETE,
        (Op::ShmGrow, Fault::NoSpace | Fault::ShortWrite) => ffi::SQLITE_IOERR_SHMSIZE,
        (Op::ShmGrow, Fault::Io | Fault::Abort | Fault::AbortHalfway) => ffi::SQLITE_IOERR_SHMMAP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_chosen_calls_are_counted_and_fail() {
        let mut faults = Faults::default();
        faults.set(Some(Plan { lasting: false, ..Plan::from(Op::Write, 1, Fault::Io) }));
        let failed: Vec<_> = [Op::Write, Op::Sync, Op::Write, Op::Write, Op::Sync]
            .map(|op| faults.next(op).is_some())
            .into();
        assert_eq!(failed, [false, false, true, false, false]);
        assert_eq!((faults.hits(), faults.calls(&[Op::Write])), (1, 3));
    }

    #[test]
    fn a_lasting_fault_lasts_until_it_is_healed() {
        let mut faults = Faults::default();
        faults.set(Some(Plan::from(Op::Sync, 1, Fault::Io)));
        let failed = [Op::Sync; 3].map(|op| faults.next(op).is_some());
        assert_eq!(failed, [false, true, true]);
        faults.set(None);
        assert_eq!(faults.next(Op::Sync), None);
    }
}
