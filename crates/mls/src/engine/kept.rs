//! Groups kept in memory between calls, so that a message does not cost the reading of its group.
//! A kept group counts only while the database holds the stamp that it was kept under. Every write
//! gives it a new one, so a rollback, a second engine or a write past this engine can never be met
//! with a state that is not the database's.
//!
//! Never writes: what is kept may be lost at any time.

use std::sync::{Arc, Mutex, PoisonError};

use openmls::prelude::MlsGroup;
use qpc_credential::Certificate;

use super::{GroupView, MemberLeaf, MlsGroupId, members};
use crate::context::ChannelContext;
use crate::error::MlsError;
use crate::provider::Stamp;

/// Groups kept; of more, the one that was used longest ago is let go.
pub(super) const GROUPS_MAX: usize = 16;

/// The members of a group; cheap to copy.
#[derive(Debug, Clone)]
pub struct Members(Arc<[MemberLeaf]>);

impl FromIterator<MemberLeaf> for Members {
    fn from_iter<I: IntoIterator<Item = MemberLeaf>>(leaves: I) -> Self {
        Self(leaves.into_iter().collect())
    }
}

impl std::ops::Deref for Members {
    type Target = [MemberLeaf];

    fn deref(&self) -> &[MemberLeaf] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = &'a MemberLeaf;
    type IntoIter = std::slice::Iter<'a, MemberLeaf>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A group in memory, as the database has it.
pub(super) struct Kept {
    pub(super) group: MlsGroup,
    /// The members of an epoch, once somebody asked.
    members: Option<(u64, Members)>,
}

impl Kept {
    pub(super) fn new(group: MlsGroup) -> Self {
        Self { group, members: None }
    }

    /// A group whose members are known.
    pub(super) fn of(group: MlsGroup, members: Members) -> Self {
        let epoch = group.epoch().as_u64();
        Self { group, members: Some((epoch, members)) }
    }

    /// The members; only a new epoch changes them.
    pub(super) fn members(&mut self) -> Result<Members, MlsError> {
        let epoch = self.group.epoch().as_u64();
        match &self.members {
            Some((of, members)) if *of == epoch => Ok(members.clone()),
            Some(_) | None => {
                let members = members(&self.group)?;
                self.members = Some((epoch, members.clone()));
                Ok(members)
            }
        }
    }

    /// The certificate of a leaf.
    pub(super) fn certificate(&mut self, leaf: u32) -> Result<Certificate, MlsError> {
        let members = self.members()?;
        let member = members.iter().find(|member| member.index == leaf);
        let member = member.ok_or(MlsError::Refused("its sender is no member"))?;
        Ok(member.certificate.clone())
    }

    /// How the group stands.
    pub(super) fn view(&mut self) -> Result<GroupView, MlsError> {
        Ok(GroupView {
            epoch: self.group.epoch().as_u64(),
            context: ChannelContext::from_extensions(self.group.extensions())?,
            members: self.members()?,
            epoch_authenticator: self.group.epoch_authenticator().as_slice().to_vec(),
        })
    }
}

/// The kept groups, the one used last at the end.
#[derive(Default)]
pub(super) struct Groups(Mutex<Vec<(MlsGroupId, Stamp, Kept)>>);

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Groups(redacted)")
    }
}

impl Groups {
    /// Takes a group out, if what is kept is what the database holds. Whoever fails with it in hand
    /// leaves nothing behind.
    pub(super) fn take(&self, id: &MlsGroupId, stamp: Option<&Stamp>) -> Option<Kept> {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = groups.iter().position(|(kept, _, _)| kept == id)?;
        let (_, kept, group) = groups.remove(at);
        (Some(&kept) == stamp).then_some(group)
    }

    pub(super) fn keep(&self, id: &MlsGroupId, stamp: Stamp, group: Kept) {
        let mut groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|(kept, _, _)| kept != id);
        if groups.len() >= GROUPS_MAX {
            groups.remove(0);
        }
        groups.push((*id, stamp, group));
    }
}
