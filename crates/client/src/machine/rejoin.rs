//! How a device that lost its place in a group comes back: it says so in the log, with a KeyPackage
//! made for this alone, and any member takes it out and in again by one Commit.
//!
//! What is wanted stands in the database. Seals nothing from a state that was given up.

use qpc_credential::{Rejoin, RejoinReason, StatementBody};
use qpc_mls::MlsError;
use qpc_proto::message::{ChannelKind, ChannelState, Entry, EntryKind};
use qpc_proto::{ChannelId, Digest, ErrorBody, ErrorCode};

use super::commits::OUT;
use super::inbox::Progress;
use super::store::{ChannelRow, IntentKind, IntentRow, IntentState, RejoinRow, Status};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view::Event;

/// What a rejoin waits for.
const WAITS: &str = "it asked to be taken in again and waits until a member's client is online";
/// As above.
pub(super) const SOON: &str =
    "it asked to be taken in again less than an hour ago, and does so again then";
/// As above.
const ENDED: &str = "this device's certificate has ended: it asks to be taken in again \
     once the primary device has renewed it";
/// A device asks once in this time and channel, in milliseconds.
pub(super) const ASK_EVERY_MS: u64 = 3_600_000;
/// How long a rejoin stands at the server: as long as its KeyPackage can be added.
pub(super) const REJOIN_STANDS_MS: u64 = 30 * 24 * 3_600_000;
/// What was refused counts as asked so long ago: for the same join it is asked again an hour later.
pub(super) const REFUSED_MS: u64 = REJOIN_STANDS_MS - ASK_EVERY_MS;

/// Why, for a person.
fn told(reason: RejoinReason) -> &'static str {
    match reason {
        RejoinReason::Expired => "a change of the group expired before this device read it",
        RejoinReason::Copy => "this home was restored from an older copy",
        RejoinReason::Branch => {
            "the members went on without a change that this device had applied, \
             or with one that it could not apply"
        }
        RejoinReason::Damaged => "this device's state of the group is damaged or gone",
    }
}

impl Machine {
    /// This device lost its place in a channel: from now on it seals nothing there, reads on as far
    /// as it can, and asks to be taken in again.
    pub(super) fn want_rejoin(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        reason: RejoinReason,
    ) -> Result<(), ClientError> {
        let mut rejoin = step.db.rejoin(&row.channel)?;
        let lost = match row.status {
            Status::Active | Status::Unconfirmed | Status::Held | Status::NeedsRepair => true,
            Status::Rejoining => rejoin.wanted.is_none(),
            Status::Creating
            | Status::Leaving
            | Status::Left
            | Status::Alarm
            | Status::Failed
            | Status::Closed => false,
        };
        if row.kind == ChannelKind::Inbox || !lost {
            return Ok(());
        }
        self.rebase(step, row)?;
        if reason == RejoinReason::Damaged {
            self.engine.forget(step.db.0, &row.group)?;
        }
        rejoin.wanted = Some(reason.code());
        if rejoin.joined_seq == 0 {
            // An earlier version did not note it: no invitation up to here counts again.
            rejoin.joined_seq = row.base_commit;
        }
        step.db.put_rejoin(&row.channel, &rejoin)?;
        row.status = Status::Rejoining;
        row.reason = Some(format!("{}: it asks to be taken in again", told(reason)));
        self.surveyed.remove(&row.channel);
        step.db.put_channel(row)?;
        let text = format!("{}; nothing is sent until a member takes it in again", told(reason));
        let own = self.profile.identity.device;
        self.notice(step, row, (own, row.cursor, text))
    }

    /// Signs what is to be asked now: once for each time that this device was added, and not more
    /// often than the limit allows.
    pub(super) fn ask_to_rejoin(&mut self, step: &mut Step<'_>) -> Result<(), ClientError> {
        let Some(incarnation) = self.profile.incarnation.filter(|_| self.compared) else {
            return Ok(());
        };
        for channel in step.db.rejoins_wanted()? {
            let Some(mut row) = step.db.channel(&channel)? else { continue };
            let rejoin = step.db.rejoin(&channel)?;
            let waiting = !self.open_of(step, (&channel, IntentKind::Rejoin))?.is_empty();
            let latest = if rejoin.latest_seq > 0 { rejoin.latest_seq } else { rejoin.joined_seq };
            let reason = rejoin.wanted.and_then(|code| RejoinReason::from_code(code).ok());
            let (Some(reason), Status::Rejoining) = (reason, row.status) else { continue };
            let since = step.now_ms.saturating_sub(rejoin.asked_ms);
            let stands = rejoin.asked_seq == latest && since <= REJOIN_STANDS_MS;
            if waiting || latest == 0 || stands {
                continue;
            }
            if rejoin.asked_ms > 0 && since < ASK_EVERY_MS {
                self.explain(step, &mut row, (reason, SOON))?;
                continue;
            }
            if self.has_ended(step)? {
                self.explain(step, &mut row, (reason, ENDED))?;
                continue;
            }
            let key_package = self.engine.key_package(step.db.0, true, step.now_ms)?.bytes.into();
            let body = StatementBody::Rejoin(Rejoin {
                incarnation,
                join_seq: latest,
                base_commit: row.base_commit,
                reason,
                key_package,
            });
            let statement = self.signed_statement(step, (&channel, body))?;
            let intent = self.intend(step, &channel, (IntentKind::Rejoin, &[], 0))?;
            step.db.put_statement(intent, (&statement, step.now_ms))?;
            let asked = RejoinRow { asked_seq: latest, ..rejoin };
            step.db.put_rejoin(&channel, &asked)?;
        }
        Ok(())
    }

    /// Says what a rejoin waits for, once.
    pub(super) fn explain(
        &self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (reason, waits): (RejoinReason, &str),
    ) -> Result<(), ClientError> {
        let text = Some(format!("{}: {waits}", told(reason)));
        if row.reason == text {
            return Ok(());
        }
        row.reason = text;
        step.db.put_channel(row)?;
        let view = self.channel_view(step, row)?;
        step.events.push(Event::Channel(view));
        Ok(())
    }

    /// The server took what this device asked: from now on it waits for a member.
    pub(super) fn asked_to_rejoin(
        &self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
    ) -> Result<(), ClientError> {
        let mut rejoin = step.db.rejoin(&row.channel)?;
        rejoin.asked_ms = step.now_ms;
        step.db.put_rejoin(&row.channel, &rejoin)?;
        let reason = rejoin.wanted.and_then(|code| RejoinReason::from_code(code).ok());
        match (reason, row.status) {
            (Some(reason), Status::Rejoining) => self.explain(step, row, (reason, WAITS)),
            _ => Ok(()),
        }
    }

    /// The server refused what this device asked: it stands already, or another join is the latest.
    /// Who was removed meanwhile is out.
    pub(super) fn rejoin_refused(
        &mut self,
        step: &mut Step<'_>,
        intent: &IntentRow,
        body: &ErrorBody,
    ) -> Result<(), ClientError> {
        step.db.set_intent(intent.id, (IntentState::Failed, Some(body.code.as_str())))?;
        let Some(mut row) = step.db.channel(&intent.channel)? else { return Ok(()) };
        if body.code == ErrorCode::NotMember && row.status == Status::Rejoining {
            return self.out_meanwhile(step, &mut row);
        }
        // A later join may be known by now: then it asks again.
        self.list_due = true;
        let mut rejoin = step.db.rejoin(&row.channel)?;
        // What was not taken does not count for the limit: for another join it asks at once.
        rejoin.asked_ms = step.now_ms.saturating_sub(REFUSED_MS);
        step.db.put_rejoin(&row.channel, &rejoin)?;
        let reason = rejoin.wanted.and_then(|code| RejoinReason::from_code(code).ok());
        let (Some(reason), Status::Rejoining) = (reason, row.status) else { return Ok(()) };
        let waits = format!("{WAITS} (the server says: {})", body.message);
        self.explain(step, &mut row, (reason, &waits))
    }

    /// Nobody takes in again who was removed: what is left of the log is read no more.
    pub(super) fn out_meanwhile(
        &self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
    ) -> Result<(), ClientError> {
        (row.status, row.reason) = (Status::Left, None);
        self.refuse_outbox(step, row, OUT)?;
        self.give_up_changes(step, row, OUT)?;
        step.db.put_channel(row)?;
        let own = self.profile.identity.device;
        self.notice(step, row, (own, row.cursor, "you are out".into()))?;
        let view = self.channel_view(step, row)?;
        step.events.push(Event::Channel(view));
        Ok(())
    }

    /// This device is in by the Commit at `seq`.
    pub(super) fn is_in(
        &self,
        step: &Step<'_>,
        (channel, seq): (&ChannelId, u64),
    ) -> Result<(), ClientError> {
        let RejoinRow { asked_seq, asked_ms, gap_at, .. } = step.db.rejoin(channel)?;
        let row = RejoinRow {
            joined_seq: seq,
            latest_seq: seq,
            asked_seq,
            asked_ms,
            // A founding Commit may have expired with others behind it.
            gap_at: gap_at.filter(|at| *at > seq),
            ..RejoinRow::default()
        };
        step.db.put_rejoin(channel, &row)?;
        // What still stands is said again behind that Commit. Who left may have come back
        // meanwhile.
        for (account, _) in step.db.standing(channel)? {
            step.db.drop_removals(channel, &account)?;
            step.db.drop_standing(channel, &account)?;
        }
        for standing in step.db.standing_rejoins(channel)? {
            step.db.drop_standing_rejoin(channel, &standing.device)?;
        }
        Ok(())
    }

    /// Entries expired unread: reading goes on where the log begins now. Whether a Commit was among
    /// them shows in the first entry that is left.
    pub(super) fn pass_gap(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (first, boundary): (u64, Digest),
    ) -> Result<(), ClientError> {
        let count = first.saturating_sub(row.cursor).saturating_sub(1);
        self.note_expired(step, &row.channel, (row.cursor, first))?;
        (row.cursor, row.head) = (first.saturating_sub(1), boundary);
        row.known_head = row.known_head.max(row.cursor);
        let mut rejoin = step.db.rejoin(&row.channel)?;
        rejoin.gap_at = Some(row.cursor);
        step.db.put_rejoin(&row.channel, &rejoin)?;
        step.db.put_channel(row)?;
        self.own_in_gap(step, row)?;
        let own = self.profile.identity.device;
        let text = match count {
            1 => "1 message expired before this device read it".to_owned(),
            _ => format!("{count} messages expired before this device read them"),
        };
        self.notice(step, row, (own, row.cursor, text))
    }

    /// An entry names another last Commit than was read. Right behind expired entries that is no
    /// lie: a Commit was among them.
    pub(super) fn is_behind_gap(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        after_commit: u64,
    ) -> Result<bool, ClientError> {
        let gap_at = step.db.rejoin(&row.channel)?.gap_at;
        let expired = gap_at == Some(row.cursor)
            && row.last_commit < after_commit
            && after_commit <= row.cursor;
        if expired {
            row.last_commit = after_commit;
            self.want_rejoin(step, row, RejoinReason::Expired)?;
        }
        Ok(expired)
    }

    /// What the server says of this device's membership. A home that is behind what its device did
    /// is an older copy: its ratchets were used already.
    pub(super) fn compare_membership(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        state: &ChannelState,
    ) -> Result<(), ClientError> {
        if self.asks_whether_out(step, row, state)? {
            return Ok(());
        }
        self.removed_unread(step, row, state)?;
        let mut rejoin = step.db.rejoin(&row.channel)?;
        // Not always a later one: a Commit on a base before this device's last join puts back the
        // join of that base. The list may be older than what came meanwhile.
        let knows_of_it = rejoin.latest_seq <= state.head_seq;
        if knows_of_it && rejoin.latest_seq != state.added_seq {
            rejoin.latest_seq = state.added_seq;
            step.db.put_rejoin(&row.channel, &rejoin)?;
        }
        let sent_elsewhere = match &state.last_message_id {
            Some(id) => !step.db.was_sealed(&row.channel, id)?,
            None => false,
        };
        let behind = state.acked_seq > row.cursor || sent_elsewhere;
        if row.kind == ChannelKind::Inbox {
            // Nothing is sealed in it, and whoever takes this device back says so there: it is
            // read on, whatever is missing. An earlier version stopped it.
            if row.status == Status::NeedsRepair {
                (row.status, row.reason) = (Status::Active, None);
            }
            return if behind { self.lost_invitations(step, row) } else { Ok(()) };
        }
        self.lost_long_ago(step, row, state)?;
        if !behind || !row.status.reads() || row.status == Status::Rejoining {
            return Ok(());
        }
        // Cursors are acknowledged, and entries sent, after they are on disk.
        let text = "this home was restored from an older copy: nothing is sent from it";
        self.alarm(step, Some((row.channel, state.acked_seq)), text.to_owned())?;
        if let Some(id) = &state.last_message_id {
            step.db.note_sealed(&row.channel, (id, step.now_ms))?;
        }
        self.interrupted(step, row)?;
        self.want_rejoin(step, row, RejoinReason::Copy)?;
        if row.status != Status::Rejoining {
            row.status = Status::NeedsRepair;
            row.reason = Some("this home was restored from an older copy".to_owned());
        }
        Ok(())
    }

    /// What reading an entry came to in a channel where this device lost its place: it goes on, for
    /// nothing there can succeed later.
    pub(super) fn read_without_place(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (entry, read): (&Entry, Result<Progress, ClientError>),
    ) -> Result<Progress, ClientError> {
        if row.kind == ChannelKind::Inbox {
            return read;
        }
        if let Err(ClientError::Mls(error)) = &read
            && is_damage(error)
        {
            self.want_rejoin(step, row, RejoinReason::Damaged)?;
        }
        let why = match &read {
            Ok(Progress::Hold(reason)) => reason.clone(),
            Err(ClientError::Mls(error)) if is_damage(error) => error.to_string(),
            Ok(Progress::Advance) | Err(_) => return read,
        };
        if row.status != Status::Rejoining {
            return read;
        }
        self.keep(step, row, (entry, &why))?;
        if entry.kind == EntryKind::Commit {
            row.last_commit = entry.seq;
        }
        Ok(Progress::Advance)
    }

    /// A Commit took this device out and in again: its invitation comes by the inbox. What was
    /// written waits for it.
    pub(super) fn taken_out_and_in(
        &mut self,
        step: &Step<'_>,
        row: &mut ChannelRow,
        seq: u64,
    ) -> Result<(), ClientError> {
        let mut rejoin = step.db.rejoin(&row.channel)?;
        rejoin.latest_seq = rejoin.latest_seq.max(seq);
        step.db.put_rejoin(&row.channel, &rejoin)?;
        row.status = Status::Rejoining;
        row.reason = Some("a member takes this device in again".to_owned());
        Ok(())
    }

    /// An invitation back could not be used: this device asks with another KeyPackage.
    pub(super) fn invitation_spoilt(
        &mut self,
        step: &mut Step<'_>,
        old: &ChannelRow,
        join_seq: u64,
    ) -> Result<(), ClientError> {
        let mut row = old.clone();
        let mut rejoin = step.db.rejoin(&row.channel)?;
        rejoin.latest_seq = rejoin.latest_seq.max(join_seq);
        step.db.put_rejoin(&row.channel, &rejoin)?;
        if row.status == Status::Rejoining {
            self.want_rejoin(step, &mut row, RejoinReason::Damaged)?;
        }
        Ok(())
    }
}

/// What no later attempt does better: this device has no group, or one that is no good.
fn is_damage(error: &MlsError) -> bool {
    matches!(error, MlsError::UnknownGroup | MlsError::NotMember)
}
