//! One stream: requests are taken as they come and answered in the order they came.
//!
//! Changes go to the writer as soon as they are read, those that arrived together as one. A read
//! starts when everything before it on the stream is answered, so it sees those changes, and only
//! as fast as the client takes the answers.

use std::sync::Arc;

use qpc_proto::ErrorCode;
use qpc_proto::frame::Frame;
use qpc_proto::message::{Method, Request, Response};
use qpc_transport::{FrameReceiver, FrameSender, TransportError};
use rand_core::OsRng;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};

use super::{Session, note, subscription, taking, wait};
use crate::node::{Call, Outputs};
use crate::refusal::Refusal;
use crate::writer;

/// Requests of one stream that are taken but not answered.
const IN_FLIGHT_MAX: usize = 64;
/// Answers that leave in one write.
const COALESCED_MAX: usize = 64;

/// A request whose turn to be answered comes.
pub(super) enum Turn<'a> {
    /// With the writer: changes that arrived together.
    Written(Vec<Method>, oneshot::Receiver<Vec<Outputs>>),
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

impl Turn<'_> {
    /// How many requests it is.
    pub(super) fn requests(&self) -> usize {
        match self {
            Turn::Written(methods, _) => methods.len(),
            Turn::Read(..)
            | Turn::Wait(_)
            | Turn::Publish(..)
            | Turn::Note(..)
            | Turn::Follow(_)
            | Turn::Limited(..)
            | Turn::Last(..)
            | Turn::Reset(_) => 1,
        }
    }
}

/// Serves a stream until the client ends it, breaks the rules or the server stops.
pub(super) async fn run(session: Arc<Session>, sender: FrameSender, receiver: FrameReceiver) {
    let (turns, queue) = mpsc::channel(IN_FLIGHT_MAX);
    let in_flight = Semaphore::new(IN_FLIGHT_MAX);
    let (open, left) = watch::channel(());
    let answers = Answers {
        session: &session,
        sender,
        batch: Vec::new(),
        page: None,
        in_flight: &in_flight,
        answered: 0,
        left,
    };
    let taken = async {
        taking::run(&session, receiver, (turns, &in_flight)).await;
        drop(open);
    };
    let ((), written) = tokio::join!(taken, answers.write(queue));
    if let Err(error) = written {
        tracing::debug!(%error, "a stream ended early");
    }
}

/// The side of a stream that answers.
struct Answers<'a> {
    session: &'a Session,
    sender: FrameSender,
    batch: Vec<Frame>,
    /// Held while the batch has the answer to a read.
    page: Option<SemaphorePermit<'a>>,
    /// Room for requests that are taken; answers that have left give it back.
    in_flight: &'a Semaphore,
    /// Requests whose answers are in the batch.
    answered: usize,
    /// Closed when no more requests come: by the client's doing or the server's.
    left: watch::Receiver<()>,
}

impl Answers<'_> {
    async fn write(mut self, mut queue: mpsc::Receiver<Turn<'_>>) -> Result<(), TransportError> {
        while let Some(turn) = queue.recv().await {
            let requests = turn.requests();
            match turn {
                Turn::Written(methods, answers) => self.written(methods, answers).await?,
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
            self.answered = self.answered.saturating_add(requests);
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
        methods: Vec<Method>,
        mut answers: oneshot::Receiver<Vec<Outputs>>,
    ) -> Result<(), TransportError> {
        let outputs = match arrived(&mut answers) {
            Some(outputs) => outputs,
            None => {
                self.flush().await?;
                answers.await.unwrap_or_default()
            }
        };
        let mut outputs = outputs.into_iter();
        for method in methods {
            // None is missing but for a writer that has ended.
            let stopped = || Outputs::refusal(writer::stopping(), &mut OsRng);
            self.put(method, outputs.next().unwrap_or_else(stopped));
        }
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
        self.in_flight.add_permits(std::mem::take(&mut self.answered));
        Ok(())
    }
}

/// The writer's answers, none of them if it has ended without; `None`: they are still to come.
fn arrived(answers: &mut oneshot::Receiver<Vec<Outputs>>) -> Option<Vec<Outputs>> {
    match answers.try_recv() {
        Ok(outputs) => Some(outputs),
        // A second look at a way that is closed would panic.
        Err(TryRecvError::Closed) => Some(Vec::new()),
        Err(TryRecvError::Empty) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_ended_is_found_out_while_its_answer_is_to_come() {
        let (writer, mut answers) = oneshot::channel();
        assert!(arrived(&mut answers).is_none());
        drop(writer);
        assert!(arrived(&mut answers).is_some_and(|outputs| outputs.is_empty()));
    }
}
