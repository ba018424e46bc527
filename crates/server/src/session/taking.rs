//! The side of a stream that takes requests: counts them, and gives each its turn.
//!
//! Changes that have arrived together go to the writer together. Answers nothing.

use qpc_proto::frame::{Frame, FrameError, RequestFrame};
use qpc_proto::limits::FRAME_BYTES_MAX;
use qpc_proto::message::Method;
use qpc_proto::{ErrorBody, ErrorCode};
use qpc_transport::{FrameReceiver, TransportError};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::Session;
use super::stream::Turn;
use crate::access::{Lane, body_bytes_max, lane};
use crate::limits::Asking;
use crate::node::{Call, Work};
use crate::refusal::Refusal;

/// Changes that go to the writer together: what is read of a stream at once is hardly more.
const TOGETHER_MAX: usize = 16;
/// Bytes of a frame that any stream may hold: room for the identity objects of `Register`. Before
/// `Login` there are no larger ones, afterwards few at a time.
const SMALL_FRAME_BYTES_MAX: usize = 64 * 1_024;

/// Reads requests until the stream ends, and queues them to be answered.
pub(super) async fn run<'a>(
    session: &'a Session,
    mut receiver: FrameReceiver,
    (turns, in_flight): (mpsc::Sender<Turn<'a>>, &Semaphore),
) {
    let mut taking = Taking { session, turns, in_flight, changes: Vec::new(), following: false };
    let Over(code) = taking.all(&mut receiver).await;
    if let Some(code) = code {
        receiver.stop(u32::from(code.as_u16()));
    }
}

/// The side of a stream that takes requests.
struct Taking<'a, 's> {
    session: &'a Session,
    turns: mpsc::Sender<Turn<'a>>,
    /// Room for requests that are taken and not answered; who answers gives it back.
    in_flight: &'s Semaphore,
    /// Read, and not with the writer yet: nothing is waited for meanwhile.
    changes: Vec<(Method, Call)>,
    /// The client has asked for all it may.
    following: bool,
}

/// Nothing more is taken; the client is told to stop if there is a code.
struct Over(Option<ErrorCode>);

/// What arrived: a frame, or the end, with the room that a large one takes.
type Arrived<'a> = Result<(Option<Frame>, Option<SemaphorePermit<'a>>), TransportError>;

impl<'a> Taking<'a, '_> {
    async fn all(&mut self, receiver: &mut FrameReceiver) -> Over {
        let session = self.session;
        let stopping = session.shared.stopping();
        tokio::pin!(stopping);
        loop {
            let arrived = match receiver.ready() {
                Ok(Some(frame)) => Ok((Some(frame), None)),
                Err(error) => Err(error),
                Ok(None) => {
                    if let Err(over) = self.hand_over().await {
                        return over;
                    }
                    tokio::select! {
                        arrived = next(session, receiver, self.following) => arrived,
                        () = self.turns.closed() => return Over(None),
                        () = &mut stopping, if !self.following => return Over(None),
                    }
                }
            };
            if let Err(over) = self.accept(arrived).await {
                return over;
            }
        }
    }

    async fn accept(&mut self, arrived: Arrived<'a>) -> Result<(), Over> {
        let (frame, room) = match arrived {
            Ok((frame, room)) => (Ok(frame), room),
            Err(error) => (Err(error), None),
        };
        let turn = match frame {
            Ok(Some(_)) if self.following => Turn::Reset(ErrorCode::InvalidArgument),
            Ok(Some(Frame::Request(frame))) => match self.begin(frame).await? {
                Some(turn) => turn,
                None if room.is_none() && self.changes.len() < TOGETHER_MAX => return Ok(()),
                // From there on a large request is counted where it is queued.
                None => return self.hand_over().await,
            },
            Ok(Some(Frame::Reply(_) | Frame::Error(..) | Frame::Item(_) | Frame::End)) => {
                Turn::Last(None, invalid("only requests go to a server"))
            }
            // A subscriber may end its side at once; the answers go on.
            Ok(None) if self.following => {
                self.turns.closed().await;
                return Err(Over(None));
            }
            Ok(None) => return Err(Over(None)),
            Err(TransportError::Frame(error)) => Turn::Last(None, ErrorBody::from(error).into()),
            Err(TransportError::Timeout) => Turn::Reset(ErrorCode::Deadline),
            // Reset or closed: nobody waits for an answer.
            Err(_) => return Err(Over(None)),
        };
        self.hand_over().await?;
        self.pass(turn).await
    }

    /// Gives the writer the changes that have arrived: at once as many as there is room for.
    async fn hand_over(&mut self) -> Result<(), Over> {
        while !self.changes.is_empty() {
            let together = self.in_flight.available_permits().clamp(1, self.changes.len());
            self.take_room(together).await?;
            let changes = self.changes.drain(..together);
            let (methods, work): (Vec<_>, Vec<_>) =
                changes.map(|(method, call)| (method, Work::Call(call))).unzip();
            let answers = self.session.shared.writer.submit(work).await;
            self.queue(Turn::Written(methods, answers)).await?;
        }
        Ok(())
    }

    /// Waits until so few requests are unanswered that there is room for more.
    async fn take_room(&self, requests: usize) -> Result<(), Over> {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        tokio::select! {
            room = self.in_flight.acquire_many(requests) => room.map_err(|_| Over(None))?.forget(),
            // Nobody answers any more.
            () = self.turns.closed() => return Err(Over(None)),
        }
        Ok(())
    }

    async fn pass(&mut self, turn: Turn<'a>) -> Result<(), Over> {
        self.take_room(turn.requests()).await?;
        self.queue(turn).await
    }

    async fn queue(&mut self, turn: Turn<'a>) -> Result<(), Over> {
        self.following |= matches!(turn, Turn::Follow(_));
        let end = match &turn {
            Turn::Last(..) => Some(ErrorCode::InvalidArgument),
            Turn::Reset(code) => Some(*code),
            Turn::Written(..)
            | Turn::Read(..)
            | Turn::Wait(_)
            | Turn::Publish(..)
            | Turn::Note(..)
            | Turn::Limited(..)
            | Turn::Follow(_) => None,
        };
        let sent = self.turns.send(turn).await;
        match end {
            Some(code) => Err(Over(Some(code))),
            None => sent.map_err(|_| Over(None)),
        }
    }

    /// A request's turn; none for a change, which waits for those behind it.
    async fn begin(&mut self, frame: RequestFrame) -> Result<Option<Turn<'a>>, Over> {
        let session = self.session;
        let (method, lane) = match admit(session, &frame) {
            Ok(admitted) => admitted,
            Err(turn) => return Ok(Some(turn)),
        };
        let call = Call { frame, peer: session.peer.peer(), now_ms: session.shared.now_ms() };
        if lane != Lane::Write {
            // The others may have to wait for their turn.
            self.hand_over().await?;
        }
        Ok(Some(match lane {
            Lane::Write => {
                self.changes.push((method, call));
                return Ok(None);
            }
            Lane::Read => Turn::Read(method, Box::new(call)),
            Lane::Wait => Turn::Wait(Box::new(call)),
            Lane::Publish => Turn::Publish(Box::new(call), session.publishes.acquire().await.ok()),
            Lane::Note => {
                let room = session.notes.acquire_many(kib(call.frame.body.len())).await.ok();
                Turn::Note(Box::new(call), room)
            }
            Lane::Follow => Turn::Follow(Box::new(call)),
        }))
    }
}

/// The next frame, with the room that a large one takes.
async fn next<'a>(
    session: &'a Session,
    receiver: &mut FrameReceiver,
    following: bool,
) -> Arrived<'a> {
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

/// Whose turn a request is, if no limit refuses it.
fn admit(session: &Session, frame: &RequestFrame) -> Result<(Method, Lane), Turn<'static>> {
    let Some(method) = Method::from_u16(frame.method) else {
        let text = "this server has no such method";
        return Err(Turn::Last(None, ErrorBody::new(ErrorCode::UnknownMethod, text).into()));
    };
    let device = session.peer.device();
    let asking = Asking { method, address: session.peer.address(), device, body: &frame.body };
    if let Err(refusal) = session.shared.count(&asking) {
        return Err(Turn::Limited(method, refusal));
    }
    let lane = lane(method);
    if frame.body.len() > body_bytes_max(lane) {
        let text = "no such request has that many bytes";
        let body = ErrorBody::new(ErrorCode::FrameTooLarge, text);
        return Err(Turn::Last(Some(method), body.into()));
    }
    Ok((method, lane))
}

/// Room that a body of so many bytes takes, in KiB.
fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes / 1_024).unwrap_or(u32::MAX).saturating_add(1)
}

fn invalid(text: &str) -> Refusal {
    ErrorBody::new(ErrorCode::InvalidArgument, text).into()
}
