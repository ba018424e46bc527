//! The task that owns the connection: dials, logs in, serves one connection after the other, dials
//! again with full jitter. Nothing is given up silently: every loss is an event, and the work is
//! derived anew. Ends for good only when told to, or when the server ended this device's use.

use std::time::Duration;

use qpc_proto::binding::Purpose;
use qpc_proto::message::{DeviceRef, Login, LoginAnswer, Request, Response};
use qpc_proto::{ErrorBody, ErrorCode, RequestId, Token};
use qpc_transport::{
    Backoff, BackoffPolicy, ClientLimits, CloseReason, Connection, ServerUrl, TransportError,
    connect,
};
use rand_core::{OsRng, RngCore as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::host::Host;
use super::session::{Session, asks_to_wait};
use super::{Ask, call};
use crate::error::{ClientError, ends_use};
use crate::keys::Keys;
use crate::machine::Input;

/// How often time passes for the machine.
const TICK: Duration = Duration::from_secs(1);

/// The connection's task.
pub(crate) struct Driver {
    pub(crate) host: Host,
    pub(crate) url: ServerUrl,
    pub(crate) keys: Keys,
    pub(crate) device: DeviceRef,
    /// Questions of commands.
    pub(crate) asks: mpsc::Receiver<Ask>,
    /// Changes when the client is to stop.
    pub(crate) stop: watch::Receiver<Stop>,
}

/// Whether the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    No,
    Close,
    /// Ends the tokens at the server first.
    Logout,
}

impl Driver {
    /// Runs until told to stop, or until this device is out.
    pub(crate) async fn run(mut self) {
        let mut backoff = self.fresh_backoff();
        while *self.stop.borrow() == Stop::No {
            let (reason, asked) = match self.connected(&mut backoff).await {
                Ok(()) => ("closed".to_owned(), None),
                Err(ClientError::Closed) => return,
                Err(error) => {
                    if let Some(code) = ended_by(&error) {
                        return self.give_up(code).await;
                    }
                    (error.to_string(), wait_asked(&error))
                }
            };
            if self.host.step(Input::Offline(reason)).await.is_err() {
                return;
            }
            let delay = backoff.next().unwrap_or(TICK).max(asked.unwrap_or_default());
            tokio::select! {
                () = sleep(delay) => {}
                stopped = self.stop.changed() => if stopped.is_err() { return },
            }
        }
    }

    /// The server will hear nothing else of this device.
    pub(super) async fn give_up(self, code: ErrorCode) {
        tracing::info!(code = code.as_str(), "not connecting any more");
        let told = self.host.run(move |machine, step| {
            machine.handle(step, Input::Offline(code.as_str().to_owned()))?;
            machine.stop(step, code);
            Ok(())
        });
        if let Err(error) = told.await {
            tracing::warn!(%error, "the end could not be told");
        }
    }

    fn fresh_backoff(&self) -> Backoff {
        Backoff::new(BackoffPolicy::default(), OsRng.next_u64())
    }

    async fn connected(&mut self, backoff: &mut Backoff) -> Result<(), ClientError> {
        if let Some(code) = self.host.run(|machine, _| Ok(machine.stopped_by())).await? {
            return Err(stopped(code));
        }
        let mut stop = self.stop.clone();
        let opened = tokio::select! {
            opened = self.open() => opened,
            _ = stop.changed() => return Ok(()),
        };
        let (connection, tokens) = opened?;
        *backoff = self.fresh_backoff();
        // What an earlier connection did not take is derived anew: sent twice, its answers would be
        // taken for those of later requests.
        drop(self.host.effects().take());
        self.host.step(Input::Online(tokens.clone())).await?;
        let mut session = Session::new(connection, &tokens, &self.host);
        self.serve(&mut session).await
    }

    async fn open(&self) -> Result<(Connection, LoginAnswer), ClientError> {
        let connection = connect(&self.url, &ClientLimits::default()).await?;
        let proof = self.keys.prove(&connection.binding(), &self.device, Purpose::Login);
        let login = Request::Login(Login { device: self.device, proof });
        let answer = call(&connection, (&Token::NONE, RequestId::ZERO), &login).await?;
        let Response::Tokens(tokens) = answer else {
            return Err(ClientError::Alarm("it answered the login oddly".into()));
        };
        Ok((connection, tokens))
    }

    /// Serves one connection until it ends, or the client is to.
    pub(super) async fn serve(&mut self, session: &mut Session) -> Result<(), ClientError> {
        let effects = self.host.effects();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            session.send_due(&effects).await?;
            tokio::select! {
                () = effects.wait() => {}
                Some(done) = session.calls.join_next() => {
                    if let Ok(done) = done { session.done(done, &self.host).await? }
                }
                Some(number) = session.expired.recv() => session.note_expired(number),
                Some(ended) = session.streams.join_next() => {
                    if let Ok(Err(error)) = ended { return Err(error) }
                }
                Some(ask) = self.asks.recv(), if session.is_ready() => session.ask(ask),
                _ = tick.tick() => self.tick().await?,
                reason = session.connection.closed() => {
                    return Err(TransportError::Closed(reason).into());
                }
                stopped = self.stop.changed() => {
                    let stop = *self.stop.borrow();
                    if stop == Stop::Logout {
                        let token = session.access().token;
                        let as_it_is = (&token, RequestId::ZERO);
                        call(&session.connection, as_it_is, &Request::Logout).await?;
                    }
                    if stopped.is_err() || stop != Stop::No { return Ok(()) }
                }
            }
        }
    }

    /// Time passes; what the machine has read may have put this device out.
    async fn tick(&self) -> Result<(), ClientError> {
        let passed = self.host.run(|machine, step| {
            machine.handle(step, Input::Tick)?;
            Ok(machine.stopped_by())
        });
        match passed.await? {
            Some(code) => Err(stopped(code)),
            None => Ok(()),
        }
    }
}

/// The refusal that a device hears which is out.
pub(crate) fn stopped(code: ErrorCode) -> ClientError {
    let text = if code == ErrorCode::AccountSuspended {
        "the operator suspended this account: ask them why"
    } else {
        "this device was revoked and neither sends nor reads any more; link it anew into an empty \
         --home"
    };
    ClientError::Refused(ErrorBody::new(code, text))
}

/// The code with which the server ended this device's use, by answer or by closing.
fn ended_by(error: &ClientError) -> Option<ErrorCode> {
    let code = if let ClientError::Refused(body) = error {
        Some(body.code)
    } else if let ClientError::Network(TransportError::Closed(CloseReason::Peer { code, .. })) =
        error
    {
        u16::try_from(*code).ok().and_then(ErrorCode::from_u16)
    } else {
        None
    };
    code.filter(|code| ends_use(*code))
}

fn wait_asked(error: &ClientError) -> Option<Duration> {
    if let ClientError::Refused(body) = error { asks_to_wait(body) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u32) -> ClientError {
        let reason = String::new();
        TransportError::Closed(CloseReason::Peer { code, reason }).into()
    }

    #[test]
    fn only_these_ends_are_for_good() {
        for code in ErrorCode::ALL.iter().copied() {
            let ends = matches!(code, ErrorCode::DeviceRevoked | ErrorCode::AccountSuspended);
            let refused = ClientError::Refused(ErrorBody::new(code, ""));
            let wanted = ends.then_some(code);
            assert_eq!(ended_by(&refused), wanted, "{}", code.as_str());
            assert_eq!(ended_by(&closed(code.as_u16().into())), wanted, "{}", code.as_str());
        }
        assert_eq!(ended_by(&closed(0)), None);
        assert_eq!(ended_by(&closed(0x1_0017)), None);
        assert_eq!(ended_by(&TransportError::Timeout.into()), None);
    }

    #[test]
    fn a_busy_server_is_left_alone_as_long_as_it_asks() {
        let mut body = ErrorBody::new(ErrorCode::RateLimited, "");
        body.retry_after_ms = Some(7_000);
        assert_eq!(wait_asked(&ClientError::Refused(body)), Some(Duration::from_secs(7)));
        assert_eq!(wait_asked(&closed(100)), None);
    }
}
