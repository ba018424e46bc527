//! Requests about an account's devices and its end: what the Authentication Service publishes, the
//! Delivery Service carries out in the same transaction, and the account's devices are told.
//!
//! Holds no rule of either service.

use bytes::Bytes;
use qpc_auth::Published;
use qpc_credential::devices_statement;
use qpc_delivery::Room;
use qpc_proto::limits::PAYLOAD_BYTES_MAX;
use qpc_proto::message::{DeviceRef, Notice, NoticeKind, Recover, Request, Response};
use qpc_proto::{AccountId, ChannelId, DeviceId, ErrorBody, ErrorCode};
use qpc_storage::Tx;

use super::{Context, reply};
use crate::audit::AuditEvent;
use crate::node::{Node, Outputs, auth_call};
use crate::refusal::Refusal;
use crate::store;

/// What a change of an account means for logs and connections.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) wakes: Vec<ChannelId>,
    pub(crate) ended: Vec<(DeviceRef, ErrorCode)>,
    pub(crate) audit: Vec<AuditEvent>,
}

impl Effects {
    fn with(self, response: &Response) -> Outputs {
        let Self { wakes, ended, audit } = self;
        Outputs { wakes, ended, audit, ..reply(response) }
    }
}

/// Answers one request about an account.
pub(super) fn answer(
    node: &Node,
    context: &Context<'_>,
    request: &Request,
) -> Result<Outputs, Refusal> {
    let call = auth_call(context.tx, context.call);
    #[expect(clippy::wildcard_enum_match_arm, reason = "the router's match is the exhaustive one")]
    match request {
        Request::LinkRelay(relay) => Ok(reply(&Response::Relayed(node.auth.relay(&call, relay)?))),
        Request::LinkDevice(link) => {
            let published = node.auth.link_device(&call, link)?;
            publish(node, context, (&published, NoticeKind::Linked))
        }
        Request::RevokeDevice(list) => {
            let published = node.auth.revoke_devices(&call, list)?;
            publish(node, context, (&published, NoticeKind::Revoked))
        }
        Request::RenewDevices(renew) => {
            let renewed = node.auth.renew_devices(&call, renew)?;
            let (device, count) = (context.caller()?, renewed.len());
            let audit = vec![AuditEvent::DevicesRenewed { device, count }];
            Ok(Effects { audit, ..Effects::default() }.with(&Response::Done))
        }
        Request::Recover(request) => recover(node, context, request),
        Request::ExportAccount => export(node, context),
        Request::DeleteAccount(list) => {
            let at_ms = node.auth.request_deletion(&call, list)?;
            let device = context.caller()?;
            let event = AuditEvent::DeletionRequested { device, delete_at_ms: at_ms };
            let effects = tell_others(node, context, (NoticeKind::DeletionRequested, event))?;
            Ok(effects.with(&Response::DeleteAt(at_ms)))
        }
        Request::CancelDeletion => {
            let event = AuditEvent::DeletionCancelled { device: context.caller()? };
            let effects = match node.auth.cancel_deletion(&call)? {
                true => tell_others(node, context, (NoticeKind::DeletionCancelled, event))?,
                false => Effects::default(),
            };
            Ok(effects.with(&Response::Done))
        }
        _ => Err(Refusal::internal("routed to the wrong service")),
    }
}

/// A new list of the caller's account, with a notice for each device that it brings or takes.
fn publish(
    node: &Node,
    context: &Context<'_>,
    (published, kind): (&Published, NoticeKind),
) -> Result<Outputs, Refusal> {
    let caller = context.caller()?;
    let mut effects = revoke(node, (context.tx, context.call.now_ms), published)?;
    let (device, revoked) = (caller, published.revoked.iter().map(|gone| gone.device));
    let linked = published.added.iter().copied();
    effects.audit.extend(linked.map(|linked| AuditEvent::DeviceLinked { device, linked }));
    effects.audit.extend(revoked.map(|revoked| AuditEvent::DeviceRevoked { device, revoked }));
    let about = published.added.iter().chain(published.revoked.iter().map(|gone| &gone.device));
    for device in about {
        let notice = Notice { kind, device: *device, at_ms: context.call.now_ms };
        let except = [caller.device, *device];
        effects.wakes.extend(tell(node, context, (&caller.account, &except), &notice)?);
    }
    Ok(effects.with(&Response::Done))
}

fn recover(node: &Node, context: &Context<'_>, request: &Recover) -> Result<Outputs, Refusal> {
    let call = auth_call(context.tx, context.call);
    let (identity, published) = node.auth.recover(&call, request)?;
    let mut effects = Effects::default();
    if let Some(published) = &published {
        effects = revoke(node, (context.tx, context.call.now_ms), published)?;
        let device = DeviceRef { account: identity.account, device: request.device };
        effects.audit.push(AuditEvent::Recovered { device });
        let notice = Notice {
            kind: NoticeKind::Recovered,
            device: request.device,
            at_ms: context.call.now_ms,
        };
        let inboxes = tell(node, context, (&identity.account, &[request.device]), &notice)?;
        effects.wakes.extend(inboxes);
    }
    Ok(effects.with(&Response::Identity(identity)))
}

/// What a device list that was just published means: devices that it took off lose everything, and
/// their channels are shown the list.
fn revoke(
    node: &Node,
    (tx, now_ms): (&Tx<'_>, u64),
    published: &Published,
) -> Result<Effects, Refusal> {
    if published.revoked.is_empty() {
        return Ok(Effects::default());
    }
    let statement = devices_statement(&published.identity);
    let wakes = node.delivery.revoke_devices((tx, now_ms), &published.revoked, &statement)?;
    let ended = published.revoked.iter().map(|gone| (*gone, ErrorCode::DeviceRevoked)).collect();
    Ok(Effects { wakes, ended, audit: Vec::new() })
}

/// Tells the caller's other devices what the caller did.
fn tell_others(
    node: &Node,
    context: &Context<'_>,
    (kind, event): (NoticeKind, AuditEvent),
) -> Result<Effects, Refusal> {
    let caller = context.caller()?;
    let notice = Notice { kind, device: caller.device, at_ms: context.call.now_ms };
    let wakes = tell(node, context, (&caller.account, &[caller.device]), &notice)?;
    Ok(Effects { wakes, ended: Vec::new(), audit: vec![event] })
}

/// Puts a notice into the inboxes of an account's devices, but for some; returns the inboxes.
pub(super) fn tell(
    node: &Node,
    context: &Context<'_>,
    (account, except): (&AccountId, &[DeviceId]),
    notice: &Notice,
) -> Result<Vec<ChannelId>, Refusal> {
    let devices = node.auth.active_devices(context.tx, account)?;
    let to: Vec<DeviceRef> = devices
        .into_iter()
        .filter(|device| !except.contains(device))
        .map(|device| DeviceRef { account: *account, device })
        .collect();
    Ok(node.delivery.post_notice((context.tx, context.call.now_ms), &to, notice)?)
}

/// Everything that the server holds about the caller's account, in one snapshot.
fn export(node: &Node, context: &Context<'_>) -> Result<Outputs, Refusal> {
    let device = context.caller()?;
    let account = device.account;
    let (tx, now_ms) = (context.tx, context.call.now_ms);
    let devices = node.auth.all_devices(tx, &account)?;
    let all = serde_json::json!({
        "exported_at_ms": now_ms,
        "incarnation": node.incarnation().to_string(),
        "authentication": node.auth.export(tx, &account, now_ms)?,
        "delivery": node.delivery.export(tx, &account)?,
        "answers_kept": store::answers_of(tx, &devices)?,
    });
    let json = serde_json::to_vec_pretty(&all).map_err(Refusal::internal)?;
    if json.len() > PAYLOAD_BYTES_MAX {
        let text = "the export does not fit into an answer; ask the operator for it";
        return Err(ErrorBody::new(ErrorCode::FrameTooLarge, text).into());
    }
    let event = AuditEvent::Exported { device };
    let effects = tell_others(node, context, (NoticeKind::Exported, event))?;
    Ok(effects.with(&Response::Exported(Bytes::from(json))))
}

/// Carries deletions on whose grace has ended, one account at a time; whether there may be more to
/// do. Each call leaves a state that the next one goes on from.
pub(crate) fn sweep_deletions(
    node: &Node,
    (tx, now_ms): (&Tx<'_>, u64),
    room: &mut Room,
) -> Result<(Effects, bool), Refusal> {
    if let Some(published) = node.auth.next_deletion(tx, now_ms)? {
        let mut effects = revoke(node, (tx, now_ms), &published)?;
        effects.audit.push(AuditEvent::AccountDeleted { account: published.identity.account });
        return Ok((effects, true));
    }
    let Some(account) = node.auth.next_erasure(tx)? else {
        return Ok((Effects::default(), false));
    };
    let mut effects = Effects::default();
    if !node.delivery.erase_devices(tx, &account, room)? {
        store::erase_answers(tx, &node.auth.all_devices(tx, &account)?)?;
        node.auth.erase(tx, &account)?;
        if node.auth.next_erasure(tx)? != Some(account) {
            effects.audit.push(AuditEvent::AccountErased { account });
        }
    }
    Ok((effects, true))
}
