//! One open client during one command: its events are read while an answer is awaited, so that a
//! late answer can say why and an alarm is never lost. Holds no protocol logic.

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use qpc_client::view::Event;
use qpc_client::{Client, ClientError, EventStream, Home, Unlock};

use crate::error::CliError;
use crate::output::Output;
use crate::passphrase;
use crate::plain::alarm;

/// How long a command waits for the server's answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
const CLOSE: Duration = Duration::from_secs(10);

/// Events kept while an answer is awaited; of more, the oldest go.
const EVENTS_KEPT: usize = 1_024;

/// An open client and what was heard from it.
pub(crate) struct Session {
    client: Client,
    events: EventStream,
    kept: VecDeque<Event>,
    ended: bool,
    offline: Option<String>,
    alarm: Option<String>,
}

impl Session {
    /// Opens an existing home; `passphrase_file` is read only if the home needs a passphrase.
    pub(crate) async fn open(
        home: &Home,
        passphrase_file: Option<&Path>,
    ) -> Result<Self, CliError> {
        let unlock = unlock(home, passphrase_file)?;
        Ok(Self::of(Client::open(home, unlock).await?))
    }

    pub(crate) fn of(client: Client) -> Self {
        let events = client.events();
        let kept = VecDeque::new();
        Self { client, events, kept, ended: false, offline: None, alarm: None }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The next event, also of those that came while an answer was awaited. Cancel-safe.
    pub(crate) async fn next_event(&mut self) -> Result<Event, CliError> {
        if let Some(event) = self.kept.pop_front() {
            return Ok(event);
        }
        self.hear().await.ok_or_else(|| CliError::Internal("the client stopped".to_owned()))
    }

    /// An event that is already there. Cancel-safe.
    pub(crate) async fn ready_event(&mut self) -> Option<Event> {
        tokio::time::timeout(Duration::ZERO, self.next_event()).await.ok()?.ok()
    }

    /// The outcome of `request`, or why there is none after `limit`.
    pub(crate) async fn answer<T>(
        &mut self,
        limit: Duration,
        request: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, CliError> {
        let mut request = pin!(request);
        let mut limit_reached = pin!(tokio::time::sleep(limit));
        loop {
            tokio::select! {
                biased;
                outcome = &mut request => return Ok(outcome?),
                event = self.hear(), if !self.ended => self.keep(event),
                () = &mut limit_reached => return Err(self.late(limit)),
            }
        }
    }

    /// The error of an answer that did not come: the network's if it is known to be down.
    pub(crate) fn late(&self, limit: Duration) -> CliError {
        match &self.offline {
            Some(reason) => CliError::Unreachable(reason.clone()),
            None => CliError::Waiting(format!(
                "the server did not answer within {} s; what was asked may still happen",
                limit.as_secs()
            )),
        }
    }

    /// Why there is no connection, if that is known.
    pub(crate) fn offline(&self) -> Option<&str> {
        self.offline.as_deref()
    }

    /// Closes the client. An alarm makes an otherwise successful command fail.
    pub(crate) async fn close(mut self, output: &mut Output) -> Result<(), CliError> {
        while self.ready_event().await.is_some() {}
        let alarm = self.alarm.take();
        // Acks that were not flushed cost a redelivery at the next start, nothing else.
        match tokio::time::timeout(CLOSE, self.client.close()).await {
            Ok(closed) => closed?,
            Err(_) => output.remark("closing took too long; nothing is lost"),
        }
        alarm.map_or(Ok(()), |text| Err(CliError::Alarm(text)))
    }

    async fn hear(&mut self) -> Option<Event> {
        let event = self.events.next().await;
        match &event {
            None => self.ended = true,
            Some(Event::Online | Event::CaughtUp) => self.offline = None,
            Some(Event::Offline { reason }) => self.offline = Some(reason.clone()),
            Some(Event::Alarm { channel, seq, text }) => {
                self.alarm = Some(alarm(channel.as_deref(), *seq, text));
            }
            Some(Event::Message(_) | Event::Outbox(_) | Event::Channel(_)) => {}
        }
        event
    }

    fn keep(&mut self, event: Option<Event>) {
        if self.kept.len() == EVENTS_KEPT {
            self.kept.pop_front();
        }
        self.kept.extend(event);
    }
}

/// Whether the connection stands, as last told to a person. Starts as standing, so that only a loss
/// is news.
pub(crate) struct Standing(bool);

impl Standing {
    pub(crate) fn new() -> Self {
        Self(true)
    }

    /// Whether `event` is about the connection and says something new.
    pub(crate) fn is_news(&mut self, event: &Event) -> bool {
        let online = match event {
            Event::Online => true,
            Event::Offline { .. } => false,
            Event::Message(_)
            | Event::Outbox(_)
            | Event::Channel(_)
            | Event::CaughtUp
            | Event::Alarm { .. } => return false,
        };
        std::mem::replace(&mut self.0, online) != online
    }
}

/// What opens `home`.
pub(crate) fn unlock(home: &Home, passphrase_file: Option<&Path>) -> Result<Unlock, CliError> {
    if !home.needs_passphrase()? {
        return Ok(Unlock::Automatic);
    }
    let passphrase = match passphrase_file {
        Some(file) => passphrase::from_file(file)?,
        None => passphrase::asked()?,
    };
    Ok(Unlock::Passphrase(passphrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_is_news_once_a_change() {
        let offline = || Event::Offline { reason: "timed out".to_owned() };
        let mut standing = Standing::new();
        let events =
            [Event::Online, offline(), offline(), Event::CaughtUp, Event::Online, Event::Online];
        let news = events.map(|event| standing.is_news(&event));
        assert_eq!(news, [false, true, false, false, true, false]);
    }
}
