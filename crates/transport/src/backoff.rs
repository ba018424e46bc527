//! Delays between attempts to reconnect: exponential with full jitter, so that the clients of a
//! restarted server do not return in step. Yields delays; never sleeps.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Bounds of the delays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Upper bound of the first delay; each following bound is twice the one before.
    pub min: Duration,
    /// Upper bound of every delay.
    pub max: Duration,
}

impl Default for BackoffPolicy {
    /// From 250 ms to 60 s.
    fn default() -> Self {
        Self { min: Duration::from_millis(250), max: Duration::from_secs(60) }
    }
}

/// An endless iterator of delays; the same seed gives the same delays. Make a new one after every
/// connection that was of use.
#[derive(Debug)]
pub struct Backoff {
    bounds: ExponentialBackoff,
    jittered: ExponentialBackoff,
}

impl Backoff {
    /// Starts at the smallest bound. `seed` needs to differ between clients, not to be secret.
    pub fn new(policy: BackoffPolicy, seed: u64) -> Self {
        let bounds = ExponentialBuilder::new()
            .with_min_delay(policy.min)
            .with_max_delay(policy.max)
            .without_max_times();
        Self {
            bounds: bounds.build(),
            jittered: bounds.with_jitter().with_jitter_seed(seed).build(),
        }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// Uniform between zero and the current bound; never `None`.
    fn next(&mut self) -> Option<Duration> {
        // The jittered sequence is uniform in [bound, 2 * bound): what exceeds the bound is the
        // full jitter.
        let bound = self.bounds.next()?;
        Some(self.jittered.next()?.saturating_sub(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_repeat_from_their_seed_and_differ_between_seeds() {
        let delays = |seed| -> Vec<_> {
            let backoff = Backoff::new(BackoffPolicy::default(), seed);
            backoff.take(50).collect()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }

    #[test]
    fn delays_stay_below_their_bounds_and_use_all_of_them() {
        let mut last = Vec::new();
        for seed in 0..200 {
            let mut backoff = Backoff::new(BackoffPolicy::default(), seed);
            assert!(backoff.next().unwrap() < Duration::from_millis(250));
            assert!(backoff.next().unwrap() < Duration::from_millis(500));
            let late = backoff.nth(30).unwrap();
            assert!(late < Duration::from_secs(60));
            last.push(late);
        }
        assert!(last.iter().any(|delay| *delay < Duration::from_secs(10)));
        assert!(last.iter().any(|delay| *delay > Duration::from_secs(50)));
    }
}
