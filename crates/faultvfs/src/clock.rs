//! The system's clock as a test sets it, for its own thread alone: what a library reads there can't
//! be given as an argument.
//!
//! `clock_gettime` of libc is defined once more here, and so in every program that this crate is
//! linked into. Only wall time is ever set; a thread that set nothing, and every other clock, is
//! served by the kernel.

use std::cell::Cell;
use std::ffi::c_int;
use std::marker::PhantomData;

thread_local! {
    /// Unix milliseconds. No destructor and no lazy start: readable whenever a thread asks.
    static SET_MS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Wall time as this thread set it: it stands still until it is set anew, and is the system's again
/// once this is dropped.
#[derive(Debug)]
pub struct WallClock {
    /// It is of the thread that made it.
    _of_thread: PhantomData<*const ()>,
}

impl WallClock {
    /// Sets this thread's wall time, in Unix milliseconds.
    pub fn at(now_ms: u64) -> Self {
        let clock = Self { _of_thread: PhantomData };
        clock.set(now_ms);
        clock
    }

    /// Sets it anew.
    pub fn set(&self, now_ms: u64) {
        SET_MS.set(Some(now_ms));
    }
}

impl Drop for WallClock {
    fn drop(&mut self) {
        SET_MS.set(None);
    }
}

/// What the C library does, but for a thread that has set its clock.
///
/// # Safety
/// As for the function of this name in POSIX: `time` points to a `timespec` that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    if clock == libc::CLOCK_REALTIME
        && let Some(now_ms) = SET_MS.get()
        && let (Ok(seconds), Ok(nanos)) =
            ((now_ms / 1_000).try_into(), (now_ms % 1_000 * 1_000_000).try_into())
    {
        let set = libc::timespec { tv_sec: seconds, tv_nsec: nanos };
        // SAFETY: the caller gave a place for a timespec.
        unsafe { time.write(set) };
        return 0;
    }
    // SAFETY: the kernel's call of the same meaning, with the caller's own arguments; it goes past
    // the C library, whose function of this name is this one.
    let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    c_int::try_from(answer).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "what is tested is what this returns")]
    fn wall_ms() -> u128 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
    }

    #[test]
    fn a_thread_that_sets_its_clock_reads_it_and_others_do_not() {
        let clock = WallClock::at(1_234_567);
        assert_eq!(wall_ms(), 1_234_567);
        assert_ne!(std::thread::spawn(wall_ms).join().unwrap(), 1_234_567);
        clock.set(2_000_000_000_001);
        assert_eq!(wall_ms(), 2_000_000_000_001);
        drop(clock);
        assert_ne!(wall_ms(), 2_000_000_000_001);
    }
}
