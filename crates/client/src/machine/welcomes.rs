//! Joining by a Welcome from the inbox, and the accounts that come with it.

use std::collections::BTreeSet;

use qpc_mls::MlsError;
use qpc_mls::engine::Joined;
use qpc_proto::message::{ChannelKind, DeviceRef, Entry, WelcomePointer};
use qpc_proto::{AccountId, DeviceId};

use super::commits::{ELSEWHERE, NOT_FOR_US};
use super::inbox::Progress;
use super::store::{ChannelRow, Status};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view::Event;

/// What becomes of an invitation into a known channel.
enum Claim {
    Joins,
    /// It joins if one of the group that this device strayed from invites: these accounts.
    JoinsBy(BTreeSet<AccountId>),
    /// The log before it comes first.
    Waits,
    /// This device has been further already.
    Old,
    Refused(&'static str),
}

impl Machine {
    pub(super) fn welcome(
        &mut self,
        step: &mut Step<'_>,
        entry: &Entry,
    ) -> Result<Progress, ClientError> {
        let place = Some((self.inbox(), entry.seq));
        let (Ok(pointer), Some(welcome)) =
            (WelcomePointer::decode(&entry.payload), entry.welcome.as_ref())
        else {
            self.alarm(step, place, "an invitation that does not parse".to_owned())?;
            return Ok(Progress::Advance);
        };
        let old = step.db.channel(&pointer.channel)?;
        let claim = old.as_ref().map_or(Ok(Claim::Joins), |old| self.claim(step, old, &pointer))?;
        let by = match claim {
            Claim::Joins => None,
            Claim::JoinsBy(accounts) => Some(accounts),
            Claim::Waits => {
                return Ok(Progress::Hold("an invitation waits for the log before it".into()));
            }
            Claim::Old => return Ok(Progress::Advance),
            Claim::Refused(why) => {
                self.alarm(step, place, format!("an invitation was refused: {why}"))?;
                return Ok(Progress::Advance);
            }
        };
        let known = self.known_accounts(step, old.as_ref())?;
        let joined = step.db.0.savepoint(|tx| {
            let joined = self.engine.join(tx, &pointer, welcome)?;
            let inviter = joined.inviter.device().account;
            let is_in = |account: &AccountId| {
                joined.view.members.iter().any(|m| m.certificate.device().account == *account)
            };
            let allowed = by.is_none_or(|accounts| accounts.contains(&inviter))
                && old.as_ref().and_then(|old| old.peer).is_none_or(|peer| is_in(&peer));
            allowed.then_some(joined).ok_or(MlsError::Refused("this device is in its channel"))
        });
        match joined {
            Ok(joined) => {
                self.joined(step, (&pointer, &joined), old.as_ref())?;
                self.leaf_joined(step, (&pointer.channel, welcome))?;
                self.listen(step, (&pointer.channel, entry.accepted_at_ms))?;
                self.taken_back_by(step, (&pointer.channel, &joined), known)?;
            }
            Err(
                error @ (MlsError::Refused(_)
                | MlsError::Credential(_)
                | MlsError::UnknownKeyPackage),
            ) => {
                let why = error.to_string();
                let why = why.strip_prefix("refused: ").unwrap_or(&why);
                self.alarm(step, place, format!("an invitation was refused: {why}"))?;
                if let Some(old) = &old {
                    self.invitation_spoilt(step, old, pointer.join_seq)?;
                } else if matches!(error, MlsError::UnknownKeyPackage)
                    && let Some(inbox) = step.db.channel(&self.inbox())?
                {
                    // An older copy of this home is back, from before it made that package.
                    self.lost_invitations(step, &inbox)?;
                    self.list_due = true;
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Progress::Advance)
    }

    /// What an invitation means for a channel that is known here. Who invites chooses the channel,
    /// and the group: neither may take the place of one that this device is in.
    fn claim(
        &self,
        step: &Step<'_>,
        old: &ChannelRow,
        pointer: &WelcomePointer,
    ) -> Result<Claim, ClientError> {
        if old.kind != pointer.kind {
            return Ok(Claim::Refused("its channel is known as one of another kind"));
        }
        let rejoin = step.db.rejoin(&old.channel)?;
        // Its base may be the very Commit that takes it out and in again.
        let base = if old.status == Status::Rejoining { 0 } else { old.base_commit };
        let been = base.max(rejoin.joined_seq);
        if been >= pointer.join_seq {
            return Ok(Claim::Old);
        }
        match old.status {
            Status::Active | Status::Unconfirmed => {}
            Status::Leaving if old.reason.is_none() => {}
            Status::Creating => return Ok(Claim::Refused("its channel is being created here")),
            Status::Closed => return Ok(Claim::Refused("its channel goes on as another")),
            // What it can read of the old membership it reads first.
            Status::Rejoining if old.cursor.saturating_add(1) < pointer.join_seq => {
                return Ok(Claim::Waits);
            }
            // Its reader is held, by a Commit that it may never judge: who added that may not keep
            // this device from its other invitations.
            Status::Leaving => return Ok(Claim::Joins),
            Status::Left
            | Status::Held
            | Status::NeedsRepair
            | Status::Rejoining
            | Status::Alarm
            | Status::Failed => {
                return Ok(Claim::Joins);
            }
        }
        // The old membership is read to its end first; what it held cannot be read afterwards.
        if old.cursor.saturating_add(1) < pointer.join_seq {
            return Ok(Claim::Waits);
        }
        let way = (old.base_commit, pointer.join_seq);
        if !step.db.kept_between(&old.channel, way, [ELSEWHERE, NOT_FOR_US])? {
            return Ok(Claim::Refused("this device is in its channel"));
        }
        let members = self.engine.view(step.db.0, &old.group)?.members;
        let accounts = members.iter().map(|member| member.certificate.device().account);
        Ok(Claim::JoinsBy(accounts.collect()))
    }

    fn inbox(&self) -> qpc_proto::ChannelId {
        qpc_proto::message::inbox_channel(&self.profile.identity.device.device)
    }

    fn joined(
        &mut self,
        step: &mut Step<'_>,
        (pointer, joined): (&WelcomePointer, &Joined),
        old: Option<&ChannelRow>,
    ) -> Result<(), ClientError> {
        let own = self.profile.identity.device.account;
        let mut accounts = BTreeSet::new();
        let mut peer = None;
        let leaves: Vec<_> = joined.view.members.iter().map(|leaf| &leaf.certificate).collect();
        self.meet_leaves(step, &leaves)?;
        for member in &joined.view.members {
            let account = member.certificate.device().account;
            accounts.insert(account);
            if account != own {
                peer = Some((account, self.name_of(step, &account)?));
            }
        }
        let inviter = joined.inviter.device();
        // A device of the own account vouches for what it takes this one into.
        let provisional = accounts.len() > 2 && !self.is_sibling(&joined.inviter);
        let direct = pointer.kind == ChannelKind::Direct;
        let status = if provisional { Status::Unconfirmed } else { Status::Active };
        let mut row = ChannelRow::new(pointer.channel, pointer.kind, status);
        row.title = match (&peer, direct) {
            (Some((_, name)), true) => name.clone(),
            _ => joined.view.context.title.clone(),
        };
        row.peer = peer.filter(|_| direct).map(|(account, _)| account);
        row.group = joined.group;
        row.head = pointer.head;
        row.inviter = provisional.then_some(inviter.account);
        row.held_by = self.holder(step, &row, &inviter.account)?;
        self.surveyed.remove(&row.channel);
        for place in [&mut row.cursor, &mut row.base_commit, &mut row.last_commit] {
            *place = pointer.join_seq;
        }
        // Nothing is read before the list says that it is a channel of this life of the server.
        if let Some(old) = old {
            row.known_head = row.known_head.max(old.known_head);
            step.db.rewind(&row.channel, row.cursor)?;
            self.own_in_gap(step, &row)?;
            if old.group != row.group {
                self.engine.forget(step.db.0, &old.group)?;
            }
        }
        self.came_back(step, (&row, old))?;
        step.db.put_channel(&row)?;
        self.is_in(step, (&row.channel, row.cursor))?;
        step.db.note_head(&row.channel, (row.cursor, &row.head))?;
        // What came after the join is not known yet, nor whether this device was here before: the
        // server tells, and nothing is sealed until then.
        self.list_due = true;
        self.unlisted.insert(row.channel);
        let again = old.is_some_and(|old| old.status == Status::Rejoining);
        let name = self.name_of(step, &inviter.account)?;
        let text = match again {
            true => format!("{name} took this device in again"),
            false => format!("{name} added you"),
        };
        self.notice(step, &row, (inviter, row.cursor, text))?;
        self.joined_successor(step, (&row.channel, joined))?;
        let view = self.channel_view(step, &row)?;
        step.events.push(Event::Channel(view));
        Ok(())
    }

    /// Whom the user must accept before anything is sealed: who took this device in, or the other
    /// side of a direct channel.
    fn holder(
        &self,
        step: &mut Step<'_>,
        row: &ChannelRow,
        inviter: &AccountId,
    ) -> Result<Option<AccountId>, ClientError> {
        let account = row.peer.unwrap_or(*inviter);
        let held = step.db.contact(&account)?.filter(|contact| contact.held);
        if let Some(contact) = &held {
            let about = DeviceRef { account, device: DeviceId::ZERO };
            let text = format!("WARNING: {}", super::contacts::key_changed(&contact.name));
            self.notice(step, row, (about, row.cursor, text))?;
        }
        Ok(held.map(|contact| contact.account))
    }
}
