//! Follows logs for one stream: pages from each cursor, then whatever is accepted, in order.
//!
//! Reads from the database only when the last page is written to the stream, so a slow reader costs
//! no memory. The token is checked in the transaction of every read, and at rest from time to time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use qpc_proto::frame::Frame;
use qpc_proto::message::{Fetch, Method, Page, Request, Response};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode};
use qpc_storage::Tx;
use qpc_transport::{FrameSender, TransportError};
use rand_core::{OsRng, RngCore as _};
use tokio::sync::SemaphorePermit;

use super::Session;
use crate::node::{Call, Node};
use crate::notify::Watch;
use crate::refusal::Refusal;

/// Upper end of the random wait that a stopping server asks for, in milliseconds, so that its
/// clients do not all come back at once.
const RETURN_WITHIN_MS: u64 = 5_000;

/// Serves a subscription until it ends with a refusal to send, or its stream breaks.
pub(super) async fn run(
    session: &Session,
    call: Call,
    sender: &mut FrameSender,
) -> Result<Refusal, TransportError> {
    let cursors = match cursors(&call) {
        Ok(cursors) => cursors,
        Err(refusal) => return Ok(refusal),
    };
    let channels: BTreeSet<_> = cursors.keys().copied().collect();
    // Registered before the first read, so that nothing accepted meanwhile is missed.
    let watch = session.shared.notifier.watch(channels);
    let mut subscription = Subscription {
        due: cursors.keys().copied().collect(),
        cursors: cursors
            .into_iter()
            .map(|(channel, seq)| (channel, At { seq, shown: false }))
            .collect(),
        session,
        call,
        watch,
    };
    let stopping = session.shared.stopping();
    tokio::pin!(stopping);
    loop {
        let step = tokio::select! {
            step = subscription.step() => step,
            () = &mut stopping => return Ok(shutting_down()),
        };
        match step {
            Ok(Some((page, _room))) => {
                let item = Frame::Item(Response::Page(page).encode());
                sender.send(&item).await?;
            }
            Ok(None) => {}
            Err(refusal) => return Ok(refusal),
        }
    }
}

fn cursors(call: &Call) -> Result<BTreeMap<ChannelId, u64>, Refusal> {
    let mut cursors = BTreeMap::new();
    if let Request::Subscribe(list) = Request::decode(Method::Subscribe, call.frame.body.clone())? {
        for cursor in list {
            if cursors.insert(cursor.channel, cursor.seq).is_some() {
                let text = "name each channel once";
                return Err(ErrorBody::new(ErrorCode::InvalidArgument, text).into());
            }
        }
    }
    Ok(cursors)
}

fn shutting_down() -> Refusal {
    let mut body =
        ErrorBody::new(ErrorCode::ShuttingDown, "the server is stopping; come back later");
    body.retry_after_ms = Some(OsRng.next_u64() % RETURN_WITHIN_MS);
    body.into()
}

/// How far the stream has been served.
struct At {
    seq: u64,
    /// The first page goes out even when it is empty: it says that the log is being followed.
    shown: bool,
}

struct Subscription<'a> {
    session: &'a Session,
    call: Call,
    watch: Watch,
    cursors: BTreeMap<ChannelId, At>,
    /// Logs that may have more than was served, in turn.
    due: VecDeque<ChannelId>,
}

impl<'a> Subscription<'a> {
    /// The next page to send, with its room; `None` when there was nothing after all.
    async fn step(&mut self) -> Result<Option<(Page, Option<SemaphorePermit<'a>>)>, Refusal> {
        if self.due.is_empty() {
            return self.wait().await.map(|()| None);
        }
        let session = self.session;
        let room = session.pages.acquire().await.ok();
        let Some(channel) = self.due.pop_front() else {
            return Ok(None);
        };
        let fetch = Fetch {
            channel,
            after_seq: self.cursors.get(&channel).map_or(0, |at| at.seq),
            bytes_max: 0,
        };
        let page = self.read(move |node, tx, call| node.page(tx, call, &fetch)).await?;
        let Some(at) = self.cursors.get_mut(&channel) else {
            return Ok(None);
        };
        let last = page.entries.last().map(|entry| entry.seq);
        if let Some(seq) = last {
            at.seq = seq;
            if seq < page.head_seq {
                self.due.push_back(channel);
            }
        }
        let first = !std::mem::replace(&mut at.shown, true);
        Ok((first || last.is_some()).then_some((page, room)))
    }

    /// Waits for growth; checks the token when there was none for a while.
    async fn wait(&mut self) -> Result<(), Refusal> {
        let patience = self.session.shared.limits.recheck;
        if tokio::time::timeout(patience, self.watch.rung()).await.is_err() {
            self.read(|node, tx, call| node.authorize(tx, call).map(drop)).await?;
        }
        self.due.extend(self.watch.take());
        Ok(())
    }

    /// Runs `read` in one read transaction, under the connection's newest token.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Node, &Tx<'_>, &Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let shared = &self.session.shared;
        let mut call = self.call.clone();
        call.frame.token = self.session.peer.newest_token(&call.frame.token);
        call.peer = self.session.peer.peer();
        call.now_ms = shared.now_ms();
        let node = Arc::clone(&shared.node);
        let answered = shared.readers.run(move |tx| read(&node, tx, &call)).await;
        answered.unwrap_or_else(|error| Err(Refusal::internal(error)))
    }
}
