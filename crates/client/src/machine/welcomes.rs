//! Joining by a Welcome from the inbox, and the accounts that come with it.

use std::collections::BTreeSet;

use qpc_credential::Certificate;
use qpc_mls::MlsError;
use qpc_mls::engine::Joined;
use qpc_proto::AccountId;
use qpc_proto::message::{ChannelKind, Entry, WelcomePointer};

use super::inbox::Progress;
use super::store::{ChannelRow, Status};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view::Event;

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
        if let Some(old) = step.db.channel(&pointer.channel)? {
            // The old membership is read to its end first; what it held cannot be read afterwards.
            if old.status.reads() && old.cursor.saturating_add(1) < pointer.join_seq {
                return Ok(Progress::Hold("an invitation waits for the log before it".into()));
            }
            if old.cursor >= pointer.join_seq {
                return Ok(Progress::Advance);
            }
        }
        match self.engine.join(step.db.0, &pointer, welcome) {
            Ok(joined) => self.joined(step, (&pointer, &joined))?,
            Err(MlsError::Refused(reason)) => {
                self.alarm(step, place, format!("an invitation was refused: {reason}"))?;
            }
            Err(MlsError::Credential(error)) => {
                self.alarm(step, place, format!("an invitation was refused: {error}"))?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Progress::Advance)
    }

    fn inbox(&self) -> qpc_proto::ChannelId {
        qpc_proto::message::inbox_channel(&self.profile.identity.device.device)
    }

    fn joined(
        &mut self,
        step: &mut Step<'_>,
        (pointer, joined): (&WelcomePointer, &Joined),
    ) -> Result<(), ClientError> {
        let own = self.profile.identity.device.account;
        let mut accounts = BTreeSet::new();
        let mut peer = None;
        for member in &joined.view.members {
            let account = member.certificate.device().account;
            accounts.insert(account);
            if account != own {
                self.meet(step, &member.certificate)?;
                peer = Some((account, member.certificate.name.clone()));
            }
        }
        let inviter = joined.inviter.device();
        let provisional = accounts.len() > 2;
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
        for place in
            [&mut row.cursor, &mut row.known_head, &mut row.base_commit, &mut row.last_commit]
        {
            *place = pointer.join_seq;
        }
        step.db.put_channel(&row)?;
        step.db.note_head(&row.channel, (row.cursor, &row.head))?;
        // What came after the join is not known yet: the server tells.
        self.list_due = true;
        let text = format!("{} added you", joined.inviter.name);
        self.notice(step, &row, (inviter, row.cursor, text))?;
        let view = self.channel_view(step, &row)?;
        step.events.push(Event::Channel(view));
        Ok(())
    }

    /// Notes an account at first sight; a name that another account had before is told.
    pub(super) fn meet(
        &self,
        step: &mut Step<'_>,
        certificate: &Certificate,
    ) -> Result<(), ClientError> {
        let account = certificate.device().account;
        self.meet_account(step, &account, (&certificate.name, &certificate.account_key.root))
    }

    pub(super) fn meet_account(
        &self,
        step: &mut Step<'_>,
        account: &AccountId,
        (name, root): (&str, &qpc_proto::PublicKey),
    ) -> Result<(), ClientError> {
        if *account == self.profile.identity.device.account {
            return Ok(());
        }
        let namesakes = step.db.contacts_named(name)?;
        let changed = namesakes.iter().any(|other| other.account != *account);
        if step.db.meet(account, (name, root))? && changed {
            let text = format!(
                "the name {name} now belongs to another key: compare the safety number before \
                 you write"
            );
            self.alarm(step, None, text)?;
        }
        Ok(())
    }

    /// The name of an account, or the start of its id.
    pub(super) fn name_of(
        &self,
        step: &Step<'_>,
        account: &AccountId,
    ) -> Result<String, ClientError> {
        let own = &self.profile.identity.device.account;
        if account == own {
            return Ok(self.profile.name.clone());
        }
        let contact = step.db.contact(account)?;
        Ok(contact.map_or_else(|| account.to_string(), |contact| contact.name))
    }
}
