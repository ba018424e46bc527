//! What waits, and until when: work that was refused for now, operations whose turn comes later.
//! A clock that is set back makes nothing wait for the time that it was ahead. Never says what is
//! to be asked.

use std::time::Duration;

use qpc_transport::{Backoff, BackoffPolicy};

use super::commits::QUIET_MS;
use super::{Machine, Step, Work};
use crate::error::ClientError;

/// Waits after repeated refusals.
const PAUSES: BackoffPolicy =
    BackoffPolicy { min: Duration::from_secs(1), max: Duration::from_secs(60) };
/// The shortest of them, in milliseconds.
const PAUSE_MS_MIN: u64 = 50;
/// A clock that goes back less is only being corrected, and nobody notices the wait.
const CORRECTED_MS: u64 = 1_000;
/// A successor that an earlier run noted is waited for no longer than this: a later time was noted
/// by a clock that was ahead.
const KEPT_MS_MAX: u64 = 3_600_000;

/// Work that waits after a refusal.
#[derive(Debug)]
pub(super) struct Pause {
    until_ms: u64,
    attempts: u32,
    /// The waits to come, longer each time, with full jitter.
    delays: Backoff,
}

impl Pause {
    fn new(seed: u64) -> Self {
        Self { until_ms: 0, attempts: 0, delays: Backoff::new(PAUSES, seed) }
    }
}

impl Machine {
    /// Makes work wait, longer each time, with full jitter, at least as long as the server asked.
    pub(super) fn pause(
        &mut self,
        step: &mut Step<'_>,
        (work, asked_ms): (Work, Option<u64>),
    ) -> u32 {
        let pause = self.pauses.entry(work).or_insert_with(|| Pause::new(step.rng.next_u64()));
        pause.attempts = pause.attempts.saturating_add(1);
        let delay = pause.delays.next().unwrap_or(PAUSES.max).as_millis();
        let delay = u64::try_from(delay).unwrap_or(u64::MAX).max(PAUSE_MS_MIN);
        pause.until_ms = step.now_ms.saturating_add(asked_ms.unwrap_or(0)).saturating_add(delay);
        pause.attempts
    }

    pub(super) fn paused(&self, work: &Work, now_ms: u64) -> bool {
        self.pauses.get(work).is_some_and(|pause| pause.until_ms > now_ms)
    }

    /// Looks whether the clock was set back since the last step, or before this run: then what
    /// waits by the time that it showed waits no more.
    pub(super) fn note_time(&mut self, step: &Step<'_>) -> Result<(), ClientError> {
        let now_ms = step.now_ms;
        let Some(latest_ms) = self.latest_ms.replace(now_ms) else {
            let end_ms = now_ms.saturating_add(KEPT_MS_MAX);
            return Ok(step.db.end_waits(now_ms, (end_ms, QUIET_MS))?);
        };
        if latest_ms <= now_ms.saturating_add(CORRECTED_MS) {
            self.latest_ms = Some(latest_ms.max(now_ms));
            return Ok(());
        }
        self.pauses.clear();
        self.upkeep.set_back(latest_ms.saturating_sub(now_ms));
        self.renewal.set_back();
        Ok(step.db.end_waits(now_ms, (now_ms, QUIET_MS))?)
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::super::store::{IntentKind, RejoinRow, Status};
    use super::super::tests::{NOW, alice};
    use super::*;
    use crate::core::Core;
    use qpc_proto::ChannelId;
    use qpc_proto::message::ChannelKind;

    const CHANNEL: ChannelId = ChannelId([7; 16]);
    const HOUR_MS: u64 = 3_600_000;

    fn at<T>(
        core: &mut Core,
        now_ms: u64,
        work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send,
    ) -> T {
        core.with((now_ms, &mut OsRng), work).unwrap().0
    }

    /// Notes at `NOW` all that can wait.
    fn waiting(core: &mut Core) {
        at(core, NOW, |m, s| {
            m.online = true;
            let row = super::super::store::ChannelRow {
                quiet_until_ms: NOW + 30_000,
                ..super::super::store::ChannelRow::new(CHANNEL, ChannelKind::Group, Status::Active)
            };
            s.db.put_channel(&row)?;
            m.intend(s, &CHANNEL, (IntentKind::Remove, &[], NOW + 60_000))?;
            s.db.put_rejoin(&CHANNEL, &RejoinRow { asked_ms: NOW, ..RejoinRow::default() })?;
            m.pause(s, (Work::Upload, Some(60_000)));
            Ok(())
        });
    }

    /// Until when channel and operation wait, and when the rejoin was asked for.
    fn noted(core: &mut Core, now_ms: u64) -> (u64, u64, u64) {
        at(core, now_ms, |_, s| {
            let quiet = s.db.channel(&CHANNEL)?.unwrap().quiet_until_ms;
            let intent = s.db.open_in(&CHANNEL)?[0].not_before_ms;
            Ok((quiet, intent, s.db.rejoin(&CHANNEL)?.asked_ms))
        })
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_wait_for_the_time_that_it_was_ahead() {
        let (_dir, mut core) = alice();
        waiting(&mut core);
        let before = noted(&mut core, NOW - CORRECTED_MS);
        assert_eq!(before, (NOW + 30_000, NOW + 60_000, NOW));
        at(&mut core, NOW, |m, _| {
            assert!(m.paused(&Work::Upload, NOW));
            Ok(())
        });
        let now_ms = NOW - HOUR_MS;
        at(&mut core, now_ms, |_, _| Ok(()));
        assert_eq!(noted(&mut core, now_ms), (0, 0, now_ms));
        at(&mut core, now_ms, |m, _| {
            assert!(!m.paused(&Work::Upload, now_ms));
            Ok(())
        });
    }

    #[test]
    fn what_an_earlier_run_noted_by_a_clock_that_was_ahead_waits_no_longer() {
        for (back_ms, kept) in [(0, true), (HOUR_MS / 4, false)] {
            let (_dir, mut core) = alice();
            waiting(&mut core);
            let mut core = Core::open(core.into_store(), super::super::Pool::default()).unwrap();
            let now_ms = NOW - back_ms;
            at(&mut core, now_ms, |m, _| {
                m.online = true;
                Ok(())
            });
            let noted = noted(&mut core, now_ms);
            let all = if kept { (NOW + 30_000, NOW + 60_000, NOW) } else { (0, 0, now_ms) };
            assert_eq!(noted, all);
        }
    }
}
