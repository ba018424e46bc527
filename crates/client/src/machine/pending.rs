//! The outbox as the user sees it: what waits and why, what was refused, and what they do about it.
//! Seals and sends nothing.

use qpc_proto::ChannelId;

use super::store::{ChannelRow, MessageRow, State, Status};
use super::{Machine, Step, Work};
use crate::error::ClientError;
use crate::view;

impl Machine {
    /// Own messages that are not settled, and those that were refused, oldest first. A waiting one
    /// says in `reason` what it waits for, where that is known.
    ///
    /// # Errors
    /// The database.
    pub fn outbox(&self, step: &Step<'_>) -> Result<Vec<view::Message>, ClientError> {
        let mut known: Option<ChannelRow> = None;
        let mut all = Vec::new();
        for line in step.db.unsettled()? {
            if known.as_ref().is_none_or(|row| row.channel != line.channel) {
                known = step.db.channel(&line.channel)?;
            }
            let title = known.as_ref().map_or("", |row| row.title.as_str());
            let mut view = self.message_view(step, (&line, title))?;
            if let (State::Waiting | State::Sealed, None, Some(row)) =
                (line.state, &view.reason, &known)
            {
                view.reason = self.waits_for(step, (row, &line))?;
            }
            all.push(view);
        }
        Ok(all)
    }

    /// Sends a refused or cancelled message once more, under the same content id: who has it shows
    /// it once. One that waits is tried at once.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]; [`ClientError::Usage`] for what needs no resending, or a channel
    /// that takes nothing any more; [`ClientError::KeyChanged`].
    pub fn resend(&mut self, step: &mut Step<'_>, id: u64) -> Result<view::Message, ClientError> {
        let line = self.own_line(step, id)?;
        match line.state {
            State::Refused | State::Cancelled => {
                self.takes_messages(step, &line.channel)?;
                step.db.set_state(id, (State::Waiting, None))?;
                step.db.queue(id, &line.channel)?;
            }
            State::Waiting | State::Sealed => {}
            State::Accepted | State::Received | State::Unreadable | State::Notice => {
                return Err(ClientError::Usage(format!("message {id} is sent already")));
            }
        }
        self.pauses.remove(&Work::Outbox(line.channel));
        self.show_own(step, id)?;
        self.message(step, id)
    }

    /// Takes a message back that is not sealed, or strikes a refused one off the outbox. It stays
    /// in the history.
    ///
    /// # Errors
    /// [`ClientError::NotFound`]; [`ClientError::Failed`] for one that may be at the server.
    pub fn cancel(&mut self, step: &mut Step<'_>, id: u64) -> Result<view::Message, ClientError> {
        let line = self.own_line(step, id)?;
        match line.state {
            State::Waiting | State::Refused => step.db.cancel(id)?,
            State::Cancelled => {}
            State::Sealed => {
                return Err(ClientError::Failed(format!(
                    "message {id} is sealed, may be at the server and can't be taken back"
                )));
            }
            State::Accepted | State::Received | State::Unreadable | State::Notice => {
                return Err(ClientError::Failed(format!(
                    "message {id} is sent: it can't be taken back"
                )));
            }
        }
        self.show_own(step, id)?;
        self.message(step, id)
    }

    fn own_line(&self, step: &Step<'_>, id: u64) -> Result<MessageRow, ClientError> {
        let own = self.profile.identity.device;
        let line = step.db.message(id)?.filter(|line| line.sender == own);
        let line = line.filter(|line| line.state != State::Notice);
        line.ok_or_else(|| ClientError::NotFound(format!("no own message {id}: `qpc outbox list`")))
    }

    /// Refuses where nothing can be sent any more.
    pub(super) fn takes_messages(
        &self,
        step: &Step<'_>,
        channel: &ChannelId,
    ) -> Result<ChannelRow, ClientError> {
        let row = step.db.channel(channel)?;
        let row = row.ok_or_else(|| ClientError::NotFound("no such channel".into()))?;
        if row.status.is_over() {
            let text = format!("{} takes no messages: it is over", row.title);
            return Err(ClientError::Usage(text));
        }
        if let Some(peer) = row.peer {
            self.refuse_held(step, &peer)?;
        }
        Ok(row)
    }

    /// What a message of a channel waits for.
    fn waits_for(
        &self,
        step: &Step<'_>,
        (row, line): (&ChannelRow, &MessageRow),
    ) -> Result<Option<String>, ClientError> {
        if line.state == State::Waiting && row.status == Status::Creating {
            return Ok(Some("the channel is being created".to_owned()));
        }
        if line.state == State::Waiting && !row.status.seals() {
            let because = row.reason.as_deref().unwrap_or("see `qpc channels`");
            return Ok(Some(format!("the channel takes nothing now: {because}")));
        }
        if line.state == State::Waiting
            && let Some(reason) = self.withheld(step, row)?
        {
            return Ok(Some(reason));
        }
        if !self.online {
            return Ok(Some("no connection to the server".to_owned()));
        }
        let refused = self.paused(&Work::Outbox(row.channel), step.now_ms);
        Ok(refused.then(|| "the server refused it for now; it goes again by itself".to_owned()))
    }
}
