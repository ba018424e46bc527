//! The kinds of operations, how often each comes, and the features that they belong to.

/// What a run may have or not have (swarm testing: each seed draws some of them, for what is never
/// missing hides what only shows without it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// Members are added, removed and leave.
    Members,
    /// Titles, descriptions and roles change.
    Metadata,
    /// What waits is taken back, and sent again.
    Outbox,
    /// Devices are linked, revoked and recovered.
    Devices,
    /// Connections break.
    Breaks,
    /// Requests arrive twice.
    Doubles,
    /// Answers are lost with their connections.
    Losses,
    /// Clients die, between steps and around their commits.
    Crashes,
    /// The server dies, between batches and around their commits.
    Restarts,
    /// Some clients are cut off for long.
    Partitions,
    /// Clients stop taking what the server has for them.
    Stalls,
    /// Clocks step, forwards and backwards.
    Clocks,
    /// Tokens end, and are refreshed in place.
    Tokens,
    /// Hours and days pass with nobody there.
    Days,
    /// Clients' homes are put back from copies.
    Copies,
    /// The server is put back from a backup.
    Backups,
    /// One member has a program of its own.
    Hostile,
    /// The server lies to one member about one channel.
    Liar,
}

/// What one operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Up,
    Down,
    Tick,
    Connect,
    Write,
    Direct,
    Create,
    Add,
    Remove,
    Leave,
    Title,
    Describe,
    Promote,
    Demote,
    Cancel,
    Resend,
    Link,
    Revoke,
    Recover,
    Break,
    Double,
    LoseAnswers,
    Crash,
    CrashAtCommit,
    Restart,
    RestartAtCommit,
    Partition,
    Stall,
    ClientClock,
    ServerClock,
    TokensEnd,
    Refresh,
    Hours,
    Days,
    Copy,
    PutBack,
    BackUp,
    Restore,
    Hostile,
}

/// A kind, its name, how often it comes relative to the others, and what it belongs to.
type Row = (Kind, &'static str, u32, Option<Feature>);

/// All kinds.
pub(crate) const KINDS: [Row; 39] = [
    (Kind::Up, "up", 340, None),
    (Kind::Down, "down", 340, None),
    (Kind::Tick, "tick", 60, None),
    (Kind::Connect, "connect", 50, None),
    (Kind::Write, "write", 98, None),
    (Kind::Direct, "direct", 11, None),
    (Kind::Create, "create", 7, None),
    (Kind::Add, "add", 16, None),
    (Kind::Remove, "remove", 5, Some(Feature::Members)),
    (Kind::Leave, "leave", 6, Some(Feature::Members)),
    (Kind::Title, "title", 5, Some(Feature::Metadata)),
    (Kind::Describe, "describe", 3, Some(Feature::Metadata)),
    (Kind::Promote, "promote", 6, Some(Feature::Metadata)),
    (Kind::Demote, "demote", 4, Some(Feature::Metadata)),
    (Kind::Cancel, "cancel", 6, Some(Feature::Outbox)),
    (Kind::Resend, "resend", 6, Some(Feature::Outbox)),
    (Kind::Link, "link", 6, Some(Feature::Devices)),
    (Kind::Revoke, "revoke", 4, Some(Feature::Devices)),
    (Kind::Recover, "recover", 2, Some(Feature::Devices)),
    (Kind::Break, "break", 20, Some(Feature::Breaks)),
    (Kind::Double, "double", 25, Some(Feature::Doubles)),
    (Kind::LoseAnswers, "lose-answers", 25, Some(Feature::Losses)),
    (Kind::Crash, "crash", 8, Some(Feature::Crashes)),
    (Kind::CrashAtCommit, "crash-at-commit", 16, Some(Feature::Crashes)),
    (Kind::Restart, "restart", 6, Some(Feature::Restarts)),
    (Kind::RestartAtCommit, "restart-at-commit", 10, Some(Feature::Restarts)),
    (Kind::Partition, "partition", 4, Some(Feature::Partitions)),
    (Kind::Stall, "stall", 8, Some(Feature::Stalls)),
    (Kind::ClientClock, "client-clock", 6, Some(Feature::Clocks)),
    (Kind::ServerClock, "server-clock", 4, Some(Feature::Clocks)),
    (Kind::TokensEnd, "tokens-end", 4, Some(Feature::Tokens)),
    (Kind::Refresh, "refresh", 6, Some(Feature::Tokens)),
    (Kind::Hours, "hours", 5, Some(Feature::Days)),
    (Kind::Days, "days", 3, Some(Feature::Days)),
    (Kind::Copy, "copy", 6, Some(Feature::Copies)),
    (Kind::PutBack, "put-back", 4, Some(Feature::Copies)),
    (Kind::BackUp, "back-up", 4, Some(Feature::Backups)),
    (Kind::Restore, "restore", 3, Some(Feature::Backups)),
    (Kind::Hostile, "hostile", 40, Some(Feature::Hostile)),
];

/// The features, and in how many of a hundred runs each is there.
pub(crate) const FEATURES: [(Feature, u64); 18] = [
    (Feature::Members, 75),
    (Feature::Metadata, 40),
    (Feature::Outbox, 40),
    (Feature::Devices, 50),
    (Feature::Breaks, 60),
    (Feature::Doubles, 50),
    (Feature::Losses, 50),
    (Feature::Crashes, 50),
    (Feature::Restarts, 50),
    (Feature::Partitions, 40),
    (Feature::Stalls, 40),
    (Feature::Clocks, 30),
    (Feature::Tokens, 30),
    (Feature::Days, 20),
    (Feature::Copies, 15),
    (Feature::Backups, 10),
    (Feature::Hostile, 12),
    (Feature::Liar, 6),
];

impl Kind {
    /// The name, as reports count it.
    pub(crate) fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or("?", |(_, name, ..)| name)
    }
}
