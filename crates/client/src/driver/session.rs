//! One logged-in connection: what is sent on it, and its tokens. A refresh happens in place, one at
//! a time; meanwhile nothing is sent, and what an expired token held up is derived anew.

use std::time::Duration;

use qpc_proto::message::{LoginAnswer, Method, Request, Response};
use qpc_proto::{ErrorBody, ErrorCode, RequestId, Token};
use qpc_transport::{CloseReason, Connection, TransportError};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::host::{Effects, Host};
use super::streams::{Line, follow, send_in_order};
use super::{Ask, call};
use crate::error::{ClientError, ends_use};
use crate::machine::{Failure, Input, Outgoing};

/// An access token is refreshed this long before it ends, in milliseconds.
const REFRESH_MS: u64 = 60_000;
/// The longest that a refresh waits because the server says so.
const REFRESH_WAIT_MAX: Duration = Duration::from_secs(60);
/// Requests on their way to the ordered stream.
const ORDERED_MAX: usize = 64;
/// Expired tokens that the streams have told of.
const EXPIRED_MAX: usize = 8;

/// An access token, numbered by the order in which they came.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) number: u64,
    pub(super) token: Token,
}

/// One logged-in connection.
pub(super) struct Session {
    pub(super) connection: Connection,
    access: watch::Sender<Access>,
    refresh: Token,
    refresh_at: Instant,
    /// Whether a refresh is under way: never two at a time.
    refreshing: bool,
    /// Sends in the order they were derived, on one long stream.
    ordered: mpsc::Sender<Outgoing>,
    line: Line,
    pub(super) expired: mpsc::Receiver<u64>,
    pub(super) calls: JoinSet<Done>,
    pub(super) streams: JoinSet<Result<(), ClientError>>,
    following: Option<AbortHandle>,
    /// Questions that an expired token held up.
    held: Vec<Ask>,
}

type Answered = Result<Response, ClientError>;

/// A call that has ended.
pub(super) enum Done {
    Work(Outgoing, u64, Answered),
    Asked(Ask, u64, Answered),
    Refreshed(Answered),
}

/// What an answer means for the connection.
#[derive(Debug)]
pub(super) enum Settled {
    /// For who asked.
    Answered(Result<Response, Failure>),
    /// The token did not count: to be asked again with a newer one.
    Expired,
}

/// A refusal is an answer; anything else ends the connection, and the work is derived anew. `stale`
/// says that a newer token came while the request was on its way.
pub(super) fn settle(result: Answered, stale: bool) -> Result<Settled, ClientError> {
    let body = match result {
        Ok(response) => return Ok(Settled::Answered(Ok(response))),
        Err(ClientError::Refused(body)) => body,
        Err(error) => return Err(error),
    };
    let unknown = body.code == ErrorCode::Unauthenticated;
    if body.code == ErrorCode::TokenExpired || (unknown && stale) {
        return Ok(Settled::Expired);
    }
    if unknown || ends_use(body.code) {
        return Err(ClientError::Refused(body));
    }
    Ok(Settled::Answered(Err(Failure::Refused(body))))
}

impl Session {
    pub(super) fn new(connection: Connection, tokens: &LoginAnswer, host: &Host) -> Self {
        let (access, newest) =
            watch::channel(Access { number: 0, token: tokens.access_token.clone() });
        let (expire, expired) = mpsc::channel(EXPIRED_MAX);
        let (ordered, queue) = mpsc::channel(ORDERED_MAX);
        let line = Line {
            connection: connection.clone(),
            access: newest,
            expired: expire,
            host: host.clone(),
        };
        let mut streams = JoinSet::new();
        streams.spawn(send_in_order(line.clone(), queue));
        Self {
            connection,
            access,
            refresh: tokens.refresh_token.clone(),
            refresh_at: refresh_at(tokens),
            refreshing: false,
            ordered,
            line,
            expired,
            calls: JoinSet::new(),
            streams,
            following: None,
            held: Vec::new(),
        }
    }

    /// The way to the ordered stream.
    #[cfg(test)]
    pub(super) fn ordered(&self) -> mpsc::Sender<Outgoing> {
        self.ordered.clone()
    }

    /// Whether requests may leave.
    pub(super) fn is_ready(&self) -> bool {
        !self.refreshing
    }

    pub(super) fn access(&self) -> Access {
        self.access.borrow().clone()
    }

    /// Sends what committed steps want sent, unless a refresh is under way or due first.
    pub(super) async fn send_due(&mut self, effects: &Effects) -> Result<(), ClientError> {
        while let Ok(number) = self.expired.try_recv() {
            self.note_expired(number);
        }
        if Instant::now() >= self.refresh_at {
            self.begin_refresh(Duration::ZERO);
        }
        if self.refreshing {
            return Ok(());
        }
        for ask in std::mem::take(&mut self.held) {
            self.ask(ask);
        }
        let (requests, subscribe) = effects.take();
        for outgoing in requests {
            self.send(outgoing).await?;
        }
        if let Some(cursors) = subscribe {
            // Follows these logs from now on, and no longer those before.
            if let Some(before) = self.following.take() {
                before.abort();
            }
            self.following = Some(self.streams.spawn(follow(self.line.clone(), cursors)));
        }
        Ok(())
    }

    pub(super) async fn send(&mut self, outgoing: Outgoing) -> Result<(), ClientError> {
        if is_ordered(outgoing.request.method()) {
            return self
                .ordered
                .send(outgoing)
                .await
                .map_err(|_| TransportError::Closed(CloseReason::Lost("a stream".into())).into());
        }
        let (connection, access) = (self.connection.clone(), self.access());
        self.calls.spawn(async move {
            let id = outgoing.request_id;
            let result = call(&connection, (&access.token, id), &outgoing.request).await;
            Done::Work(outgoing, access.number, result)
        });
        Ok(())
    }

    /// Asks a command's question.
    pub(super) fn ask(&mut self, ask: Ask) {
        let (connection, access) = (self.connection.clone(), self.access());
        self.calls.spawn(async move {
            let id = ask.request_id;
            let result = call(&connection, (&access.token, id), &ask.request).await;
            Done::Asked(ask, access.number, result)
        });
    }

    /// Takes the end of a call.
    pub(super) async fn done(&mut self, done: Done, host: &Host) -> Result<(), ClientError> {
        match done {
            Done::Refreshed(result) => self.refreshed(result),
            Done::Work(outgoing, number, result) => {
                let result = match settle(result, self.is_stale(number))? {
                    Settled::Answered(result) => result,
                    Settled::Expired => {
                        self.note_expired(number);
                        Err(Failure::Lost)
                    }
                };
                host.step(Input::Answer(outgoing.work, result)).await
            }
            Done::Asked(ask, number, result) => {
                match settle(result, self.is_stale(number))? {
                    Settled::Answered(result) => {
                        // Who asked may have given up.
                        drop(ask.answer.send(result.map_err(refused)));
                    }
                    Settled::Expired => {
                        self.note_expired(number);
                        self.held.push(ask);
                    }
                }
                Ok(())
            }
        }
    }

    /// The server does not take this token any more: if it is the newest, another one is fetched.
    pub(super) fn note_expired(&mut self, number: u64) {
        if !self.is_stale(number) {
            self.begin_refresh(Duration::ZERO);
        }
    }

    /// Whether a newer token has come since.
    fn is_stale(&self, number: u64) -> bool {
        self.access.borrow().number != number
    }

    fn begin_refresh(&mut self, after: Duration) {
        if std::mem::replace(&mut self.refreshing, true) {
            return;
        }
        let (connection, token) = (self.connection.clone(), self.access().token);
        let request = Request::Refresh(self.refresh.clone());
        self.calls.spawn(async move {
            sleep(after).await;
            Done::Refreshed(call(&connection, (&token, RequestId::ZERO), &request).await)
        });
    }

    fn refreshed(&mut self, result: Answered) -> Result<(), ClientError> {
        self.refreshing = false;
        match result {
            Ok(Response::Tokens(tokens)) => {
                self.refresh_at = refresh_at(&tokens);
                self.refresh = tokens.refresh_token;
                let number = self.access().number.wrapping_add(1);
                self.access.send_replace(Access { number, token: tokens.access_token });
                Ok(())
            }
            Ok(_) => Err(ClientError::Alarm("it answered the refresh oddly".into())),
            Err(ClientError::Refused(body)) if asks_to_wait(&body).is_some() => {
                let wait = asks_to_wait(&body).unwrap_or_default();
                self.begin_refresh(wait.min(REFRESH_WAIT_MAX));
                Ok(())
            }
            // A login on another connection begins anew.
            Err(error) => Err(error),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.close(0, "");
    }
}

fn refused(failure: Failure) -> ClientError {
    match failure {
        Failure::Refused(body) => ClientError::Refused(body),
        Failure::Lost => TransportError::Closed(CloseReason::Lost("the answer".into())).into(),
    }
}

/// How long a server that is short of hands asks to be left alone.
pub(crate) fn asks_to_wait(body: &ErrorBody) -> Option<Duration> {
    let busy = matches!(body.code, ErrorCode::RateLimited | ErrorCode::Overloaded);
    busy.then(|| Duration::from_millis(body.retry_after_ms.unwrap_or(1_000)))
}

fn refresh_at(tokens: &LoginAnswer) -> Instant {
    let lasts = tokens.access_expires_at_ms.saturating_sub(tokens.now_ms);
    Instant::now() + Duration::from_millis(lasts.saturating_sub(REFRESH_MS).max(lasts / 2))
}

/// Whether requests of a method keep the order in which they were derived.
fn is_ordered(method: Method) -> bool {
    match method {
        Method::Enqueue | Method::Commit | Method::CreateChannel => true,
        Method::ServerInfo
        | Method::Register
        | Method::Login
        | Method::Refresh
        | Method::Logout
        | Method::Lookup
        | Method::DeviceList
        | Method::LinkRelay
        | Method::LinkDevice
        | Method::RevokeDevice
        | Method::RenewDevices
        | Method::Recover
        | Method::ExportAccount
        | Method::DeleteAccount
        | Method::CancelDeletion
        | Method::UploadKeyPackages
        | Method::ClaimKeyPackages
        | Method::KeyPackageStatus
        | Method::ListChannels
        | Method::Statement
        | Method::Publish
        | Method::Fetch
        | Method::FetchWait
        | Method::Subscribe
        | Method::Ack => false,
    }
}
