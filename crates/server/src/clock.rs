//! The one place of this crate that reads the system's clocks.
//!
//! A running server's time is [`Steady`]: what has passed since its start, drawn slowly to the wall
//! clock. So a step of the wall clock, forward or back, expires nothing in a mass.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Unix milliseconds on demand; tests and the simulator give their own.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A wall clock that goes so much faster or slower than time passes has jumped, in milliseconds.
pub const JUMP_MS_MAX: u64 = 60_000;
/// A steady clock gives way to the wall clock by one part in so many of the time that passes.
pub const SLEW_PARTS: u64 = 10;

/// The system's wall clock, for a command that ends at once. Before 1970 it stands at 0.
pub fn system() -> Clock {
    Arc::new(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "the outermost edge, from which `now_ms` is handed on"
        )]
        let now = SystemTime::now();
        millis(now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
    })
}

/// Milliseconds since this call.
fn elapsed() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "the same edge")]
    let start = Instant::now();
    Arc::new(move || millis(start.elapsed()))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A clock that never jumps and never goes backwards. It begins at the wall clock, goes on with
/// the time that passes, and closes a gap to the wall clock by a part in [`SLEW_PARTS`] of that.
/// Clones are the same clock.
#[derive(Clone)]
pub struct Steady {
    wall: Clock,
    elapsed: Clock,
    seen: Arc<Mutex<Seen>>,
    jumps: Arc<AtomicU64>,
}

/// What was read last.
struct Seen {
    wall_ms: u64,
    elapsed_ms: u64,
    now_ms: u64,
    /// Time that has passed since the last millisecond of slew, less than [`SLEW_PARTS`].
    rest_ms: u64,
}

impl Steady {
    /// A clock over a wall clock and a monotonic one, both in milliseconds.
    pub fn new(wall: Clock, elapsed: Clock) -> Self {
        let (wall_ms, elapsed_ms) = (wall(), elapsed());
        let seen = Seen { wall_ms, elapsed_ms, now_ms: wall_ms, rest_ms: 0 };
        let (seen, jumps) = (Arc::new(Mutex::new(seen)), Arc::default());
        Self { wall, elapsed, seen, jumps }
    }

    /// A clock over the system's.
    pub fn system() -> Self {
        Self::new(system(), elapsed())
    }

    /// Unix milliseconds. Logs nothing: the log's own sampler asks what time it is.
    pub fn now_ms(&self) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that readings come in order.
        if seen.advance((self.wall)(), (self.elapsed)()) > JUMP_MS_MAX {
            self.jumps.fetch_add(1, Ordering::Relaxed);
        }
        seen.now_ms
    }

    /// How far the wall clock is from this one, in milliseconds.
    pub fn gap_ms(&self) -> u64 {
        self.now_ms().abs_diff((self.wall)())
    }

    /// How often the wall clock has jumped, as far as readings saw it.
    pub fn jumps(&self) -> u64 {
        self.jumps.load(Ordering::Relaxed)
    }

    /// The same as a function.
    pub fn clock(&self) -> Clock {
        let same = self.clone();
        Arc::new(move || same.now_ms())
    }
}

impl Seen {
    /// Takes new readings; returns by how much the wall clock went otherwise than time passed.
    fn advance(&mut self, wall_ms: u64, elapsed_ms: u64) -> u64 {
        let passed_ms = elapsed_ms.saturating_sub(self.elapsed_ms);
        let jumped_ms = wall_ms.abs_diff(self.wall_ms.saturating_add(passed_ms));
        let expected_ms = self.now_ms.saturating_add(passed_ms);
        let gathered_ms = self.rest_ms.saturating_add(passed_ms);
        // At most what has passed, so that time never runs backwards.
        let slew_ms = wall_ms.abs_diff(expected_ms).min(gathered_ms / SLEW_PARTS);
        self.now_ms = match wall_ms >= expected_ms {
            true => expected_ms.saturating_add(slew_ms),
            false => expected_ms.saturating_sub(slew_ms),
        };
        self.rest_ms = gathered_ms % SLEW_PARTS;
        (self.wall_ms, self.elapsed_ms) = (wall_ms, elapsed_ms.max(self.elapsed_ms));
        jumped_ms
    }
}

impl fmt::Debug for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steady")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000_000;
    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;

    struct Bench {
        wall: Arc<AtomicU64>,
        elapsed: Arc<AtomicU64>,
        steady: Steady,
    }

    fn bench() -> Bench {
        let [wall, elapsed] = [START, 7].map(|ms| Arc::new(AtomicU64::new(ms)));
        let read = |cell: &Arc<AtomicU64>| -> Clock {
            let cell = Arc::clone(cell);
            Arc::new(move || cell.load(Ordering::SeqCst))
        };
        let steady = Steady::new(read(&wall), read(&elapsed));
        Bench { wall, elapsed, steady }
    }

    impl Bench {
        /// Time passes as it does, and both clocks see it.
        fn pass(&self, ms: u64) {
            self.wall.fetch_add(ms, Ordering::SeqCst);
            self.elapsed.fetch_add(ms, Ordering::SeqCst);
        }

        fn set_wall(&self, ms: u64) {
            self.wall.store(ms, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_clock_that_nobody_touches_is_the_wall_clock() {
        let bench = bench();
        for ms in [0, 1, 999, DAY, 400 * DAY] {
            bench.pass(ms);
            assert_eq!(bench.steady.now_ms(), bench.wall.load(Ordering::SeqCst));
        }
        assert_eq!(bench.steady.jumps(), 0);
    }

    #[test]
    fn case_071_a_step_of_eight_days_either_way_is_followed_slowly_and_counted_once() {
        for (step, later) in [(START + 8 * DAY, true), (START - 8 * DAY, false), (0, false)] {
            let bench = bench();
            bench.set_wall(step);
            assert_eq!((bench.steady.now_ms(), bench.steady.jumps()), (START, 1));
            assert_eq!(bench.steady.gap_ms(), step.abs_diff(START));
            bench.pass(HOUR);
            let slew = HOUR / SLEW_PARTS;
            let expected = if later { START + HOUR + slew } else { START + HOUR - slew };
            assert_eq!((bench.steady.now_ms(), bench.steady.jumps()), (expected, 1));
            // The operator sets it right: that is a jump, too, and the gap is closed as slowly.
            bench.set_wall(START + HOUR);
            assert_eq!((bench.steady.now_ms(), bench.steady.jumps()), (expected, 2));
            bench.pass(2 * HOUR);
            assert_eq!(bench.steady.now_ms(), START + 3 * HOUR);
        }
    }

    #[test]
    fn a_gap_is_closed_however_often_the_clock_is_read() {
        for (step, read_every) in [(5_000_i64, 1), (5_000, 3), (-5_000, 1), (-5_000, 7)] {
            let bench = bench();
            bench.set_wall(START.checked_add_signed(step).unwrap());
            let mut before = bench.steady.now_ms();
            for _ in 0..50_000 / read_every {
                bench.pass(read_every);
                let now = bench.steady.now_ms();
                assert!(now >= before && now <= before + 2 * read_every, "{before} {now}");
                before = now;
            }
            bench.pass(10 * read_every);
            assert_eq!(bench.steady.now_ms(), bench.wall.load(Ordering::SeqCst));
            assert_eq!(bench.steady.jumps(), 0, "so little is no jump");
        }
    }

    #[test]
    fn a_jump_begins_above_a_minute() {
        for (step, jumps) in [(JUMP_MS_MAX - 1, 0), (JUMP_MS_MAX, 0), (JUMP_MS_MAX + 1, 1)] {
            for wall in [START + step, START - step] {
                let bench = bench();
                bench.set_wall(wall);
                bench.steady.now_ms();
                assert_eq!(bench.steady.jumps(), jumps, "{step}");
            }
        }
    }

    #[test]
    fn a_clone_is_the_same_clock_and_the_system_s_begins_now() {
        let bench = bench();
        let clock = bench.steady.clock();
        bench.set_wall(START + DAY);
        assert_eq!(clock(), START);
        assert_eq!(bench.steady.jumps(), 1);
        let steady = Steady::system();
        let first = steady.now_ms();
        assert!(first > 1_600_000_000_000 && steady.now_ms() >= first);
    }
}
