//! `qpc send`: puts messages into the outbox and waits until the server has accepted or refused
//! each. What is neither at the end stays in the outbox; it is never sent twice nor dropped.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use qpc_client::view::{Event, Message, MessageState};

use crate::args::Send;
use crate::error::CliError;
use crate::input::Lines;
use crate::output::Output;
use crate::session::Session;

/// What the disk here may take to keep one message, however short the wait for the server is.
const KEEP: Duration = Duration::from_secs(10);
/// Newest messages looked through for states that no event told.
const LOOK_BACK: u64 = 1_000;

pub(super) async fn run(
    session: &mut Session,
    output: &mut Output,
    send: Send,
) -> Result<(), CliError> {
    session.refuse_stopped().await?;
    let mut source = match send.text {
        Some(text) => Source::One(Some(text)),
        None => Source::Lines(Lines::of_standard_input()),
    };
    let mut sending = Sending::to(send.target);
    let limit = Duration::from_secs(send.timeout);
    loop {
        tokio::select! {
            text = source.next() => match text {
                Some(text) => {
                    for warning in sending.queue(session, &text?, limit).await? {
                        output.warning(&warning);
                    }
                }
                None => break,
            },
            event = session.next_event() => sending.hear(&event?, output)?,
        }
    }
    sending.settle(session, output, limit).await?;
    sending.report(session, output)
}

enum Source {
    One(Option<String>),
    Lines(Lines),
}

impl Source {
    /// The next message to send. Cancel-safe.
    async fn next(&mut self) -> Option<Result<String, CliError>> {
        match self {
            Self::One(text) => text.take().map(Ok),
            Self::Lines(lines) => loop {
                match lines.next().await {
                    Some(Ok(line)) if line.trim().is_empty() => {}
                    other => return other,
                }
            },
        }
    }
}

/// What became of the messages of this run.
struct Sending {
    target: String,
    /// Not settled yet, by local number.
    pending: BTreeMap<u64, Message>,
    accepted: u64,
    refused: u64,
    last: Option<Message>,
    first_refusal: Option<String>,
}

impl Sending {
    fn to(target: String) -> Self {
        Self {
            target,
            pending: BTreeMap::new(),
            accepted: 0,
            refused: 0,
            last: None,
            first_refusal: None,
        }
    }

    /// An unknown name is looked up first, which may take until `limit`; the rest needs no server.
    /// Returns what is to be said before it is sent.
    async fn queue(
        &mut self,
        session: &mut Session,
        text: &str,
        limit: Duration,
    ) -> Result<Vec<String>, CliError> {
        let client = session.client();
        let mut message = session.answer(limit.max(KEEP), client.queue(&self.target, text)).await?;
        // A name may come to mean another channel while lines are still read.
        self.target.clone_from(&message.channel);
        let warnings = std::mem::take(&mut message.warnings);
        self.pending.insert(message.id, message);
        Ok(warnings)
    }

    fn hear(&mut self, event: &Event, output: &mut Output) -> Result<(), CliError> {
        match event {
            Event::Outbox(message) => self.note(message, output),
            Event::Message(_)
            | Event::Channel(_)
            | Event::Online
            | Event::Offline { .. }
            | Event::CaughtUp
            | Event::Alarm { .. }
            | Event::Notice(_)
            | Event::Stopped { .. } => Ok(()),
        }
    }

    fn note(&mut self, message: &Message, output: &mut Output) -> Result<(), CliError> {
        if !self.pending.contains_key(&message.id) {
            return Ok(());
        }
        match message.state {
            MessageState::Accepted => self.accepted += 1,
            MessageState::Refused => {
                self.refused += 1;
                let reason = message.reason.as_deref().unwrap_or("the server gave no reason");
                self.first_refusal.get_or_insert_with(|| reason.to_owned());
            }
            MessageState::Cancelled => {
                self.refused += 1;
                self.first_refusal.get_or_insert_with(|| "taken back".to_owned());
            }
            MessageState::Waiting
            | MessageState::Sealed
            | MessageState::Received
            | MessageState::Unreadable
            | MessageState::Notice => return Ok(()),
        }
        self.pending.remove(&message.id);
        if output.json() {
            output.json_record(message)?;
            output.flush()?;
        }
        self.last = Some(message.clone());
        Ok(())
    }

    async fn settle(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        limit: Duration,
    ) -> Result<(), CliError> {
        let client = session.client();
        let mut settled = pin!(client.settled());
        let mut all_settled = false;
        let mut limit_reached = pin!(tokio::time::sleep(limit));
        while !self.pending.is_empty() {
            tokio::select! {
                biased;
                event = session.next_event() => self.hear(&event?, output)?,
                outcome = &mut settled, if !all_settled => {
                    outcome?;
                    all_settled = true;
                    self.look_up(session, output).await?;
                }
                () = &mut limit_reached => break,
            }
        }
        Ok(())
    }

    /// Reads the states themselves, in case events were dropped.
    async fn look_up(
        &mut self,
        session: &mut Session,
        output: &mut Output,
    ) -> Result<(), CliError> {
        while let Some(event) = session.ready_event().await {
            self.hear(&event, output)?;
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        let limit = pending.saturating_add(LOOK_BACK);
        let messages = session.client().history(&self.target, limit).await?;
        messages.iter().try_for_each(|message| self.note(message, output))
    }

    fn report(&self, session: &Session, output: &mut Output) -> Result<(), CliError> {
        if output.json() {
            self.pending.values().try_for_each(|message| output.json_record(message))?;
        } else if let Some(last) = &self.last {
            self.accepted_line(last).map_or(Ok(()), |line| output.line(&line))?;
        }
        output.flush()?;
        if let Some(reason) = &self.first_refusal {
            let refused = self.refused;
            return Err(CliError::Refused(format!("{refused} not sent: {reason}")));
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let reason = session.offline().map(|why| format!(" ({why})")).unwrap_or_default();
        Err(CliError::Waiting(format!(
            "{} queued{reason}: will be sent by the next qpc command that connects",
            self.pending.len()
        )))
    }

    fn accepted_line(&self, last: &Message) -> Option<String> {
        let title = crate::escape::visible(&last.title);
        match (self.accepted, last.seq) {
            (0, _) => None,
            (1, Some(seq)) => Some(format!("sent to {title}, number {seq}")),
            (many, _) => Some(format!("{many} sent to {title}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::capture;
    use crate::plain::samples::message;

    fn sending(ids: &[u64]) -> Sending {
        let mut sending = Sending::to("bob".to_owned());
        for id in ids {
            sending.pending.insert(*id, message(*id, MessageState::Waiting, "hi"));
        }
        sending
    }

    #[test]
    fn only_final_states_of_own_messages_settle() {
        let (mut output, results, _) = capture::output(true);
        let mut sending = sending(&[1, 2]);
        for (id, state) in [
            (1, MessageState::Sealed),
            (3, MessageState::Accepted),
            (1, MessageState::Accepted),
            (1, MessageState::Accepted),
        ] {
            sending.hear(&Event::Outbox(message(id, state, "hi")), &mut output).unwrap();
        }
        assert_eq!(sending.pending.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!((sending.accepted, sending.refused), (1, 0));
        assert_eq!(results.text().lines().count(), 1);
    }

    #[test]
    fn one_refused_message_leaves_the_rest_alone() {
        let (mut output, results, _) = capture::output(true);
        let mut sending = sending(&[1, 2]);
        let mut refused = message(1, MessageState::Refused, "hi");
        refused.reason = Some("too large".to_owned());
        sending.note(&refused, &mut output).unwrap();
        sending.note(&message(2, MessageState::Accepted, "hi"), &mut output).unwrap();
        assert!(sending.pending.is_empty());
        assert_eq!((sending.accepted, sending.refused), (1, 1));
        assert_eq!(sending.first_refusal.as_deref(), Some("too large"));
        assert_eq!(results.text().lines().count(), 2);
    }

    #[test]
    fn what_is_said_about_accepted_messages() {
        let mut sending = sending(&[]);
        let last = message(7, MessageState::Accepted, "hi");
        assert_eq!(sending.accepted_line(&last), None);
        sending.accepted = 1;
        assert_eq!(sending.accepted_line(&last).as_deref(), Some("sent to Hikers, number 7"));
        sending.accepted = 3;
        assert_eq!(sending.accepted_line(&last).as_deref(), Some("3 sent to Hikers"));
    }
}
