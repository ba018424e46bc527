//! The asynchronous edge: one thread owns the core, one task owns the connection. Decides nothing;
//! every input is a step of the machine, and what leaves is what a committed step said.

mod connection;
mod host;
mod session;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use connection::{Driver, Stop, stopped};
pub(crate) use host::Host;
pub(crate) use session::asks_to_wait;

use std::time::Duration;

use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{Request, Response};
use qpc_proto::{ErrorBody, RequestId, Token};
use qpc_transport::{Connection, FrameReceiver, TransportError};

use tokio::sync::oneshot;

use crate::error::ClientError;

/// How long any answer may take. A server that keeps the connection alive and does not answer is
/// given up; what it was asked is asked again on another connection.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);

/// A question of a command, which no work of the machine asks.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) request: Request,
    /// The same for every retry.
    pub(crate) request_id: RequestId,
    /// Dropped without an answer when the connection goes away.
    pub(crate) answer: oneshot::Sender<Result<Response, ClientError>>,
}

/// A request's frame.
pub(crate) fn frame(token: &Token, request_id: RequestId, request: &Request) -> Frame {
    Frame::Request(RequestFrame {
        method: request.method().as_u16(),
        token: token.clone(),
        request_id,
        body: request.encode(),
    })
}

/// The answer on a stream to a request of `method`.
pub(crate) async fn answer(
    receiver: &mut FrameReceiver,
    request: &Request,
) -> Result<Response, ClientError> {
    let untrusted = |_| ClientError::Alarm("an answer that does not parse".into());
    match receiver.next().await? {
        Some(Frame::Reply(body) | Frame::Item(body)) => {
            Response::decode(request.method(), body).map_err(untrusted)
        }
        Some(Frame::Error(code, body)) => Err(refusal(code, &body)?),
        Some(Frame::Request(_) | Frame::End) => {
            Err(ClientError::Alarm("a frame that is no answer".into()))
        }
        None => Err(TransportError::Frame(qpc_proto::frame::FrameError::Truncated).into()),
    }
}

/// What an error frame says.
fn refusal(code: u16, body: &[u8]) -> Result<ClientError, ClientError> {
    let untrusted = |_| ClientError::Alarm("an answer that does not parse".into());
    ErrorBody::decode(code, body).map(ClientError::Refused).map_err(untrusted)
}

/// One request on a stream of its own, answered in time.
pub(crate) async fn call(
    connection: &Connection,
    (token, request_id): (&Token, RequestId),
    request: &Request,
) -> Result<Response, ClientError> {
    let asked = async {
        let (mut sender, mut receiver) = connection.open_stream().await?;
        sender.send(&frame(token, request_id, request)).await?;
        sender.finish().await?;
        answer(&mut receiver, request).await
    };
    tokio::time::timeout(ANSWER, asked).await.map_err(|_| TransportError::Timeout)?
}
