//! What an operator decides about channels and KeyPackages. Only numbers; rules stand where they
//! are applied.

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

/// How long things are kept or served, how much a channel holds, how often it takes a Commit. All
/// times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long entries are kept, and how long a removal waits for another account to build on it.
    pub retention_ms: u64,
    /// The longest that a client keeps sending an entry: message ids are remembered so much longer
    /// than entries.
    pub outbox_age_ms: u64,
    /// Bytes that a channel's entries may have: payloads, declared changes and statements.
    pub channel_bytes_max: u64,
    /// How long a KeyPackage is served after its upload.
    pub key_package_ttl_ms: u64,
    /// How long a last resort is served after its upload.
    pub last_resort_ttl_ms: u64,
    /// How often Commits come.
    pub pacing: Pacing,
}

impl Default for Config {
    /// 7 d, 7 d, 256 MiB, 24 h and 30 d.
    fn default() -> Self {
        Self {
            retention_ms: 7 * DAY,
            outbox_age_ms: 7 * DAY,
            channel_bytes_max: 256 * 1_024 * 1_024,
            key_package_ttl_ms: DAY,
            last_resort_ttl_ms: 30 * DAY,
            pacing: Pacing::default(),
        }
    }
}

/// How often one device, and all together, may commit to a channel. A wait of 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Commits of a device at once.
    pub burst: u64,
    /// Then one in so many milliseconds.
    pub wait_ms: u64,
    /// What doubled waits end at.
    pub wait_max_ms: u64,
    /// Messages on one base after which a device commits whenever it wants.
    pub free_after: u64,
    /// Commits of a channel at once.
    pub channel_burst: u64,
    /// Then one in so many milliseconds.
    pub channel_wait_ms: u64,
    /// How long a turn is kept for a device that came too late.
    pub reserved_ms: u64,
    /// How often a device gets one so.
    pub reserved_every_ms: u64,
}

impl Pacing {
    /// Commits come as they come.
    pub const NONE: Self = Self {
        burst: 0,
        wait_ms: 0,
        wait_max_ms: 0,
        free_after: 0,
        channel_burst: 0,
        channel_wait_ms: 0,
        reserved_ms: 0,
        reserved_every_ms: 0,
    };
}

impl Default for Pacing {
    /// 3, then one a minute, up to one an hour; free after 1,000 messages; all together 3, then
    /// one in 2 s; a turn is kept 2 s, once a minute.
    fn default() -> Self {
        Self {
            burst: 3,
            wait_ms: MINUTE,
            wait_max_ms: 60 * MINUTE,
            free_after: 1_000,
            channel_burst: 3,
            channel_wait_ms: 2_000,
            reserved_ms: 2_000,
            reserved_every_ms: MINUTE,
        }
    }
}
