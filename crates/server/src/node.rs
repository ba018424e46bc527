//! The server's synchronous core: one request in one transaction gives one answer.
//!
//! Checks who calls, repeats the kept answer to a repeated request id, routes the rest. Reads no
//! clock and makes no randomness: both are arguments, so a whole server runs under a seed.

mod ask;
mod restore;
mod run;

use std::net::IpAddr;

use bytes::Bytes;
use qpc_auth::{Auth, Call as AuthCall, PowSecret};
use qpc_delivery::{Delivery, RecentIds};
use qpc_proto::binding::ChannelBinding;
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{DeviceRef, Entry, Method, Request};
use qpc_proto::{
    ChannelId, DeviceId, ErrorBody, ErrorCode, Incarnation, Token, chain, codec, limits,
};
use qpc_storage::{Outcome, Schema, StorageError, Store, Tx, sql};
use rand_core::{CryptoRng, CryptoRngCore, RngCore};
use zeroize::Zeroizing;

use crate::access::{Requirement, requirement};
use crate::audit::AuditEvent;
use crate::refusal::{Cause, Refusal};
use crate::router;
use crate::store::{self, AnswerKey, Earlier};

/// A claim that is repeated later takes other KeyPackages: the first ones may be too old by then to
/// be added, and are served for a day at most.
const CLAIM_REPEATED_MS: u64 = 10 * 60_000;

/// What an operator decides about the services.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Registration and tokens.
    pub auth: qpc_auth::Config,
    /// Retention and KeyPackages.
    pub delivery: qpc_delivery::Config,
}

/// One end of a connection, as the request that came over it sees it.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// What both ends know of this connection alone.
    pub binding: ChannelBinding,
    /// The device that `Login` bound it to.
    pub device: Option<DeviceRef>,
    /// Where it was accepted from, for the audit log alone.
    pub address: Option<IpAddr>,
}

/// One request and all that its answer depends on besides the database.
#[derive(Debug, Clone)]
pub struct Call {
    /// The request as it came.
    pub frame: RequestFrame,
    /// Where it came from.
    pub peer: Peer,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// What becomes of the connection's binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerChange {
    /// It now belongs to this device.
    Bind(DeviceRef),
    /// It belongs to nobody.
    Unbind,
}

/// What leaves once the transaction is on disk.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// The answer.
    pub frame: Frame,
    /// Applies to the connection before the answer leaves.
    pub peer_change: Option<PeerChange>,
    /// The access token just issued: streams of the connection go on under it.
    pub issued: Option<Token>,
    /// Logs that have grown.
    pub wakes: Vec<ChannelId>,
    /// What the one log in `wakes` has grown by; empty when its readers must look for themselves.
    pub posted: Vec<Entry>,
    /// Devices whose connections end, and the code that they end with.
    pub ended: Vec<(DeviceRef, ErrorCode)>,
    /// What the audit log is told.
    pub audit: Vec<AuditEvent>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

impl Outputs {
    /// A reply without any other effect.
    pub(crate) fn reply(body: Bytes) -> Self {
        Self {
            frame: Frame::Reply(body),
            peer_change: None,
            issued: None,
            wakes: Vec::new(),
            posted: Vec::new(),
            ended: Vec::new(),
            audit: Vec::new(),
            address: None,
        }
    }

    /// A refusal, given its correlation id and logged.
    pub(crate) fn refusal(refusal: Refusal, rng: &mut impl RngCore) -> Self {
        *Refused::new(refusal, rng).outputs
    }
}

/// A request without effect: the caller rolls back to before it and sends the outputs all the same.
/// Its source is the failure of the database, where that was the reason.
#[derive(Debug, thiserror::Error)]
#[error("the request was refused")]
pub struct Refused {
    /// The error frame.
    pub outputs: Box<Outputs>,
    source: Option<Cause>,
}

impl Refused {
    pub(crate) fn new(refusal: Refusal, rng: &mut impl RngCore) -> Self {
        let (body, source) = refusal.log(rng);
        Self {
            outputs: Box::new(Outputs {
                frame: Frame::refusal(&body),
                ..Outputs::reply(Bytes::new())
            }),
            source,
        }
    }
}

/// Any other job for the writer, answered like a call.
pub(crate) type Task =
    Box<dyn FnOnce(&Tx<'_>, &mut dyn CryptoRngCore) -> Result<Outputs, Refused> + Send + 'static>;

/// What the writer commits.
pub(crate) enum Work {
    Call(Call),
    Task(Task),
}

/// Both services over one database.
#[derive(Debug)]
pub struct Node {
    pub(crate) auth: Auth,
    pub(crate) delivery: Delivery,
}

/// The tables of a server's database, for [`qpc_storage::Options`].
pub fn schemas() -> Vec<Schema> {
    vec![store::schema(), qpc_auth::schema(), qpc_delivery::schema()]
}

impl Node {
    /// The node of a database opened with [`schemas`]; begins its first incarnation if it has none.
    ///
    /// # Errors
    /// [`StorageError`] when the database cannot be read or written.
    pub fn open(
        store: &mut Store,
        policy: Policy,
        rng: &mut (impl RngCore + CryptoRng + Send),
    ) -> Result<Self, StorageError> {
        let (mut fresh, mut pow_secret) = (Incarnation::ZERO, [0; 32]);
        rng.fill_bytes(&mut fresh.0);
        rng.fill_bytes(&mut pow_secret);
        let pow_secret = PowSecret::new(pow_secret);
        let known = store.transact(|tx| match store::incarnation(tx)? {
            Some(known) => Ok(known),
            None => store::set_incarnation(tx, &fresh).map(|()| fresh),
        })?;
        let incarnation = match known {
            Outcome::Done(incarnation) => incarnation,
            Outcome::Refused(error) => return Err(StorageError::from_sql(error)),
            // Nothing in the job can; the type does not know.
            Outcome::Panicked => return Err(StorageError::from_sql(sql::Error::InvalidQuery)),
        };
        Ok(Self {
            auth: Auth { incarnation, config: policy.auth, pow_secret },
            delivery: Delivery {
                incarnation,
                config: policy.delivery,
                recent: RecentIds::default(),
            },
        })
    }

    /// This life of the database.
    pub fn incarnation(&self) -> Incarnation {
        self.delivery.incarnation
    }

    /// Answers one request within `tx`.
    ///
    /// # Errors
    /// [`Refused`]: the caller rolls back to before the request and sends its outputs all the same.
    pub fn handle<R: RngCore + CryptoRng>(
        &self,
        tx: &Tx<'_>,
        call: &Call,
        rng: &mut R,
    ) -> Result<Outputs, Refused> {
        match self.answer(tx, call, rng) {
            Ok(outputs) => Ok(Outputs { address: call.peer.address, ..outputs }),
            Err(refusal) => Err(refused(call, refusal, rng)),
        }
    }

    /// Answers calls in order in one group commit: each in its own savepoint, all on disk when this
    /// returns. A call that panics is answered with `INTERNAL`; the others are not affected.
    ///
    /// # Errors
    /// [`StorageError`] when the commit failed: then no call had any effect.
    pub fn apply<R: RngCore + CryptoRng + Send>(
        &self,
        store: &mut Store,
        calls: Vec<Call>,
        rng: &mut R,
    ) -> Result<Vec<Outputs>, StorageError> {
        self.commit(store, calls.into_iter().map(Work::Call).collect(), rng)
    }

    /// [`Node::apply`] for any work.
    pub(crate) fn commit<R: RngCore + CryptoRng + Send>(
        &self,
        store: &mut Store,
        work: Vec<Work>,
        rng: &mut R,
    ) -> Result<Vec<Outputs>, StorageError> {
        store.batch(|batch| self.batch(batch, work, rng))
    }

    /// Makes a one-use invite; only its digest is stored.
    ///
    /// # Errors
    /// [`qpc_auth::AuthError::Store`].
    pub fn create_invite<R: RngCore + CryptoRng>(
        &self,
        tx: &Tx<'_>,
        now_ms: u64,
        rng: &mut R,
    ) -> Result<Zeroizing<[u8; limits::INVITE_BYTES]>, qpc_auth::AuthError> {
        self.auth.create_invite(tx, now_ms, rng)
    }

    fn answer<R: RngCore + CryptoRng>(
        &self,
        tx: &Tx<'_>,
        call: &Call,
        rng: &mut R,
    ) -> Result<Outputs, Refusal> {
        let method = Method::from_u16(call.frame.method).ok_or_else(unknown_method)?;
        let caller = match requirement(method) {
            Requirement::Public => None,
            Requirement::Bound => Some(call.peer.device.ok_or_else(unauthenticated)?),
            Requirement::Token => Some(self.authorize(tx, call)?),
        };
        let request = Request::decode(method, call.frame.body.clone())?;
        let key = answer_key(call, (&request, caller))?;
        if let (Method::ClaimKeyPackages, Some(key)) = (method, &key) {
            store::forget_answer(tx, key, call.now_ms.saturating_sub(CLAIM_REPEATED_MS))?;
        }
        if let Some(body) = key.as_ref().map_or(Ok(None), |key| kept(tx, key))? {
            return Ok(Outputs::reply(body));
        }
        let context = router::Context { tx, call, caller };
        let outputs = router::route(self, &context, request, rng)?;
        if let (Some(key), Frame::Reply(body)) = (&key, &outputs.frame) {
            store::keep_answer(tx, key, body, call.now_ms)?;
        }
        Ok(outputs)
    }
}

/// A refusal with what the audit log is told of it.
pub(crate) fn refused(call: &Call, refusal: Refusal, rng: &mut impl RngCore) -> Refused {
    let failed = auth_failure(call, refusal.code());
    let mut refused = Refused::new(refusal, rng);
    refused.outputs.audit.extend(failed);
    refused.outputs.address = call.peer.address;
    refused
}

/// What the audit log is told of a refusal, if somebody failed to show who they are.
fn auth_failure(call: &Call, code: ErrorCode) -> Option<AuditEvent> {
    let failed = matches!(
        code,
        ErrorCode::Unauthenticated
            | ErrorCode::DeviceRevoked
            | ErrorCode::AccountSuspended
            | ErrorCode::InviteRequired
            | ErrorCode::LinkCodeInvalid
    );
    let method = Method::from_u16(call.frame.method).filter(|_| failed)?;
    let said = match Request::decode(method, call.frame.body.clone()) {
        Ok(Request::Login(login)) => Some(login.device),
        Ok(_) | Err(_) => None,
    };
    let device = call.peer.device.or(said);
    Some(AuditEvent::AuthFailed { method: method.as_str(), code: code.as_str(), device })
}

pub(crate) fn auth_call<'a>(tx: &'a Tx<'a>, call: &'a Call) -> AuthCall<'a> {
    AuthCall { tx, binding: &call.peer.binding, bound: call.peer.device, now_ms: call.now_ms }
}

/// The key under which the answer to a change is kept; none for other methods.
fn answer_key(
    call: &Call,
    (request, caller): (&Request, Option<DeviceRef>),
) -> Result<Option<AnswerKey>, Refusal> {
    let method = request.method();
    if !method.takes_request_id() {
        return Ok(None);
    }
    let request_id = call.frame.request_id;
    if request_id.is_zero() {
        let text = "make a random request id and repeat it on every retry";
        return Err(ErrorBody::new(ErrorCode::InvalidArgument, text).into());
    }
    let digest = codec::Writer::with_label("qpc/v1 request")
        .u32(method.as_u16().into())
        .fixed(&call.frame.body)
        .finish();
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others have a caller")]
    let scope = match request {
        // Who only asks is answered anew, and leaves nothing behind.
        Request::Recover(recover) if recover.publish.is_none() => return Ok(None),
        // Its message id says more: who made it, and in which life of the server.
        Request::CreateChannel(_) => return Ok(None),
        // As the device that they are about, so that the account's erasure takes them along.
        Request::Recover(recover) => recover.device,
        Request::Register(register) => register.device,
        _ => caller.map_or(DeviceId::ZERO, |caller| caller.device),
    };
    Ok(Some(AnswerKey { scope, request_id, digest: chain::sha256(&digest) }))
}

fn kept(tx: &Tx<'_>, key: &AnswerKey) -> Result<Option<Bytes>, Refusal> {
    match store::find_answer(tx, key)? {
        Earlier::None => Ok(None),
        Earlier::Same(body) => Ok(Some(body.into())),
        Earlier::Other => {
            let text = "this request id came before with other bytes; make a new one";
            Err(ErrorBody::new(ErrorCode::RequestIdConflict, text).into())
        }
    }
}

fn unknown_method() -> Refusal {
    ErrorBody::new(ErrorCode::UnknownMethod, "this server has no such method").into()
}

/// One body for every way of not being logged in, the same that the Authentication Service gives.
fn unauthenticated() -> Refusal {
    qpc_auth::AuthError::Unauthenticated.into()
}
