//! New keys for the own leaf, before anybody asks: at intervals, after many messages in an epoch,
//! soon after a join and after many came or went (RFC 9420 section 16.6). Notes operations; seals
//! nothing itself.

use std::collections::BTreeSet;

use qpc_proto::ChannelId;
use qpc_proto::message::ChannelKind;
use qpc_proto::roster::RosterChange;

use super::store::{ChannelRow, IntentKind, IntentRow, Status, UpkeepRow};
use super::{Machine, Step, Work};
use crate::error::ClientError;

const HOUR_MS: u64 = 3_600_000;
/// A leaf's keys are renewed so long after the last time.
const UPDATE_EVERY_MS: u64 = 7 * 24 * HOUR_MS;
/// Give or take half of this, so that members don't race.
const UPDATE_SPREAD_MS: u64 = 24 * HOUR_MS;
/// "Soon" begins after this, and ends after the spread: a thousand members have a Commit each.
const SOON_MS: u64 = HOUR_MS;
const SOON_SPREAD_MS: u64 = 23 * HOUR_MS;
/// After a join by a last resort, whose keys others may have been given, too.
const AT_ONCE_MS: u64 = 10_000;
const AT_ONCE_SPREAD_MS: u64 = 60_000;
/// So many devices that came or went leave the tree without keys above them.
const BULK: usize = 8;
/// Own messages in an epoch from which another epoch is wanted: the server's pace frees a Commit
/// then.
pub(super) const MESSAGES_WANTED: u64 = 1_000;
/// Own messages in an epoch: none is sealed behind it before another is in force.
pub(super) const MESSAGES_MAX: u64 = 2_000;
/// What is due is looked for at least so often, and so often while something is.
const LOOK_MS: u64 = HOUR_MS;
const LOOK_AGAIN_MS: u64 = 60_000;
/// An update that failed for good is tried again after this.
const FAILED_MS: u64 = HOUR_MS;

/// An operation that ended is kept so long: whoever waits for it asks within seconds.
const ENDED_KEPT_MS: u64 = 30 * 24 * HOUR_MS;
/// An id that was sealed so long before one that the server accepted comes to it no more: sealed
/// bytes are sent for a week, and the server knows them for two.
pub(super) const SEALED_KEPT_MS: u64 = 30 * 24 * HOUR_MS;
/// Sealed ids are looked through at most so often.
const FORGET_SEALED_MS: u64 = 24 * HOUR_MS;

/// What a restart may forget.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Nothing is due before this time.
    look_at_ms: u64,
    /// How far the server's clock is ahead of this machine's.
    ahead_ms: i64,
    /// When the server is asked about its KeyPackages again.
    status_at_ms: u64,
    /// When sealed ids are looked through again.
    forget_sealed_at_ms: u64,
}

impl Upkeep {
    /// The server told its time.
    pub(super) fn note_server_time(&mut self, server_ms: u64, now_ms: u64) {
        self.ahead_ms =
            i64::try_from(i128::from(server_ms).saturating_sub(now_ms.into())).unwrap_or_default();
        self.look_now();
    }

    /// This machine's clock was set back by so much.
    pub(super) fn set_back(&mut self, by_ms: u64) {
        self.ahead_ms = self.ahead_ms.saturating_add_unsigned(by_ms);
        (self.status_at_ms, self.forget_sealed_at_ms) = (0, 0);
        self.look_now();
    }

    /// Whether sealed ids are to be looked through, with what the server just said.
    pub(super) fn forgets_sealed(&mut self, now_ms: u64) -> bool {
        let due = now_ms >= self.forget_sealed_at_ms;
        if due {
            self.forget_sealed_at_ms = now_ms.saturating_add(FORGET_SEALED_MS);
        }
        due
    }

    /// Something may be due now.
    pub(super) fn look_now(&mut self) {
        self.look_at_ms = 0;
    }
}

impl Machine {
    /// The server's time, as far as it was told.
    pub(super) fn server_now(&self, step: &Step<'_>) -> u64 {
        step.now_ms.saturating_add_signed(self.upkeep.ahead_ms)
    }

    /// Notes what is due in any channel.
    pub(super) fn look_after(&mut self, step: &mut Step<'_>) -> Result<(), ClientError> {
        if !self.compared || step.now_ms < self.upkeep.look_at_ms {
            return Ok(());
        }
        if step.now_ms >= self.upkeep.status_at_ms {
            self.upkeep.status_at_ms = step.now_ms.saturating_add(LOOK_MS);
            self.status_due = true;
            self.retire_key_packages(step)?;
            self.forget_left(step)?;
            self.forget_ended(step)?;
        }
        let now = self.server_now(step);
        let mut wait = LOOK_MS;
        for row in step.db.channels()? {
            if row.kind == ChannelKind::Inbox || !row.status.seals() {
                continue;
            }
            let in_ms = self.update_at(step, &row)?.saturating_sub(now);
            wait = wait.min(in_ms.max(LOOK_AGAIN_MS));
            if in_ms == 0 && row.in_step() && self.withheld(step, &row)?.is_none() {
                self.want_update(step, &row)?;
            }
        }
        self.upkeep.look_at_ms = step.now_ms.saturating_add(wait);
        Ok(())
    }

    /// Keys of groups that this device is out of are of use to a thief alone.
    fn forget_left(&self, step: &mut Step<'_>) -> Result<(), ClientError> {
        for row in step.db.channels()? {
            if row.status == Status::Left && self.old_view(step, &row)?.is_some() {
                self.engine.forget(step.db.0, &row.group)?;
            }
        }
        Ok(())
    }

    /// Operations that ended: soon nobody waits for them, later nobody asks.
    fn forget_ended(&mut self, step: &Step<'_>) -> Result<(), ClientError> {
        let open: BTreeSet<u64> = step.db.open_intents()?.iter().map(|intent| intent.id).collect();
        self.pauses.retain(|work, _| match work {
            Work::Claim(intent, _) | Work::Statement(intent) => open.contains(intent),
            Work::ListChannels
            | Work::KeyPackageStatus
            | Work::Upload
            | Work::OwnDevices
            | Work::Renew
            | Work::Devices(_)
            | Work::Lookup(_)
            | Work::Fetch(_)
            | Work::Commit(_)
            | Work::Outbox(_)
            | Work::Ack => true,
        });
        let before = step.now_ms.saturating_sub(ENDED_KEPT_MS);
        Ok(step.db.forget_ended((step.now_ms, before))?)
    }

    fn want_update(&self, step: &mut Step<'_>, row: &ChannelRow) -> Result<(), ClientError> {
        if self.open_of(step, (&row.channel, IntentKind::Update))?.is_empty() {
            self.intend(step, &row.channel, (IntentKind::Update, &[], 0))?;
        }
        Ok(())
    }

    /// Server time from which the leaf is to be renewed.
    fn update_at(&self, step: &mut Step<'_>, row: &ChannelRow) -> Result<u64, ClientError> {
        let now = self.server_now(step);
        let latest = now.saturating_add(UPDATE_EVERY_MS).saturating_add(UPDATE_SPREAD_MS);
        match step.db.upkeep(&row.channel)? {
            Some(upkeep) if sealed_in(&upkeep, row) >= MESSAGES_WANTED => Ok(0),
            Some(upkeep) if upkeep.update_at_ms <= latest => Ok(upkeep.update_at_ms),
            // Nothing is known of the leaf, or a clock has gone back.
            _ => {
                let at = now.saturating_add(step.below(UPDATE_EVERY_MS));
                self.schedule(step, &row.channel, at)
            }
        }
    }

    fn schedule(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
        update_at_ms: u64,
    ) -> Result<u64, ClientError> {
        let known = step.db.upkeep(channel)?;
        let known = known.unwrap_or(UpkeepRow { base_commit: 0, sealed: 0, update_at_ms });
        step.db.put_upkeep(channel, &UpkeepRow { update_at_ms, ..known })?;
        Ok(update_at_ms)
    }

    /// Whether the leaf is still to be renewed: another operation's Commit may have done it.
    pub(super) fn is_update_due(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
    ) -> Result<bool, ClientError> {
        Ok(self.update_at(step, row)? <= self.server_now(step))
    }

    /// An own Commit is in force. One that was sealed before this device's certificate was renewed
    /// has the old one in its leaf still.
    pub(super) fn leaf_renewed(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
    ) -> Result<(), ClientError> {
        let spread = step.below(UPDATE_SPREAD_MS);
        let wait = UPDATE_EVERY_MS.saturating_sub(UPDATE_SPREAD_MS / 2).saturating_add(spread);
        let at = self.server_now(step).saturating_add(wait);
        self.schedule(step, &row.channel, at)?;
        let held = self.held_certificate()?;
        let members = self.engine.view(step.db.0, &row.group)?.members;
        let own = members.iter().find(|leaf| leaf.certificate.device() == held.device());
        match own {
            Some(leaf) if leaf.certificate.entry.not_after_ms < held.entry.not_after_ms => {
                self.update_soon(step, row)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// This device joined by a Welcome: its leaf's keys lay in a KeyPackage.
    pub(super) fn leaf_joined(
        &mut self,
        step: &mut Step<'_>,
        (channel, welcome): (&ChannelId, &[u8]),
    ) -> Result<(), ClientError> {
        let last_resort = self.note_used(step, welcome)?;
        let now = self.server_now(step);
        let at = match last_resort {
            true => now.saturating_add(AT_ONCE_MS).saturating_add(step.below(AT_ONCE_SPREAD_MS)),
            false => soon(step, now),
        };
        self.schedule(step, channel, at)?;
        self.upkeep.look_now();
        Ok(())
    }

    /// Others' Commit is in force; when it changed much of the tree, whoever commits next encrypts
    /// to almost every leaf, until those have made a Commit each.
    pub(super) fn tree_changed(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        change: &RosterChange,
    ) -> Result<(), ClientError> {
        if change.adds.len().max(change.removes.len()) < BULK {
            return Ok(());
        }
        self.update_soon(step, row)
    }

    /// The leaf is renewed within a day, if it is not due sooner.
    pub(super) fn update_soon(
        &mut self,
        step: &mut Step<'_>,
        row: &ChannelRow,
    ) -> Result<(), ClientError> {
        let now = self.server_now(step);
        let at = soon(step, now);
        if at < self.update_at(step, row)? {
            self.schedule(step, &row.channel, at)?;
            self.upkeep.look_now();
        }
        Ok(())
    }

    /// An update failed for good.
    pub(super) fn update_failed(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
    ) -> Result<(), ClientError> {
        let at = self.server_now(step).saturating_add(FAILED_MS);
        self.schedule(step, channel, at).map(drop)
    }

    /// How many messages this device may still seal in the epoch.
    pub(super) fn epoch_room(&self, step: &Step<'_>, row: &ChannelRow) -> Result<u64, ClientError> {
        let upkeep = step.db.upkeep(&row.channel)?;
        let sealed = upkeep.map_or(0, |upkeep| sealed_in(&upkeep, row));
        Ok(MESSAGES_MAX.saturating_sub(sealed))
    }

    /// Counts messages sealed in the epoch.
    pub(super) fn note_sealed(
        &mut self,
        step: &mut Step<'_>,
        (row, count): (&ChannelRow, usize),
    ) -> Result<(), ClientError> {
        if count == 0 {
            return Ok(());
        }
        self.update_at(step, row)?;
        let Some(upkeep) = step.db.upkeep(&row.channel)? else { return Ok(()) };
        let before = sealed_in(&upkeep, row);
        let sealed = before.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        let upkeep = UpkeepRow { base_commit: row.base_commit, sealed, ..upkeep };
        step.db.put_upkeep(&row.channel, &upkeep)?;
        if before < MESSAGES_WANTED && sealed >= MESSAGES_WANTED {
            self.upkeep.look_now();
        }
        Ok(())
    }

    /// Whether a Commit goes before messages that wait. An update: a device that never stops
    /// writing would never come to it. One that takes somebody back: what is sent before it they
    /// can't read.
    pub(super) fn goes_first(
        &self,
        step: &Step<'_>,
        (intent, row): (&IntentRow, &ChannelRow),
    ) -> Result<bool, ClientError> {
        let wanted = MESSAGES_MAX.saturating_sub(MESSAGES_WANTED);
        if intent.kind == IntentKind::TakeBack {
            return Ok(true);
        }
        Ok(intent.kind == IntentKind::Update && self.epoch_room(step, row)? <= wanted)
    }

    /// Why nothing is sealed in a channel until a Commit of this device is in force.
    pub(super) fn worn(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<String>, ClientError> {
        let worn = self.epoch_room(step, row)? == 0;
        let text = "2,000 messages were sent under one key: what you write waits for a new one";
        Ok(worn.then(|| text.to_owned()))
    }
}

/// Own messages sealed since the Commit in force.
fn sealed_in(upkeep: &UpkeepRow, row: &ChannelRow) -> u64 {
    if upkeep.base_commit == row.base_commit { upkeep.sealed } else { 0 }
}

fn soon(step: &mut Step<'_>, now_ms: u64) -> u64 {
    now_ms.saturating_add(SOON_MS).saturating_add(step.below(SOON_SPREAD_MS))
}

#[cfg(test)]
mod tests {
    use qpc_mls::context::{ChannelContext, POLICY_VERSION};
    use qpc_proto::message::{ChannelState, Request};
    use qpc_proto::{AccountId, DeviceId, Incarnation, MessageId};
    use rand_core::OsRng;

    use super::*;
    use crate::core::Core;
    use crate::home::{Home, Protection};
    use crate::machine::Pool;
    use crate::machine::store::{IntentState, Status};
    use crate::machine::tests::{NOW, alice, run};
    use crate::register::Account;

    fn active(m: &Machine, s: &Step<'_>) -> ChannelRow {
        let mut row = ChannelRow::new(ChannelId([1; 16]), ChannelKind::Group, Status::Active);
        (row.title, row.group, row.base_commit) = ("Fishing".to_owned(), [2; 32], 1);
        let context = ChannelContext {
            channel: row.channel,
            kind: row.kind,
            title: row.title.clone(),
            description: String::new(),
            replaces: None,
            admins: [m.profile.identity.device.account].into(),
            policy_version: POLICY_VERSION,
        };
        m.engine.create(s.db.0, &row.group, (&context, NOW)).unwrap();
        s.db.put_channel(&row).unwrap();
        row
    }

    fn sealed(m: &mut Machine, s: &mut Step<'_>, row: &ChannelRow) -> usize {
        match m.next_batch(s, row, true).unwrap() {
            Some(Request::Enqueue(batch)) => batch.entries.len(),
            Some(_) | None => 0,
        }
    }

    #[test]
    fn nothing_is_sealed_behind_the_two_thousandth_message_of_an_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Home::new(dir.path().join("h")).open_new(&Protection::KeyFile).unwrap();
        let account = Account::prepare(&mut store, ("a", "qpc://h:1/#00"), (NOW, &mut OsRng));
        account.unwrap().registered(&mut store).unwrap();
        let mut core = Core::open(store, Pool::default()).unwrap();
        let work = |m: &mut Machine, s: &mut Step<'_>| {
            let mut row = active(m, s);
            let upkeep = UpkeepRow { base_commit: 1, sealed: 1_998, update_at_ms: NOW };
            s.db.put_upkeep(&row.channel, &upkeep)?;
            for text in ["1999", "2000", "2001"] {
                m.queue(s, &row.channel, text)?;
            }
            assert_eq!(sealed(m, s, &row), 2);
            assert_eq!(m.epoch_room(s, &row)?, 0);
            let reason = m.channel(s, &row.channel)?.reason.unwrap();
            assert!(reason.starts_with("2,000 messages"), "{reason}");
            for message in s.db.outbox(&row.channel, 2)? {
                s.db.refuse(message.id, "out of the way")?;
            }
            assert_eq!(sealed(m, s, &row), 0);
            // A Commit is in force.
            row.base_commit = 2;
            assert_eq!((sealed(m, s, &row), m.epoch_room(s, &row)?), (1, 1_999));
            Ok(())
        };
        core.with((NOW, &mut OsRng), work).unwrap();
    }

    /// What is looked at each hour, so long after `NOW`.
    fn look(m: &mut Machine, s: &mut Step<'_>, passed_ms: u64) -> Result<(), ClientError> {
        s.now_ms = NOW + passed_ms;
        m.compared = true;
        m.upkeep = Upkeep::default();
        m.look_after(s)
    }

    #[test]
    fn operations_that_ended_are_forgotten_a_month_later() {
        let (_dir, mut core) = alice();
        let work = |m: &mut Machine, s: &mut Step<'_>| {
            let (channel, account) = (ChannelId([1; 16]), AccountId([2; 16]));
            let ends = [
                (IntentKind::Add, IntentState::Done),
                (IntentKind::Add, IntentState::Failed),
                (IntentKind::Add, IntentState::Claiming),
                (IntentKind::Revoke, IntentState::Failed),
            ];
            let mut ids = Vec::new();
            for (kind, state) in ends {
                let id = m.intend(s, &channel, (kind, &[account], 0))?;
                s.db.put_key_package(id, (&DeviceId([3; 16]), b"package"))?;
                s.db.set_intent(id, (state, Some("why")))?;
                ids.push(id);
            }
            let kept = |s: &Step<'_>| -> Vec<bool> {
                ids.iter().map(|id| s.db.intent(*id).unwrap().is_some()).collect()
            };
            look(m, s, 0)?;
            look(m, s, ENDED_KEPT_MS)?;
            assert_eq!(kept(s), [true; 4]);
            look(m, s, ENDED_KEPT_MS + 1)?;
            // What is under way stays, and the removal that is not to be tried again.
            assert_eq!(kept(s), [false, false, true, true]);
            assert!(
                s.db.intent_accounts(ids[0])?.is_empty() && s.db.key_packages(ids[0])?.is_empty()
            );
            assert_eq!(
                (s.db.intent_accounts(ids[2])?.len(), s.db.key_packages(ids[2])?.len()),
                (1, 1)
            );
            Ok(())
        };
        run(&mut core, work).unwrap();
    }

    #[test]
    fn nothing_waits_for_an_operation_that_ended() {
        let (_dir, mut core) = alice();
        let work = |m: &mut Machine, s: &mut Step<'_>| {
            let (channel, account) = (ChannelId([1; 16]), AccountId([2; 16]));
            let failed = m.intend(s, &channel, (IntentKind::Add, &[account], 0))?;
            let open = m.intend(s, &channel, (IntentKind::Add, &[account], 0))?;
            s.db.set_intent(failed, (IntentState::Failed, Some("why")))?;
            let kept = [Work::Claim(open, account), Work::Statement(open), Work::Commit(channel)];
            let gone = [Work::Claim(failed, account), Work::Statement(failed)];
            for work in kept.iter().chain(&gone) {
                m.pause(s, (work.clone(), None));
            }
            look(m, s, 0)?;
            assert_eq!(m.gauges().pauses, 3);
            assert!(kept.iter().all(|work| m.pauses.contains_key(work)));
            Ok(())
        };
        run(&mut core, work).unwrap();
    }

    /// Noted by a clock that was ahead: it is noted anew, and not kept until then.
    #[test]
    fn an_end_in_the_future_is_noted_anew() {
        let (_dir, mut core) = alice();
        let work = |m: &mut Machine, s: &mut Step<'_>| {
            let id = m.intend(s, &ChannelId([1; 16]), (IntentKind::Update, &[], 0))?;
            s.db.set_intent(id, (IntentState::Done, None))?;
            look(m, s, 1_000 * ENDED_KEPT_MS)?;
            look(m, s, 0)?;
            assert!(s.db.intent(id)?.is_some());
            look(m, s, ENDED_KEPT_MS + 1)?;
            assert!(s.db.intent(id)?.is_none());
            Ok(())
        };
        run(&mut core, work).unwrap();
    }

    fn listed(m: &mut Machine, s: &mut Step<'_>, last: MessageId) -> Result<(), ClientError> {
        m.upkeep = Upkeep::default();
        let state = ChannelState {
            channel: ChannelId([1; 16]),
            kind: ChannelKind::Group,
            head_seq: 0,
            join_seq: 1,
            acked_seq: 0,
            removal_seq: None,
            last_message_id: Some(last),
            retention_ms: 0,
            added_seq: 1,
            incarnation: Incarnation([0; 16]),
            successor: None,
        };
        m.listed(s, &[state])
    }

    #[test]
    fn ids_sealed_long_before_the_last_that_the_server_took_are_forgotten() {
        let (_dir, mut core) = alice();
        let work = |m: &mut Machine, s: &mut Step<'_>| {
            let row = active(m, s);
            let id = |number| MessageId([number; 16]);
            let long_ago = NOW - SEALED_KEPT_MS - 1;
            for (number, at_ms) in [(1, long_ago), (2, long_ago + 1), (3, NOW), (4, NOW + 1)] {
                s.db.note_sealed(&row.channel, (&id(number), at_ms))?;
            }
            // One as old waits for its answer still.
            m.queue(s, &row.channel, "late")?;
            let late = s.db.outbox(&row.channel, 1)?[0].id;
            s.db.seal((late, long_ago), (&id(5), 1, b"sealed"))?;
            // And so does an operation's statement.
            let leave = m.intend(s, &row.channel, (IntentKind::Leave, &[], 0))?;
            s.db.put_statement(leave, (b"statement", long_ago))?;
            let request_id = MessageId(s.db.intent(leave)?.unwrap().request_id.0);
            let known = |s: &Step<'_>| -> Vec<bool> {
                let all = [id(1), id(2), id(3), id(4), id(5), request_id];
                all.iter().map(|id| s.db.was_sealed(&row.channel, id).unwrap()).collect()
            };
            // The server may not have taken what was sealed since.
            listed(m, s, id(2))?;
            assert_eq!(known(s), [true; 6]);
            listed(m, s, id(3))?;
            assert_eq!(known(s), [false, true, true, true, true, true]);
            // None of this is the sign of a copy.
            assert!(s.events.is_empty(), "{:?}", s.events);
            Ok(())
        };
        run(&mut core, work).unwrap();
    }
}
