//! Where limiters keep their counts: a map that never has more than so many keys.
//!
//! What happens to a key too many is the limiter's to say: it passes, or it is refused.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::RateLimiter;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;

use super::{Fails, Ticks};

/// A limiter over such a map.
pub(crate) type Counts<K> = RateLimiter<K, Bounded<K>, Ticks, NoOpMiddleware<Nanos>>;

/// A moment that no debt reaches.
const NEVER: Nanos = Nanos::new(u64::MAX / 2);

/// Counts by key.
#[derive(Debug)]
pub(crate) struct Bounded<K> {
    keys: Mutex<HashMap<K, Nanos>>,
    keys_max: usize,
    fails: Fails,
    /// Set when a key finds no room; who makes room takes it back.
    full: Arc<AtomicBool>,
}

impl<K> Bounded<K> {
    pub(crate) fn new(keys_max: usize, fails: Fails) -> Self {
        Self { keys: Mutex::default(), keys_max, fails, full: Arc::default() }
    }

    /// Whether a key has found no room.
    pub(crate) fn full(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.full)
    }

    /// The map stays whole whatever panics.
    fn locked(&self) -> MutexGuard<'_, HashMap<K, Nanos>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> StateStore for Bounded<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut keys = self.locked();
        if let Some(state) = keys.get_mut(key) {
            let (answer, next) = f(Some(*state))?;
            *state = next;
            return Ok(answer);
        }
        if keys.len() < self.keys_max {
            let (answer, next) = f(None)?;
            keys.insert(key.clone(), next);
            return Ok(answer);
        }
        self.full.store(true, Ordering::Relaxed);
        f((self.fails == Fails::Closed).then_some(NEVER)).map(|(answer, _)| answer)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Bounded<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.locked().retain(|_, state| *state > drop_below);
    }

    fn shrink_to_fit(&self) {
        self.locked().shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.locked().len()
    }

    fn is_empty(&self) -> bool {
        self.locked().is_empty()
    }
}
