//! What a program may ask about people, channels and messages. Each call is a command or a query of
//! the machine, or waits until the machine's state answers it.

use std::time::Duration;

use qpc_proto::{AccountId, ChannelId};

use super::Client;
use crate::error::ClientError;
use crate::machine::{Input, Machine, Started, Step, Target};
use crate::view;

impl Client {
    /// All contacts.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn contacts(&self) -> Result<Vec<view::Contact>, ClientError> {
        self.host.run(|machine, step| machine.contacts(step)).await
    }

    /// The safety number with somebody, looked up at the server if unknown.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when there is nobody of that name.
    pub async fn safety_number(&self, name: &str) -> Result<view::SafetyNumber, ClientError> {
        let account = self.account(name).await?;
        self.host.run(move |machine, step| machine.safety_number(step, &account)).await
    }

    /// Marks a safety number as compared, or not.
    ///
    /// # Errors
    /// As [`Client::safety_number`].
    pub async fn mark_verified(
        &self,
        name: &str,
        verified: bool,
    ) -> Result<view::SafetyNumber, ClientError> {
        let account = self.account(name).await?;
        self.host
            .run(move |machine, step| {
                machine.set_verified(step, &account, verified)?;
                machine.safety_number(step, &account)
            })
            .await
    }

    /// The direct channel with somebody, created if there is none.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when it cannot be created.
    pub async fn dm(&self, name: &str) -> Result<view::Channel, ClientError> {
        let account = self.account(name).await?;
        let started = self.host.run(move |machine, step| machine.direct(step, &account)).await?;
        self.finish(started).await
    }

    /// Creates a group with this account alone. The server keeps its entries for `retention`, or
    /// for as long as any: the first is for groups whose entries are to be gone sooner.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for a retention under a minute or longer than the server's;
    /// [`ClientError::Failed`] when it cannot be created.
    pub async fn group_create(
        &self,
        title: &str,
        retention: Option<Duration>,
    ) -> Result<view::Channel, ClientError> {
        let title = title.to_owned();
        let retention_ms = retention
            .map_or(0, |retention| u64::try_from(retention.as_millis()).unwrap_or(u64::MAX));
        let create = move |machine: &mut Machine, step: &mut Step<'_>| {
            machine.create_group_kept_for(step, (&title, retention_ms))
        };
        self.finish(self.host.run(create).await?).await
    }

    /// Adds people to a group.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the reason.
    pub async fn group_add(
        &self,
        group: &str,
        names: &[String],
    ) -> Result<view::Channel, ClientError> {
        self.change(group, names, true).await
    }

    /// Removes people from a group.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the reason.
    pub async fn group_remove(
        &self,
        group: &str,
        names: &[String],
    ) -> Result<view::Channel, ClientError> {
        self.change(group, names, false).await
    }

    async fn change(
        &self,
        group: &str,
        names: &[String],
        add: bool,
    ) -> Result<view::Channel, ClientError> {
        let channel = self.channel_of(group).await?;
        let mut accounts = Vec::with_capacity(names.len());
        for name in names {
            accounts.push(self.account(name).await?);
        }
        let started = self
            .host
            .run(move |machine, step| machine.change_members(step, &channel, (add, &accounts)))
            .await?;
        self.finish(started).await
    }

    /// Changes a group's title.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for a title that cannot be, or an account that is no admin;
    /// [`ClientError::Failed`] with the reason.
    pub async fn group_rename(
        &self,
        group: &str,
        title: &str,
    ) -> Result<view::Channel, ClientError> {
        let (channel, title) = (self.channel_of(group).await?, title.to_owned());
        let change = move |machine: &mut Machine, step: &mut Step<'_>| {
            machine.set_title(step, &channel, &title)
        };
        self.finish(self.host.run(change).await?).await
    }

    /// Changes what a group is said to be about.
    ///
    /// # Errors
    /// As [`Client::group_rename`].
    pub async fn group_describe(
        &self,
        group: &str,
        description: &str,
    ) -> Result<view::Channel, ClientError> {
        let (channel, text) = (self.channel_of(group).await?, description.to_owned());
        let change = move |machine: &mut Machine, step: &mut Step<'_>| {
            machine.set_description(step, &channel, &text)
        };
        self.finish(self.host.run(change).await?).await
    }

    /// Makes a member an admin, or an admin a member.
    ///
    /// # Errors
    /// As [`Client::group_rename`]; the only admin stays one.
    pub async fn group_role(
        &self,
        (group, name): (&str, &str),
        admin: bool,
    ) -> Result<view::Channel, ClientError> {
        let channel = self.channel_of(group).await?;
        let me = self.whoami().await?;
        let account = match name.trim().to_lowercase() == me.name {
            true => AccountId::from_hex(&me.account)
                .map_err(|_| ClientError::Internal("the own account id"))?,
            false => self.account(name).await?,
        };
        let change = move |machine: &mut Machine, step: &mut Step<'_>| {
            machine.set_admin(step, &channel, (&account, admin))
        };
        self.finish(self.host.run(change).await?).await
    }

    /// Asks to leave a group; any member's client does the rest.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the reason.
    pub async fn group_leave(&self, group: &str) -> Result<view::Channel, ClientError> {
        let channel = self.channel_of(group).await?;
        let started = self.host.run(move |machine, step| machine.leave(step, &channel)).await?;
        self.finish(started).await
    }

    /// Ends a channel that is broken and goes on in a new one with the same people: by an admin of
    /// a group, by either side of a direct channel. What waits is sent there. Returns the new one.
    ///
    /// # Errors
    /// [`ClientError::Usage`] when this account may not; [`ClientError::Failed`] with the reason.
    pub async fn reset(&self, target: &str) -> Result<view::Channel, ClientError> {
        let channel = self.channel_of(target).await?;
        let started = self.host.run(move |machine, step| machine.reset(step, &channel)).await?;
        self.finish(started).await
    }

    /// All channels.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn channels(&self) -> Result<Vec<view::Channel>, ClientError> {
        self.host.run(|machine, step| machine.channels(step)).await
    }

    /// The members of a channel.
    ///
    /// # Errors
    /// [`ClientError::NotFound`].
    pub async fn members(&self, target: &str) -> Result<Vec<view::Member>, ClientError> {
        let channel = self.channel_of(target).await?;
        self.host.run(move |machine, step| machine.members(step, &channel)).await
    }

    /// Writes a message into the outbox: durable when this returns, sent when the server is there.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for a text that cannot be sent.
    pub async fn queue(&self, target: &str, text: &str) -> Result<view::Message, ClientError> {
        let channel = self.channel_to_write(target).await?;
        let text = text.to_owned();
        self.host.run(move |machine, step| machine.queue(step, &channel, &text)).await
    }

    /// Own messages that are not settled, and those that were refused for good, oldest first. A
    /// waiting one says in `reason` what it waits for, where that is known.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn outbox(&self) -> Result<Vec<view::Message>, ClientError> {
        self.host.run(|machine, step| machine.outbox(step)).await
    }

    /// Sends a refused or cancelled message once more; tries a waiting one at once.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] for no own message; [`ClientError::Usage`] for one that is sent,
    /// or a channel that takes nothing any more; [`ClientError::KeyChanged`].
    pub async fn resend(&self, id: u64) -> Result<view::Message, ClientError> {
        self.host.run(move |machine, step| machine.resend(step, id)).await
    }

    /// Takes a message back that is not sealed yet, or strikes a refused one off the outbox.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] for no own message; [`ClientError::Failed`] for one that may be at
    /// the server already.
    pub async fn cancel(&self, id: u64) -> Result<view::Message, ClientError> {
        self.host.run(move |machine, step| machine.cancel(step, id)).await
    }

    /// What was lost, of one channel or of all, the inbox among them.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] for no such channel.
    pub async fn losses(&self, target: Option<&str>) -> Result<Vec<view::Loss>, ClientError> {
        let channel = match target {
            Some(target) => Some(self.channel_of(target).await?),
            None => None,
        };
        self.host.run(move |machine, step| machine.losses(step, channel.as_ref())).await
    }

    /// One line of history, by its local number.
    ///
    /// # Errors
    /// [`ClientError::NotFound`].
    pub async fn message(&self, id: u64) -> Result<view::Message, ClientError> {
        self.host.run(move |machine, step| machine.message(step, id)).await
    }

    /// Resolves when every own message is accepted or refused.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn settled(&self) -> Result<(), ClientError> {
        self.host.wait_for(|machine, step| Ok((machine.outbox_len(step)? == 0).then_some(()))).await
    }

    /// The last messages of a channel, oldest first.
    ///
    /// # Errors
    /// [`ClientError::NotFound`].
    pub async fn history(
        &self,
        target: &str,
        limit: u64,
    ) -> Result<Vec<view::Message>, ClientError> {
        let channel = self.channel_of(target).await?;
        self.host.run(move |machine, step| machine.history(step, (&channel, limit))).await
    }

    /// Messages not yet marked as seen, oldest first, of all channels.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn unseen(&self, limit: u64) -> Result<Vec<view::Message>, ClientError> {
        self.host.run(move |machine, step| machine.unseen(step, limit)).await
    }

    /// Marks messages up to a number as seen: [`Client::unseen`] gives each once.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn mark_seen(&self, up_to_id: u64) -> Result<(), ClientError> {
        self.host.run(move |machine, step| machine.mark_seen(step, up_to_id)).await
    }

    async fn finish(&self, started: Started) -> Result<view::Channel, ClientError> {
        self.host.wait_for(move |machine, step| machine.outcome(step, &started)).await
    }

    /// The account of a name: a contact, or looked up.
    async fn account(&self, name: &str) -> Result<AccountId, ClientError> {
        let name = name.trim().to_lowercase();
        let known = name.clone();
        if let Some(account) =
            self.host.run(move |machine, step| machine.contact(step, &known)).await?
        {
            return Ok(account);
        }
        if name == self.whoami().await?.name {
            return Err(ClientError::Usage("that is you".into()));
        }
        self.host.step(Input::Lookup(name.clone())).await?;
        self.host.wait_for(move |machine, step| machine.looked_up(step, &name)).await
    }

    async fn resolve(&self, target: &str) -> Result<Target, ClientError> {
        let target = target.to_owned();
        self.host.run(move |machine, step| machine.resolve(step, &target)).await
    }

    /// A channel that is there.
    async fn channel_of(&self, target: &str) -> Result<ChannelId, ClientError> {
        match self.resolve(target).await? {
            Target::Channel(channel) => Ok(channel),
            Target::Contact(_) | Target::Unknown => Err(ClientError::NotFound(format!(
                "no channel {target}: see `qpc channels`, or open one with `qpc dm NAME`"
            ))),
        }
    }

    /// A channel to write to; the direct channel with a person is created.
    async fn channel_to_write(&self, target: &str) -> Result<ChannelId, ClientError> {
        let account = match self.resolve(target).await? {
            Target::Channel(channel) => return Ok(channel),
            Target::Contact(account) => account,
            Target::Unknown => self.account(target).await?,
        };
        let started = self.host.run(move |machine, step| machine.direct(step, &account)).await?;
        Ok(started.channel)
    }
}
