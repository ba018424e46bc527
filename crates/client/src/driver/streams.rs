//! The long streams of a connection: one for all that must keep its order, one that follows the
//! logs. Each frame bears the access token that is the newest when it leaves.

use std::collections::VecDeque;
use std::time::Duration;

use qpc_proto::RequestId;
use qpc_proto::frame::Frame;
use qpc_proto::message::{Cursor, Request, Response};
use qpc_transport::{Connection, FrameReceiver, TransportError};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::host::Host;
use super::session::{Access, Settled, settle};
use super::{ANSWER, answer, frame};
use crate::error::ClientError;
use crate::machine::{Failure, Input, Outgoing};

/// Requests on the ordered stream that wait for their answers.
const WAITING_MAX: usize = 64;
/// How long an ended subscription waits before the machine is asked for another.
const RESUBSCRIBE: Duration = Duration::from_secs(1);

/// What a long stream needs of its connection.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) connection: Connection,
    /// The newest access token.
    pub(super) access: watch::Receiver<Access>,
    /// Told of tokens that the server does not take any more.
    pub(super) expired: mpsc::Sender<u64>,
    pub(super) host: Host,
}

impl Line {
    fn access(&self) -> Access {
        self.access.borrow().clone()
    }

    /// Whether a newer token has come since.
    fn is_stale(&self, number: u64) -> bool {
        self.access.borrow().number != number
    }

    /// A full queue already says what this one would.
    fn tell_expired(&self, number: u64) {
        self.expired.try_send(number).ok();
    }
}

/// A request that waits for its answer.
struct Waiting {
    outgoing: Outgoing,
    /// Of the access token that it bears.
    number: u64,
    until: Instant,
}

/// One long stream for all that must keep its order: requests go out as they come, answers are
/// taken in the same order.
pub(super) async fn send_in_order(
    line: Line,
    mut queue: mpsc::Receiver<Outgoing>,
) -> Result<(), ClientError> {
    let (mut sender, mut receiver) = line.connection.open_stream().await?;
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    loop {
        tokio::select! {
            outgoing = queue.recv(), if waiting.len() < WAITING_MAX => {
                let Some(outgoing) = outgoing else { return Ok(()) };
                let Access { number, token } = line.access();
                sender.send(&frame(&token, outgoing.request_id, &outgoing.request)).await?;
                waiting.push_back(Waiting { outgoing, number, until: Instant::now() + ANSWER });
            }
            result = next_answer(&mut receiver, waiting.front()), if !waiting.is_empty() => {
                let Some(answered) = waiting.pop_front() else { continue };
                take(&line, answered, result).await?;
            }
        }
    }
}

async fn take(
    line: &Line,
    answered: Waiting,
    result: Result<Response, ClientError>,
) -> Result<(), ClientError> {
    let Waiting { outgoing, number, .. } = answered;
    let result = match settle(result, line.is_stale(number))? {
        Settled::Answered(result) => result,
        Settled::Expired => {
            // Before the step: what it derives anew must find the token known as expired.
            line.tell_expired(number);
            Err(Failure::Lost)
        }
    };
    line.host.step(Input::Answer(outgoing.work, result)).await
}

async fn next_answer(
    receiver: &mut FrameReceiver,
    waiting: Option<&Waiting>,
) -> Result<Response, ClientError> {
    match waiting {
        Some(Waiting { outgoing, until, .. }) => {
            let answered = timeout_at(*until, answer(receiver, &outgoing.request)).await;
            answered.map_err(|_| TransportError::Timeout)?
        }
        None => std::future::pending().await,
    }
}

/// Follows logs until the stream ends; then the machine asks for another.
pub(super) async fn follow(line: Line, cursors: Vec<Cursor>) -> Result<(), ClientError> {
    let (mut sender, mut receiver) = line.connection.open_stream().await?;
    let request = Request::Subscribe(cursors);
    let Access { number, token } = line.access();
    sender.send(&frame(&token, RequestId::ZERO, &request)).await?;
    loop {
        match receiver.next().await? {
            Some(Frame::Item(body)) => {
                let page = Response::decode(request.method(), body)
                    .map_err(|_| ClientError::Alarm("a page that does not parse".into()))?;
                if let Response::Page(page) = page {
                    // Reading the next page waits for this one's commit: the server holds back.
                    line.host.step(Input::Page(page)).await?;
                }
            }
            Some(Frame::Error(code, body)) => {
                let refused = super::refusal(code, &body)?;
                match settle(Err(refused), line.is_stale(number))? {
                    Settled::Expired => line.tell_expired(number),
                    Settled::Answered(_) => tracing::info!(code, "a subscription ended"),
                }
            }
            Some(Frame::Reply(_) | Frame::Request(_) | Frame::End) | None => {
                sleep(RESUBSCRIBE).await;
                return line
                    .host
                    .run(|machine, _| {
                        machine.resubscribe();
                        Ok(())
                    })
                    .await;
            }
        }
    }
}
