//! The task that owns the connection: dials, logs in, sends what is due, follows the logs, dials
//! again with full jitter. Nothing is given up silently: every loss is an event, and the work is
//! derived anew.

use std::collections::VecDeque;
use std::time::Duration;

use qpc_proto::binding::Purpose;
use qpc_proto::frame::Frame;
use qpc_proto::message::{Cursor, Login, LoginAnswer, Method, Request, Response};
use qpc_proto::{ErrorCode, RequestId, Token};
use qpc_transport::{
    Backoff, BackoffPolicy, ClientLimits, Connection, FrameReceiver, ServerUrl, TransportError,
    connect,
};
use rand_core::{OsRng, RngCore as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::host::Host;
use super::{answer, call, frame};
use crate::clock::now_ms;
use crate::error::ClientError;
use crate::keys::Keys;
use crate::machine::{Failure, Input, Outgoing};

/// How often time passes for the machine.
const TICK: Duration = Duration::from_secs(1);
/// An access token is refreshed this long before it ends, in milliseconds.
const REFRESH_MS: u64 = 60_000;
/// How long the connection itself waits for an answer, which holds up all else on it. A server that
/// keeps the connection alive and does not answer is given up.
const ANSWER: Duration = Duration::from_secs(30);
/// Requests on their way to the ordered stream.
const ORDERED_MAX: usize = 64;

/// The connection's task.
pub(crate) struct Driver {
    pub(crate) host: Host,
    pub(crate) url: ServerUrl,
    pub(crate) keys: Keys,
    pub(crate) device: qpc_proto::message::DeviceRef,
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

/// One logged-in connection.
struct Session {
    connection: Connection,
    token: Token,
    refresh: Token,
    refresh_at_ms: u64,
    /// Sends in the order they were derived, on one long stream.
    ordered: mpsc::Sender<Outgoing>,
    calls: JoinSet<(Outgoing, Result<Response, ClientError>)>,
    streams: JoinSet<Result<(), ClientError>>,
    following: Option<tokio::task::AbortHandle>,
}

impl Driver {
    /// Runs until told to stop.
    pub(crate) async fn run(mut self) {
        let mut backoff = self.fresh_backoff();
        while *self.stop.borrow() == Stop::No {
            let reason = match self.connected(&mut backoff).await {
                Ok(()) => "closed".to_owned(),
                Err(ClientError::Closed) => return,
                Err(error) => error.to_string(),
            };
            if self.host.step(Input::Offline(reason)).await.is_err() {
                return;
            }
            let delay = backoff.next().unwrap_or(TICK);
            tokio::select! {
                () = sleep(delay) => {}
                stopped = self.stop.changed() => if stopped.is_err() { return },
            }
        }
    }

    fn fresh_backoff(&self) -> Backoff {
        Backoff::new(BackoffPolicy::default(), OsRng.next_u64())
    }

    async fn connected(&mut self, backoff: &mut Backoff) -> Result<(), ClientError> {
        let limits = ClientLimits::default();
        let mut stop = self.stop.clone();
        let opened = tokio::select! {
            opened = self.open(&limits) => opened,
            _ = stop.changed() => return Ok(()),
        };
        let (connection, tokens) = opened?;
        *backoff = self.fresh_backoff();
        // What an earlier connection did not take is derived anew: sent twice, its answers would be
        // taken for those of later requests.
        drop(self.host.effects().take());
        self.host.step(Input::Online(tokens.clone())).await?;
        let (ordered, queue) = mpsc::channel(ORDERED_MAX);
        let mut session = Session {
            refresh_at_ms: refresh_at(&tokens),
            token: tokens.access_token.clone(),
            refresh: tokens.refresh_token.clone(),
            ordered,
            calls: JoinSet::new(),
            streams: JoinSet::new(),
            following: None,
            connection,
        };
        session.streams.spawn(send_in_order(
            (session.connection.clone(), session.token.clone()),
            queue,
            self.host.clone(),
        ));
        let result = self.serve(&mut session).await;
        session.calls.abort_all();
        session.streams.abort_all();
        session.connection.close(0, "");
        result
    }

    async fn open(&self, limits: &ClientLimits) -> Result<(Connection, LoginAnswer), ClientError> {
        let connection = connect(&self.url, limits).await?;
        let proof = self.keys.prove(&connection.binding(), &self.device, Purpose::Login);
        let login = Request::Login(Login { device: self.device, proof });
        let answer = in_time(call(&connection, (&Token::NONE, RequestId::ZERO), &login)).await?;
        let Response::Tokens(tokens) = answer else {
            return Err(ClientError::Alarm("it answered the login oddly".into()));
        };
        Ok((connection, tokens))
    }

    async fn serve(&mut self, session: &mut Session) -> Result<(), ClientError> {
        let effects = self.host.effects();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (requests, subscribe) = effects.take();
            for outgoing in requests {
                session.send(outgoing).await?;
            }
            if let Some(cursors) = subscribe {
                session.follow(cursors, &self.host);
            }
            tokio::select! {
                () = effects.wait() => {}
                Some(done) = session.calls.join_next() => {
                    let Ok((outgoing, result)) = done else { continue };
                    self.answered(outgoing, result).await?;
                }
                Some(ended) = session.streams.join_next() => {
                    if let Ok(Err(error)) = ended { return Err(error) }
                }
                _ = tick.tick() => {
                    self.host.step(Input::Tick).await?;
                    session.refresh_if_due().await?;
                }
                reason = session.connection.closed() => {
                    return Err(TransportError::Closed(reason).into());
                }
                stopped = self.stop.changed() => {
                    let stop = *self.stop.borrow();
                    if stop == Stop::Logout {
                        let token = (&session.token, RequestId::ZERO);
                        in_time(call(&session.connection, token, &Request::Logout)).await?;
                    }
                    if stopped.is_err() || stop != Stop::No { return Ok(()) }
                }
            }
        }
    }

    async fn answered(
        &self,
        outgoing: Outgoing,
        result: Result<Response, ClientError>,
    ) -> Result<(), ClientError> {
        self.host.step(Input::Answer(outgoing.work, settle(result)?)).await
    }
}

async fn in_time(
    call: impl Future<Output = Result<Response, ClientError>>,
) -> Result<Response, ClientError> {
    tokio::time::timeout(ANSWER, call).await.map_err(|_| TransportError::Timeout)?
}

fn refresh_at(tokens: &LoginAnswer) -> u64 {
    let lasts = tokens.access_expires_at_ms.saturating_sub(tokens.now_ms);
    now_ms().saturating_add(lasts.saturating_sub(REFRESH_MS).max(lasts / 2))
}

/// A refusal is an answer; anything else ends the connection, and the work is derived anew. So does
/// a token that does not count any more: a new connection logs in again.
fn settle(result: Result<Response, ClientError>) -> Result<Result<Response, Failure>, ClientError> {
    match result {
        Ok(response) => Ok(Ok(response)),
        Err(ClientError::Refused(body))
            if !matches!(body.code, ErrorCode::TokenExpired | ErrorCode::Unauthenticated) =>
        {
            Ok(Err(Failure::Refused(body)))
        }
        Err(error) => Err(error),
    }
}

impl Session {
    async fn send(&mut self, outgoing: Outgoing) -> Result<(), ClientError> {
        match outgoing.request.method() {
            Method::Enqueue | Method::Commit | Method::CreateChannel => {
                self.ordered.send(outgoing).await.map_err(|_| {
                    TransportError::Closed(qpc_transport::CloseReason::Lost("a stream".into()))
                })?;
            }
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
            | Method::Recover
            | Method::ExportAccount
            | Method::DeleteAccount
            | Method::CancelDeletion
            | Method::UploadKeyPackages
            | Method::ClaimKeyPackages
            | Method::KeyPackageStatus
            | Method::ListChannels
            | Method::Statement
            | Method::Fetch
            | Method::Subscribe
            | Method::Ack => {
                let connection = self.connection.clone();
                let token = self.token.clone();
                self.calls.spawn(async move {
                    let id = outgoing.request_id;
                    let result = call(&connection, (&token, id), &outgoing.request).await;
                    (outgoing, result)
                });
            }
        }
        Ok(())
    }

    /// Follows these logs from now on, and no longer those before.
    fn follow(&mut self, cursors: Vec<Cursor>, host: &Host) {
        if let Some(before) = self.following.take() {
            before.abort();
        }
        let task = follow((self.connection.clone(), self.token.clone()), cursors, host.clone());
        self.following = Some(self.streams.spawn(task));
    }

    async fn refresh_if_due(&mut self) -> Result<(), ClientError> {
        if now_ms() < self.refresh_at_ms {
            return Ok(());
        }
        let request = Request::Refresh(self.refresh.clone());
        let token = (&self.token, RequestId::ZERO);
        let answer = in_time(call(&self.connection, token, &request)).await?;
        let Response::Tokens(tokens) = answer else {
            return Err(ClientError::Alarm("it answered the refresh oddly".into()));
        };
        self.refresh_at_ms = refresh_at(&tokens);
        (self.token, self.refresh) = (tokens.access_token, tokens.refresh_token);
        // The long streams carry the old token; a connection opened anew is the simple way on.
        Err(TransportError::Closed(qpc_transport::CloseReason::Local).into())
    }
}

/// One long stream for all that must keep its order: requests go out as they come, answers are
/// taken in the same order.
async fn send_in_order(
    (connection, token): (Connection, Token),
    mut queue: mpsc::Receiver<Outgoing>,
    host: Host,
) -> Result<(), ClientError> {
    let (mut sender, mut receiver) = connection.open_stream().await?;
    let mut waiting: VecDeque<Outgoing> = VecDeque::new();
    loop {
        tokio::select! {
            outgoing = queue.recv(), if waiting.len() < ORDERED_MAX => {
                let Some(outgoing) = outgoing else { return Ok(()) };
                sender.send(&frame(&token, outgoing.request_id, &outgoing.request)).await?;
                waiting.push_back(outgoing);
            }
            result = next_answer(&mut receiver, waiting.front()), if !waiting.is_empty() => {
                let Some(outgoing) = waiting.pop_front() else { continue };
                host.step(Input::Answer(outgoing.work, settle(result)?)).await?;
            }
        }
    }
}

async fn next_answer(
    receiver: &mut FrameReceiver,
    outgoing: Option<&Outgoing>,
) -> Result<Response, ClientError> {
    match outgoing {
        Some(outgoing) => answer(receiver, &outgoing.request).await,
        None => std::future::pending().await,
    }
}

/// Follows logs until the stream ends; then the machine asks for another.
async fn follow(
    (connection, token): (Connection, Token),
    cursors: Vec<Cursor>,
    host: Host,
) -> Result<(), ClientError> {
    let (mut sender, mut receiver) = connection.open_stream().await?;
    let request = Request::Subscribe(cursors);
    sender.send(&frame(&token, RequestId::ZERO, &request)).await?;
    loop {
        match receiver.next().await? {
            Some(Frame::Item(body)) => {
                let page = Response::decode(request.method(), body)
                    .map_err(|_| ClientError::Alarm("a page that does not parse".into()))?;
                if let Response::Page(page) = page {
                    // Reading the next page waits for this one's commit: the server holds back.
                    host.step(Input::Page(page)).await?;
                }
            }
            Some(Frame::Error(code, _)) => tracing::info!(code, "a subscription ended"),
            Some(Frame::Reply(_) | Frame::Request(_) | Frame::End) | None => {
                sleep(TICK).await;
                return host
                    .run(|machine, _| {
                        machine.resubscribe();
                        Ok(())
                    })
                    .await;
            }
        }
    }
}
