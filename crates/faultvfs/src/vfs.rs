//! A registered VFS as a test holds it: orders, counts, cuts of the power.
//! Has no state beside its own, so that tests run side by side.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::journal::Journal;
use crate::plan::{Faults, Op, Plan};
use crate::shim;

/// What the calls of SQLite share with the test.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A VFS under a name of its own. Dropping it takes the name away; connections that are open then
/// go on without faults.
#[derive(Debug)]
pub struct FaultVfs {
    registration: shim::Registration,
    shared: Arc<Shared>,
}

/// When the power goes, and what becomes of what was not synced.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// So many events of the journal have happened; see [`FaultVfs::events`].
    pub at: usize,
    /// Of four seeds in a row one drops all unsynced changes, one keeps all, two choose at random
    /// for each: kept, dropped, or torn at sectors of 512 bytes.
    pub seed: u64,
}

impl FaultVfs {
    /// Registers a new VFS over the system's default.
    ///
    /// # Errors
    /// SQLite has no default VFS, or no memory.
    pub fn register() -> io::Result<FaultVfs> {
        Self::registered(false)
    }

    /// The same for a whole process: every connection that names no VFS is opened through it. For
    /// a process that has no other test in it.
    ///
    /// # Errors
    /// As [`FaultVfs::register`].
    pub fn register_as_default() -> io::Result<FaultVfs> {
        Self::registered(true)
    }

    fn registered(default: bool) -> io::Result<FaultVfs> {
        let shared = Arc::new(Shared::default());
        let registration = shim::Registration::new(&shared, default)?;
        Ok(FaultVfs { registration, shared })
    }

    /// Keeps no journal from here on, for a workload whose writes would fill the memory: no cut of
    /// the power can be shown then.
    pub fn forget_writes(&self) {
        self.shared.state().journal.close();
    }

    /// The name to open connections with.
    pub fn name(&self) -> &'static str {
        self.registration.name()
    }

    /// Calls fail by `plan` from now on, instead of by the plan before.
    pub fn set(&self, plan: Plan) {
        self.shared.state().faults.set(Some(plan));
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.shared.state().faults.set(None);
    }

    /// How many calls have failed since the registration.
    pub fn hits(&self) -> u64 {
        self.shared.state().faults.hits()
    }

    /// How many calls of these kinds there were since the registration.
    pub fn calls(&self, on: &[Op]) -> u64 {
        self.shared.state().faults.calls(on)
    }

    /// How many events the journal has: openings, writes, truncations, syncs and deletions.
    pub fn events(&self) -> usize {
        self.shared.state().journal.len()
    }

    /// The events that decide what is on the disk: a cut `at` such a number comes right before it,
    /// one `at` the next right behind it.
    pub fn boundaries(&self) -> Vec<usize> {
        self.shared.state().journal.boundaries()
    }

    /// Writes what a cut of the power would have left into the directory `into`: databases,
    /// logs and rollback journals under their names. A file that was renamed without SQLite is
    /// left out under its old name, and under its new one counts as synced; so call this before
    /// anybody opens the files through another VFS, which may delete some.
    ///
    /// # Errors
    /// Those of writing the files.
    pub fn power_loss(&self, cut: Cut, into: &Path) -> io::Result<()> {
        let state = self.shared.state();
        for (path, content) in state.journal.survivors(cut.at, cut.seed) {
            if let Some(name) = path.file_name()
                && (path.try_exists()? || state.journal.is_deleted(&path))
            {
                fs::write(into.join(name), content)?;
            }
        }
        Ok(())
    }
}

impl Drop for FaultVfs {
    fn drop(&mut self) {
        self.heal();
        self.shared.state().journal.close();
    }
}
