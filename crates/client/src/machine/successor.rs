//! Where what waits goes when its channel is not the one that goes on: to a channel with the same
//! people, as this device knows them.
//!
//! Never goes by the word of the server, or of whoever signed something, alone.

use qpc_mls::engine::Joined;
use qpc_proto::message::{ChannelKind, inbox_channel};
use qpc_proto::roster::Role;
use qpc_proto::{ChannelId, ErrorBody, ErrorDetail};

use super::commands::Started;
use super::store::{
    ChannelRow, EndedRow, IntentKind, IntentRow, IntentState, Status, TakesPlaceRow,
};
use super::{Machine, Step, Work};
use crate::error::ClientError;
use crate::view::Event;

impl Machine {
    /// The user lets what waits go where nothing shows that it may.
    pub(super) fn accept_successor(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
    ) -> Result<Option<Started>, ClientError> {
        let successor = step.db.ended(&row.channel)?.and_then(|ended| ended.successor);
        let Some(successor) = successor.filter(|_| row.status == Status::Closed) else {
            return Ok(None);
        };
        let (Some(new), Some(says)) =
            (step.db.channel(&successor)?, step.db.takes_place(&successor)?)
        else {
            return Ok(None);
        };
        if says.accepted || !is_like(row, (&new, &says)) {
            return Ok(None);
        }
        step.db.put_takes_place(&successor, &TakesPlaceRow { accepted: true, ..says })?;
        self.succeed(step, row, &successor)?;
        Ok(Some(Started { intent: None, channel: successor }))
    }

    /// Moves what waits to the successor of a channel that has ended, once this device is in it.
    pub(super) fn succeed(
        &mut self,
        step: &mut Step<'_>,
        old: &mut ChannelRow,
        successor: &ChannelId,
    ) -> Result<(), ClientError> {
        let restored = step.db.ended(&old.channel)?.is_some_and(|ended| ended.restored);
        let Some(new) = step.db.channel(successor)? else { return Ok(()) };
        let is_in = !new.status.is_over() && new.status != Status::Creating;
        if !is_in || !(restored || old.status == Status::Closed) {
            return Ok(());
        }
        if !self.may_take_place(step, old, &new)? {
            return self.is_not_followed(step, old, &new);
        }
        self.moves_to(step, old, &new)
    }

    /// Whether what waits in a channel may go to another: it is of the same kind, with the same
    /// peer, says that it takes its place, and was made by who might end it. Neither the old log
    /// nor the server's word is enough: a server can put anybody's statement there.
    fn may_take_place(
        &self,
        step: &Step<'_>,
        old: &ChannelRow,
        new: &ChannelRow,
    ) -> Result<bool, ClientError> {
        let Some(says) = step.db.takes_place(&new.channel)? else { return Ok(false) };
        if !is_like(old, (new, &says)) {
            return Ok(false);
        }
        if says.accepted || old.kind == ChannelKind::Direct {
            return Ok(true);
        }
        let view = self.old_view(step, old)?;
        Ok(view.is_some_and(|view| view.context.role(&says.maker) == Role::Admin))
    }

    /// What waits stays where it is; the user is told once what there is to decide.
    fn is_not_followed(
        &self,
        step: &mut Step<'_>,
        old: &mut ChannelRow,
        new: &ChannelRow,
    ) -> Result<(), ClientError> {
        let text = match step.db.takes_place(&new.channel)? {
            Some(says) if is_like(old, (new, &says)) => format!(
                "{} takes its place ({}), made by {}, who might not end it: what you write waits \
                 here; compare with the others, then `qpc reset` sends it there",
                new.title,
                new.channel,
                self.name_of(step, &says.maker)?,
            ),
            Some(_) | None => format!(
                "the server says that {} ({}) takes its place, which is of other people: nothing \
                 is sent there",
                new.title, new.channel,
            ),
        };
        if old.reason.as_ref() == Some(&text) {
            return Ok(());
        }
        old.reason = Some(text.clone());
        step.db.put_channel(old)?;
        let own = self.profile.identity.device;
        self.notice(step, old, (own, old.cursor, text))
    }

    /// This device is in a channel that may take another's place: made here, or joined.
    pub(super) fn took_place(
        &mut self,
        step: &mut Step<'_>,
        successor: &ChannelId,
    ) -> Result<(), ClientError> {
        let Some((old, _)) = step.db.replaced_by(successor)? else { return Ok(()) };
        let Some(mut old) = step.db.channel(&old)? else { return Ok(()) };
        self.succeed(step, &mut old, successor)
    }

    /// A group that says it takes a channel's place does if its maker might end that channel.
    pub(super) fn joined_successor(
        &mut self,
        step: &mut Step<'_>,
        (successor, joined): (&ChannelId, &Joined),
    ) -> Result<(), ClientError> {
        let Some(replaces) = joined.view.context.replaces else { return Ok(()) };
        let maker = joined.inviter.device().account;
        let says = TakesPlaceRow { replaces, maker, accepted: false };
        step.db.put_takes_place(successor, &says)?;
        let (Some(old), Some(new)) = (step.db.channel(&replaces)?, step.db.channel(successor)?)
        else {
            return Ok(());
        };
        let mut ended = step.db.ended(&replaces)?.unwrap_or_default();
        if ended.successor != Some(*successor) {
            if old.status == Status::Closed || !self.may_take_place(step, &old, &new)? {
                return Ok(());
            }
            self.drop_own_successor(step, &ended)?;
            ended.successor = Some(*successor);
            ended.statement = None;
            step.db.put_ended(&replaces, &ended)?;
        }
        self.took_place(step, successor)
    }

    /// The pair has a direct channel already: what was written moves there once this device is in
    /// it.
    pub(super) fn adopt(
        &mut self,
        step: &mut Step<'_>,
        (intent, channel): (&IntentRow, &ChannelId),
        body: &ErrorBody,
    ) -> Result<(), ClientError> {
        let mut live = match &body.detail {
            Some(ErrorDetail::Channel(live)) => step.db.channel(live)?,
            _ => None,
        };
        // The answer may be older than what this device has read since.
        if let Some(ended) = live.as_ref().filter(|row| row.status == Status::Closed) {
            let goes_on_in = step.db.ended(&ended.channel)?.and_then(|ended| ended.successor);
            live = goes_on_in.map(|next| step.db.channel(&next)).transpose()?.flatten();
        }
        let mut made = step.db.channel(channel)?;
        let pair = |row: &ChannelRow| (row.kind, row.peer);
        if let (Some(live), Some(made)) = (&live, &mut made)
            && pair(live) != pair(made)
            && live.status != Status::Rejoining
        {
            let text = "the server names a channel with somebody else in place of this one";
            if made.reason.as_deref() != Some(text) {
                made.reason = Some(text.to_owned());
                step.db.put_channel(made)?;
                self.alarm(step, Some((made.channel, 0)), text.to_owned())?;
            }
            self.pause(step, (Work::Commit(*channel), None));
            return Ok(());
        }
        // Of a channel that this device never was in, its peer is known when it is taken in.
        let is_same =
            |live: &ChannelRow| made.as_ref().is_some_and(|made| pair(live) == pair(made));
        let fits = |row: &ChannelRow| is_same(row) && row.status != Status::Closed;
        let Some(live) = live.filter(|row| intent.kind == IntentKind::Create && fits(row)) else {
            // Its invitation is on its way, or was lost.
            let inbox = inbox_channel(&self.profile.identity.device.device);
            if let Some(inbox) = step.db.channel(&inbox)? {
                self.lost_invitations(step, &inbox)?;
            }
            self.list_due = true;
            self.pause(step, (Work::Commit(*channel), None));
            return Ok(());
        };
        if let Some(row) = made {
            self.rebase(step, &row)?;
            self.engine.forget(step.db.0, &row.group)?;
        }
        if let Some((old, ended)) = step.db.replaced_by(channel)? {
            self.goes_on_in(step, (&old, ended), &live)?;
        }
        step.db.move_messages(channel, &live.channel)?;
        step.db.delete_channel(channel)?;
        step.db.move_intent(intent.id, &live.channel)?;
        Ok(step.db.set_intent(intent.id, (IntentState::Done, None))?)
    }

    /// What was to take a channel's place is not made, for the pair has a direct channel, by this
    /// device's own knowledge with the same peer: what waits goes there.
    fn goes_on_in(
        &mut self,
        step: &mut Step<'_>,
        (old, ended): (&ChannelId, EndedRow),
        live: &ChannelRow,
    ) -> Result<(), ClientError> {
        let Some(mut old) = step.db.channel(old)? else { return Ok(()) };
        let ended = EndedRow { successor: Some(live.channel), statement: None, ..ended };
        step.db.put_ended(&old.channel, &ended)?;
        self.moves_to(step, &mut old, live)
    }

    /// What waits in a channel waits in another from now on, messages and operations, and the first
    /// one is over.
    fn moves_to(
        &self,
        step: &mut Step<'_>,
        old: &mut ChannelRow,
        new: &ChannelRow,
    ) -> Result<(), ClientError> {
        step.db.unseal_all(&old.channel)?;
        step.db.move_waiting(&old.channel, &new.channel)?;
        self.moves_operations(step, old, new)?;
        old.status = Status::Closed;
        old.reason = Some(format!("it goes on as {} ({})", new.title, new.channel));
        step.db.put_channel(old)?;
        let view = self.channel_view(step, old)?;
        step.events.push(Event::Channel(view));
        Ok(())
    }

    /// What the user wanted in a channel is wanted in another; all else follows anew from what is
    /// there.
    fn moves_operations(
        &self,
        step: &mut Step<'_>,
        old: &ChannelRow,
        new: &ChannelRow,
    ) -> Result<(), ClientError> {
        for intent in step.db.open_in(&old.channel)? {
            let wanted =
                matches!(intent.kind, IntentKind::Add | IntentKind::Remove | IntentKind::Context);
            if !wanted || intent.state == IntentState::Sealed {
                step.db.set_intent(intent.id, (IntentState::Done, None))?;
                continue;
            }
            step.db.move_intent(intent.id, &new.channel)?;
            if intent.kind == IntentKind::Add {
                // A Commit that the old log took may have used its KeyPackages.
                self.claim_all_again(step, intent.id)?;
            }
        }
        Ok(())
    }
}

/// Whether a channel says that it takes another's place, and is one of the same people as far as
/// that is fixed.
fn is_like(old: &ChannelRow, (new, says): (&ChannelRow, &TakesPlaceRow)) -> bool {
    says.replaces == old.channel && new.kind == old.kind && new.peer == old.peer
}

#[cfg(test)]
mod tests {
    use qpc_proto::AccountId;

    use super::super::tests::{alice, run};
    use super::*;

    #[test]
    fn a_channel_of_another_kind_or_peer_or_that_names_another_takes_no_place() {
        let row = |id, kind, peer: Option<u8>| {
            let mut row = ChannelRow::new(ChannelId([id; 16]), kind, Status::Active);
            row.peer = peer.map(|peer| AccountId([peer; 16]));
            row
        };
        let maker = AccountId([2; 16]);
        let says = |id| TakesPlaceRow { replaces: ChannelId([id; 16]), maker, accepted: true };
        let old = row(1, ChannelKind::Direct, Some(2));
        assert!(is_like(&old, (&row(3, ChannelKind::Direct, Some(2)), &says(1))));
        assert!(!is_like(&old, (&row(3, ChannelKind::Direct, Some(4)), &says(1))));
        assert!(!is_like(&old, (&row(3, ChannelKind::Group, None), &says(1))));
        assert!(!is_like(&old, (&row(3, ChannelKind::Direct, Some(2)), &says(5))));
    }

    /// The server named the pair's channel, which ended before its answer was read. (Seed 2967.)
    #[test]
    fn what_waits_goes_to_where_a_named_channel_has_gone_on() {
        let (_dir, mut core) = alice();
        let work = |m: &mut Machine, s: &mut Step<'_>| {
            let peer = Some(AccountId([2; 16]));
            let [named, goes_on, made] = [1, 3, 5].map(|id| ChannelId([id; 16]));
            for (channel, status) in
                [(named, Status::Closed), (goes_on, Status::Active), (made, Status::Creating)]
            {
                let row = ChannelRow::new(channel, ChannelKind::Direct, status);
                s.db.put_channel(&ChannelRow { peer, ..row })?;
            }
            let ended = EndedRow { successor: Some(goes_on), ..EndedRow::default() };
            s.db.put_ended(&named, &ended)?;
            let id = m.intend(s, &made, (IntentKind::Create, &[], 0))?;
            m.queue(s, &made, "waits")?;
            let intent = s.db.intent(id)?.unwrap();
            let mut body = ErrorBody::new(qpc_proto::ErrorCode::ChannelExists, "it is there");
            body.detail = Some(ErrorDetail::Channel(named));
            m.adopt(s, (&intent, &made), &body)?;
            assert_eq!(s.db.outbox(&goes_on, 10)?.len(), 1);
            assert!(s.db.outbox(&named, 10)?.is_empty());
            Ok(())
        };
        run(&mut core, work).unwrap();
    }
}
