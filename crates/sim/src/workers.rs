//! Threads that run one seed after the other; their results come in the order of the seeds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use qpc_sim::{Failure, Report, Run, run};

/// MLS work takes room on the stack.
const STACK_BYTES: usize = 8 * 1024 * 1024;
/// Results that wait for the printer.
const RESULTS_MAX: usize = 64;

type Played = Result<Report, Failure>;

/// The threads, until it is dropped.
pub(crate) struct Workers {
    results: Receiver<(u64, Played)>,
    stop: Arc<AtomicBool>,
    /// Results of seeds whose turn has not come.
    early: RefCell<BTreeMap<u64, Played>>,
    next: RefCell<u64>,
}

/// Cores of this machine.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Workers {
    /// Runs so many seeds from the first on.
    pub(crate) fn start((first, seeds): (u64, u64), template: &Run, jobs: usize) -> Self {
        let (sender, results) = sync_channel(RESULTS_MAX);
        let (taken, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        for number in 0..jobs.max(1) {
            let (sender, taken, stop) = (sender.clone(), Arc::clone(&taken), Arc::clone(&stop));
            let template = template.clone();
            let work = move || {
                while !stop.load(Ordering::Relaxed) {
                    let at = taken.fetch_add(1, Ordering::Relaxed);
                    if at >= seeds || !play((first.saturating_add(at), &template), &sender) {
                        break;
                    }
                }
            };
            let thread = thread::Builder::new().name(format!("sim {number}"));
            // One that does not start leaves its work to the others.
            drop(thread.stack_size(STACK_BYTES).spawn(work));
        }
        Self { results, stop, early: RefCell::default(), next: RefCell::new(first) }
    }

    /// The result of the next seed; none after the last.
    pub(crate) fn next(&self) -> Option<Played> {
        let (mut early, mut next) = (self.early.borrow_mut(), self.next.borrow_mut());
        loop {
            if let Some(played) = early.remove(&next) {
                *next = next.saturating_add(1);
                return Some(played);
            }
            let (seed, played) = self.results.recv().ok()?;
            early.insert(seed, played);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// False when nobody wants to know any more.
fn play((seed, template): (u64, &Run), sender: &SyncSender<(u64, Played)>) -> bool {
    let played = run(&Run { seed, ..template.clone() });
    sender.send((seed, played)).is_ok()
}
