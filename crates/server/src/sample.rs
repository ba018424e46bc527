//! Keeps a flood of one cause from flooding the log: so many lines a second of each, and a count of
//! what was left out.
//!
//! A cause is a line of code together with the code or cause that the line names. Lines below
//! `info` pass: who turns those on wants all of them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use governor::Quota;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock::Clock;
use crate::limits::{Bounded, Counts, Fails, Ticks};

/// Lines of one cause in a second, and at once.
const LINES_PER_SECOND: u32 = 5;
/// Causes told apart; lines of further ones are left out.
const CAUSES_MAX: usize = 1_024;

/// A cause, by the place of its line in memory and a digest of what it names.
type Cause = (usize, u64);

/// Decides which lines pass; clones share their counts.
#[derive(Debug, Clone)]
pub struct Sampler {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    counts: Counts<Cause>,
    /// What was left out since the last report, by line.
    left_out: Mutex<BTreeMap<(&'static str, u32), u64>>,
    total: AtomicU64,
}

impl Sampler {
    /// A sampler under a clock.
    pub fn new(clock: Clock) -> Self {
        let store = Bounded::new(CAUSES_MAX, Fails::Closed);
        let lines = NonZeroU32::new(LINES_PER_SECOND).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(lines);
        Self {
            shared: Arc::new(Shared {
                counts: Counts::new(quota, store, Ticks::new(clock)),
                left_out: Mutex::default(),
                total: AtomicU64::new(0),
            }),
        }
    }

    /// The layer that leaves lines out; put it over the one that writes them.
    pub fn layer<S: Subscriber>(&self) -> impl Layer<S> + use<S> {
        Sampling(self.clone())
    }

    /// Lines left out since the start.
    pub fn left_out(&self) -> u64 {
        self.shared.total.load(Ordering::Relaxed)
    }

    /// Logs how many lines were left out since the last report, one line for each place.
    pub fn report(&self) {
        self.shared.counts.retain_recent();
        let left_out = std::mem::take(
            &mut *self.shared.left_out.lock().unwrap_or_else(PoisonError::into_inner),
        );
        for ((file, line), count) in left_out {
            tracing::warn!(file, line, count, "log lines were left out");
        }
    }

    fn passes(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        // A report has one line for each place at most.
        if *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let mut named = Named(DefaultHasher::new());
        event.record(&mut named);
        let cause = (std::ptr::from_ref(metadata).addr(), named.0.finish());
        if self.shared.counts.check_key(&cause).is_ok() {
            return true;
        }
        self.leave_out(metadata);
        false
    }

    fn leave_out(&self, metadata: &'static Metadata<'static>) {
        self.shared.total.fetch_add(1, Ordering::Relaxed);
        let place = (metadata.file().unwrap_or(metadata.target()), metadata.line().unwrap_or(0));
        let mut left_out = self.shared.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        let count = left_out.entry(place).or_default();
        *count = count.saturating_add(1);
    }
}

/// What a line names as its code or cause, if it does so by a fixed text.
struct Named(DefaultHasher);

impl Visit for Named {
    fn record_str(&mut self, field: &Field, value: &str) {
        if matches!(field.name(), "code" | "cause") {
            value.hash(&mut self.0);
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn std::fmt::Debug) {}
}

struct Sampling(Sampler);

impl<S: Subscriber> Layer<S> for Sampling {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        self.0.passes(event)
    }
}
