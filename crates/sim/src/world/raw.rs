//! Connections to the server of a world whose other end is none of its clients: whatever a program
//! of somebody else may send.

use anyhow::{Context as _, Result, bail, ensure};
use qpc_proto::binding::ChannelBinding;
use qpc_proto::frame::Frame;
use qpc_proto::message::{Request, Response};
use qpc_proto::{ErrorBody, ErrorCode, RequestId, Token};
use qpc_server::{Call, Peer, PeerChange};

use super::World;
use super::client::frame;

/// One such connection.
pub struct Raw {
    peer: Peer,
    token: Token,
}

impl Raw {
    pub(crate) fn over(peer: Peer) -> Self {
        Self { peer, token: Token::NONE }
    }

    /// What both of its ends know.
    pub fn binding(&self) -> &ChannelBinding {
        &self.peer.binding
    }
}

impl World {
    /// A connection that no device has opened yet.
    pub fn raw(&mut self) -> Raw {
        Raw::over(Peer { binding: self.binding(), device: None, address: None })
    }

    /// Asks the server; after a login the connection is that device's.
    ///
    /// # Errors
    /// When the server fails, or its answer does not parse. What it refuses is the inner error.
    pub fn ask_raw(
        &mut self,
        raw: &mut Raw,
        (request_id, request): (RequestId, &Request),
    ) -> Result<Result<Response, ErrorBody>> {
        let frame = frame((request_id, request), &raw.token);
        let call = Call { frame, peer: raw.peer, now_ms: self.now_ms };
        let outputs = self.server.apply(vec![call], &mut self.rng)?;
        let output = outputs.into_iter().next().context("no answer")?;
        self.cut_off(&output.ended)?;
        self.wake(&output.wakes.iter().copied().collect())?;
        if let Some(PeerChange::Bind(device)) = output.peer_change {
            raw.peer.device = Some(device);
        }
        let response = match output.frame {
            Frame::Reply(body) => Response::decode(request.method(), body)?,
            Frame::Error(code, body) => {
                let refusal = ErrorBody::decode(code, &body)?;
                let name = request.method().as_str();
                ensure!(refusal.code != ErrorCode::Internal, "the server fails at {name}");
                return Ok(Err(refusal));
            }
            Frame::Request(_) | Frame::Item(_) | Frame::End => bail!("no answer"),
        };
        if let Response::Tokens(tokens) = &response {
            raw.token = tokens.access_token.clone();
        }
        Ok(Ok(response))
    }
}
