//! The one place of this crate that reads the system's clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix milliseconds on demand; tests and the simulator give their own.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's clock. Before 1970 it stands at 0.
pub fn system() -> Clock {
    Arc::new(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "the outermost edge, from which `now_ms` is handed on"
        )]
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
