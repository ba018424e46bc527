//! The floor: a server that stores what it is given and hands it on, and does nothing else.
//!
//! The transport, the frames and the database are those of the server that ships. It knows no
//! account, token, membership, hash chain or limit, so what a message costs here, it costs
//! anywhere.

mod logs;
pub(crate) mod store;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_transport::{Connection, FrameReceiver, FrameSender, Listener, TransportError};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use logs::Logs;
use store::{PostReader, Posts};

/// Number of the request that follows a channel: four bytes that name it, then eight bytes with the
/// number of the first message wanted.
pub(crate) const FOLLOW: u16 = 1;
/// Number of the request that posts: four bytes of the channel, then payloads, each behind four
/// bytes with its length. The answer has eight bytes with the number of each.
pub(crate) const POST: u16 = 2;

/// Number of the request that acknowledges: four bytes of the channel, then eight bytes with the
/// number of the first message not read. It is noted in memory and answered.
pub(crate) const ACK: u16 = 3;

/// Messages that may wait for the writer, and in one commit: as in the server that ships.
const QUEUE_MAX: usize = 1_024;
const BATCH_MAX: usize = 512;
/// Frames that may wait for one stream.
const OUTBOX_MAX: usize = 1_024;
/// Frames that leave in one write.
const COALESCED_MAX: usize = 64;

type Outbox = mpsc::Sender<Frame>;

/// What all streams share.
struct Floor {
    queue: mpsc::Sender<Post>,
    logs: Arc<Logs>,
    /// As many as the server that ships has.
    readers: [Arc<Mutex<PostReader>>; 2],
}

/// Messages of one request, and where their answer goes.
struct Post {
    channel: u32,
    payloads: Vec<Bytes>,
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
    let reader = || Ok::<_, anyhow::Error>(Arc::new(Mutex::new(posts.reader()?)));
    let readers = [reader()?, reader()?];
    let logs = Arc::new(Logs::default());
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    let writing = Arc::clone(&logs);
    let writer = std::thread::Builder::new()
        .name("floor-writer".to_owned())
        .spawn(move || write(posts, waiting, &writing))?;
    let floor = Arc::new(Floor { queue: queue.clone(), logs, readers });
    let mut sessions = JoinSet::new();
    tokio::pin!(until);
    loop {
        tokio::select! {
            incoming = listener.accept() => {
                let Some(incoming) = incoming else { break };
                let floor = Arc::clone(&floor);
                sessions.spawn(async move {
                    if let Ok(connection) = incoming.establish().await {
                        attend(&connection, &floor).await;
                    }
                });
            }
            Some(_) = sessions.join_next() => {}
            () = &mut until => break,
            () = queue.closed() => break,
        }
    }
    sessions.shutdown().await;
    drop((queue, floor));
    writer.join().map_err(|_| anyhow!("the writer panicked"))?
}

/// The writer's thread: gathers as the server that ships does, and answers after the commit.
fn write(mut posts: Posts, mut waiting: mpsc::Receiver<Post>, logs: &Logs) -> Result<()> {
    while let Some(first) = waiting.blocking_recv() {
        let mut messages = first.payloads.len();
        let mut batch = vec![first];
        while messages < BATCH_MAX {
            match gathered(&mut waiting) {
                Some(post) => {
                    messages = messages.saturating_add(post.payloads.len());
                    batch.push(post);
                }
                None => break,
            }
        }
        let rows = batch
            .iter()
            .flat_map(|post| post.payloads.iter().map(|payload| (post.channel, payload.as_ref())));
        let mut numbers = posts.insert(rows)?.into_iter();
        for Post { channel, payloads, outbox } in batch {
            let mut answer = BytesMut::with_capacity(payloads.len().saturating_mul(8));
            for (payload, number) in payloads.into_iter().zip(&mut numbers) {
                // Who has hung up gets nothing.
                for follower in logs.append(channel, number) {
                    drop(follower.blocking_send(Frame::Item(payload.clone())));
                }
                answer.put_i64(number);
            }
            drop(outbox.blocking_send(Frame::Reply(answer.freeze())));
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

async fn attend(connection: &Connection, floor: &Arc<Floor>) {
    let mut streams = JoinSet::new();
    while let Ok(Some((sender, receiver))) = connection.accept_stream().await {
        let (outbox, frames) = mpsc::channel(OUTBOX_MAX);
        let floor = Arc::clone(floor);
        streams.spawn(async move {
            // A stream that breaks ends; the one who measures sees it.
            drop(tokio::join!(take(receiver, &floor, outbox), give(sender, frames)));
        });
    }
}

async fn take(mut receiver: FrameReceiver, floor: &Floor, outbox: Outbox) -> Result<()> {
    while let Some(Frame::Request(request)) = receiver.next().await? {
        let RequestFrame { method, mut body, .. } = request;
        let Ok(channel) = body.try_get_u32() else { return Ok(()) };
        match method {
            FOLLOW => {
                let from = usize::try_from(body.try_get_u64()?)?;
                outbox.send(Frame::Reply(Bytes::new())).await?;
                follow(floor, (channel, from), &outbox).await?;
            }
            POST => {
                let mut payloads = Vec::new();
                while let Ok(len) = body.try_get_u32() {
                    let len = usize::try_from(len)?;
                    ensure!(len <= body.len(), "a cut message");
                    payloads.push(body.split_to(len));
                }
                let post = Post { channel, payloads, outbox: outbox.clone() };
                floor.queue.send(post).await?;
            }
            ACK => {
                floor.logs.ack(channel, body.try_get_u64()?);
                outbox.send(Frame::Reply(Bytes::new())).await?;
            }
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Gives what is stored from a message on; then the writer gives what comes.
async fn follow(floor: &Floor, (channel, mut from): (u32, usize), outbox: &Outbox) -> Result<()> {
    let [even, odd] = &floor.readers;
    loop {
        let rows = floor.logs.next((channel, from), outbox);
        if rows.is_empty() {
            return Ok(());
        }
        from = from.saturating_add(rows.len());
        let reader = Arc::clone(if channel % 2 == 0 { even } else { odd });
        let mut reader = reader.lock_owned().await;
        let read = tokio::task::spawn_blocking(move || reader.read(&rows));
        for payload in read.await.context("a reader panicked")?? {
            outbox.send(Frame::Item(payload)).await?;
        }
    }
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
