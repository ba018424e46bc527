//! How often somebody may do a thing: some times at once, then once after each wait.
//!
//! Pure: knows no storage, and times are arguments.

/// Turns that were taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Turns {
    /// Taken and not given back.
    pub(crate) taken: u64,
    /// Since when the next one is on its way back, Unix milliseconds.
    pub(crate) since_ms: u64,
}

impl Turns {
    /// The same at `now_ms`: after each wait one turn comes back.
    fn settled(self, now_ms: u64, wait_ms: u64) -> Self {
        let passed = now_ms.saturating_sub(self.since_ms);
        let back = passed.checked_div(wait_ms).unwrap_or(u64::MAX).min(self.taken);
        let lasted = back.saturating_mul(wait_ms);
        Self {
            taken: self.taken.saturating_sub(back),
            since_ms: self.since_ms.saturating_add(lasted),
        }
    }

    /// Milliseconds until one of `burst` turns is free; 0: now. Without a wait it always is.
    pub(crate) fn wait(self, now_ms: u64, (burst, wait_ms): (u64, u64)) -> u64 {
        let turns = self.settled(now_ms, wait_ms);
        let over = turns.taken.saturating_add(1).saturating_sub(burst.max(1));
        let free_at = turns.since_ms.saturating_add(over.saturating_mul(wait_ms));
        if over == 0 { 0 } else { free_at.saturating_sub(now_ms) }
    }

    /// One turn more.
    pub(crate) fn take(self, now_ms: u64, wait_ms: u64) -> Self {
        let turns = self.settled(now_ms, wait_ms);
        Self {
            taken: turns.taken.saturating_add(1),
            since_ms: if turns.taken == 0 { now_ms } else { turns.since_ms },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_come_at_once_and_then_one_after_each_wait() {
        let mut turns = Turns::default();
        for _ in 0..3 {
            assert_eq!(turns.wait(1_000, (3, 60)), 0);
            turns = turns.take(1_000, 60);
        }
        assert_eq!(turns.wait(1_000, (3, 60)), 60);
        assert_eq!(turns.wait(1_059, (3, 60)), 1);
        assert_eq!(turns.wait(1_060, (3, 60)), 0);
        let next = turns.take(1_060, 60);
        assert_eq!(next.wait(1_061, (3, 60)), 59);
        // A longer wait holds for what is on its way back, too; a shorter one as well.
        assert_eq!(next.wait(1_061, (3, 120)), 119);
        assert_eq!(next.wait(1_061, (3, 10)), 9);
        // After a pause all are back, and no more than all.
        assert_eq!(next.settled(1_060 + 180, 60).taken, 0);
        assert_eq!(next.settled(u64::MAX, 60).taken, 0);
        // A clock that steps back frees nothing.
        assert_eq!(next.wait(0, (3, 60)), 1_120);
    }

    #[test]
    fn without_a_wait_every_turn_is_free() {
        let turns = Turns::default().take(5, 0).take(5, 0);
        assert_eq!(turns.wait(5, (0, 0)), 0);
        assert_eq!(turns.wait(5, (1, 0)), 0);
    }
}
