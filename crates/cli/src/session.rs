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
            return going_on(event);
        }
        let event = self.hear().await;
        going_on(event.ok_or_else(|| CliError::Internal("the client stopped".to_owned()))?)
    }

    /// Refuses where no event will come any more, because this device is out.
    pub(crate) async fn refuse_stopped(&self) -> Result<(), CliError> {
        match self.client.whoami().await?.stopped {
            Some(code) => Err(CliError::Ended { text: ended(&code), code }),
            None => Ok(()),
        }
    }

    /// Tells what the server said of this account since the last time, each notice once.
    pub(crate) async fn tell_notices(&self, output: &mut Output) -> Result<(), CliError> {
        let notices = self.client.notices(true).await?;
        let Some(last) = notices.last().map(|notice| notice.id) else { return Ok(()) };
        for notice in notices {
            output.event(&Event::Notice(notice));
        }
        Ok(self.client.mark_notices_seen(last).await?)
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
            Some(
                Event::Message(_)
                | Event::Outbox(_)
                | Event::Channel(_)
                | Event::Notice(_)
                | Event::Stopped { .. },
            ) => {}
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
            | Event::Alarm { .. }
            | Event::Notice(_)
            | Event::Stopped { .. } => return false,
        };
        std::mem::replace(&mut self.0, online) != online
    }
}

/// An event, or the end of all events.
fn going_on(event: Event) -> Result<Event, CliError> {
    if let Event::Stopped { code, text } = event {
        return Err(CliError::Ended { code, text });
    }
    Ok(event)
}

/// Why a device is out that was so when the command began.
fn ended(code: &str) -> String {
    match code {
        "ACCOUNT_SUSPENDED" => "the operator suspended this account".to_owned(),
        _ => "this device was revoked: its history stays readable here, nothing else".to_owned(),
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
