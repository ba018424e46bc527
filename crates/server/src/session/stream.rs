//! One stream: requests are taken as they come and answered in the order they came.
//!
//! Changes go to the writer as soon as they are read. A read starts when everything before it on
//! the stream is answered, so it sees those changes, and only as fast as the client takes the
//! answers.

use std::sync::Arc;

use qpc_proto::frame::{Frame, FrameError, RequestFrame};
use qpc_proto::limits::FRAME_BYTES_MAX;
use qpc_proto::message::{Method, Request, Response};
use qpc_proto::{ErrorBody, ErrorCode};
use qpc_transport::{FrameReceiver, FrameSender, TransportError};
use rand_core::OsRng;
use tokio::sync::{SemaphorePermit, mpsc, oneshot, watch};

use super::{Session, note, subscription, wait};
use crate::access::{Lane, body_bytes_max, lane};
use crate::limits::Asking;
use crate::node::{Call, Outputs, Work};
use crate::refusal::Refusal;
use crate::writer;

/// Requests of one stream that are taken but not answered.
const IN_FLIGHT_MAX: usize = 64;
/// Bytes of a frame that any stream may hold: room for the identity objects of `Register`. Before
/// `Login` there are no larger ones, afterwards few at a time.
const SMALL_FRAME_BYTES_MAX: usize = 64 * 1_024;
/// Answers that leave in one write.
const COALESCED_MAX: usize = 64;

/// A request whose turn to be answered comes.
enum Turn<'a> {
    /// With the writer.
    Written(Method, oneshot::Receiver<Outputs>),
    /// Not begun.
    Read(Method, Box<Call>),
    /// Not begun; those behind it wait with it.
    Wait(Box<Call>),
    /// Not begun; with its place among those of the connection.
    Publish(Box<Call>, Option<SemaphorePermit<'a>>),
    /// Not begun; with its room among those of the connection.
    Note(Box<Call>, Option<SemaphorePermit<'a>>),
    /// Not begun; nothing may follow it on the stream.
    Follow(Box<Call>),
    /// Refused by a limit; others may follow it.
    Limited(Method, Refusal),
    /// Refused; the last of its stream.
    Last(Option<Method>, Refusal),
    /// The stream is reset instead of an answer; the last of its stream.
    Reset(ErrorCode),
}

/// Serves a stream until the client ends it, breaks the rules or the server stops.
pub(super) async fn run(session: Arc<Session>, sender: FrameSender, receiver: FrameReceiver) {
    let (turns, queue) = mpsc::channel(IN_FLIGHT_MAX);
    let (taking, left) = watch::channel(());
    let answers = Answers { session: &session, sender, batch: Vec::new(), page: None, left };
    let taken = async {
        take(&session, receiver, turns).await;
        drop(taking);
    };
    let ((), written) = tokio::join!(taken, answers.write(queue));
    if let Err(error) = written {
        tracing::debug!(%error, "a stream ended early");
    }
}

/// Reads requests until the stream ends, and queues them to be answered.
async fn take<'a>(
    session: &'a Session,
    mut receiver: FrameReceiver,
    turns: mpsc::Sender<Turn<'a>>,
) {
    let stopping = session.shared.stopping();
    tokio::pin!(stopping);
    let mut following = false;
    loop {
        let frame = tokio::select! {
            frame = next(session, &mut receiver, following) => frame,
            () = turns.closed() => return,
            () = &mut stopping, if !following => return,
        };
        let (frame, room) = match frame {
            Ok((frame, room)) => (Ok(frame), room),
            Err(error) => (Err(error), None),
        };
        let turn = match frame {
            Ok(Some(_)) if following => Turn::Reset(ErrorCode::InvalidArgument),
            Ok(Some(Frame::Request(frame))) => begin(session, frame).await,
            Ok(Some(Frame::Reply(_) | Frame::Error(..) | Frame::Item(_) | Frame::End)) => {
                Turn::Last(None, invalid("only requests go to a server"))
            }
            // A subscriber may end its side at once; the answers go on.
            Ok(None) if following => return turns.closed().await,
            Ok(None) => return,
            Err(TransportError::Frame(error)) => Turn::Last(None, ErrorBody::from(error).into()),
            Err(TransportError::Timeout) => Turn::Reset(ErrorCode::Deadline),
            // Reset or closed: nobody waits for an answer.
            Err(_) => return,
        };
        // From here on a large request is counted where it is queued.
        drop(room);
        let end = match &turn {
            Turn::Last(..) => Some(ErrorCode::InvalidArgument),
            Turn::Reset(code) => Some(*code),
            Turn::Written(..)
            | Turn::Read(..)
            | Turn::Wait(_)
            | Turn::Publish(..)
            | Turn::Note(..)
            | Turn::Limited(..) => None,
            Turn::Follow(_) => {
                following = true;
                None
            }
        };
        let sent = turns.send(turn).await;
        if let Some(code) = end {
            receiver.stop(u32::from(code.as_u16()));
            return;
        }
        if sent.is_err() {
            return;
        }
    }
}

/// The next frame, with the room that a large one takes.
async fn next<'a>(
    session: &'a Session,
    receiver: &mut FrameReceiver,
    following: bool,
) -> Result<(Option<Frame>, Option<SemaphorePermit<'a>>), TransportError> {
    if following {
        // Nothing may come, so nothing needs room or time.
        receiver.limit_frames(0);
        return Ok((receiver.next().await?, None));
    }
    receiver.limit_frames(SMALL_FRAME_BYTES_MAX);
    match in_time(session, receiver).await {
        Err(TransportError::Frame(FrameError::TooLarge)) if session.peer.device().is_some() => {}
        small => return Ok((small?, None)),
    }
    // The bytes so far are kept; whether the header asks for too much is seen again.
    let room = session.large_frames.acquire().await.ok();
    receiver.limit_frames(FRAME_BYTES_MAX);
    Ok((in_time(session, receiver).await?, room))
}

/// The next frame, if it is whole in time from its first byte on (with a quarter of tolerance).
async fn in_time(
    session: &Session,
    receiver: &mut FrameReceiver,
) -> Result<Option<Frame>, TransportError> {
    let quarter = session.shared.limits.frame_timeout / 4;
    let mut quarters = 0;
    while quarters <= 4 {
        match tokio::time::timeout(quarter, receiver.next()).await {
            Ok(frame) => return frame,
            Err(_) if receiver.is_inside_frame() => quarters += 1,
            Err(_) => {}
        }
    }
    Err(TransportError::Timeout)
}

/// Hands a request to where it is answered.
async fn begin(session: &Session, frame: RequestFrame) -> Turn<'_> {
    let Some(method) = Method::from_u16(frame.method) else {
        let text = "this server has no such method";
        return Turn::Last(None, ErrorBody::new(ErrorCode::UnknownMethod, text).into());
    };
    let device = session.peer.device();
    let asking = Asking { method, address: session.peer.address(), device, body: &frame.body };
    if let Err(refusal) = session.shared.count(&asking) {
        return Turn::Limited(method, refusal);
    }
    let lane = lane(method);
    if frame.body.len() > body_bytes_max(lane) {
        let text = "no such request has that many bytes";
        return Turn::Last(Some(method), ErrorBody::new(ErrorCode::FrameTooLarge, text).into());
    }
    let call = Call { frame, peer: session.peer.peer(), now_ms: session.shared.now_ms() };
    match lane {
        Lane::Write => match session.shared.writer.submit(Work::Call(call)).await {
            Ok(answer) => Turn::Written(method, answer),
            Err(refusal) => Turn::Last(Some(method), refusal),
        },
        Lane::Read => Turn::Read(method, Box::new(call)),
        Lane::Wait => Turn::Wait(Box::new(call)),
        Lane::Publish => Turn::Publish(Box::new(call), session.publishes.acquire().await.ok()),
        Lane::Note => {
            let room = session.notes.acquire_many(kib(call.frame.body.len())).await.ok();
            Turn::Note(Box::new(call), room)
        }
        Lane::Follow => Turn::Follow(Box::new(call)),
    }
}

/// Room that a body of so many bytes takes, in KiB.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1_024).unwrap_or(u32::MAX).saturating_add(1)
}

/// The side of a stream that answers.
struct Answers<'a> {
    session: &'a Session,
    sender: FrameSender,
    batch: Vec<Frame>,
    /// Held while the batch has the answer to a read.
    page: Option<SemaphorePermit<'a>>,
    /// Closed when no more requests come: by the client's doing or the server's.
    left: watch::Receiver<()>,
}

impl Answers<'_> {
    async fn write(mut self, mut queue: mpsc::Receiver<Turn<'_>>) -> Result<(), TransportError> {
        while let Some(turn) = queue.recv().await {
            match turn {
                Turn::Written(method, answer) => self.written(method, answer).await?,
                Turn::Read(method, call) => self.read(method, *call).await?,
                Turn::Wait(call) => self.wait(*call).await?,
                Turn::Publish(call, _place) => self.publish(*call).await?,
                Turn::Note(call, _room) => self.note(*call).await?,
                Turn::Follow(call) => return self.follow(*call, queue).await,
                Turn::Limited(method, refusal) => self.refuse(Some(method), refusal),
                Turn::Last(method, refusal) => {
                    self.refuse(method, refusal);
                    break;
                }
                Turn::Reset(code) => {
                    self.flush().await?;
                    self.sender.reset(u32::from(code.as_u16()));
                    return Ok(());
                }
            }
            if queue.is_empty() || self.batch.len() >= COALESCED_MAX {
                self.flush().await?;
            }
        }
        self.flush().await?;
        self.finish().await
    }

    /// Ends the stream, and waits until the client has it: the connection may be closed next.
    async fn finish(&mut self) -> Result<(), TransportError> {
        self.sender.finish().await?;
        self.sender.delivered().await
    }

    async fn written(
        &mut self,
        method: Method,
        mut answer: oneshot::Receiver<Outputs>,
    ) -> Result<(), TransportError> {
        let outputs = match answer.try_recv() {
            Ok(outputs) => Ok(outputs),
            Err(_) => {
                self.flush().await?;
                answer.await
            }
        };
        let stopped = |_| Outputs::refusal(writer::stopping(), &mut OsRng);
        self.put(method, outputs.unwrap_or_else(stopped));
        Ok(())
    }

    async fn read(&mut self, method: Method, mut call: Call) -> Result<(), TransportError> {
        self.flush().await?;
        if method == Method::ListChannels
            && let Err(refusal) = note::settle(self.session).await
        {
            self.refuse(Some(method), refusal);
            return Ok(());
        }
        self.page = self.session.pages.acquire().await.ok();
        // What was answered before it may have bound the connection.
        call.peer = self.session.peer.peer();
        let node = Arc::clone(&self.session.shared.node);
        let read = move |tx: &qpc_storage::Tx<'_>| {
            let answered = node.handle(tx, &call, &mut OsRng);
            answered.unwrap_or_else(|refused| *refused.outputs)
        };
        let outputs = self.session.shared.readers.run(read).await;
        let failed = |error| Outputs::refusal(Refusal::internal(error), &mut OsRng);
        self.put(method, outputs.unwrap_or_else(failed));
        Ok(())
    }

    async fn note(&mut self, call: Call) -> Result<(), TransportError> {
        if self.session.known(&call).is_none() {
            self.flush().await?;
        }
        match note::run(self.session, call).await {
            Ok(outputs) => self.put(Method::Ack, outputs),
            Err(refusal) => self.refuse(Some(Method::Ack), refusal),
        }
        Ok(())
    }

    /// Holds up the answers behind it, and nothing else.
    async fn wait(&mut self, call: Call) -> Result<(), TransportError> {
        self.flush().await?;
        let left = async { drop(self.left.changed().await) };
        match wait::run(self.session, call, left).await {
            Ok((page, room)) => {
                self.page = room;
                self.put(Method::FetchWait, Outputs::reply(Response::Page(page).encode()));
            }
            Err(refusal) => self.refuse(Some(Method::FetchWait), refusal),
        }
        Ok(())
    }

    /// Checks the caller as a read does; what is granted is with the subscriptions at once.
    async fn publish(&mut self, call: Call) -> Result<(), TransportError> {
        let body = call.frame.body.clone();
        self.read(Method::Publish, call).await?;
        if let Some(Frame::Reply(_)) = self.batch.last()
            && let Ok(Request::Publish(publish)) = Request::decode(Method::Publish, body)
        {
            let shared = &self.session.shared;
            shared.metrics.left_out(shared.notifier.publish(&publish));
        }
        Ok(())
    }

    async fn follow(
        mut self,
        call: Call,
        mut queue: mpsc::Receiver<Turn<'_>>,
    ) -> Result<(), TransportError> {
        self.flush().await?;
        let refusal = tokio::select! {
            ended = subscription::run(self.session, call, &mut self.sender) => ended,
            more = queue.recv() => {
                // A frame may be half written, so the stream can only be reset.
                let code = match more {
                    Some(_) => ErrorCode::InvalidArgument,
                    None => ErrorCode::FrameTruncated,
                };
                self.sender.reset(u32::from(code.as_u16()));
                return Ok(());
            }
        };
        // Counted once it has ended: by its refusal, or as granted when the client left.
        let frame = refusal.map(|refusal| refusal.into_frame(&mut OsRng));
        let shown = frame.as_ref().unwrap_or(&Frame::End);
        self.session.shared.metrics.answered(Some(Method::Subscribe), shown);
        self.sender.send(&frame?).await?;
        self.finish().await
    }

    fn put(&mut self, method: Method, mut outputs: Outputs) {
        // The writer has told what it committed; what is left is of reads.
        for event in outputs.audit.drain(..) {
            self.session.shared.audit.record(event, outputs.address);
        }
        self.session.peer.settle(&outputs);
        self.session.shared.metrics.answered(Some(method), &outputs.frame);
        self.batch.push(outputs.frame);
    }

    fn refuse(&mut self, method: Option<Method>, refusal: Refusal) {
        let frame = refusal.into_frame(&mut OsRng);
        self.session.shared.metrics.answered(method, &frame);
        self.batch.push(frame);
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        if !self.batch.is_empty() {
            self.sender.send_all(&self.batch).await?;
            self.batch.clear();
            self.page = None;
        }
        Ok(())
    }
}

fn invalid(text: &str) -> Refusal {
    ErrorBody::new(ErrorCode::InvalidArgument, text).into()
}
