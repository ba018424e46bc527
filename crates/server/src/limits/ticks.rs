//! The time that rates are counted in: the server's clock, but never backwards.
//!
//! A clock that is set back stops nobody: time goes on from where it was.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use governor::nanos::Nanos;

use crate::clock::Clock;

/// The furthest that time goes in one step, in milliseconds: enough to forget every debt, and so
/// little that no sum overflows.
const STEP_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
const NANOS_PER_MS: u64 = 1_000_000;

/// A monotonic clock over the server's; clones are the same one.
#[derive(Clone)]
pub(crate) struct Ticks {
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// What the clock said last, if it was asked.
    clock_ms: Option<u64>,
    passed_ms: u64,
}

impl Ticks {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, seen: Arc::default() }
    }

    /// Milliseconds since the first call.
    pub(crate) fn passed_ms(&self) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = (self.clock)();
        let step_ms = now_ms.saturating_sub(seen.clock_ms.unwrap_or(now_ms)).min(STEP_MS_MAX);
        seen.clock_ms = Some(now_ms);
        seen.passed_ms = seen.passed_ms.saturating_add(step_ms);
        seen.passed_ms
    }
}

impl governor::clock::Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.passed_ms().saturating_mul(NANOS_PER_MS))
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_clock_that_is_set_back_stops_no_time() {
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let read = Arc::clone(&clock);
        let ticks = Ticks::new(Arc::new(move || read.load(Ordering::SeqCst)));
        let at = |ms| {
            clock.store(ms, Ordering::SeqCst);
            ticks.passed_ms()
        };
        assert_eq!(
            [at(1_000_000), at(1_000_007), at(5), at(12), at(u64::MAX)],
            [0, 7, 7, 14, 14 + STEP_MS_MAX]
        );
    }
}
