//! Keeps strangers from filling the disk: of what they can cause, so many lines a minute are
//! written, and the rest is counted.
//!
//! Never touches an event that took a login or an operator.

use super::event::AuditEvent;

/// Lines of one kind in one minute.
pub(super) const LINES_PER_MINUTE: u64 = 60;
const MINUTE_MS: u64 = 60 * 1_000;

/// Kinds of events that are sampled, by the names that their lines have.
const KINDS: [&str; 2] = ["auth_failed", "limit_hit"];

/// What was seen of each kind.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    kinds: [Seen; KINDS.len()],
}

#[derive(Debug, Default)]
struct Seen {
    minute: u64,
    written: u64,
    left_out: u64,
}

impl Sampler {
    /// Whether an event at `at_ms` is written; if not, it is counted.
    pub(super) fn admits(&mut self, event: &AuditEvent, at_ms: u64) -> bool {
        let [auth_failed, limit_hit] = &mut self.kinds;
        let seen = match event {
            AuditEvent::AuthFailed { .. } => auth_failed,
            AuditEvent::LimitHit { .. } => limit_hit,
            AuditEvent::Started { .. }
            | AuditEvent::Stopped
            | AuditEvent::Registered { .. }
            | AuditEvent::LoggedIn { .. }
            | AuditEvent::Refreshed { .. }
            | AuditEvent::RefreshReused { .. }
            | AuditEvent::LoggedOut { .. }
            | AuditEvent::DeviceLinked { .. }
            | AuditEvent::DeviceRevoked { .. }
            | AuditEvent::DevicesRenewed { .. }
            | AuditEvent::Recovered { .. }
            | AuditEvent::KeyPackagesUploaded { .. }
            | AuditEvent::Exported { .. }
            | AuditEvent::DeletionRequested { .. }
            | AuditEvent::DeletionCancelled { .. }
            | AuditEvent::AccountDeleted { .. }
            | AuditEvent::AccountErased { .. }
            | AuditEvent::Admin { .. }
            | AuditEvent::Lost { .. }
            | AuditEvent::LeftOut { .. }
            | AuditEvent::Altered { .. }
            | AuditEvent::Torn { .. }
            | AuditEvent::Expired { .. } => return true,
        };
        seen.admits(at_ms / MINUTE_MS)
    }

    /// What was left out since the last call, as events.
    pub(super) fn take_left_out(&mut self) -> Vec<AuditEvent> {
        let kinds = KINDS.into_iter().zip(&mut self.kinds);
        kinds
            .filter(|(_, seen)| seen.left_out > 0)
            .map(|(of, seen)| AuditEvent::LeftOut { of, lines: std::mem::take(&mut seen.left_out) })
            .collect()
    }
}

impl Seen {
    fn admits(&mut self, minute: u64) -> bool {
        if self.minute != minute {
            (self.minute, self.written) = (minute, 0);
        }
        let admitted = self.written < LINES_PER_MINUTE;
        let counter = if admitted { &mut self.written } else { &mut self.left_out };
        *counter = counter.saturating_add(1);
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_another_kind_has_room() {
        let failed = AuditEvent::AuthFailed { method: "Login", code: "X", device: None };
        let hit = AuditEvent::LimitHit { limit: "login" };
        let mut sampler = Sampler::default();
        let written = (0..1_000).filter(|_| sampler.admits(&failed, 1)).count();
        assert_eq!(u64::try_from(written).unwrap(), LINES_PER_MINUTE);
        assert!(sampler.admits(&hit, 1) && sampler.admits(&AuditEvent::Stopped, 1));
        let left_out = AuditEvent::LeftOut { of: "auth_failed", lines: 1_000 - LINES_PER_MINUTE };
        assert_eq!(sampler.take_left_out(), [left_out]);
        assert!(sampler.take_left_out().is_empty());
        assert!(sampler.admits(&failed, MINUTE_MS));
    }
}
