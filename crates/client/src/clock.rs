//! The edge where a running client takes the time; everything below gets it as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place where the client reads the clock")]
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
