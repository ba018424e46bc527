//! What a group is called, what it is about, who its admins are: changes of the GroupContext
//! (RFC 9420 section 12.1.7), by admins alone. Also what of it is shown.

use std::collections::BTreeSet;

use qpc_mls::Applied;
use qpc_mls::context::{ChannelContext, DESCRIPTION_BYTES_MAX, TITLE_BYTES_MAX};
use qpc_mls::engine::{CommitPlan, GroupView};
use qpc_proto::message::{ChannelKind, Entry};
use qpc_proto::roster::Role;
use qpc_proto::{AccountId, ChannelId};

use super::commands::Started;
use super::store::{ChannelRow, ContextChange, IntentKind, IntentRow};
use super::{Machine, Step};
use crate::error::ClientError;

const LAST_ADMIN: &str = "you are the only admin: make somebody else one first \
                          (`qpc group promote`)";

impl Machine {
    /// Changes a group's title.
    ///
    /// # Errors
    /// [`ClientError::Usage`] for a title that is empty or too long, a channel that is no group
    /// this device is in, or an account that is no admin of it.
    pub fn set_title(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        title: &str,
    ) -> Result<Started, ClientError> {
        let title = checked_title(title)?;
        let change = ContextChange { title: Some(title), ..ContextChange::default() };
        self.change_context(step, channel, &change)
    }

    /// Changes what a group is said to be about; an empty text takes it away.
    ///
    /// # Errors
    /// As [`Self::set_title`].
    pub fn set_description(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        description: &str,
    ) -> Result<Started, ClientError> {
        let description = description.trim();
        if description.len() > DESCRIPTION_BYTES_MAX {
            let text = format!("a description has at most {DESCRIPTION_BYTES_MAX} bytes");
            return Err(ClientError::Usage(text));
        }
        let description = Some(description.to_owned());
        let change = ContextChange { description, ..ContextChange::default() };
        self.change_context(step, channel, &change)
    }

    /// Makes a member an admin, or an admin a member.
    ///
    /// # Errors
    /// As [`Self::set_title`]; also for an account that is not in the group, and for the last
    /// admin.
    pub fn set_admin(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        (account, admin): (&AccountId, bool),
    ) -> Result<Started, ClientError> {
        let change = ContextChange { role: Some((*account, admin)), ..ContextChange::default() };
        self.change_context(step, channel, &change)
    }

    fn change_context(
        &mut self,
        step: &mut Step<'_>,
        channel: &ChannelId,
        change: &ContextChange,
    ) -> Result<Started, ClientError> {
        let row = self.known_group(step, channel)?;
        let view = self.engine.view(step.db.0, &row.group)?;
        self.changed(&view, change).map_err(|reason| ClientError::Usage(reason.to_owned()))?;
        let intent = self.intend(step, channel, (IntentKind::Context, &[], 0))?;
        step.db.put_context_change(intent, change)?;
        Ok(Started { intent: Some(intent), channel: *channel })
    }

    /// The context after a change, or why there can't be one.
    fn changed(
        &self,
        view: &GroupView,
        change: &ContextChange,
    ) -> Result<ChannelContext, &'static str> {
        let own = self.profile.identity.device.account;
        if view.context.role(&own) != Role::Admin {
            return Err("only an admin of the group may change it: ask one");
        }
        let mut context = view.context.clone();
        if let Some(title) = &change.title {
            context.title.clone_from(title);
        }
        if let Some(description) = &change.description {
            context.description.clone_from(description);
        }
        if let Some((account, admin)) = change.role {
            if !accounts(view).contains(&account) {
                return Err("only who is in the group has a role there");
            }
            match admin {
                true => context.admins.insert(account),
                false => context.admins.remove(&account),
            };
            if !accounts(view).iter().any(|account| context.admins.contains(account)) {
                return Err(LAST_ADMIN);
            }
        }
        Ok(context)
    }

    /// The Commit of a change; `None` when there is nothing to change any more.
    pub(super) fn plan_context(
        &self,
        step: &mut Step<'_>,
        intent: &IntentRow,
        row: &ChannelRow,
    ) -> Result<Option<CommitPlan>, ClientError> {
        let view = self.engine.view(step.db.0, &row.group)?;
        match self.changed(&view, &step.db.context_change(intent.id)?) {
            Ok(context) if context == view.context => Ok(None),
            Ok(context) => Ok(Some(CommitPlan { context: Some(context), ..CommitPlan::default() })),
            Err(reason) => {
                self.fail_intent(step, (intent.id, reason))?;
                Ok(None)
            }
        }
    }

    /// Who comes again comes as a member, whatever it was before: the server has it so, too.
    pub(super) fn without_former_admins(
        &self,
        view: &GroupView,
        added: &BTreeSet<AccountId>,
    ) -> Option<ChannelContext> {
        let own = self.profile.identity.device.account;
        let present = accounts(view);
        let mut context = view.context.clone();
        context.admins.retain(|account| present.contains(account) || !added.contains(account));
        let changes = context != view.context && view.context.role(&own) == Role::Admin;
        changes.then_some(context)
    }

    /// A group whose only admin leaves has nobody to add, to remove or to rename.
    pub(super) fn refuse_last_admin(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
    ) -> Result<(), ClientError> {
        let own = self.profile.identity.device.account;
        let view = self.engine.view(step.db.0, &row.group)?;
        let others: BTreeSet<_> =
            accounts(&view).into_iter().filter(|account| *account != own).collect();
        let another = others.iter().any(|account| view.context.admins.contains(account));
        let last = view.context.role(&own) == Role::Admin && !another && !others.is_empty();
        if last { Err(ClientError::Usage(LAST_ADMIN.to_owned())) } else { Ok(()) }
    }

    /// Tells what a Commit in force changed in the context.
    pub(super) fn tell_context(
        &self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (entry, applied): (&Entry, &Applied),
    ) -> Result<(), ClientError> {
        if row.kind != ChannelKind::Group {
            return Ok(());
        }
        let (before, context) = (&applied.context_before, &applied.context);
        row.title.clone_from(&context.title);
        let by = applied.committer;
        let name = self.name_of(step, &by.account)?;
        if before.title != context.title {
            let text = format!("{name} renamed the group to {}", context.title);
            self.notice(step, row, (by, entry.seq, text))?;
        }
        if before.description != context.description {
            let text = match context.description.is_empty() {
                true => format!("{name} took the description away"),
                false => format!("{name} describes the group: {}", context.description),
            };
            self.notice(step, row, (by, entry.seq, text))?;
        }
        for (account, role) in &applied.change.roles {
            let whom = self.name_of(step, account)?;
            let text = match role {
                Role::Admin => format!("{name} made {whom} an admin"),
                Role::Member => format!("{name} made {whom} a member without admin rights"),
            };
            self.notice(step, row, (by, entry.seq, text))?;
        }
        Ok(())
    }
}

/// The accounts with a leaf.
fn accounts(view: &GroupView) -> BTreeSet<AccountId> {
    view.members.iter().map(|leaf| leaf.certificate.device().account).collect()
}

/// What a role is called.
pub(super) fn role(role: Role) -> String {
    match role {
        Role::Admin => "admin",
        Role::Member => "member",
    }
    .to_owned()
}

/// A title of 1 to 256 bytes without space around it.
pub(super) fn checked_title(title: &str) -> Result<String, ClientError> {
    let title = title.trim();
    if title.is_empty() || title.len() > TITLE_BYTES_MAX {
        return Err(ClientError::Usage("a title has 1 to 256 bytes".into()));
    }
    Ok(title.to_owned())
}
