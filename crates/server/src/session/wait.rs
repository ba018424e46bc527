//! One `FetchWait`: a read, and while it finds nothing more of them, until its time is over or
//! somebody ends it. Of one device and channel only the newest waits.
//!
//! Holds no page while it waits. Every read checks the token anew.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qpc_auth::AuthError;
use qpc_proto::message::{FetchWait, Method, Page, Request};
use qpc_proto::{ChannelId, DeviceId, ErrorBody, ErrorCode};
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Session, subscription};
use crate::node::Call;
use crate::notify::{Notifier, Watch};
use crate::refusal::Refusal;

/// A page with its room, until the client has taken it.
type Answer<'a> = (Page, Option<SemaphorePermit<'a>>);

/// Answers a `FetchWait`. `left` ends when the client asks for nothing more on its stream.
pub(super) async fn run<'a>(
    session: &'a Session,
    call: Call,
    left: impl Future<Output = ()>,
) -> Result<Answer<'a>, Refusal> {
    let wait = decode(&call)?;
    let until = Instant::now() + Duration::from_millis(wait.wait_ms);
    let channel = wait.fetch.channel;
    let read = || read(session, &call, wait);
    let (watch, (page, room)) = first_look(&session.shared.notifier, channel, read).await?;
    if !page.entries.is_empty() || wait.wait_ms == 0 {
        return Ok((page, room));
    }
    drop(room);
    let _one_of_few = session.waits.try_acquire().map_err(|_| too_many())?;
    let device = session.peer.device().ok_or(AuthError::Unauthenticated)?.device;
    let mut place = session.shared.waits.enter(device, channel);
    let ended = async {
        tokio::select! {
            biased;
            () = session.shared.stopping() => Some(subscription::shutting_down()),
            () = place.superseded() => Some(superseded()),
            () = left => None,
            () = sleep_until(until) => None,
        }
    };
    let rest = Rest { watch, recheck: session.shared.limits.recheck, page };
    rest.until_grown(read, ended).await
}

/// The first read, by a reader who is registered: nothing accepted from here on is missed.
async fn first_look<T, R: Future<Output = Result<T, Refusal>>>(
    notifier: &Arc<Notifier>,
    channel: ChannelId,
    read: impl Fn() -> R,
) -> Result<(Watch, T), Refusal> {
    let watch = notifier.watch([channel].into());
    Ok((watch, read().await?))
}

fn decode(call: &Call) -> Result<FetchWait, Refusal> {
    if let Request::FetchWait(wait) = Request::decode(Method::FetchWait, call.frame.body.clone())? {
        return Ok(wait);
    }
    Err(Refusal::internal("a wait of another method"))
}

/// One read, under the connection's newest token.
async fn read<'a>(
    session: &'a Session,
    call: &Call,
    wait: FetchWait,
) -> Result<Answer<'a>, Refusal> {
    let room = session.pages.acquire().await.ok();
    let call = session.again(call);
    let node = Arc::clone(&session.shared.node);
    let page = session.shared.readers.run(move |tx| node.page(tx, &call, &wait.fetch)).await;
    Ok((page.unwrap_or_else(|error| Err(Refusal::internal(error)))?, room))
}

fn superseded() -> Refusal {
    let text = "a newer wait of this device has taken the place; leave the channel to that one";
    ErrorBody::new(ErrorCode::Superseded, text).into()
}

fn too_many() -> Refusal {
    let text = "too many waits on this connection; subscribe, or let one end first";
    ErrorBody::new(ErrorCode::Quota, text).into()
}

/// The time between two reads of a wait.
struct Rest {
    watch: Watch,
    recheck: Duration,
    /// What is answered if nothing comes.
    page: Page,
}

impl Rest {
    /// Reads whenever the log has grown, and from time to time for the token's sake, until there is
    /// something or it has `ended`.
    async fn until_grown<T, R: Future<Output = Result<(Page, Option<T>), Refusal>>>(
        mut self,
        read: impl Fn() -> R,
        ended: impl Future<Output = Option<Refusal>>,
    ) -> Result<(Page, Option<T>), Refusal> {
        tokio::pin!(ended);
        loop {
            tokio::select! {
                biased;
                refusal = &mut ended => return refusal.map_or(Ok((self.page, None)), Err),
                () = self.watch.rung() => {}
                () = sleep(self.recheck) => {}
            }
            let (page, room) = read().await?;
            if !page.entries.is_empty() {
                return Ok((page, room));
            }
            self.page = page;
        }
    }
}

/// The waits of all connections: of each device at most one for a channel.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Who waits, and what is dropped to end it.
    newest: HashMap<(DeviceId, ChannelId), (u64, oneshot::Sender<()>)>,
}

/// One wait's place; free when dropped.
#[derive(Debug)]
struct Place {
    waits: Arc<Waits>,
    key: (DeviceId, ChannelId),
    number: u64,
    ended: oneshot::Receiver<()>,
}

impl Waits {
    /// Takes the place of a device at a channel from whoever waits there.
    fn enter(self: &Arc<Self>, device: DeviceId, channel: ChannelId) -> Place {
        let (end, ended) = oneshot::channel();
        let key = (device, channel);
        let mut open = self.locked();
        let number = open.next;
        open.next = number.wrapping_add(1);
        open.newest.insert(key, (number, end));
        drop(open);
        Place { waits: Arc::clone(self), key, number, ended }
    }

    /// The map stays whole whatever panics.
    fn locked(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Ends when a newer wait has the place. Call it once.
    async fn superseded(&mut self) {
        drop((&mut self.ended).await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.waits.locked();
        if open.newest.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            open.newest.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::task::Poll;

    use super::*;
    use qpc_proto::message::{Entry, EntryKind};
    use qpc_proto::{Digest, MessageId};
    use tokio::sync::oneshot::error::TryRecvError;

    const CHANNEL: ChannelId = ChannelId([1; 16]);
    const FOR_EVER: Duration = Duration::from_secs(3_600);

    fn page(entries: Vec<Entry>) -> Page {
        Page { channel: CHANNEL, entries, head_seq: 1, published: Vec::new() }
    }

    fn entry() -> Entry {
        Entry {
            seq: 1,
            kind: EntryKind::Application,
            after_commit: 0,
            accepted_at_ms: 0,
            message_id: MessageId([2; 16]),
            payload: bytes::Bytes::new(),
            roster_change: bytes::Bytes::new(),
            statements: Vec::new(),
            welcome_hash: Digest::ZERO,
            head: Digest::ZERO,
            welcome: None,
        }
    }

    /// The log grows while its first page, which shows nothing of it, is on its way.
    #[tokio::test]
    async fn case_145_growth_between_a_read_and_the_wait_behind_it_is_read() {
        let notifier = Arc::new(Notifier::default());
        let looks = Cell::new(0);
        let read = async || {
            looks.set(looks.get() + 1);
            let grown = if looks.get() > 1 { vec![entry()] } else { Vec::new() };
            notifier.grown([([CHANNEL].as_slice(), Vec::new())].into_iter());
            Ok((page(grown), None::<()>))
        };
        let (watch, (first, _)) = first_look(&notifier, CHANNEL, read).await.unwrap();
        assert!(first.entries.is_empty());
        let rest = Rest { watch, recheck: FOR_EVER, page: first };
        let patience = Cell::new(100);
        let ended = std::future::poll_fn(|context| {
            patience.set(patience.get() - 1);
            context.waker().wake_by_ref();
            if patience.get() > 0 { Poll::Pending } else { Poll::Ready(None) }
        });
        let (read, _) = rest.until_grown(read, ended).await.unwrap();
        assert_eq!((read.entries.len(), looks.get()), (1, 2));
    }

    #[tokio::test]
    async fn a_place_is_free_when_its_wait_has_ended_and_only_then() {
        let waits = Arc::new(Waits::default());
        let (device, other) = (DeviceId([3; 16]), DeviceId([4; 16]));
        let mut older = waits.enter(device, CHANNEL);
        let mut aside = [waits.enter(other, CHANNEL), waits.enter(device, ChannelId([5; 16]))];
        let newer = waits.enter(device, CHANNEL);
        assert_eq!(older.ended.try_recv(), Err(TryRecvError::Closed));
        drop(older);
        assert_eq!(waits.locked().newest.len(), 3, "the newer one keeps the place");
        let ended = |place: &mut Place| place.ended.try_recv() != Err(TryRecvError::Empty);
        assert!(!aside.iter_mut().any(ended));
        drop((newer, aside));
        assert!(waits.locked().newest.is_empty());
    }
}
