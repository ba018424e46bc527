//! Frames over one bidirectional stream: a sender and a receiver, over QUIC or in memory.
//! Knows where frames begin and end, nothing of what they say.

use std::collections::VecDeque;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use qpc_proto::frame::{Decoder, Frame, FrameError, HEADER_BYTES};
use qpc_proto::limits::FRAME_BYTES_MAX;
use quinn::{ReadError, StoppedError, VarInt, WriteError};

use crate::connection::{CloseReason, closed, code};
use crate::error::TransportError;
use crate::memory::{MemoryReceiver, MemorySender};

/// Most bytes taken from a stream at once.
pub const READ_BYTES_MAX: usize = 16 * 1024;
/// Frames up to this size are copied together, so that many small ones make few chunks.
const COALESCE_BYTES_MAX: usize = 16 * 1024;
/// A frame alone up to this size is one chunk.
const COPIED_BYTES_MAX: usize = 512;

/// The sending half of a stream. Dropping it ends the stream in order; after a cancelled send that
/// may cut a frame, which the peer sees as [`FrameError::Truncated`].
#[derive(Debug)]
pub struct FrameSender {
    half: SendHalf,
    /// What has not been taken by the stream yet: empty but during, and after a cancelled, send.
    pending: VecDeque<Bytes>,
}

#[derive(Debug)]
enum SendHalf {
    Quic(quinn::SendStream),
    Memory(MemorySender),
}

impl FrameSender {
    pub(crate) fn quic(stream: quinn::SendStream) -> Self {
        Self::new(SendHalf::Quic(stream))
    }

    pub(crate) fn memory(sender: MemorySender) -> Self {
        Self::new(SendHalf::Memory(sender))
    }

    fn new(half: SendHalf) -> Self {
        Self { half, pending: VecDeque::new() }
    }

    /// Sends one frame; waits while the peer's window is full. If this is cancelled, the frame
    /// stays queued and goes out whole before the next one.
    ///
    /// # Errors
    /// [`TransportError::Reset`] when the peer stopped the stream, [`TransportError::Closed`].
    pub async fn send(&mut self, frame: &Frame) -> Result<(), TransportError> {
        self.queue(frame);
        self.flush().await
    }

    /// Sends frames in their order, small ones together. Cancelled and failing as
    /// [`FrameSender::send`].
    ///
    /// # Errors
    /// As [`FrameSender::send`].
    pub async fn send_all(&mut self, frames: &[Frame]) -> Result<(), TransportError> {
        let all = frames.iter().map(Frame::encoded_len).fold(0, usize::saturating_add);
        let mut together = BytesMut::with_capacity(all.min(COALESCE_BYTES_MAX));
        for frame in frames {
            let len = frame.encoded_len();
            if together.len().saturating_add(len) > COALESCE_BYTES_MAX {
                self.pending.push_back(together.split().freeze());
            }
            if len > COALESCE_BYTES_MAX {
                self.queue(frame);
            } else {
                frame.put(&mut together);
            }
        }
        self.pending.push_back(together.freeze());
        self.flush().await
    }

    /// A small body is copied, so that it shares a chunk with its header.
    fn queue(&mut self, frame: &Frame) {
        if frame.encoded_len() <= COPIED_BYTES_MAX {
            self.pending.push_back(frame.encode());
        } else {
            self.pending.extend(<[Bytes; 2]>::from(frame.split()));
        }
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        let flushed = self.write_pending().await;
        if flushed.is_err() {
            // The stream takes nothing more: keep nothing for it.
            self.pending.clear();
        }
        flushed
    }

    async fn write_pending(&mut self) -> Result<(), TransportError> {
        self.pending.retain(|chunk| !chunk.is_empty());
        while !self.pending.is_empty() {
            // Both write nothing if they are cancelled, and remove exactly what they wrote.
            match &mut self.half {
                SendHalf::Quic(stream) => {
                    let chunks = self.pending.make_contiguous();
                    if let Some(written) = at_once(stream.write_chunks(chunks)).await {
                        written.map_err(write_error)?;
                    } else {
                        let stopped = stream.stopped();
                        // While a connection's window is full, quinn does not tell a writer of a
                        // stop; and a stopped stream may never be given a window again.
                        tokio::select! {
                            biased;
                            written = stream.write_chunks(chunks) => {
                                written.map_err(write_error)?;
                            }
                            stopped = stopped => return acknowledged(stopped).and(Err(over())),
                        }
                    }
                }
                SendHalf::Memory(sender) => {
                    if let Some(chunk) = self.pending.front_mut() {
                        sender.write(chunk).await?;
                    }
                }
            }
            self.pending.retain(|chunk| !chunk.is_empty());
        }
        Ok(())
    }

    /// Sends what a cancelled send left, then ends the stream in order: the peer's receiver gives
    /// `None`.
    ///
    /// # Errors
    /// As [`FrameSender::send`].
    pub async fn finish(&mut self) -> Result<(), TransportError> {
        self.flush().await?;
        match &mut self.half {
            SendHalf::Quic(stream) => stream.finish().map_err(|_| over()),
            SendHalf::Memory(sender) => {
                sender.finish();
                Ok(())
            }
        }
    }

    /// After [`FrameSender::finish`], waits until the peer's machine has everything, so that
    /// closing the connection loses nothing. In memory that is at once. Cancel-safe.
    ///
    /// # Errors
    /// As [`FrameSender::send`].
    pub async fn delivered(&mut self) -> Result<(), TransportError> {
        match &mut self.half {
            SendHalf::Quic(stream) => acknowledged(stream.stopped().await),
            SendHalf::Memory(_) => Ok(()),
        }
    }

    /// Gives the stream up: the peer gets [`TransportError::Reset`] with this code, whatever has
    /// been sent. Without effect on a stream that has ended.
    pub fn reset(&mut self, code: u32) {
        self.pending.clear();
        match &mut self.half {
            // It fails only for a stream that is over already.
            SendHalf::Quic(stream) => drop(stream.reset(code.into())),
            SendHalf::Memory(sender) => sender.reset(code),
        }
    }
}

/// The receiving half of a stream. Dropping it before its end tells the peer to stop, with code 0.
#[derive(Debug)]
pub struct FrameReceiver {
    half: ReceiveHalf,
    decoder: Decoder,
    /// Bytes pushed into the decoder since it last gave a frame.
    held: usize,
    frame_max: usize,
    stopped: bool,
}

#[derive(Debug)]
enum ReceiveHalf {
    Quic(quinn::RecvStream),
    Memory(MemoryReceiver),
}

impl FrameReceiver {
    pub(crate) fn quic(stream: quinn::RecvStream) -> Self {
        Self::new(ReceiveHalf::Quic(stream))
    }

    pub(crate) fn memory(receiver: MemoryReceiver) -> Self {
        Self::new(ReceiveHalf::Memory(receiver))
    }

    fn new(half: ReceiveHalf) -> Self {
        Self {
            half,
            decoder: Decoder::default(),
            held: 0,
            frame_max: FRAME_BYTES_MAX,
            stopped: false,
        }
    }

    /// Holds at most `bytes` (and one read chunk) of an unfinished frame from now on; a longer one
    /// is [`FrameError::TooLarge`]. For peers that have not shown yet who they are.
    pub fn limit_frames(&mut self, bytes: usize) {
        self.frame_max = bytes.min(FRAME_BYTES_MAX);
    }

    /// The next frame; `None` when the peer ended the stream in order. Holds at most one unfinished
    /// frame and one read chunk of [`READ_BYTES_MAX`]. Cancel-safe.
    ///
    /// # Errors
    /// [`TransportError::Frame`] when the bytes are no frame (the stream is then of no further
    /// use), [`TransportError::Reset`], [`TransportError::Closed`].
    pub async fn next(&mut self) -> Result<Option<Frame>, TransportError> {
        loop {
            if let Some(frame) = self.ready()? {
                return Ok(Some(frame));
            }
            let most = self.frame_max.saturating_add(HEADER_BYTES);
            if self.held > most.saturating_add(READ_BYTES_MAX) {
                return Err(FrameError::TooLarge.into());
            }
            let Some(chunk) = self.read().await? else {
                self.decoder.finish()?;
                return Ok(None);
            };
            self.held = self.held.saturating_add(chunk.len());
            self.decoder.push(&chunk);
        }
    }

    /// The next frame, if it has arrived as a whole with those before it; reads nothing. `None`
    /// also at the end of the stream.
    ///
    /// # Errors
    /// [`TransportError::Frame`] when the bytes are no frame.
    pub fn ready(&mut self) -> Result<Option<Frame>, TransportError> {
        let frame = self.decoder.next_frame()?;
        if frame.is_some() {
            self.held = 0;
        }
        Ok(frame)
    }

    /// Whether a frame has begun to arrive and is not whole yet: what a deadline for slow senders
    /// is about.
    pub fn is_inside_frame(&self) -> bool {
        !self.decoder.is_empty()
    }

    async fn read(&mut self) -> Result<Option<Bytes>, TransportError> {
        if self.stopped {
            // quinn would call this an end in order.
            return Err(over());
        }
        match &mut self.half {
            ReceiveHalf::Quic(stream) => match stream.read_chunk(READ_BYTES_MAX, true).await {
                Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
                Err(error) => Err(read_error(error)),
            },
            ReceiveHalf::Memory(receiver) => receiver.read().await,
        }
    }

    /// Tells the peer to send no more: its sender gets [`TransportError::Reset`] with this code.
    /// Without effect on a stream that has ended.
    pub fn stop(&mut self, code: u32) {
        self.stopped = true;
        match &mut self.half {
            // It fails only for a stream that is over already.
            ReceiveHalf::Quic(stream) => drop(stream.stop(code.into())),
            ReceiveHalf::Memory(receiver) => receiver.stop(code),
        }
    }
}

/// What a future gives without waiting. It is dropped otherwise, so it must be cancel-safe.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Using a half that was finished, reset or stopped here.
pub(crate) fn over() -> TransportError {
    TransportError::Closed(CloseReason::Local)
}

/// What [`quinn::SendStream::stopped`] ended with: a stop, a lost connection, or all is received.
fn acknowledged(stopped: Result<Option<VarInt>, StoppedError>) -> Result<(), TransportError> {
    match stopped {
        Ok(None) => Ok(()),
        Ok(Some(stop)) => Err(TransportError::Reset(code(stop))),
        Err(StoppedError::ConnectionLost(error)) => Err(closed(error)),
        Err(StoppedError::ZeroRttRejected) => Err(over()),
    }
}

fn write_error(error: WriteError) -> TransportError {
    match error {
        WriteError::Stopped(stop) => TransportError::Reset(code(stop)),
        WriteError::ConnectionLost(error) => closed(error),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => over(),
    }
}

fn read_error(error: ReadError) -> TransportError {
    match error {
        ReadError::Reset(reset) => TransportError::Reset(code(reset)),
        ReadError::ConnectionLost(error) => closed(error),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
            over()
        }
    }
}
