//! Answers an operator's questions: reads beside the writer, changes in a group commit.
//!
//! Every change is an event of the audit log. Never shows a secret, but for the invite that was
//! asked for.

use std::sync::Arc;

use qpc_auth::{AccountSummary, SessionSummary, Standing};
use qpc_proto::frame::Frame;
use qpc_proto::message::DeviceRef;
use qpc_proto::{ErrorBody, ErrorCode};
use qpc_storage::Tx;
use qpc_transport::ServerUrl;
use rand_core::{CryptoRng, OsRng, RngCore};

use super::{
    ACCOUNTS_MAX, AccountRow, Answer, InviteRow, InviteUrl, LimitRow, Question, SessionRow,
};
use crate::audit::{AdminAction, AuditEvent};
use crate::limits::Limiter;
use crate::node::{Node, Outputs, Refused, Task, Work};
use crate::refusal::Refusal;
use crate::server::{Limits, Server};

/// A question and who asks it.
pub(crate) struct Asked {
    pub(crate) question: Question,
    /// The operator's user id on this machine.
    pub(crate) uid: Option<u32>,
    /// Stands in invites.
    pub(crate) url: ServerUrl,
}

/// What a change leaves behind.
pub(super) struct Change {
    pub(super) answer: Answer,
    /// Devices to be cut off, and the code that they hear.
    pub(super) ended: Vec<(DeviceRef, ErrorCode)>,
    /// None where nothing was changed.
    pub(super) event: Option<AuditEvent>,
}

impl Server {
    /// Answers an operator.
    pub(crate) async fn administer(&self, asked: Asked) -> Answer {
        let answered = match &asked.question {
            Question::Metrics => Ok(Answer::Metrics(self.metrics())),
            Question::Limits => Ok(Answer::Limits(limits(&self.shared.limits))),
            Question::AuditHead => {
                let head = self.shared.audit.head();
                Ok(Answer::AuditHead(head.map(|head| (head.seq, head.hash.to_string()))))
            }
            Question::Invites | Question::Accounts { .. } | Question::Sessions { .. } => {
                self.look(asked).await
            }
            Question::Invite
            | Question::RevokeInvite { .. }
            | Question::Suspend { .. }
            | Question::Resume { .. }
            | Question::EndSessions { .. } => self.change(asked).await,
        };
        answered.unwrap_or_else(|refusal| refused(refusal.into_body(&mut OsRng)))
    }

    async fn look(&self, asked: Asked) -> Result<Answer, Refusal> {
        let node = Arc::clone(&self.shared.node);
        let now_ms = self.shared.now_ms();
        let read = move |tx: &Tx<'_>| read(&node, tx, now_ms, &asked.question);
        let answered = self.shared.readers.run(read).await;
        answered.unwrap_or_else(|error| Err(Refusal::internal(error)))
    }

    async fn change(&self, asked: Asked) -> Result<Answer, Refusal> {
        let node = Arc::clone(&self.shared.node);
        let now_ms = self.shared.now_ms();
        let task: Task = Box::new(move |tx, mut rng| {
            let changed = change(&node, (tx, now_ms), &asked, &mut rng);
            let changed = changed.and_then(|change| {
                let body = serde_json::to_vec(&change.answer).map_err(Refusal::internal)?;
                Ok(Outputs {
                    ended: change.ended,
                    audit: change.event.into_iter().collect(),
                    ..Outputs::reply(body.into())
                })
            });
            changed.map_err(|refusal| Refused::new(refusal, &mut rng))
        });
        let outputs = self.shared.writer.run(Work::Task(task)).await?;
        // Nobody else waits for the audit log; of what an operator did its line is on disk first.
        let audit = self.shared.audit.clone();
        drop(tokio::task::spawn_blocking(move || audit.flush()).await);
        match outputs.frame {
            Frame::Reply(body) => serde_json::from_slice(&body).map_err(Refusal::internal),
            // Refused and logged already; the body goes on as it is.
            Frame::Error(code, body) => Ok(refused(ErrorBody::decode(code, &body)?)),
            Frame::Request(_) | Frame::Item(_) | Frame::End => {
                Err(Refusal::internal("a task answered with another frame"))
            }
        }
    }
}

fn refused(body: ErrorBody) -> Answer {
    Answer::Error(body.to_string())
}

/// Answers a question that changes nothing and that the database knows the answer to.
pub(super) fn read(
    node: &Node,
    tx: &Tx<'_>,
    now_ms: u64,
    question: &Question,
) -> Result<Answer, Refusal> {
    let auth = &node.auth;
    match question {
        Question::Invites => {
            let invites = auth.list_invites(tx, now_ms)?.into_iter();
            let row = |invite: qpc_auth::InviteSummary| InviteRow {
                id: invite.id,
                expires_at_ms: invite.expires_at_ms,
            };
            Ok(Answer::Invites(invites.map(row).collect()))
        }
        Question::Accounts { after } => {
            let accounts = auth.list_accounts(tx, after.as_deref(), ACCOUNTS_MAX)?;
            let more = accounts.len() >= usize::try_from(ACCOUNTS_MAX).unwrap_or(usize::MAX);
            Ok(Answer::Accounts { accounts: accounts.into_iter().map(account).collect(), more })
        }
        Question::Sessions { name } => {
            let sessions = auth.sessions(tx, name)?;
            Ok(Answer::Sessions(sessions.into_iter().map(session).collect()))
        }
        Question::Invite
        | Question::RevokeInvite { .. }
        | Question::Suspend { .. }
        | Question::Resume { .. }
        | Question::EndSessions { .. }
        | Question::Limits
        | Question::Metrics
        | Question::AuditHead => Err(Refusal::internal("a question at the wrong desk")),
    }
}

/// Makes the change that a question asks for, at a time in Unix milliseconds.
pub(super) fn change<R: RngCore + CryptoRng>(
    node: &Node,
    (tx, now_ms): (&Tx<'_>, u64),
    asked: &Asked,
    rng: &mut R,
) -> Result<Change, Refusal> {
    let auth = &node.auth;
    let done = |action, target: &str, ended: Vec<DeviceRef>, code: ErrorCode| Change {
        answer: Answer::Done { devices: ended.len() },
        ended: ended.into_iter().map(|device| (device, code)).collect(),
        event: Some(admin(action, Some(target), asked.uid)),
    };
    match &asked.question {
        Question::Invite => {
            let code = node.create_invite(tx, now_ms, rng)?;
            let url = ServerUrl { invite: Some(code), ..asked.url.clone() };
            Ok(Change {
                answer: Answer::Invite(InviteUrl(url.to_string())),
                ended: Vec::new(),
                event: Some(admin(AdminAction::Invite, None, asked.uid)),
            })
        }
        Question::RevokeInvite { id } => {
            if !auth.revoke_invite(tx, id)? {
                let text = "no invite has this id; `admin invites` lists them";
                return Err(ErrorBody::new(ErrorCode::InvalidArgument, text).into());
            }
            Ok(done(AdminAction::RevokeInvite, id, Vec::new(), ErrorCode::Unauthenticated))
        }
        Question::Suspend { name } => {
            let devices = auth.set_suspended(tx, name, true)?;
            Ok(done(AdminAction::Suspend, name, devices, ErrorCode::AccountSuspended))
        }
        Question::Resume { name } => {
            let devices = auth.set_suspended(tx, name, false)?;
            Ok(done(AdminAction::Resume, name, devices, ErrorCode::AccountSuspended))
        }
        Question::EndSessions { name } => {
            let devices = auth.end_sessions(tx, name)?;
            Ok(done(AdminAction::EndSessions, name, devices, ErrorCode::Unauthenticated))
        }
        Question::Invites
        | Question::Accounts { .. }
        | Question::Sessions { .. }
        | Question::Limits
        | Question::Metrics
        | Question::AuditHead => Err(Refusal::internal("a question at the wrong desk")),
    }
}

fn admin(action: AdminAction, target: Option<&str>, uid: Option<u32>) -> AuditEvent {
    AuditEvent::Admin { action, target: target.map(str::to_owned), uid }
}

fn account(account: AccountSummary) -> AccountRow {
    let standing = match account.standing {
        Standing::Active => "active",
        Standing::Suspended => "suspended",
        Standing::Ended => "ended",
    };
    AccountRow {
        name: account.name,
        account: account.account.to_string(),
        standing: standing.to_owned(),
        devices: account.devices,
        created_at_ms: account.created_at_ms,
        delete_at_ms: account.delete_at_ms,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map` gives it")]
fn session(session: SessionSummary) -> SessionRow {
    SessionRow {
        device: session.device.to_string(),
        began_at_ms: session.began_at_ms,
        expires_at_ms: session.expires_at_ms,
    }
}

/// The limits on connections and requests.
pub(super) fn limits(limits: &Limits) -> Vec<LimitRow> {
    let row = |name: String, value| LimitRow { name, value };
    let wide = |value| u64::try_from(value).unwrap_or(u64::MAX);
    let mut rows = vec![
        row("connections_max".to_owned(), wide(limits.connections_max)),
        row("connections_per_network_max".to_owned(), wide(limits.connections_per_network_max)),
    ];
    for limiter in Limiter::ALL {
        let rate = limits.rates.get(limiter);
        let name = limiter.as_str();
        rows.push(row(format!("{name}_per_{}", rate.per.as_str()), rate.count.get().into()));
        rows.push(row(format!("{name}_burst"), rate.burst.get().into()));
    }
    rows
}
