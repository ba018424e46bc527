//! The floor: a server that stores what it is given and hands it on, and does nothing else.
//!
//! The transport, the frames and the database are those of the server that ships. It knows no
//! account, token, membership, hash chain or limit, so what a message costs here, it costs
//! anywhere.

pub(crate) mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use bytes::{Buf as _, Bytes};
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_transport::{Connection, FrameReceiver, FrameSender, Listener, TransportError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use store::Posts;

/// Number of the request that names the channel to follow: four bytes.
pub(crate) const FOLLOW: u16 = 1;
/// Number of the request that posts: four bytes of the channel, then the payload.
pub(crate) const POST: u16 = 2;

/// Messages that may wait for the writer, and in one commit: as in the server that ships.
const QUEUE_MAX: usize = 1_024;
const BATCH_MAX: usize = 256;
/// Frames that may wait for one stream.
const OUTBOX_MAX: usize = 1_024;
/// Frames that leave in one write.
const COALESCED_MAX: usize = 64;

type Outbox = mpsc::Sender<Frame>;

/// Who follows which channel: one stream each.
type Followers = Arc<Mutex<BTreeMap<u32, Outbox>>>;

/// A message, and where its answer goes.
struct Post {
    channel: u32,
    payload: Bytes,
    outbox: Outbox,
}

/// Serves until `until` ends.
///
/// # Errors
/// When the database fails.
pub(crate) async fn serve(
    dir: &Path,
    listener: &Listener,
    until: impl Future<Output = ()>,
) -> Result<()> {
    let posts = Posts::create(dir)?;
    let followers = Followers::default();
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let writing = Arc::clone(&followers);
    let writer = std::thread::Builder::new()
        .name("floor-writer".to_owned())
        .spawn(move || write(posts, waiting, &writing))?;
    let mut sessions = JoinSet::new();
    tokio::pin!(until);
    loop {
        tokio::select! {
            incoming = listener.accept() => {
                let Some(incoming) = incoming else { break };
                let (queue, followers) = (queue.clone(), Arc::clone(&followers));
                sessions.spawn(async move {
                    if let Ok(connection) = incoming.establish().await {
                        attend(&connection, &queue, &followers).await;
                    }
                });
            }
            Some(_) = sessions.join_next() => {}
            () = &mut until => break,
            () = queue.closed() => break,
        }
    }
    sessions.shutdown().await;
    drop(queue);
    writer.join().map_err(|_| anyhow!("the writer panicked"))?
}

/// The writer's thread: gathers as the server that ships does, and answers after the commit.
fn write(mut posts: Posts, mut waiting: mpsc::Receiver<Post>, followers: &Followers) -> Result<()> {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            match gathered(&mut waiting) {
                Some(post) => batch.push(post),
                None => break,
            }
        }
        let rows = batch.iter().map(|post| (post.channel, post.payload.as_ref()));
        let numbers = posts.insert(rows)?;
        for (post, number) in batch.into_iter().zip(numbers) {
            let all = followers.lock().unwrap_or_else(PoisonError::into_inner);
            let follower = all.get(&post.channel).cloned();
            drop(all);
            // Who has hung up gets nothing.
            if let Some(follower) = follower {
                drop(follower.blocking_send(Frame::Item(post.payload)));
            }
            let number = Bytes::copy_from_slice(&number.to_be_bytes());
            drop(post.outbox.blocking_send(Frame::Reply(number)));
        }
    }
    Ok(())
}

/// The next message, if one waits or comes from a thread that is ready to run.
fn gathered(waiting: &mut mpsc::Receiver<Post>) -> Option<Post> {
    waiting.try_recv().ok().or_else(|| {
        std::thread::yield_now();
        waiting.try_recv().ok()
    })
}

async fn attend(connection: &Connection, queue: &mpsc::Sender<Post>, followers: &Followers) {
    let mut streams = JoinSet::new();
    while let Ok(Some((sender, receiver))) = connection.accept_stream().await {
        let (outbox, frames) = mpsc::channel(OUTBOX_MAX);
        let (queue, followers) = (queue.clone(), Arc::clone(followers));
        streams.spawn(async move {
            // A stream that breaks ends; the one who measures sees it.
            drop(tokio::join!(take(receiver, (queue, followers), outbox), give(sender, frames)));
        });
    }
}

async fn take(
    mut receiver: FrameReceiver,
    (queue, followers): (mpsc::Sender<Post>, Followers),
    outbox: Outbox,
) -> Result<(), TransportError> {
    while let Some(Frame::Request(request)) = receiver.next().await? {
        let RequestFrame { method, mut body, .. } = request;
        let Ok(channel) = body.try_get_u32() else { return Ok(()) };
        let taken = match method {
            FOLLOW => {
                follow(&followers, channel, &outbox);
                outbox.send(Frame::Reply(Bytes::new())).await.is_ok()
            }
            POST => {
                let post = Post { channel, payload: body, outbox: outbox.clone() };
                queue.send(post).await.is_ok()
            }
            _ => false,
        };
        if !taken {
            return Ok(());
        }
    }
    Ok(())
}

fn follow(followers: &Followers, channel: u32, outbox: &Outbox) {
    let mut all = followers.lock().unwrap_or_else(PoisonError::into_inner);
    all.insert(channel, outbox.clone());
}

async fn give(
    mut sender: FrameSender,
    mut frames: mpsc::Receiver<Frame>,
) -> Result<(), TransportError> {
    let mut batch = Vec::new();
    while frames.recv_many(&mut batch, COALESCED_MAX).await > 0 {
        sender.send_all(&batch).await?;
        batch.clear();
    }
    sender.finish().await
}
