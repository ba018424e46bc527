//! One open client during one command: its events are read while an answer is awaited, so that a
//! late answer can say why and an alarm is never lost. Holds no protocol logic.

use std::future::Future;
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

/// An open client and what was heard from it.
pub(crate) struct Session {
    client: Client,
    events: EventStream,
    ended: bool,
    offline: Option<String>,
    alarm: Option<String>,
}

impl Session {
    /// Opens an existing home; `passphrase_file` is read only if the home needs a passphrase.
    pub(crate) async fn open(
        home: &Home,
        passphrase_file: Option<&std::path::Path>,
    ) -> Result<Self, CliError> {
        let unlock = unlock(home, passphrase_file)?;
        Ok(Self::of(Client::open(home, unlock).await?))
    }

    pub(crate) fn of(client: Client) -> Self {
        let events = client.events();
        Self { client, events, ended: false, offline: None, alarm: None }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The next event; never resolves after the last one. Cancel-safe.
    pub(crate) async fn next_event(&mut self) -> Event {
        if !self.ended {
            if let Some(event) = self.events.next().await {
                self.note(&event);
                return event;
            }
            self.ended = true;
        }
        std::future::pending().await
    }

    /// An event that is already there. Cancel-safe.
    pub(crate) async fn ready_event(&mut self) -> Option<Event> {
        tokio::time::timeout(Duration::ZERO, self.next_event()).await.ok()
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
                _ = self.next_event() => {}
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

    fn note(&mut self, event: &Event) {
        match event {
            Event::Online | Event::CaughtUp => self.offline = None,
            Event::Offline { reason } => self.offline = Some(reason.clone()),
            Event::Alarm { channel, seq, text } => {
                self.alarm = Some(alarm(channel.as_deref(), *seq, text));
            }
            Event::Message(_) | Event::Outbox(_) | Event::Channel(_) => {}
        }
    }
}

/// What opens `home`.
pub(crate) fn unlock(
    home: &Home,
    passphrase_file: Option<&std::path::Path>,
) -> Result<Unlock, CliError> {
    if !home.needs_passphrase()? {
        return Ok(Unlock::Automatic);
    }
    let passphrase = match passphrase_file {
        Some(file) => passphrase::from_file(file)?,
        None => passphrase::asked()?,
    };
    Ok(Unlock::Passphrase(passphrase))
}
