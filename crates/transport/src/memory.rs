//! The in-memory twin of a QUIC connection: the same [`Connection`], with bounded queues, finish,
//! reset, stop and close, and no sockets, clocks or tasks. For tests; it never leaves the process.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use qpc_proto::binding::ChannelBinding;
use tokio::sync::{Mutex, mpsc, watch};

use crate::connection::{CloseReason, Connection};
use crate::error::TransportError;
use crate::stream::{READ_BYTES_MAX, over};

/// Streams that wait to be accepted, per direction; opening another waits.
pub const WAITING_STREAMS_MAX: usize = 64;
/// Chunks of at most [`READ_BYTES_MAX`] that wait to be read, per half stream; a send then waits.
pub const WAITING_CHUNKS_MAX: usize = 16;

/// Two ends of one connection: the client's, then the server's (both may open streams). Both give
/// `binding` as theirs; let its exporter differ from pair to pair, as it would.
pub fn pair(binding: ChannelBinding) -> (Connection, Connection) {
    pair_from(binding, SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))
}

/// [`pair`], with the address that the server sees its client at. The client sees `[::1]:0`.
pub fn pair_from(binding: ChannelBinding, client: SocketAddr) -> (Connection, Connection) {
    let link = Arc::new(watch::Sender::new(None));
    let (to_server, from_client) = mpsc::channel(WAITING_STREAMS_MAX);
    let (to_client, from_server) = mpsc::channel(WAITING_STREAMS_MAX);
    let end = |is_client, outgoing, incoming| {
        let remote = if is_client { SocketAddr::from((Ipv6Addr::LOCALHOST, 0)) } else { client };
        let (link, incoming) = (Arc::clone(&link), Mutex::new(incoming));
        let side = Side { is_client, remote, link, outgoing, incoming };
        Connection::memory(Arc::new(side), binding)
    };
    (end(true, to_server, from_server), end(false, to_client, from_client))
}

/// Which end closed the connection, and how.
#[derive(Debug)]
struct Close {
    by_client: bool,
    code: u32,
    reason: String,
}

/// One end. Queued streams do not keep it alive, so that dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Side {
    is_client: bool,
    /// What stands for the other end's address.
    pub(crate) remote: SocketAddr,
    link: Arc<watch::Sender<Option<Close>>>,
    outgoing: mpsc::Sender<RawStream>,
    incoming: Mutex<mpsc::Receiver<RawStream>>,
}

/// A stream as it waits to be accepted.
#[derive(Debug)]
struct RawStream {
    send: (mpsc::Sender<Bytes>, Arc<Pipe>),
    receive: (mpsc::Receiver<Bytes>, Arc<Pipe>),
}

impl Side {
    pub(crate) async fn open(
        self: &Arc<Self>,
    ) -> Result<(MemorySender, MemoryReceiver), CloseReason> {
        let slot = tokio::select! {
            biased;
            reason = self.closed() => return Err(reason),
            slot = self.outgoing.reserve() => slot,
        };
        let Ok(slot) = slot else {
            return Err(self.closed().await);
        };
        let (there, back) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
        let (send, peer_receive) = mpsc::channel(WAITING_CHUNKS_MAX);
        let (peer_send, receive) = mpsc::channel(WAITING_CHUNKS_MAX);
        slot.send(RawStream {
            send: (peer_send, Arc::clone(&back)),
            receive: (peer_receive, Arc::clone(&there)),
        });
        Ok(self.halves(RawStream { send: (send, there), receive: (receive, back) }))
    }

    pub(crate) async fn accept(
        self: &Arc<Self>,
    ) -> Result<(MemorySender, MemoryReceiver), CloseReason> {
        let mut incoming = self.incoming.lock().await;
        let stream = tokio::select! {
            biased;
            stream = incoming.recv() => stream,
            reason = self.closed() => return Err(reason),
        };
        match stream {
            Some(stream) => Ok(self.halves(stream)),
            None => Err(self.closed().await),
        }
    }

    fn halves(self: &Arc<Self>, stream: RawStream) -> (MemorySender, MemoryReceiver) {
        let (queue, pipe) = stream.send;
        let sender = MemorySender { queue: Some(queue), pipe, side: Arc::clone(self) };
        let (queue, pipe) = stream.receive;
        let receiver = MemoryReceiver { queue, pipe, side: Arc::clone(self) };
        (sender, receiver)
    }

    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.link.send_if_modified(|close| {
            let first = close.is_none();
            close.get_or_insert_with(|| Close {
                by_client: self.is_client,
                code,
                reason: reason.to_owned(),
            });
            first
        });
    }

    fn close_reason(&self) -> Option<CloseReason> {
        self.link.borrow().as_ref().map(|close| {
            if close.by_client == self.is_client {
                CloseReason::Local
            } else {
                CloseReason::Peer { code: close.code, reason: close.reason.clone() }
            }
        })
    }

    pub(crate) async fn closed(&self) -> CloseReason {
        wait(&self.link, Option::is_some).await;
        self.close_reason().unwrap_or(CloseReason::Local)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.close(0, "");
    }
}

/// Waits until the watched value satisfies `done`; its sender is alive, for it is borrowed here.
async fn wait<T>(watched: &watch::Sender<T>, done: impl Fn(&T) -> bool) {
    let mut receiver = watched.subscribe();
    drop(receiver.wait_for(|value| done(value)).await);
}

/// What the two halves of one direction tell each other besides bytes.
#[derive(Debug, Default)]
struct Pipe {
    end: watch::Sender<Option<End>>,
    stopped: watch::Sender<Option<u32>>,
}

/// How a sender ended its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Finished,
    Reset(u32),
}

impl Pipe {
    /// The first end and the first stop count.
    fn end(&self, end: End) {
        self.end.send_if_modified(|slot| slot.is_none() && slot.replace(end).is_none());
    }

    fn stop(&self, code: u32) {
        self.stopped.send_if_modified(|slot| slot.is_none() && slot.replace(code).is_none());
    }

    fn reset_code(&self) -> Option<u32> {
        match *self.end.borrow() {
            Some(End::Reset(code)) => Some(code),
            Some(End::Finished) | None => None,
        }
    }
}

/// The sending half of one direction.
#[derive(Debug)]
pub(crate) struct MemorySender {
    queue: Option<mpsc::Sender<Bytes>>,
    pipe: Arc<Pipe>,
    side: Arc<Side>,
}

impl MemorySender {
    /// Moves a first part of `chunk` into the queue. Cancel-safe.
    pub(crate) async fn write(&mut self, chunk: &mut Bytes) -> Result<(), TransportError> {
        let Some(queue) = &self.queue else {
            return Err(over());
        };
        let slot = tokio::select! {
            biased;
            () = wait(&self.pipe.stopped, Option::is_some) => {
                return Err(TransportError::Reset(self.pipe.stopped.borrow().unwrap_or(0)));
            }
            reason = self.side.closed() => return Err(TransportError::Closed(reason)),
            slot = queue.reserve() => slot,
        };
        let Ok(slot) = slot else {
            // It stopped just now, or is gone with its whole connection.
            let stopped = *self.pipe.stopped.borrow();
            return Err(match stopped {
                Some(code) => TransportError::Reset(code),
                None => TransportError::Closed(self.side.closed().await),
            });
        };
        slot.send(chunk.split_to(chunk.len().min(READ_BYTES_MAX)));
        Ok(())
    }

    pub(crate) fn finish(&mut self) {
        self.pipe.end(End::Finished);
        self.queue = None;
    }

    pub(crate) fn reset(&mut self, code: u32) {
        self.pipe.end(End::Reset(code));
        self.queue = None;
    }
}

impl Drop for MemorySender {
    fn drop(&mut self) {
        if self.side.close_reason().is_none() {
            self.finish();
        }
    }
}

/// The receiving half of one direction.
#[derive(Debug)]
pub(crate) struct MemoryReceiver {
    queue: mpsc::Receiver<Bytes>,
    pipe: Arc<Pipe>,
    side: Arc<Side>,
}

impl MemoryReceiver {
    /// The next bytes, or `None` at the end in order. Cancel-safe.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, TransportError> {
        let is_reset = |end: &Option<End>| matches!(end, Some(End::Reset(_)));
        let chunk = tokio::select! {
            biased;
            () = wait(&self.pipe.end, is_reset) => {
                return Err(TransportError::Reset(self.pipe.reset_code().unwrap_or(0)));
            }
            chunk = self.queue.recv() => chunk,
            reason = self.side.closed() => return Err(TransportError::Closed(reason)),
        };
        if chunk.is_some() || *self.pipe.end.borrow() == Some(End::Finished) {
            return Ok(chunk);
        }
        // The sender went without a word: with its connection, or it reset just now.
        match self.pipe.reset_code() {
            Some(code) => Err(TransportError::Reset(code)),
            None => Err(TransportError::Closed(self.side.closed().await)),
        }
    }

    pub(crate) fn stop(&mut self, code: u32) {
        self.pipe.stop(code);
        self.queue.close();
    }
}

impl Drop for MemoryReceiver {
    fn drop(&mut self) {
        self.stop(0);
    }
}
