//! How much a machine keeps in memory: all of it follows from what is under way, so at rest there
//! is next to nothing. Changes nothing.

use super::Machine;

/// Sizes of what a machine keeps in memory beside its groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Requests under way: at most one for each piece of work.
    pub requests: usize,
    /// Batches of messages under way: at most one a channel.
    pub batches: usize,
    /// Own Commits that were accepted and that the log has not shown yet: at most one a channel.
    pub accepted_commits: usize,
    /// Answers that may be older than a list that came meanwhile: each is of a request under way.
    pub excused: usize,
    /// Accounts of whose newer lists somebody spoke, and which are being asked for.
    pub spoken_of: usize,
    /// Pieces of work that wait, or waited and were not done since.
    pub pauses: usize,
}

impl Machine {
    /// How much is kept in memory now.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            requests: self.in_flight.len(),
            batches: self.batches.len(),
            accepted_commits: self.accepted_commits.len(),
            excused: self.excused.len(),
            spoken_of: self.spoken_of.len(),
            pauses: self.pauses.len(),
        }
    }
}
