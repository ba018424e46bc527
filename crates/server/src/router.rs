//! Takes a validated request to the service that answers it, and the services' answers back.
//!
//! Composes what spans both services. Holds no rule of either.

pub(crate) mod account;

use qpc_auth::{AuthError, Refreshed};
use qpc_delivery::{Call as DeliveryCall, DeliveryError, Written};
use qpc_proto::message::{
    Accepted, ClaimKeyPackages, CommitRequest, DeviceRef, Devices, EnqueueAnswer, Fetch, Login,
    Notice, NoticeKind, Page, Request, Response, ServerInfo,
};
use qpc_proto::{ChannelId, DeviceId, ErrorBody, ErrorCode, Token, limits};
use qpc_storage::Tx;
use rand_core::{CryptoRng, RngCore};

use crate::audit::AuditEvent;
use crate::node::{Call, Node, Outputs, PeerChange, auth_call};
use crate::refusal::Refusal;

/// One request's surroundings.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) tx: &'a Tx<'a>,
    pub(crate) call: &'a Call,
    /// Set where the method requires a device.
    pub(crate) caller: Option<DeviceRef>,
}

impl<'a> Context<'a> {
    fn caller(&self) -> Result<DeviceRef, Refusal> {
        self.caller
            .ok_or_else(|| Refusal::internal("a method without a requirement needs a device"))
    }

    fn delivery(&self) -> Result<DeliveryCall<'a>, Refusal> {
        Ok(delivery_call(self.tx, self.caller()?, self.call.now_ms))
    }
}

pub(crate) fn delivery_call<'a>(
    tx: &'a Tx<'a>,
    caller: DeviceRef,
    now_ms: u64,
) -> DeliveryCall<'a> {
    DeliveryCall { tx, caller, now_ms }
}

/// Answers one request.
pub(crate) fn route<R: RngCore + CryptoRng>(
    node: &Node,
    context: &Context<'_>,
    request: Request,
    rng: &mut R,
) -> Result<Outputs, Refusal> {
    let tx = context.tx;
    match request {
        Request::ServerInfo => Ok(reply(&Response::ServerInfo(info(node, context)?))),
        Request::Register(register) => {
            let account = node.auth.register(&auth_call(tx, context.call), &register)?;
            let device = DeviceRef { account, device: register.device };
            let event = AuditEvent::Registered { device };
            Ok(audited(event, reply(&Response::Registered(account))))
        }
        Request::Login(login) => self::login(node, context, &login, rng),
        Request::Refresh(token) => refresh(node, context, &token, rng),
        Request::Logout => {
            node.auth.logout(&auth_call(tx, context.call), &context.call.frame.token)?;
            let event = AuditEvent::LoggedOut { device: context.caller()? };
            let outputs =
                Outputs { peer_change: Some(PeerChange::Unbind), ..reply(&Response::Done) };
            Ok(audited(event, outputs))
        }
        Request::Lookup(name) => Ok(reply(&Response::Identity(node.auth.lookup(tx, &name)?))),
        Request::DeviceList(account) => {
            let asked = (tx, context.call.peer.device);
            let (identity, certificate) = node.auth.devices_of(asked, &account)?;
            let certificate = certificate.unwrap_or_default();
            Ok(reply(&Response::Devices(Devices { identity, certificate })))
        }
        Request::ClaimKeyPackages(request) => claim(node, context, &request),
        Request::LinkRelay(_)
        | Request::LinkDevice(_)
        | Request::RevokeDevice(_)
        | Request::RenewDevices(_)
        | Request::Recover(_)
        | Request::ExportAccount
        | Request::DeleteAccount(_)
        | Request::CancelDeletion => account::answer(node, context, &request),
        Request::UploadKeyPackages(_)
        | Request::KeyPackageStatus
        | Request::CreateChannel(_)
        | Request::ListChannels
        | Request::Enqueue(_)
        | Request::Commit(_)
        | Request::Statement(_)
        | Request::Publish(_)
        | Request::Fetch(_)
        | Request::FetchWait(_)
        | Request::Subscribe(_)
        | Request::Ack(_) => deliver(node, context, &request, rng),
    }
}

/// Requests that the Delivery Service answers alone.
fn deliver<R: RngCore>(
    node: &Node,
    context: &Context<'_>,
    request: &Request,
    rng: &mut R,
) -> Result<Outputs, Refusal> {
    let call = context.delivery()?;
    let delivery = &node.delivery;
    match request {
        Request::UploadKeyPackages(upload) => {
            let count = upload.key_packages.len().saturating_add(upload.last_resort.iter().len());
            let event = AuditEvent::KeyPackagesUploaded { device: call.caller, count };
            Ok(audited(event, reply(&Response::Uploaded(delivery.upload(&call, upload)?))))
        }
        Request::KeyPackageStatus => {
            Ok(reply(&Response::KeyPackageStatus(delivery.key_package_status(&call)?)))
        }
        Request::CreateChannel(create) => Ok(accepted(delivery.create_channel(&call, create)?)),
        Request::ListChannels => Ok(reply(&Response::Channels(delivery.list_channels(&call)?))),
        Request::Enqueue(enqueue) => Ok(enqueued(delivery.enqueue(&call, enqueue)?, rng)),
        Request::Commit(request) => commit(node, &call, request, rng),
        Request::Statement(statement) => {
            let id = qpc_proto::MessageId(context.call.frame.request_id.0);
            Ok(accepted(delivery.statement(&call, statement, id)?))
        }
        // The session hands on what is granted here.
        Request::Publish(publish) => {
            delivery.head_of_member(&call, &publish.channel)?;
            Ok(reply(&Response::Done))
        }
        Request::Fetch(fetch) => Ok(reply(&Response::Page(page(node, &call, fetch)?))),
        // A node has no time; the session waits between two reads.
        Request::FetchWait(wait) => Ok(reply(&Response::Page(page(node, &call, &wait.fetch)?))),
        Request::Ack(cursors) => {
            node.acknowledge((call.tx, call.now_ms), call.caller, cursors)?;
            Ok(reply(&Response::Done))
        }
        // A subscription is many reads; the session makes them with `page`.
        Request::Subscribe(_)
        | Request::ServerInfo
        | Request::Register(_)
        | Request::Login(_)
        | Request::Refresh(_)
        | Request::Logout
        | Request::Lookup(_)
        | Request::DeviceList(_)
        | Request::LinkRelay(_)
        | Request::LinkDevice(_)
        | Request::RevokeDevice(_)
        | Request::RenewDevices(_)
        | Request::Recover(_)
        | Request::ExportAccount
        | Request::DeleteAccount(_)
        | Request::CancelDeletion
        | Request::ClaimKeyPackages(_) => Err(Refusal::internal("routed to the wrong service")),
    }
}

fn login<R: RngCore + CryptoRng>(
    node: &Node,
    context: &Context<'_>,
    login: &Login,
    rng: &mut R,
) -> Result<Outputs, Refusal> {
    if context.call.peer.device.is_some_and(|bound| bound != login.device) {
        let text = "this connection belongs to another device; open one for each";
        return Err(ErrorBody::new(ErrorCode::InvalidArgument, text).into());
    }
    let answer = node.auth.login(&auth_call(context.tx, context.call), login, rng)?;
    let outputs = Outputs {
        peer_change: Some(PeerChange::Bind(login.device)),
        issued: Some(answer.access_token.clone()),
        ..reply(&Response::Tokens(answer))
    };
    Ok(audited(AuditEvent::LoggedIn { device: login.device }, outputs))
}

fn refresh<R: RngCore + CryptoRng>(
    node: &Node,
    context: &Context<'_>,
    token: &Token,
    rng: &mut R,
) -> Result<Outputs, Refusal> {
    match node.auth.refresh(&auth_call(context.tx, context.call), token, rng)? {
        Refreshed::Tokens(answer) => {
            let outputs = Outputs {
                issued: Some(answer.access_token.clone()),
                ..reply(&Response::Tokens(answer))
            };
            Ok(audited(AuditEvent::Refreshed { device: context.caller()? }, outputs))
        }
        // Refused and yet no error: that the session has ended must be committed.
        Refreshed::Reused(device) => {
            let (kind, at_ms) = (NoticeKind::RefreshReused, context.call.now_ms);
            let notice = Notice { kind, device: device.device, at_ms };
            let wakes = account::tell(node, context, (&device.account, &[]), &notice)?;
            let refused = Outputs::refusal(AuthError::Unauthenticated.into(), rng);
            Ok(audited(AuditEvent::RefreshReused { device }, Outputs { wakes, ..refused }))
        }
    }
}

fn commit(
    node: &Node,
    call: &DeliveryCall<'_>,
    request: &CommitRequest,
    rng: &mut impl RngCore,
) -> Result<Outputs, Refusal> {
    match node.delivery.commit(call, request) {
        // Refused and yet no error: that the next turn is the caller's must be committed.
        Err(late @ DeliveryError::StaleCommit(_)) => {
            let wait_ms = node.delivery.reserve_turn(call, &request.channel)?;
            let body = ErrorBody { retry_after_ms: wait_ms, ..late.to_body() };
            Ok(Outputs::refusal(body.into(), rng))
        }
        written => Ok(accepted(written?)),
    }
}

/// The newest identity of an account with a KeyPackage of each of its devices.
fn claim(
    node: &Node,
    context: &Context<'_>,
    request: &ClaimKeyPackages,
) -> Result<Outputs, Refusal> {
    let caller = context.caller()?;
    let identity = node.auth.identity(context.tx, &request.account)?;
    let mut devices = node.auth.active_devices(context.tx, &request.account)?;
    let wanted = |d: &DeviceId| request.devices.is_empty() || request.devices.contains(d);
    devices.retain(|device| *device != caller.device && wanted(device));
    let claims = node.delivery.claim(&context.delivery()?, &identity, &devices)?;
    Ok(reply(&Response::Claims(claims)))
}

/// One page of a log.
pub(crate) fn page(node: &Node, call: &DeliveryCall<'_>, fetch: &Fetch) -> Result<Page, Refusal> {
    Ok(node.delivery.fetch(call, fetch)?)
}

/// The head of a log whose follower hears what is published to it: one who has all rights there
/// at this moment. None for others; the refusal is only of the session.
pub(crate) fn heard(
    node: &Node,
    (tx, call): (&Tx<'_>, &Call),
    channel: &ChannelId,
) -> Result<Option<u64>, Refusal> {
    let caller = node.authorize(tx, call)?;
    match node.delivery.head_of_member(&delivery_call(tx, caller, call.now_ms), channel) {
        Ok(head) => Ok(Some(head)),
        Err(DeliveryError::Store(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

fn reply(response: &Response) -> Outputs {
    Outputs::reply(response.encode())
}

fn audited(event: AuditEvent, mut outputs: Outputs) -> Outputs {
    outputs.audit.push(event);
    outputs
}

fn accepted(written: Written<Accepted>) -> Outputs {
    Outputs { wakes: written.wakes, ..reply(&Response::Accepted(written.answer)) }
}

pub(crate) fn enqueued(written: Written<EnqueueAnswer>, rng: &mut impl RngCore) -> Outputs {
    let Written { mut answer, wakes, posted } = written;
    answer.refusal = answer.refusal.map(|body| Refusal::from(body).into_body(rng));
    Outputs { wakes, posted, ..reply(&Response::Enqueued(answer)) }
}

fn info(node: &Node, context: &Context<'_>) -> Result<ServerInfo, Refusal> {
    let now_ms = context.call.now_ms;
    Ok(ServerInfo {
        versions: (limits::VERSION_MIN, limits::VERSION),
        incarnation: node.incarnation(),
        now_ms,
        registration: node.auth.config.registration,
        payload_bytes_max: wide(limits::PAYLOAD_BYTES_MAX),
        frame_bytes_max: wide(limits::FRAME_BYTES_MAX),
        retention_ms: node.delivery.config.retention_ms,
        proof_of_work: node.auth.proof_of_work(context.tx, now_ms)?,
    })
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
