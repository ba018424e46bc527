//! `Ack`: checked, noted in memory, answered; the writer takes it with others. The connection's
//! token is looked up from time to time, not for each.
//!
//! What a device has acknowledged is written before it is told how it stands.

use std::sync::Mutex;

use qpc_auth::Grant;
use qpc_proto::Token;
use qpc_proto::message::{DeviceRef, Method, Request, Response};
use rand_core::OsRng;
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::Session;
use crate::acks;
use crate::node::{self, Call, Outputs, Work};
use crate::refusal::Refusal;

/// What a token of this connection was found to give.
#[derive(Debug)]
pub(crate) struct Known {
    token: Token,
    grant: Grant,
    checked: Instant,
}

/// The token that was looked up last.
pub(crate) type LastGrant = Mutex<Option<Known>>;

impl Session {
    /// The device of a call whose token was looked up lately.
    pub(super) fn known(&self, call: &Call) -> Option<DeviceRef> {
        let last = self.grant.lock().ok()?;
        let known = last.as_ref()?;
        let fresh = known.checked.elapsed() < self.shared.limits.recheck
            && known.grant.check(self.shared.now_ms()).is_ok()
            && self.peer.device() == Some(known.grant.device);
        let same = known.token.as_bytes().ct_eq(call.frame.token.as_bytes());
        (fresh && bool::from(same)).then_some(known.grant.device)
    }

    async fn look_up(&self, call: &Call) -> Result<DeviceRef, Refusal> {
        let checked = Instant::now();
        let token = call.frame.token.clone();
        let (node, call) = (std::sync::Arc::clone(&self.shared.node), call.clone());
        let granted = self.shared.readers.run(move |tx| node.grant(tx, &call)).await;
        let grant = granted.unwrap_or_else(|error| Err(Refusal::internal(error)))?;
        if let Ok(mut last) = self.grant.lock() {
            *last = Some(Known { token, grant, checked });
        }
        Ok(grant.device)
    }
}

/// Answers an `Ack`.
pub(super) async fn run(session: &Session, mut call: Call) -> Result<Outputs, Refusal> {
    // What was answered before it may have bound the connection.
    call.peer = session.peer.peer();
    let device = match session.known(&call) {
        Some(device) => device,
        None => match session.look_up(&call).await {
            Ok(device) => device,
            // The audit log is told, as of any other request.
            Err(refusal) => return Ok(*node::refused(&call, refusal, &mut OsRng).outputs),
        },
    };
    let Request::Ack(cursors) = Request::decode(Method::Ack, call.frame.body.clone())? else {
        return Err(Refusal::internal("an acknowledgement of another method"));
    };
    if session.shared.acks.note(device, &cursors) {
        return Ok(Outputs::reply(Response::Done.encode()));
    }
    session.shared.writer.run(Work::Call(call)).await
}

/// Writes what the connection's device has acknowledged.
pub(super) async fn settle(session: &Session) -> Result<(), Refusal> {
    // A stranger is refused by what comes next.
    let Some(device) = session.peer.device() else { return Ok(()) };
    acks::write_of(&session.shared, device).await
}
