//! What is shown: rows as views. Changes nothing.

use std::collections::BTreeMap;

use qpc_credential::safety_number;
use qpc_mls::MlsError;
use qpc_proto::message::ChannelKind;
use qpc_proto::{AccountId, ChannelId, Digest};

use super::contacts::key_changed;
use super::metadata::role;
use super::store::{ChannelRow, ContactRow, MessageRow, State, Status};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view;

/// What a target's text stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A channel.
    Channel(ChannelId),
    /// A contact without a direct channel.
    Contact(AccountId),
    /// Nothing known here.
    Unknown,
}

/// Shortest prefix of a channel id that names it.
const PREFIX_MIN: usize = 8;

impl Machine {
    /// This client.
    pub fn whoami(&self) -> view::Whoami {
        let device = self.profile.identity.device;
        view::Whoami {
            name: self.profile.name.clone(),
            account: device.account.to_string(),
            device: device.device.to_string(),
            server: self.profile.server.clone(),
            root: self.profile.identity.root.to_string(),
            primary: self.is_primary(),
            stopped: self.stopped.map(|code| code.as_str().to_owned()),
        }
    }

    /// Finds what a target stands for: a group's title, a contact's name, a channel id or its
    /// start.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when it stands for more than one thing; [`ClientError::KeyChanged`]
    /// for a name that changed hands.
    pub fn resolve(&self, step: &Step<'_>, target: &str) -> Result<Target, ClientError> {
        let channels = step.db.channels()?;
        let live = |row: &&ChannelRow| row.kind != ChannelKind::Inbox;
        let is_id = target.len() >= PREFIX_MIN && target.bytes().all(|b| b.is_ascii_hexdigit());
        let by_id = |row: &&ChannelRow| is_id && row.channel.to_string().starts_with(target);
        let by_title = |row: &&ChannelRow| row.kind == ChannelKind::Group && row.title == target;
        let groups: Vec<_> =
            channels.iter().filter(live).filter(|row| by_id(row) || by_title(row)).collect();
        let contacts = step.db.contacts_named(&target.to_lowercase())?;
        undecided(&contacts)?;
        // What ended stands aside when something of the name lives.
        let over = |row: &&&ChannelRow| {
            !matches!(row.status, Status::Left | Status::Failed | Status::Closed)
        };
        let current: Vec<_> = groups.iter().filter(over).copied().collect();
        let groups = if current.is_empty() && contacts.is_empty() { groups } else { current };
        match (groups.as_slice(), contacts.as_slice()) {
            ([], []) => Ok(Target::Unknown),
            ([row], []) => Ok(Target::Channel(row.channel)),
            ([], [contact]) => Ok(match step.db.direct_channel(&contact.account)? {
                Some(row) => Target::Channel(row.channel),
                None => Target::Contact(contact.account),
            }),
            _ => Err(ambiguous(target, (&groups, &contacts))),
        }
    }

    /// The contact of a name; `None` when nobody of that name was met.
    ///
    /// # Errors
    /// [`ClientError::KeyChanged`] when the name changed hands and the user has not decided.
    pub fn contact(&self, step: &Step<'_>, name: &str) -> Result<Option<AccountId>, ClientError> {
        let named = step.db.contacts_named(&name.to_lowercase())?;
        undecided(&named)?;
        match named.as_slice() {
            [] => Ok(None),
            [contact] => Ok(Some(contact.account)),
            several => Err(ambiguous(name, (&[], several))),
        }
    }

    /// How a look-up ended: `None` while it goes on.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's refusal.
    pub fn looked_up(&self, step: &Step<'_>, name: &str) -> Result<Option<AccountId>, ClientError> {
        match self.lookups.get(name) {
            Some(Some(refusal)) => Err(ClientError::Refused(refusal.clone())),
            Some(None) => Ok(None),
            None => self.contact(step, name),
        }
    }

    /// All contacts.
    ///
    /// # Errors
    /// The database.
    pub fn contacts(&self, step: &Step<'_>) -> Result<Vec<view::Contact>, ClientError> {
        Ok(step.db.contacts()?.into_iter().map(contact_view).collect())
    }

    /// The safety number with a contact.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] for an unknown account.
    pub fn safety_number(
        &self,
        step: &Step<'_>,
        account: &AccountId,
    ) -> Result<view::SafetyNumber, ClientError> {
        let contact = step.db.contact(account)?;
        let contact = contact.ok_or_else(|| ClientError::NotFound("no such contact".into()))?;
        Ok(view::SafetyNumber {
            name: contact.name,
            safety_number: safety_number(&self.profile.identity.root, &contact.root),
            verified: contact.verified,
        })
    }

    /// All channels but the inbox.
    ///
    /// # Errors
    /// The database.
    pub fn channels(&self, step: &Step<'_>) -> Result<Vec<view::Channel>, ClientError> {
        let rows = step.db.channels()?;
        let shown = rows.iter().filter(|row| row.kind != ChannelKind::Inbox);
        shown.map(|row| self.channel_view(step, row)).collect()
    }

    /// One channel.
    ///
    /// # Errors
    /// [`ClientError::NotFound`].
    pub fn channel(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
    ) -> Result<view::Channel, ClientError> {
        let row = step.db.channel(channel)?;
        let row = row.ok_or_else(|| ClientError::NotFound("no such channel".into()))?;
        self.channel_view(step, &row)
    }

    pub(super) fn channel_view(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<view::Channel, ClientError> {
        let group = match self.engine.view(step.db.0, &row.group) {
            Ok(group) => Some(group),
            Err(MlsError::UnknownGroup) => None,
            Err(error) => return Err(error.into()),
        };
        let own = self.profile.identity.device.account;
        Ok(view::Channel {
            channel: row.channel.to_string(),
            kind: match row.kind {
                ChannelKind::Direct => "direct",
                ChannelKind::Group => "group",
                ChannelKind::Inbox => "inbox",
            }
            .to_owned(),
            title: row.title.clone(),
            description: group.as_ref().map(|g| g.context.description.clone()).unwrap_or_default(),
            role: group.as_ref().map(|g| role(g.context.role(&own))),
            status: status(row.status),
            reason: match (&row.reason, row.status.seals()) {
                (None, true) => self.withheld(step, row)?.or(self.worn(step, row)?),
                (reason, _) => reason.clone(),
            },
            cursor: row.cursor,
            epoch: group.map_or(0, |group| group.epoch),
            base_commit: row.base_commit,
            outbox: step.db.outbox_len(Some(&row.channel))?,
            retention_ms: (row.retention_ms > 0).then_some(row.retention_ms),
        })
    }

    /// The last messages of a channel, oldest first.
    ///
    /// # Errors
    /// The database.
    pub fn history(
        &self,
        step: &Step<'_>,
        (channel, limit): (&ChannelId, u64),
    ) -> Result<Vec<view::Message>, ClientError> {
        let title = self.channel(step, channel)?.title;
        let rows = step.db.history(channel, limit)?;
        rows.iter().map(|row| self.message_view(step, (row, &title))).collect()
    }

    /// Messages not yet marked as seen, oldest first.
    ///
    /// # Errors
    /// The database.
    pub fn unseen(&self, step: &Step<'_>, limit: u64) -> Result<Vec<view::Message>, ClientError> {
        let titles: BTreeMap<_, _> =
            step.db.channels()?.into_iter().map(|row| (row.channel, row.title)).collect();
        let rows = step.db.unseen(limit)?;
        rows.iter()
            .map(|row| {
                let title = titles.get(&row.channel).map_or("", String::as_str);
                self.message_view(step, (row, title))
            })
            .collect()
    }

    /// One line of history.
    ///
    /// # Errors
    /// [`ClientError::NotFound`].
    pub fn message(&self, step: &Step<'_>, id: u64) -> Result<view::Message, ClientError> {
        let row = step.db.message(id)?;
        let row = row.ok_or_else(|| ClientError::NotFound(format!("no message {id}")))?;
        let title = step.db.channel(&row.channel)?.map(|channel| channel.title);
        self.message_view(step, (&row, &title.unwrap_or_default()))
    }

    /// Own messages that are not settled.
    ///
    /// # Errors
    /// The database.
    pub fn outbox_len(&self, step: &Step<'_>) -> Result<u64, ClientError> {
        Ok(step.db.outbox_len(None)?)
    }

    /// Whether a connection is open and everything the server had at login has been read.
    pub fn is_caught_up(&self) -> bool {
        self.online && self.caught_up
    }

    /// Whether the server has KeyPackages of this device, so that others can add it.
    ///
    /// # Errors
    /// The database.
    pub fn is_reachable(&self, step: &Step<'_>) -> Result<bool, ClientError> {
        Ok(self.online && !self.status_due && step.db.upload()?.is_none())
    }

    /// What members compare to know that they are in step: MLS epoch, RFC 9420 section 8.7
    /// authenticator, last Commit applied, cursor and the head of the log there.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] for an unknown channel.
    pub fn standing(&self, step: &Step<'_>, channel: &ChannelId) -> Result<Standing, ClientError> {
        let row = step.db.channel(channel)?;
        let row = row.ok_or_else(|| ClientError::NotFound("no such channel".into()))?;
        let group = self.engine.view(step.db.0, &row.group)?;
        Ok(Standing {
            epoch: group.epoch,
            epoch_authenticator: group.epoch_authenticator,
            base_commit: row.base_commit,
            cursor: row.cursor,
            head: row.head,
        })
    }

    pub(super) fn message_view(
        &self,
        step: &Step<'_>,
        (row, title): (&MessageRow, &str),
    ) -> Result<view::Message, ClientError> {
        let own = row.sender.account == self.profile.identity.device.account;
        let sender = if row.sender.account.is_zero() {
            String::new()
        } else {
            self.name_of(step, &row.sender.account)?
        };
        Ok(view::Message {
            id: row.id,
            channel: row.channel.to_string(),
            title: title.to_owned(),
            seq: row.seq,
            sender,
            own,
            text: row.text.clone(),
            state: match row.state {
                State::Waiting => view::MessageState::Waiting,
                State::Sealed => view::MessageState::Sealed,
                State::Accepted => view::MessageState::Accepted,
                State::Refused => view::MessageState::Refused,
                State::Received => view::MessageState::Received,
                State::Unreadable => view::MessageState::Unreadable,
                State::Notice => view::MessageState::Notice,
                State::Cancelled => view::MessageState::Cancelled,
            },
            code: match (row.state, row.seq) {
                (State::Unreadable, Some(seq)) => step.db.loss_code(&row.channel, seq)?,
                _ => None,
            },
            reason: row.reason.clone(),
            sent_at_ms: row.sent_at_ms,
            accepted_at_ms: row.accepted_at_ms,
            warnings: Vec::new(),
        })
    }
}

/// How a device stands in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// MLS epoch.
    pub epoch: u64,
    /// Equal for all members in step.
    pub epoch_authenticator: Vec<u8>,
    /// The last Commit applied.
    pub base_commit: u64,
    /// The last entry read.
    pub cursor: u64,
    /// The hash chain's head there.
    pub head: Digest,
}

fn status(status: Status) -> view::ChannelStatus {
    match status {
        Status::Creating => view::ChannelStatus::Creating,
        Status::Active => view::ChannelStatus::Active,
        Status::Unconfirmed => view::ChannelStatus::Unconfirmed,
        Status::Leaving => view::ChannelStatus::Leaving,
        Status::Left => view::ChannelStatus::Left,
        Status::Held => view::ChannelStatus::Held,
        Status::NeedsRepair => view::ChannelStatus::NeedsRepair,
        Status::Alarm => view::ChannelStatus::Alarm,
        Status::Failed => view::ChannelStatus::Failed,
        Status::Rejoining => view::ChannelStatus::Rejoining,
        Status::Closed => view::ChannelStatus::Closed,
    }
}

pub(super) fn contact_view(row: ContactRow) -> view::Contact {
    view::Contact {
        name: row.name,
        account: row.account.to_string(),
        verified: row.verified,
        held: row.held,
    }
}

/// A name that another account had before names nobody until the user decides.
fn undecided(contacts: &[ContactRow]) -> Result<(), ClientError> {
    let held = contacts.iter().find(|contact| contact.held && contacts.len() > 1);
    held.map_or(Ok(()), |contact| Err(ClientError::KeyChanged(key_changed(&contact.name))))
}

fn ambiguous(target: &str, (channels, contacts): (&[&ChannelRow], &[ContactRow])) -> ClientError {
    let channels = channels.iter().map(|row| format!("{} ({})", row.channel, row.title));
    let contacts = contacts.iter().map(|row| format!("{} (account {})", row.name, row.account));
    let all: Vec<_> = channels.chain(contacts).collect();
    ClientError::Usage(format!(
        "{target} stands for more than one: use a channel id of {}",
        all.join(", ")
    ))
}
