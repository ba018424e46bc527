//! One connection, from its handshake to its end: accepts streams, waits for `Login`, closes in
//! order.
//!
//! Answers nothing itself: `stream` does, one task a stream. Never outlives the server's grace.

mod note;
mod peer;
mod stream;
mod subscription;
mod taking;
mod wait;

use std::sync::Arc;

use bytes::Bytes;
use qpc_proto::frame::RequestFrame;
use qpc_proto::{ErrorCode, RequestId, Token};
use qpc_transport::{Connection, FrameReceiver, FrameSender};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::node::Call;
use crate::server::Shared;
pub(crate) use peer::PeerState;
pub(crate) use wait::Waits;

/// Streams of one connection that are open at one time.
const STREAMS_MAX: usize = 64;
/// The same before `Login`, so that strangers hold little memory.
const STREAMS_BEFORE_LOGIN_MAX: usize = 4;

/// Large requests of one connection that arrive at one time.
const LARGE_FRAMES_MAX: usize = 4;
/// `FetchWait`s of one connection that wait at one time.
const WAITS_MAX: usize = 16;
/// `Publish`es of one connection that wait for their turn at one time.
const PUBLISHES_MAX: usize = 64;
/// KiB of `Ack`s of one connection that wait for their turn at one time.
const NOTES_KIB_MAX: usize = 1_024;
/// Answers to reads, pages among them, that one connection holds until its client takes them.
const PAGES_MAX: usize = 4;

/// A connection's session is looked at this many times more seldom than a subscription's token.
const RECHECKS: u32 = 12;

/// Serves a connection until it ends or the server stops.
pub(crate) async fn run(shared: Arc<Shared>, connection: Connection) {
    let session = Arc::new(Session {
        peer: PeerState::new(connection.binding(), connection.remote_address().ip()),
        shared,
        grant: note::LastGrant::default(),
        large_frames: Semaphore::new(LARGE_FRAMES_MAX),
        pages: Semaphore::new(PAGES_MAX),
        waits: Semaphore::new(WAITS_MAX),
        publishes: Semaphore::new(PUBLISHES_MAX),
        notes: Semaphore::new(NOTES_KIB_MAX),
    });
    let mut streams = JoinSet::new();
    let end = session.accept(&connection, &mut streams).await;
    if end == End::Stopping {
        // Each stream ends by itself when it sees the server stop.
        while streams.join_next().await.is_some() {}
    }
    match end {
        End::Gone => {}
        End::AuthTimeout => {
            close(&connection, ErrorCode::AuthTimeout, "log in sooner");
        }
        End::CutOff(code) => close(&connection, code, "this device is cut off"),
        End::SessionOver => {
            close(&connection, ErrorCode::Unauthenticated, "the session has ended; log in again");
        }
        End::Stopping => {
            close(&connection, ErrorCode::ShuttingDown, "the server is stopping; reconnect later");
        }
    }
    streams.shutdown().await;
}

/// Closes with a stable code that the other end sees.
fn close(connection: &Connection, code: ErrorCode, reason: &str) {
    tracing::debug!(code = code.as_str(), "closing a connection");
    connection.close(u32::from(code.as_u16()), reason);
}

/// Why no more streams are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Gone,
    AuthTimeout,
    SessionOver,
    /// Its device was revoked, or its account suspended.
    CutOff(ErrorCode),
    Stopping,
}

/// What the streams of a connection share.
pub(crate) struct Session {
    /// What the token of the last acknowledgement gives.
    pub(crate) grant: note::LastGrant,
    pub(crate) peer: PeerState,
    pub(crate) shared: Arc<Shared>,
    /// Never closed, as are the others.
    pub(crate) large_frames: Semaphore,
    pub(crate) pages: Semaphore,
    pub(crate) waits: Semaphore,
    pub(crate) publishes: Semaphore,
    pub(crate) notes: Semaphore,
}

impl Session {
    async fn accept(self: &Arc<Self>, connection: &Connection, streams: &mut JoinSet<()>) -> End {
        let mut allowed = STREAMS_BEFORE_LOGIN_MAX;
        let unauthenticated = self.peer.overdue(self.shared.limits.auth_timeout);
        tokio::pin!(unauthenticated);
        let over = self.over();
        tokio::pin!(over);
        let cut_off = self.cut_off();
        tokio::pin!(cut_off);
        loop {
            let room = streams.len() < self.streams_max();
            if let Some(more) = self.more_streams(streams.len(), allowed) {
                connection.allow_streams(u32::try_from(more).unwrap_or(u32::MAX));
                allowed = more;
            }
            tokio::select! {
                accepted = connection.accept_stream(), if room => match accepted {
                    Ok(Some(ends)) => self.spawn(ends, streams),
                    Ok(None) => return End::Gone,
                    Err(error) => {
                        tracing::debug!(%error, "a connection ended");
                        return End::Gone;
                    }
                },
                _ = connection.closed() => return End::Gone,
                Some(ended) = streams.join_next() => report(ended),
                // A login makes room for more streams.
                _ = self.peer.bound(), if !room && self.peer.device().is_none() => {}
                () = &mut unauthenticated => return End::AuthTimeout,
                () = &mut over => return End::SessionOver,
                code = &mut cut_off => return End::CutOff(code),
                () = self.shared.stopping() => return End::Stopping,
            }
        }
    }

    /// Ends when the connection's device has a session no more: a device has few, so that it has
    /// few connections, too. Whoever takes no answers would never hear of it otherwise.
    async fn over(&self) {
        let pause = self.shared.limits.recheck.saturating_mul(RECHECKS);
        loop {
            tokio::time::sleep(pause).await;
            if self.peer.device().is_some() && Box::pin(self.check()).await.is_some() {
                return;
            }
        }
    }

    /// A call that stands for another read, under the newest token and at this moment.
    fn again(&self, call: &Call) -> Call {
        let mut call = call.clone();
        call.frame.token = self.peer.newest_token(&call.frame.token);
        call.peer = self.peer.peer();
        call.now_ms = self.shared.now_ms();
        call
    }

    /// Why the connection's session has ended, if it has. Its callers box it: it is seldom under
    /// way, and each connection would hold room for it.
    async fn check(&self) -> Option<ErrorCode> {
        let frame = RequestFrame {
            method: 0,
            token: self.peer.newest_token(&Token::NONE),
            request_id: RequestId::ZERO,
            body: Bytes::new(),
        };
        let call = Call { frame, peer: self.peer.peer(), now_ms: self.shared.now_ms() };
        let node = Arc::clone(&self.shared.node);
        let checked = self.shared.readers.run(move |tx| node.authorize(tx, &call)).await;
        checked.ok()?.err()?.ends_session()
    }

    /// Ends when the connection's device is cut off, with the reason.
    async fn cut_off(&self) -> ErrorCode {
        loop {
            let device = self.peer.bound().await;
            let mut registration = self.shared.bound.enter(device);
            if registration.suspect
                && let Some(code) = Box::pin(self.check()).await
                && code != ErrorCode::Unauthenticated
            {
                return code;
            }
            tokio::select! {
                code = registration.cut() => return code,
                () = self.peer.left(device) => {}
            }
        }
    }

    /// How many streams the client is allowed next, if half of what it is allowed is open: few have
    /// many, and each that may be opened costs memory.
    fn more_streams(&self, open: usize, allowed: usize) -> Option<usize> {
        let most = self.streams_max();
        (allowed < most && open >= allowed / 2).then(|| allowed.saturating_mul(2).min(most))
    }

    fn streams_max(&self) -> usize {
        if self.peer.device().is_some() { STREAMS_MAX } else { STREAMS_BEFORE_LOGIN_MAX }
    }

    fn spawn(self: &Arc<Self>, ends: (FrameSender, FrameReceiver), streams: &mut JoinSet<()>) {
        let (sender, receiver) = ends;
        streams.spawn(stream::run(Arc::clone(self), sender, receiver));
    }
}

/// A panicking stream is a bug; the connection lives on.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a stream's task panicked");
    }
}
