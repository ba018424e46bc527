//! Reading after a run that ended without saying so: something in a log may have killed it. Counts
//! how often reading began at a place and did not come to its end, and sets the entry aside that
//! this program dies of.
//!
//! In a run that follows an orderly end nothing of this is written.

use qpc_proto::ChannelId;
use qpc_proto::message::{ChannelKind, DeviceRef, Entry, EntryKind, Page};
use qpc_proto::{AccountId, DeviceId};

use super::commits::NOT_FOR_US;
use super::inbox::Progress;
use super::ledger::CRASHED;
use super::{Machine, Step};
use crate::error::ClientError;

/// Pages that are tried whole before their entries are tried one by one.
const WHOLE_MAX: u64 = 3;
/// Stands for an entry that was tried alone.
const ALONE: u64 = 1_000;

/// How a page is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Approach {
    /// All of it in one transaction.
    Whole,
    /// Each entry in its own.
    OneByOne,
    /// The first unread entry was tried alone and did not come to its end: it is set aside.
    SetAside,
}

impl Machine {
    /// Whether pages of a channel are read warily: until the first one of it was read in a run
    /// after an unclean end.
    pub(crate) fn is_wary(&self, channel: &ChannelId) -> bool {
        self.unclean && !self.proven.contains(channel)
    }

    /// A page of the channel was read to its end.
    pub(crate) fn proved(&mut self, channel: &ChannelId) {
        if self.unclean {
            self.proven.insert(*channel);
        }
    }

    /// The last entry of a channel that was read.
    pub(crate) fn cursor(&self, step: &Step<'_>, channel: &ChannelId) -> Result<u64, ClientError> {
        Ok(step.db.channel(channel)?.map_or(0, |row| row.cursor))
    }

    /// Notes that reading a page begins.
    pub(crate) fn begin_page(&self, step: &Step<'_>, page: &Page) -> Result<Approach, ClientError> {
        let cursor = self.cursor(step, &page.channel)?;
        let mut unread = page.entries.iter().map(|entry| entry.seq).filter(|seq| *seq > cursor);
        let Some(first) = unread.next() else { return Ok(Approach::Whole) };
        let tries = match step.db.attempt(&page.channel)? {
            Some((seq, tries)) if seq == first => tries,
            Some(_) | None => 0,
        };
        if tries >= ALONE {
            return Ok(Approach::SetAside);
        }
        step.db.put_attempt(&page.channel, (first, tries.saturating_add(1)))?;
        Ok(if tries < WHOLE_MAX { Approach::Whole } else { Approach::OneByOne })
    }

    /// Notes that reading an entry alone begins.
    pub(crate) fn begin_entry(
        &self,
        step: &Step<'_>,
        (channel, seq): (&ChannelId, u64),
    ) -> Result<(), ClientError> {
        Ok(step.db.put_attempt(channel, (seq, ALONE))?)
    }

    /// What was begun has come to its end; part of the transaction that read it.
    pub(crate) fn end_attempt(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
    ) -> Result<(), ClientError> {
        Ok(step.db.drop_attempt(channel)?)
    }

    /// Passes over an entry that this program dies of, in its place, and shows it.
    pub(crate) fn set_entry_aside(
        &mut self,
        step: &mut Step<'_>,
        (channel, entry): (&ChannelId, &Entry),
    ) -> Result<(), ClientError> {
        self.end_attempt(step, channel)?;
        let Some(mut row) = step.db.channel(channel)? else { return Ok(()) };
        let Some(incarnation) = self.profile.incarnation else { return Ok(()) };
        let next = entry.seq == row.cursor.saturating_add(1);
        if !next || !self.continues(step, &mut row, (&incarnation, entry))? {
            return Ok(step.db.put_channel(&row)?);
        }
        if row.kind != ChannelKind::Inbox && entry.kind == EntryKind::Commit {
            // Others may have put it in force: this device may have strayed.
            let progress = self.skip(step, &mut row, (entry, NOT_FOR_US))?;
            debug_assert!(matches!(progress, Progress::Advance), "a skipped Commit is passed");
            row.last_commit = entry.seq;
            let nobody = DeviceRef { account: AccountId::ZERO, device: DeviceId::ZERO };
            let text = format!("a Commit is passed over: {CRASHED}");
            self.notice(step, &row, (nobody, entry.seq, text))?;
        } else {
            self.keep(step, &row, (entry, CRASHED))?;
        }
        (row.cursor, row.head) = (entry.seq, entry.head);
        step.db.note_head(&row.channel, (entry.seq, &entry.head))?;
        tracing::error!(seq = entry.seq, "an entry is set aside that this program fails on");
        Ok(step.db.put_channel(&row)?)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use qpc_proto::chain::{Link, Log};
    use qpc_proto::message::{Notice, NoticeKind, Response, inbox_channel};
    use qpc_proto::{Digest, Incarnation, MessageId};
    use rand_core::OsRng;

    use super::super::tests::{NOW, alice, online, run};
    use super::super::{Input, Pool, Work};
    use super::*;
    use crate::core::{Core, Output};
    use crate::view::Event;

    const NOTICES: u64 = 5;

    /// A client that follows its inbox, and a page of notices in it.
    fn inbox() -> (tempfile::TempDir, Core, Page) {
        inbox_with(|seq| NOW + seq)
    }

    /// The same with notices of these times.
    fn inbox_with(at_ms: impl Fn(u64) -> u64) -> (tempfile::TempDir, Core, Page) {
        let (dir, mut core) = alice();
        let incarnation = Incarnation([7; 16]);
        run(&mut core, |m, s| {
            s.db.set_incarnation(&incarnation)?;
            m.profile.incarnation = Some(incarnation);
            m.compared = true;
            m.open_inbox(s)
        })
        .unwrap();
        let device = core.machine().profile.identity.device.device;
        let log = Log { incarnation, channel: inbox_channel(&device) };
        let mut head = Digest::ZERO;
        let entries = (1..=NOTICES).map(|seq| {
            let notice = Notice { kind: NoticeKind::Linked, device, at_ms: at_ms(seq) };
            let mut entry = Entry {
                seq,
                kind: EntryKind::Notice,
                after_commit: 0,
                accepted_at_ms: NOW,
                message_id: MessageId([1; 16]),
                payload: notice.encode().into(),
                roster_change: Bytes::new(),
                statements: Vec::new(),
                welcome_hash: Digest::ZERO,
                head: Digest::ZERO,
                welcome: None,
            };
            entry.head = log.next(&head, &Link::of(&entry));
            head = entry.head;
            entry
        });
        let entries = entries.collect();
        let page = Page { channel: log.channel, entries, head_seq: NOTICES, published: Vec::new() };
        (dir, core, page)
    }

    fn reopened(core: Core) -> Core {
        let mut core = Core::open(core.into_store(), Pool::default()).unwrap();
        run(&mut core, |m, _| {
            m.compared = true;
            Ok(())
        })
        .unwrap();
        core
    }

    fn notices(core: &mut Core) -> usize {
        run(core, |m, s| m.notices(s, false)).unwrap().len()
    }

    fn lost(core: &mut Core) -> Vec<(u64, String)> {
        let losses = run(core, |m, s| m.losses(s, None)).unwrap();
        losses.into_iter().map(|loss| (loss.seq, loss.code)).collect()
    }

    fn alarms(output: &Output) -> usize {
        output.events.iter().filter(|event| matches!(event, Event::Alarm { .. })).count()
    }

    #[test]
    fn case_154_an_entry_that_panics_is_set_aside_and_the_others_are_read() {
        let (_dir, mut core, page) = inbox();
        run(&mut core, |m, _| {
            m.poison = Some(3);
            Ok(())
        })
        .unwrap();
        let answer = Input::Answer(Work::Fetch(page.channel), Ok(Response::Page(page.clone())));
        let output = core.step((NOW, &mut OsRng), answer).unwrap();
        assert_eq!(alarms(&output), 1, "it is told");
        assert_eq!(notices(&mut core), 4);
        assert_eq!(lost(&mut core), [(3, "CRASHED".to_owned())]);
        assert_eq!(run(&mut core, |m, s| m.cursor(s, &page.channel)).unwrap(), NOTICES);
        // It comes again, and is passed over.
        core.step((NOW, &mut OsRng), Input::Page(page)).unwrap();
        assert_eq!(notices(&mut core), 4);
    }

    /// An error would end the session, and the next one would fail on the same page, for ever.
    #[test]
    fn case_154_an_entry_with_a_number_that_no_column_holds_is_set_aside() {
        let (_dir, mut core, page) = inbox_with(|seq| if seq == 3 { u64::MAX } else { NOW + seq });
        for whole in [
            Input::Page(page.clone()),
            Input::Answer(Work::Fetch(page.channel), Ok(Response::Page(page.clone()))),
        ] {
            core.step((NOW, &mut OsRng), whole).unwrap();
            assert_eq!(notices(&mut core), 4);
            assert_eq!(lost(&mut core), [(3, "CRASHED".to_owned())]);
            assert_eq!(run(&mut core, |m, s| m.cursor(s, &page.channel)).unwrap(), NOTICES);
        }
    }

    /// A run that dies in the middle leaves what it had noted before, and nothing else.
    fn dies(core: Core, page: &Page) -> (Core, Approach) {
        let mut core = reopened(core);
        assert!(core.machine().is_wary(&page.channel));
        let approach = run(&mut core, |m, s| m.begin_page(s, page)).unwrap();
        (core, approach)
    }

    #[test]
    fn case_154_an_entry_that_kills_the_program_is_found_and_set_aside() {
        let (_dir, mut core, page) = inbox();
        for _ in 0..3 {
            let (died, approach) = dies(core, &page);
            assert_eq!(approach, Approach::Whole);
            core = died;
        }
        let (mut died, approach) = dies(core, &page);
        assert_eq!(approach, Approach::OneByOne);
        // The first two are read, the third kills it.
        for entry in &page.entries[..2] {
            let single = Page { entries: vec![entry.clone()], ..page.clone() };
            run(&mut died, |m, s| m.begin_entry(s, (&page.channel, entry.seq))).unwrap();
            run(&mut died, |m, s| {
                m.handle(s, Input::Page(single))?;
                m.end_attempt(s, &page.channel)
            })
            .unwrap();
        }
        run(&mut died, |m, s| m.begin_entry(s, (&page.channel, 3))).unwrap();
        let mut core = reopened(died);
        core.step((NOW, &mut OsRng), Input::Page(page.clone())).unwrap();
        assert_eq!(lost(&mut core), [(3, "CRASHED".to_owned())]);
        assert_eq!(notices(&mut core), 4);
        assert!(!core.machine().is_wary(&page.channel), "once a run");
    }

    #[test]
    fn a_run_after_an_orderly_end_writes_nothing_of_this() {
        let (dir, core, page) = inbox();
        core.close().unwrap();
        let home = crate::home::Home::new(dir.path().join("h"));
        let store = home.open(&crate::home::Unlock::Automatic).unwrap();
        let mut core = Core::open(store, Pool::default()).unwrap();
        assert!(!core.machine().is_wary(&page.channel));
        run(&mut core, |m, _| {
            m.compared = true;
            Ok(())
        })
        .unwrap();
        core.step((NOW, &mut OsRng), Input::Page(page.clone())).unwrap();
        assert_eq!(notices(&mut core), 5);
        assert_eq!(run(&mut core, |_, s| Ok(s.db.attempt(&page.channel)?)).unwrap(), None);
        let core = reopened(core);
        assert!(core.machine().is_wary(&page.channel), "a run was cut short");
    }

    #[test]
    fn a_page_that_fails_for_another_reason_does_not_count() {
        let (_dir, core, page) = inbox();
        let mut core = reopened(core);
        for _ in 0..10 {
            // What can't be judged now leaves the cursor, and is no crash.
            run(&mut core, |m, _| {
                m.compared = false;
                Ok(())
            })
            .unwrap();
            core.step((NOW, &mut OsRng), Input::Page(page.clone())).unwrap();
            core = reopened(core);
        }
        online(&mut core);
        core.step((NOW, &mut OsRng), Input::Page(page)).unwrap();
        assert_eq!(lost(&mut core), []);
        assert_eq!(notices(&mut core), 5);
    }
}
