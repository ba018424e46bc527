//! `qpc chat --plain`: one channel, line by line, without escape sequences. What it shows stays
//! unseen for `qpc recv`, whose mark runs over all channels.

mod typed;

use std::collections::BTreeSet;
use std::time::Duration;

use qpc_client::view::{Channel, Event, Message, MessageState};

use self::typed::{HELP, Typed};
use crate::error::CliError;
use crate::escape::visible;
use crate::input::Lines;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::plain::{Plain as _, in_channel};
use crate::session::{ANSWER, Session, Standing};
use crate::target::resolve;

/// Older messages shown at the start.
const SHOWN_BEFORE: u64 = 20;
/// How long the end waits for what was typed last.
const FAREWELL: Duration = Duration::from_secs(10);

pub(super) async fn run(
    session: &mut Session,
    output: &mut Output,
    target: &str,
) -> Result<(), CliError> {
    let channel = resolve(session, target).await?;
    let mut chat = Chat { channel, shown: BTreeSet::new(), standing: Standing::new() };
    chat.greet(session, output).await?;
    let mut interrupt = Interrupt::listen()?;
    let mut lines = Lines::of_standard_input();
    loop {
        output.flush()?;
        session.tell_notices(output).await?;
        session.refuse_stopped().await?;
        tokio::select! {
            () = interrupt.arrived() => break,
            event = session.next_event() => chat.hear(&event?, output)?,
            line = lines.next() => match line {
                Some(line) => {
                    let line = line?;
                    let typed = Typed::from(line.as_str());
                    if typed == Typed::Quit {
                        break;
                    }
                    chat.obey(session, output, typed).await?;
                }
                None => break,
            },
        }
    }
    let client = session.client();
    let settled = session.answer(FAREWELL, client.settled()).await;
    if matches!(settled, Err(CliError::Waiting(_) | CliError::Unreachable(_))) {
        return Err(CliError::Waiting(
            "some messages are queued: will be sent by the next qpc command that connects"
                .to_owned(),
        ));
    }
    settled
}

struct Chat {
    channel: Channel,
    /// Local numbers of messages shown at the start, which events may bring again.
    shown: BTreeSet<u64>,
    standing: Standing,
}

impl Chat {
    async fn greet(&mut self, session: &mut Session, output: &mut Output) -> Result<(), CliError> {
        if output.json() {
            return output.json_record(&Event::Channel(self.channel.clone()));
        }
        let client = session.client();
        let before = client.history(&self.channel.channel, SHOWN_BEFORE);
        for message in session.answer(ANSWER, before).await? {
            self.shown.insert(message.id);
            output.line(&in_channel(&message))?;
        }
        output.line(&format!("* {}", self.channel.plain()))?;
        output.line("* type a message and Enter; /help lists the commands, /quit ends")
    }

    async fn obey(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        typed: Typed<'_>,
    ) -> Result<(), CliError> {
        let client = session.client();
        let outcome = match typed {
            Typed::Nothing | Typed::Quit => Ok(()),
            Typed::Help => return output.line(HELP),
            Typed::Unknown(word) => {
                output.remark(&format!("no command {word}; /help lists them, // sends a slash"));
                Ok(())
            }
            Typed::Text(text) => {
                let queued = client.queue(&self.channel.channel, text).await;
                queued.map_err(Into::into).map(|message| {
                    message.warnings.iter().for_each(|warning| output.warning(warning));
                })
            }
            Typed::Members => {
                match session.answer(ANSWER, client.members(&self.channel.channel)).await {
                    Ok(members) => output.records(&members),
                    Err(error) => Err(error),
                }
            }
            Typed::Verify(name) => self.verify(session, output, name).await,
        };
        match outcome {
            // Without a reader there is nobody to talk to; anything else concerns one line.
            Err(error @ CliError::Output(_)) => Err(error),
            Err(error) => {
                output.failure(&error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn verify(
        &self,
        session: &mut Session,
        output: &mut Output,
        name: Option<&str>,
    ) -> Result<(), CliError> {
        let peer = (self.channel.kind == "direct").then_some(self.channel.title.as_str());
        let name = name.or(peer).ok_or_else(|| {
            CliError::Usage("in a group name the person: /verify NAME".to_owned())
        })?;
        let client = session.client();
        let number = session.answer(ANSWER, client.safety_number(name)).await?;
        output.records(&[number])
    }

    fn hear(&mut self, event: &Event, output: &mut Output) -> Result<(), CliError> {
        if output.json() && !matches!(event, Event::Notice(_)) {
            return output.json_record(event);
        }
        match event {
            Event::Message(message) if message.channel == self.channel.channel => {
                if self.shown.remove(&message.id) {
                    return Ok(());
                }
                output.line(&in_channel(message))
            }
            Event::Message(message) => elsewhere(message, output),
            Event::Outbox(message) => self.refused(message, output),
            Event::Channel(channel) => self.changed(channel, output),
            Event::Online | Event::Offline { .. } if self.standing.is_news(event) => {
                output.line(&event.plain())
            }
            Event::Online | Event::Offline { .. } | Event::CaughtUp => Ok(()),
            // Told from the database, each once.
            Event::Notice(_) | Event::Stopped { .. } => Ok(()),
            Event::Alarm { .. } => output.line(&event.plain()),
        }
    }

    fn refused(&self, message: &Message, output: &mut Output) -> Result<(), CliError> {
        let here = message.channel == self.channel.channel;
        if here && matches!(message.state, MessageState::Refused) {
            return output.line(&in_channel(message));
        }
        Ok(())
    }

    fn changed(&mut self, channel: &Channel, output: &mut Output) -> Result<(), CliError> {
        let same = channel.status == self.channel.status && channel.reason == self.channel.reason;
        if channel.channel != self.channel.channel || same {
            return Ok(());
        }
        self.channel = channel.clone();
        output.line(&format!("* {}", channel.plain()))
    }
}

fn elsewhere(message: &Message, output: &mut Output) -> Result<(), CliError> {
    match message.state {
        MessageState::Received => output.line(&format!(
            "* new message in {} from {}",
            visible(&message.title),
            visible(&message.sender)
        )),
        MessageState::Waiting
        | MessageState::Sealed
        | MessageState::Accepted
        | MessageState::Refused
        | MessageState::Unreadable
        | MessageState::Cancelled
        | MessageState::Notice => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use qpc_client::view::ChannelStatus;

    use super::*;
    use crate::output::capture;
    use crate::plain::samples::{channel, message};

    fn chat() -> Chat {
        Chat { channel: channel(), shown: BTreeSet::from([1]), standing: Standing::new() }
    }

    fn heard(events: &[Event]) -> String {
        let (mut output, results, _) = capture::output(false);
        let mut chat = chat();
        for event in events {
            chat.hear(event, &mut output).unwrap();
        }
        results.text()
    }

    #[test]
    fn a_message_already_shown_is_not_shown_again() {
        let events = [1, 2].map(|id| Event::Message(message(id, MessageState::Received, "hi")));
        assert_eq!(heard(&events), "00:00Z bob: hi\n");
    }

    #[test]
    fn other_channels_are_named_without_their_text() {
        let mut other = message(9, MessageState::Received, "private");
        other.channel = "ff".to_owned();
        other.title = "Cooks".to_owned();
        assert_eq!(heard(&[Event::Message(other)]), "* new message in Cooks from bob\n");
    }

    #[test]
    fn a_lost_connection_is_told_once_and_so_is_its_return() {
        let offline = || Event::Offline { reason: "timed out".to_owned() };
        let events = [Event::Online, offline(), offline(), Event::Online];
        assert_eq!(heard(&events), "* offline: timed out\n* online\n");
    }

    #[test]
    fn own_messages_are_echoed_only_when_refused() {
        let mut refused = message(2, MessageState::Refused, "hi");
        refused.reason = Some("you left".to_owned());
        let events =
            [Event::Outbox(message(3, MessageState::Accepted, "ok")), Event::Outbox(refused)];
        assert_eq!(heard(&events), "00:00Z bob: hi  (NOT SENT): you left\n");
    }

    #[test]
    fn a_change_of_standing_is_told() {
        let mut held = channel();
        held.status = ChannelStatus::Held;
        held.reason = Some("clock".to_owned());
        let mut cursor_only = held.clone();
        cursor_only.cursor += 1;
        let events = [Event::Channel(channel()), Event::Channel(held), Event::Channel(cursor_only)];
        assert_eq!(heard(&events), "* 01234567  group  Hikers  held: clock\n");
    }
}
