//! The asynchronous edge: one thread owns the core, one task owns the connection. Decides nothing;
//! every input is a step of the machine, and what leaves is what a committed step said.

mod connection;
mod host;

pub(crate) use connection::{Driver, Stop};
pub(crate) use host::Host;

use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{Request, Response};
use qpc_proto::{ErrorBody, RequestId, Token};
use qpc_transport::{Connection, FrameReceiver, TransportError};

use crate::error::ClientError;

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
        Some(Frame::Error(code, body)) => {
            Err(ClientError::Refused(ErrorBody::decode(code, &body).map_err(untrusted)?))
        }
        Some(Frame::Request(_) | Frame::End) => {
            Err(ClientError::Alarm("a frame that is no answer".into()))
        }
        None => Err(TransportError::Frame(qpc_proto::frame::FrameError::Truncated).into()),
    }
}

/// One request on a stream of its own.
pub(crate) async fn call(
    connection: &Connection,
    (token, request_id): (&Token, RequestId),
    request: &Request,
) -> Result<Response, ClientError> {
    let (mut sender, mut receiver) = connection.open_stream().await?;
    sender.send(&frame(token, request_id, request)).await?;
    sender.finish().await?;
    answer(&mut receiver, request).await
}
