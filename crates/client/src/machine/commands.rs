//! What the user wants done. Each command only writes rows; the work follows from them.

use qpc_proto::message::{ChannelKind, inbox_channel};
use qpc_proto::roster::Role;
use qpc_proto::{AccountId, ChannelId, limits};

use super::metadata::checked_title;
use super::store::{ChannelRow, IntentKind, IntentState, State, Status};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view;

/// An operation that was started, and the channel it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Its number; `None` when there was nothing to do.
    pub intent: Option<u64>,
    /// The channel.
    pub channel: ChannelId,
}

impl Machine {
    /// Writes a message into the outbox; it is durable when the transaction is.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for an empty or oversized text or a channel that takes none;
    /// [`ClientError::KeyChanged`] for a direct channel with an account that is not accepted.
    pub fn queue(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        text: &str,
    ) -> Result<view::Message, ClientError> {
        // The sealed entry must fit: text, envelope, padding and MLS framing.
        if text.is_empty() || text.len() > limits::PAYLOAD_BYTES_MAX.saturating_sub(4096) {
            return Err(ClientError::Usage("a message has 1 byte to 5 MiB".into()));
        }
        let row = self.takes_messages(step, channel)?;
        let warnings = self.warnings(step, channel)?;
        let own = self.profile.identity.device;
        let mut line = self.line(step, &row, (own, State::Waiting));
        line.text = text.to_owned();
        line.seen = true;
        let id = step.db.insert_message(&line)?.ok_or(ClientError::Internal("content id"))?;
        step.db.queue(id, channel)?;
        line.id = id;
        let view = self.message_view(step, (&line, &row.title))?;
        Ok(view::Message { warnings, ..view })
    }

    /// Opens the direct channel with a contact, creating it if there is none.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for the own account; [`ClientError::KeyChanged`] for one that the
    /// user has not accepted.
    pub fn direct(
        &mut self,
        step: &mut Step<'_>,
        account: &AccountId,
    ) -> Result<Started, ClientError> {
        if *account == self.profile.identity.device.account {
            return Err(ClientError::Usage("a direct channel needs somebody else".into()));
        }
        self.refuse_held(step, account)?;
        if let Some(row) = step.db.direct_channel(account)? {
            let open = step.db.open_in(&row.channel)?;
            let creating = open.first().filter(|_| row.status == Status::Creating);
            return Ok(Started { intent: creating.map(|i| i.id), channel: row.channel });
        }
        let name = self.name_of(step, account)?;
        let mut row = new_channel(step, ChannelKind::Direct, name);
        row.peer = Some(*account);
        step.db.put_channel(&row)?;
        let intent = self.intend(step, &row.channel, (IntentKind::Create, &[*account], 0))?;
        Ok(Started { intent: Some(intent), channel: row.channel })
    }

    /// Creates a group with this account alone.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for an empty or oversized title.
    pub fn create_group_channel(
        &mut self,
        step: &mut Step<'_>,
        title: &str,
    ) -> Result<Started, ClientError> {
        self.create_group_kept_for(step, (title, 0))
    }

    /// As [`Self::create_group_channel`]; the server keeps its entries for `retention_ms`, 0 for as
    /// long as any.
    ///
    /// # Errors
    /// As above; [`ClientError::Usage`] for a retention under a minute, or longer than the server
    /// keeps anything, as far as it has said so.
    pub fn create_group_kept_for(
        &mut self,
        step: &mut Step<'_>,
        (title, retention_ms): (&str, u64),
    ) -> Result<Started, ClientError> {
        let mut row = new_channel(step, ChannelKind::Group, checked_title(title)?);
        row.retention_ms = self.checked_retention(step, retention_ms)?;
        step.db.put_channel(&row)?;
        let intent = self.intend(step, &row.channel, (IntentKind::Create, &[], 0))?;
        Ok(Started { intent: Some(intent), channel: row.channel })
    }

    /// Adds accounts to a group, or removes them.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when the channel is no group that this device is in;
    /// [`ClientError::KeyChanged`] to add one that the user has not accepted.
    pub fn change_members(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        (add, accounts): (bool, &[AccountId]),
    ) -> Result<Started, ClientError> {
        let row = self.known_group(step, channel)?;
        let context = self.engine.view(step.db.0, &row.group)?.context;
        if context.role(&self.profile.identity.device.account) != Role::Admin {
            let text = "only an admin of the group may add or remove others: ask one";
            return Err(ClientError::Usage(text.into()));
        }
        for account in accounts.iter().filter(|_| add) {
            self.refuse_held(step, account)?;
        }
        let kind = if add { IntentKind::Add } else { IntentKind::Remove };
        let own = self.profile.identity.device.account;
        if accounts.contains(&own) {
            return Err(ClientError::Usage("to go yourself, use `qpc group leave`".into()));
        }
        let intent = self.intend(step, channel, (kind, accounts, 0))?;
        Ok(Started { intent: Some(intent), channel: *channel })
    }

    /// Asks to leave a group: a signed statement that any member's client acts on.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when the channel is no group that this device is in.
    pub fn leave(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
    ) -> Result<Started, ClientError> {
        let mut row = self.known_group(step, channel)?;
        self.refuse_last_admin(step, &row)?;
        row.status = Status::Leaving;
        self.end_leave(step, &mut row)?;
        self.give_up_for_leave(step, &row)?;
        // Who is alone is out by that; but other devices of the account, and the server, learn of
        // it by the statement alone.
        let intent = self.ask_to_leave(step, &row)?;
        step.db.put_channel(&row)?;
        Ok(Started { intent: Some(intent), channel: *channel })
    }

    /// How an operation ended: `None` while it goes on.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the reason, once it failed.
    pub fn outcome(
        &self,
        step: &Step<'_>,
        started: &Started,
    ) -> Result<Option<view::Channel>, ClientError> {
        let Some(intent) = started.intent else {
            return self.channel(step, &started.channel).map(Some);
        };
        let row = step.db.intent(intent)?.ok_or(ClientError::Internal("an operation is gone"))?;
        match row.state {
            IntentState::Claiming | IntentState::Ready | IntentState::Sealed => Ok(None),
            IntentState::Done => self.channel(step, &row.channel).map(Some),
            IntentState::Failed => {
                Err(ClientError::Failed(row.reason.unwrap_or_else(|| "it failed".into())))
            }
        }
    }

    /// Marks a contact's safety number as compared, or not. One that was compared is accepted.
    ///
    /// # Errors
    /// The database.
    pub fn set_verified(
        &mut self,
        step: &mut Step<'_>,
        account: &AccountId,
        verified: bool,
    ) -> Result<(), ClientError> {
        if verified {
            self.accept(step, account)?;
        }
        Ok(step.db.set_verified(account, verified)?)
    }

    /// Messages up to this number were shown to the user.
    ///
    /// # Errors
    /// The database.
    pub fn mark_seen(&self, step: &Step<'_>, up_to: u64) -> Result<(), ClientError> {
        Ok(step.db.mark_seen(up_to)?)
    }

    fn checked_retention(&self, step: &Step<'_>, asked_ms: u64) -> Result<u64, ClientError> {
        let servers = self.servers_retention(step)?;
        if asked_ms > 0 && asked_ms < RETENTION_MS_MIN {
            return Err(ClientError::Usage(
                "a group keeps its entries for 1 minute at least".into(),
            ));
        }
        if servers > 0 && asked_ms > servers {
            let hours = servers / 3_600_000;
            let text = format!("this server keeps nothing for longer than {hours} hours");
            return Err(ClientError::Usage(text));
        }
        Ok(asked_ms)
    }

    /// How long the server keeps entries where a channel says nothing else, in milliseconds; 0
    /// before it has said so.
    pub(super) fn servers_retention(&self, step: &Step<'_>) -> Result<u64, ClientError> {
        let inbox = inbox_channel(&self.profile.identity.device.device);
        Ok(step.db.channel(&inbox)?.map_or(0, |row| row.retention_ms))
    }

    pub(super) fn known(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
    ) -> Result<ChannelRow, ClientError> {
        step.db.channel(channel)?.ok_or_else(|| ClientError::NotFound("no such channel".into()))
    }

    pub(super) fn known_group(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
    ) -> Result<ChannelRow, ClientError> {
        let row = self.known(step, channel)?;
        if row.kind != ChannelKind::Group {
            return Err(ClientError::Usage("that is a direct channel, not a group".into()));
        }
        if row.status.seals() || row.status == Status::Held {
            return Ok(row);
        }
        Err(ClientError::Usage(format!("{} cannot be changed now", row.title)))
    }
}

/// The shortest retention that a server takes for a channel, in milliseconds.
const RETENTION_MS_MIN: u64 = 60_000;

pub(super) fn new_channel(step: &mut Step<'_>, kind: ChannelKind, title: String) -> ChannelRow {
    let mut row = ChannelRow::new(ChannelId(step.random()), kind, Status::Creating);
    (row.title, row.group) = (title, step.random());
    row
}
