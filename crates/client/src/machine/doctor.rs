//! What is wrong with this client, as far as its own tables and its last connection show it. Mends
//! nothing.

use std::collections::BTreeSet;

use qpc_proto::message::{ChannelKind, KeyPackageStatus};

use super::store::{ChannelRow, State, Status};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view::{Finding, LossCode};

/// A message that waits longer is worth a look.
const WAITS_MS: u64 = 60 * 60 * 1_000;
/// A clock that is off by more is said; above the second, Commits may not be judged.
const CLOCK_MS: [u64; 2] = [60 * 1_000, 60 * 60 * 1_000];
/// A certificate that ends within this time is worth a look.
const CERTIFICATE_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Fewer KeyPackages at the server are worth a look.
const KEY_PACKAGES: u32 = 10;
/// An operation that was tried so often is worth a look.
const ATTEMPTS: u32 = 5;
/// Digits of a channel's id that name it on a command line.
const ID_DIGITS: usize = 8;

/// What the server said on this connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// Its clock less this machine's, in milliseconds.
    clock_ahead_ms: Option<i64>,
    key_packages: Option<KeyPackageStatus>,
}

impl Machine {
    /// Keeps what the server's clock showed.
    pub(super) fn told_time(&mut self, (server_ms, own_ms): (u64, u64)) {
        let ahead = i128::from(server_ms).saturating_sub(i128::from(own_ms));
        self.told.clock_ahead_ms = Some(i64::try_from(ahead).unwrap_or(i64::MAX));
    }

    /// Keeps how many KeyPackages the server has.
    pub(super) fn told_key_packages(&mut self, status: &KeyPackageStatus) {
        self.told.key_packages = Some(*status);
    }

    /// What a person should look at, and what is in order.
    ///
    /// # Errors
    /// The database.
    pub fn findings(&self, step: &Step<'_>) -> Result<Vec<Finding>, ClientError> {
        let mut all = vec![self.connection(), self.clock(), self.certificate(step.now_ms)];
        all.push(self.pool_left());
        self.outbox_findings(step, &mut all)?;
        self.channel_findings(step, &mut all)?;
        self.operation_findings(step, &mut all)?;
        self.standing_findings(step, &mut all)?;
        Ok(all)
    }

    fn connection(&self) -> Finding {
        if let Some(code) = self.stopped {
            let text = format!("this device is out: {}", code.as_str());
            let fix = "link this machine anew in an empty --home, or ask the operator";
            return Finding::problem("STOPPED", text).fix(fix);
        }
        if self.online {
            return Finding::ok("CONNECTION", "connected and logged in".to_owned());
        }
        let text = "no connection to the server; it is tried again by itself".to_owned();
        Finding::warning("NO_CONNECTION", text).fix("check the network, or ask the operator")
    }

    fn clock(&self) -> Finding {
        let Some(ahead) = self.told.clock_ahead_ms else {
            return Finding::unchecked("CLOCK", "this machine's clock: no server to compare with");
        };
        let off = ahead.unsigned_abs();
        let [some, much] = CLOCK_MS;
        let text = format!("this machine's clock is {} s off the server's", off / 1_000);
        if off > much {
            return Finding::problem("CLOCK_OFF", text).fix("set this machine's clock");
        }
        if off > some {
            return Finding::warning("CLOCK_OFF", text).fix("set this machine's clock");
        }
        Finding::ok("CLOCK", text)
    }

    fn certificate(&self, now_ms: u64) -> Finding {
        let device = self.profile.identity.device.device;
        let fix = "open qpc on the primary device: it renews the list";
        let Some(entry) = self.own.list.get(&device) else {
            let text = "this device is not in its account's list".to_owned();
            return Finding::problem("CERTIFICATE_ENDED", text).fix("link this device anew");
        };
        // What it holds is what others see; the list may be ahead of it.
        let held = self.held_certificate().map_or(0, |held| held.entry.not_after_ms);
        let left = held.min(entry.not_after_ms).saturating_sub(now_ms);
        let days = left / (24 * 60 * 60 * 1_000);
        let text = format!("this device's certificate ends in {days} days");
        if left == 0 {
            let text = "this device's certificate has ended: it joins nothing more".to_owned();
            Finding::problem("CERTIFICATE_ENDED", text).fix(fix)
        } else if left < CERTIFICATE_MS {
            Finding::warning("CERTIFICATE_ENDS", text).fix(fix)
        } else {
            Finding::ok("CERTIFICATE", text)
        }
    }

    fn pool_left(&self) -> Finding {
        let Some(status) = self.told.key_packages else {
            return Finding::unchecked("KEY_PACKAGES", "KeyPackages at the server: not asked yet");
        };
        let text = format!("the server has {} KeyPackages of this device", status.available);
        if status.available >= KEY_PACKAGES {
            return Finding::ok("KEY_PACKAGES", text);
        }
        let fix = "stay connected for a minute: more are made and uploaded";
        Finding::warning("KEY_PACKAGES_LOW", text).fix(fix)
    }

    fn outbox_findings(&self, step: &Step<'_>, all: &mut Vec<Finding>) -> Result<(), ClientError> {
        let lines = step.db.unsettled()?;
        let refused = lines.iter().filter(|line| line.state == State::Refused).count();
        let waiting = lines.iter().filter(|l| matches!(l.state, State::Waiting | State::Sealed));
        let (count, oldest) = waiting.fold((0_u64, step.now_ms), |(count, oldest), line| {
            (count.saturating_add(1), oldest.min(line.sent_at_ms))
        });
        let waited = step.now_ms.saturating_sub(oldest);
        let text = format!("{count} messages wait to be sent, the oldest {} min", waited / 60_000);
        all.push(match (count, waited > WAITS_MS) {
            (0, _) => Finding::ok("OUTBOX", "no message waits to be sent".to_owned()),
            (_, false) => Finding::ok("OUTBOX", text),
            (_, true) => Finding::warning("OUTBOX_WAITING", text).fix("see `qpc outbox list`"),
        });
        if refused > 0 {
            let text = format!("{refused} messages were refused for good");
            let fix = "`qpc outbox list`, then `resend` or `cancel`";
            all.push(Finding::warning("OUTBOX_REFUSED", text).fix(fix));
        }
        Ok(())
    }

    fn channel_findings(&self, step: &Step<'_>, all: &mut Vec<Finding>) -> Result<(), ClientError> {
        let rows = step.db.channels()?;
        let before = all.len();
        for row in rows.iter().filter(|row| row.kind != ChannelKind::Inbox) {
            all.extend(channel_finding(row));
        }
        let live = |row: &&ChannelRow| row.kind != ChannelKind::Inbox && row.status.seals();
        for row in rows.iter().filter(live) {
            all.extend(self.silence_finding(step, row)?);
        }
        if all.len() == before {
            all.push(Finding::ok("CHANNELS", "every channel is in order".to_owned()));
        }
        let inbox = rows.iter().find(|row| row.kind == ChannelKind::Inbox);
        if inbox.is_some_and(|row| matches!(row.status, Status::Alarm | Status::NeedsRepair)) {
            let text = "the inbox is not read any more: nobody can invite this device".to_owned();
            let fix = "tell the operator; link this machine anew if it stays so";
            all.push(Finding::problem("INBOX_STOPPED", text).fix(fix));
        }
        Ok(())
    }

    /// Members' devices of which nothing is heard any more.
    fn silence_finding(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<Option<Finding>, ClientError> {
        let Some(view) = self.old_view(step, row)? else { return Ok(None) };
        let silent = self.silent(step, (&row.channel, &view.members))?;
        let accounts: BTreeSet<_> = silent.iter().map(|device| device.account).collect();
        let own = self.profile.identity.device.account;
        let mut names = Vec::with_capacity(accounts.len());
        for account in &accounts {
            names.push(if *account == own { "you".into() } else { self.name_of(step, account)? });
        }
        if names.is_empty() {
            return Ok(None);
        }
        let (title, of, count) = (&row.title, names.join(", "), silent.len());
        let text = format!("{title}: nothing was heard of {count} devices for 90 days, of {of}");
        let finding = Finding::warning("MEMBER_SILENT", text).channel(row.channel.to_string());
        let fix = "a lost device can still read along: see `qpc members`, ask its owner, who \
            revokes it (`qpc device revoke`); or an admin removes them (`qpc group remove`)";
        Ok(Some(finding.fix(fix)))
    }

    fn operation_findings(
        &self,
        step: &Step<'_>,
        all: &mut Vec<Finding>,
    ) -> Result<(), ClientError> {
        let open = step.db.open_intents()?;
        let tried = open.iter().filter(|intent| intent.attempts >= ATTEMPTS).count();
        let mut sealed = 0_usize;
        for row in step.db.channels()? {
            sealed =
                sealed.saturating_add(usize::from(step.db.sealed_commit(&row.channel)?.is_some()));
        }
        let text = format!("{} operations are under way, {sealed} Commits sealed", open.len());
        all.push(match tried {
            0 => Finding::ok("OPERATIONS", text),
            _ => Finding::warning("OPERATIONS_STUCK", format!("{text}; {tried} do not get on"))
                .fix("stay connected; the group's other members may have to"),
        });
        Ok(())
    }

    fn standing_findings(
        &self,
        step: &Step<'_>,
        all: &mut Vec<Finding>,
    ) -> Result<(), ClientError> {
        let notices = step.db.notices(true)?.len();
        if notices > 0 {
            let text = format!("{notices} notices about this account were not read");
            all.push(Finding::warning("NOTICES_UNSEEN", text).fix("`qpc notices`"));
        }
        let losses = step.db.losses(None)?;
        // What every member skips alike is no loss.
        let lost = losses.iter().filter(|loss| loss.code != LossCode::Void.as_str());
        let count = lost.fold(0_u64, |count, loss| count.saturating_add(loss.count));
        if count > 0 {
            let text = format!("{count} entries were never read here, or could not be");
            all.push(Finding::warning("LOSSES", text).fix("`qpc losses` says which and why"));
        }
        if self.unclean {
            let text = "the last run was cut short; nothing is lost by it".to_owned();
            all.push(Finding::ok("UNCLEAN_END", text));
        }
        if self.profile.keys.root.is_some() {
            let text = "the recovery phrase was never shown: its key is still here".to_owned();
            all.push(Finding::warning("PHRASE_NOT_SHOWN", text).fix("`qpc phrase`"));
        }
        Ok(())
    }
}

fn channel_finding(row: &ChannelRow) -> Option<Finding> {
    let because = row.reason.as_deref().unwrap_or("no reason is known");
    let text = |what: &str| format!("{} {what}: {because}", row.title);
    let finding = match row.status {
        Status::NeedsRepair => {
            let finding = Finding::problem("GROUP_NEEDS_REPAIR", text("is out of step"));
            finding.fix(&format!("go on in a new channel: {}", reset_of(row)))
        }
        Status::Alarm => {
            let fix = "ask the other members by another way what they see; then go on in a new \
                channel";
            let finding = Finding::problem("GROUP_ALARM", text("is not read any more"));
            finding.fix(&format!("{fix}: {}", reset_of(row)))
        }
        Status::Held => Finding::warning("GROUP_HELD", text("can't be read on yet"))
            .fix("it is tried again by itself; check this machine's clock and disk"),
        Status::Rejoining => {
            let fix = "any other member's qpc does it when it is open; if none comes";
            let finding = Finding::warning("GROUP_REJOINING", text("waits to be joined again"));
            finding.fix(&format!("{fix}: {}", reset_of(row)))
        }
        Status::Creating
        | Status::Active
        | Status::Unconfirmed
        | Status::Leaving
        | Status::Left
        | Status::Failed
        | Status::Closed => return None,
    };
    Some(finding.channel(row.channel.to_string()))
}

/// The command that ends a channel and goes on in another, and who may run it.
fn reset_of(row: &ChannelRow) -> String {
    let id: String = row.channel.to_string().chars().take(ID_DIGITS).collect();
    let who = if row.peer.is_some() { "either side runs" } else { "an admin runs" };
    format!("{who} `qpc reset {id}`")
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::super::store::MessageRow;
    use super::super::tests::{NOW, alice, online, run};
    use super::*;
    use crate::core::Core;
    use crate::view::Severity;

    fn found(core: &mut Core, now_ms: u64) -> Vec<(Severity, String)> {
        let (all, _) = core.with((now_ms, &mut OsRng), |m, s| m.findings(s)).unwrap();
        for finding in &all {
            let said = matches!(finding.severity, Severity::Problem | Severity::Warning);
            assert_eq!(said, finding.fix.is_some(), "{finding:?}");
        }
        all.into_iter().map(|finding| (finding.severity, finding.code)).collect()
    }

    fn has(core: &mut Core, wanted: (Severity, &str)) -> bool {
        found(core, NOW).iter().any(|(severity, code)| (*severity, code.as_str()) == wanted)
    }

    #[test]
    fn a_client_without_a_server_says_what_it_could_not_check() {
        let (_dir, mut core) = alice();
        for wanted in [
            (Severity::Warning, "NO_CONNECTION"),
            (Severity::Unchecked, "CLOCK"),
            (Severity::Unchecked, "KEY_PACKAGES"),
            (Severity::Ok, "OUTBOX"),
            (Severity::Ok, "CERTIFICATE"),
        ] {
            assert!(has(&mut core, wanted), "{wanted:?}");
        }
        online(&mut core);
        assert!(has(&mut core, (Severity::Ok, "CONNECTION")));
    }

    #[test]
    fn a_clock_is_judged_at_its_bounds() {
        let (_dir, mut core) = alice();
        for (off, wanted) in [
            (60_000, (Severity::Ok, "CLOCK")),
            (60_001, (Severity::Warning, "CLOCK_OFF")),
            (3_600_000, (Severity::Warning, "CLOCK_OFF")),
            (3_600_001, (Severity::Problem, "CLOCK_OFF")),
        ] {
            for pair in [(NOW, NOW + off), (NOW + off, NOW)] {
                run(&mut core, |m, _| {
                    m.told_time(pair);
                    Ok(())
                })
                .unwrap();
                assert!(has(&mut core, wanted), "{off}");
            }
        }
    }

    #[test]
    fn a_certificate_is_judged_by_the_days_it_has_left() {
        let (_dir, mut core) = alice();
        let device = core.machine().profile.identity.device.device;
        let end = core.machine().own.list.get(&device).unwrap().not_after_ms;
        let code = |core: &mut Core, now_ms| {
            let all = found(core, now_ms);
            all.into_iter().find(|(_, code)| code.starts_with("CERTIFICATE")).unwrap()
        };
        let at = |left: u64| end - left;
        assert_eq!(code(&mut core, at(CERTIFICATE_MS)).0, Severity::Ok);
        assert_eq!(code(&mut core, at(CERTIFICATE_MS - 1)).0, Severity::Warning);
        assert_eq!(code(&mut core, end).0, Severity::Problem);
    }

    #[test]
    fn channels_messages_and_losses_are_told() {
        let (_dir, mut core) = alice();
        run(&mut core, |m, s| {
            let channel = m.create_group_channel(s, "Hikers")?.channel;
            let queued = m.queue(s, &channel, "waits")?;
            let refused = m.queue(s, &channel, "refused")?;
            s.db.refuse(refused.id, "PERMISSION_DENIED")?;
            let mut row = s.db.channel(&channel)?.unwrap();
            row.status = Status::NeedsRepair;
            s.db.put_channel(&row)?;
            let line: MessageRow = s.db.message(queued.id)?.unwrap();
            assert_eq!(line.state, State::Waiting);
            m.note_expired(s, &channel, (3, 9))
        })
        .unwrap();
        for wanted in [
            (Severity::Problem, "GROUP_NEEDS_REPAIR"),
            (Severity::Warning, "OUTBOX_REFUSED"),
            (Severity::Warning, "LOSSES"),
            (Severity::Ok, "OUTBOX"),
        ] {
            assert!(has(&mut core, wanted), "{wanted:?}");
        }
        let late = found(&mut core, NOW + WAITS_MS + 1);
        assert!(late.contains(&(Severity::Warning, "OUTBOX_WAITING".to_owned())), "{late:?}");
    }

    #[test]
    fn case_206_a_broken_channel_names_the_command_that_goes_on_without_it() {
        let (_dir, mut core) = alice();
        let mut row = run(&mut core, |m, s| {
            let channel = m.create_group_channel(s, "Hikers")?.channel;
            Ok(s.db.channel(&channel)?.unwrap())
        })
        .unwrap();
        let command = format!("`qpc reset {}`", &row.channel.to_string()[..ID_DIGITS]);
        for status in [Status::NeedsRepair, Status::Alarm, Status::Rejoining] {
            row.status = status;
            for (peer, who) in [(None, "an admin"), (Some(qpc_proto::AccountId::ZERO), "either")] {
                row.peer = peer;
                let fix = channel_finding(&row).unwrap().fix.unwrap();
                assert!(fix.contains(&command) && fix.contains(who), "{fix}");
            }
        }
        row.status = Status::Held;
        assert!(!channel_finding(&row).unwrap().fix.unwrap().contains("reset"));
    }

    #[test]
    fn codes_are_documented() {
        let page = include_str!("../../../../docs/use/doctor.md");
        let sources = [include_str!("doctor.rs"), include_str!("../doctor.rs")];
        let made = ["ok(\"", "warning(\"", "problem(\"", "unchecked(\""];
        let mut count = 0;
        for source in sources {
            let code = source.split("#[cfg(test)]").next().unwrap().replace("Finding::", "\n");
            for line in code.lines() {
                let Some(rest) = made.iter().find_map(|name| line.strip_prefix(name)) else {
                    continue;
                };
                let code = rest.split('"').next().unwrap();
                assert!(page.contains(&format!("| `{code}` |")), "{code} is not documented");
                count += 1;
            }
        }
        assert!(count > 20, "{count}");
    }
}
