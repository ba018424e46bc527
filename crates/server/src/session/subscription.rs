//! Follows logs for one stream: pages from each cursor, then whatever is accepted, in order, and
//! what is published while there is nothing else to send.
//!
//! Who keeps up is served from the logs' tails; whoever is behind, from the database, and only when
//! the last page is written to the stream, so that a slow reader costs no memory. Token and rights
//! are checked in the transaction of every read, and from time to time when there is none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use qpc_proto::frame::Frame;
use qpc_proto::message::{DeviceRef, Fetch, Method, Page, Request, Response};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode};
use qpc_storage::Tx;
use qpc_transport::{FrameSender, TransportError};
use rand_core::{OsRng, RngCore as _};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::Session;
use crate::node::{Call, Node};
use crate::notify::Watch;
use crate::refusal::Refusal;
use crate::router;
use crate::tail::Behind;

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
    let watch = session.shared.notifier.follow(channels);
    let mut subscription = Subscription {
        due: cursors.keys().copied().collect(),
        cursors: cursors
            .into_iter()
            .map(|(channel, seq)| (channel, At { seq, shown: false, live: None }))
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
            Ok(Some((body, _room))) => sender.send(&Frame::Item(body)).await?,
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

/// What those hear who wait for something when the server stops.
pub(super) fn shutting_down() -> Refusal {
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
    /// The database gave the device all rights.
    live: Option<Live>,
}

/// For how long a device is served without the database, unless the log's tail is cleared or the
/// connection belongs to it no more.
struct Live {
    device: DeviceRef,
    checked: Instant,
    /// When the token ends, Unix milliseconds.
    until_ms: u64,
}

struct Subscription<'a> {
    session: &'a Session,
    call: Call,
    watch: Watch,
    cursors: BTreeMap<ChannelId, At>,
    /// Logs that may have more than was served, in turn.
    due: VecDeque<ChannelId>,
}

/// The body of a page to send, with its room.
type Item<'a> = (Bytes, Option<SemaphorePermit<'a>>);

impl<'a> Subscription<'a> {
    /// The next page to send; `None` when there was nothing after all.
    async fn step(&mut self) -> Result<Option<Item<'a>>, Refusal> {
        self.enlist();
        if !self.due.is_empty() {
            return self.entries().await;
        }
        if self.watch.has_published() {
            return self.published().await;
        }
        self.wait().await.map(|()| None)
    }

    async fn entries(&mut self) -> Result<Option<Item<'a>>, Refusal> {
        let room = self.session.pages.acquire().await.ok();
        let Some(channel) = self.due.pop_front() else {
            return Ok(None);
        };
        let body = match self.behind(&channel) {
            Behind::Entries(stretch) => {
                if let Some(at) = self.cursors.get_mut(&channel) {
                    at.seq = stretch.last();
                }
                // Perhaps there is more.
                self.due.push_back(channel);
                Some(stretch.body())
            }
            Behind::Nothing => None,
            Behind::Unknown => self.stored(channel).await?,
        };
        Ok(body.map(|body| (body, room)))
    }

    /// What the log's tail has for a device that the database has lately given all rights.
    fn behind(&self, channel: &ChannelId) -> Behind {
        let shared = &self.session.shared;
        let Some(At { seq, live: Some(live), .. }) = self.cursors.get(channel) else {
            return Behind::Unknown;
        };
        let now_ms = shared.now_ms();
        let over = live.until_ms <= now_ms || live.checked.elapsed() >= shared.limits.recheck;
        if over || self.session.peer.device() != Some(live.device) {
            return Behind::Unknown;
        }
        self.watch.behind((channel, *seq), now_ms)
    }

    /// Whether the log's tail has what comes behind a sequence number, for a device that had all
    /// rights. The database is asked for its rights then, and for one entry.
    fn is_kept_behind(&self, (channel, seq): (&ChannelId, u64)) -> bool {
        let had_all_rights = self.cursors.get(channel).is_some_and(|at| at.live.is_some());
        let behind = || self.watch.behind((channel, seq), self.session.shared.now_ms());
        had_all_rights && matches!(behind(), Behind::Entries(_))
    }

    /// A page from the database, if there is anything to say.
    async fn stored(&mut self, channel: ChannelId) -> Result<Option<Bytes>, Refusal> {
        let after_seq = self.cursors.get(&channel).map_or(0, |at| at.seq);
        let bytes_max = u64::from(self.is_kept_behind((&channel, after_seq.saturating_add(1))));
        let fetch = Fetch { channel, after_seq, bytes_max };
        let (checked, device) = (Instant::now(), self.session.peer.device());
        let (page, until_ms) =
            self.read(move |node, tx, call| node.followed(tx, call, &fetch)).await?;
        let Some(at) = self.cursors.get_mut(&channel) else {
            return Ok(None);
        };
        if let Some(entry) = page.entries.first()
            && !at.shown
            && let Some(device) = device
            && self.session.shared.redeliveries.begins((device, channel), entry.seq)
        {
            tracing::warn!("a device comes back for the same entry again and again");
            self.session.shared.metrics.redelivered();
        }
        let last = page.entries.last().map(|entry| entry.seq);
        if let Some(seq) = last {
            at.seq = seq;
            if seq < page.head_seq {
                self.due.push_back(channel);
            }
        }
        // What changes a device's rights beyond the head would be skipped by a cursor beyond it.
        let within = at.seq <= page.head_seq;
        let live = device.zip(until_ms).filter(|_| within);
        at.live = live.map(|(device, until_ms)| Live { device, checked, until_ms });
        let first = !std::mem::replace(&mut at.shown, true);
        Ok((first || last.is_some()).then(|| Response::Page(page).encode()))
    }

    /// What was published to one channel, if the device has all rights in it at this moment.
    async fn published(&mut self) -> Result<Option<Item<'a>>, Refusal> {
        let session = self.session;
        let room = session.pages.acquire().await.ok();
        let Some((channel, published)) = self.watch.published() else {
            return Ok(None);
        };
        let head = self.read(move |node, tx, call| router::heard(node, (tx, call), &channel));
        let page = |head_seq| Page { channel, entries: Vec::new(), head_seq, published };
        Ok(head.await?.map(page).map(|page| (Response::Page(page).encode(), room)))
    }

    /// Waits for growth; checks the token when there was none for a while.
    async fn wait(&mut self) -> Result<(), Refusal> {
        let patience = self.session.shared.limits.recheck;
        if tokio::time::timeout(patience, self.watch.rung()).await.is_err() {
            self.read(|node, tx, call| node.authorize(tx, call).map(drop)).await?;
        }
        Ok(())
    }

    /// Gives logs that have grown their turn behind those that are due: one that always has more
    /// must not keep the others waiting.
    fn enlist(&mut self) {
        for channel in self.watch.take() {
            if !self.due.contains(&channel) {
                self.due.push_back(channel);
            }
        }
    }

    /// Runs `read` in one read transaction, under the connection's newest token.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Node, &Tx<'_>, &Call) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let shared = &self.session.shared;
        let call = self.session.again(&self.call);
        let node = Arc::clone(&shared.node);
        let answered = shared.readers.run(move |tx| read(&node, tx, &call)).await;
        answered.unwrap_or_else(|error| Err(Refusal::internal(error)))
    }
}
