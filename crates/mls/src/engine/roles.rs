//! Who may do what in a Commit, by group state and the entry's bytes alone: every member of the
//! epoch comes to the same answer. Never asks which device list is the newest anywhere.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use qpc_credential::{Certificate, Posted, PublicIdentity, StatementBody};
use qpc_proto::message::DeviceRef;
use qpc_proto::roster::Role;
use qpc_proto::{AccountId, ChannelId};

use super::MemberLeaf;
use super::judge::Stop;
use crate::context::ChannelContext;
use crate::verdict::VoidReason;

/// The devices that a Commit's proposals add and remove, with the certificates of their leaves.
#[derive(Default)]
pub(super) struct Proposed {
    pub(super) adds: BTreeMap<DeviceRef, Certificate>,
    pub(super) removes: BTreeMap<DeviceRef, Certificate>,
    /// By which KeyPackages they are added, where the Commit carries statements.
    pub(super) packages: BTreeMap<DeviceRef, Vec<u8>>,
}

/// Context and roles change by an admin. A device comes by an admin or a sibling, and goes by an
/// admin, a sibling, or anyone whose Commit carries its account's leave (signed by a device that is
/// in) or a device list that revokes it. Who so revokes a leaf may add what that list holds. A
/// device whose rejoin the Commit carries goes and comes by anyone, by the KeyPackage in it. No
/// device comes that a list which the Commit carries doesn't hold.
pub(super) fn check_roles(
    before: &ChannelContext,
    (committer, context_changes): (&Certificate, bool),
    (proposed, statements): (&Proposed, &[Bytes]),
    members: &[MemberLeaf],
) -> Result<(), Stop> {
    let own = committer.device().account;
    if before.role(&own) == Role::Admin {
        return Ok(());
    }
    let carried = Carried::read(&before.channel, statements, members)?;
    let mut accounts = BTreeSet::new();
    for leaf in proposed.removes.values() {
        let account = leaf.device().account;
        if carried.takes_back(&leaf.device(), proposed) {
            continue;
        }
        if carried.revokes(leaf) {
            accounts.insert(account);
        } else if account != own && !carried.leavers.contains(&account) {
            return Err(VoidReason::Role.into());
        }
    }
    let may_come = |leaf: &Certificate| {
        let account = leaf.device().account;
        // First, whoever comes: a list that is carried counts for those who want back, too.
        let list = carried.lists.get(&account);
        if list.is_some_and(|known| !is_of(known, leaf) || !known.list.holds(leaf)) {
            return false;
        }
        account == own
            || carried.takes_back(&leaf.device(), proposed)
            || (list.is_some() && accounts.contains(&account))
    };
    if proposed.adds.values().all(may_come) && !context_changes {
        Ok(())
    } else {
        Err(VoidReason::Role.into())
    }
}

/// What the statements of a Commit say.
#[derive(Default)]
struct Carried {
    leavers: BTreeSet<AccountId>,
    /// The newest list of each account; of two with equal numbers the first.
    lists: BTreeMap<AccountId, PublicIdentity>,
    /// Devices that lost their place, with the KeyPackages by which they come back.
    rejoins: BTreeMap<DeviceRef, Bytes>,
}

impl Carried {
    fn read(
        channel: &ChannelId,
        statements: &[Bytes],
        members: &[MemberLeaf],
    ) -> Result<Self, Stop> {
        let mut carried = Self::default();
        for bytes in statements {
            match Posted::verify_signed(bytes).map_err(|_| VoidReason::Signature)? {
                Posted::Said(said) => match said.body {
                    StatementBody::Leave
                        if said.channel == *channel
                            && members.iter().any(|leaf| leaf.is_of(&said.certificate)) =>
                    {
                        carried.leavers.insert(said.certificate.device().account);
                    }
                    StatementBody::Rejoin(rejoin)
                        if said.channel == *channel
                            && members.iter().any(|leaf| is_account(leaf, &said.certificate)) =>
                    {
                        carried.rejoins.insert(said.certificate.device(), rejoin.key_package);
                    }
                    StatementBody::Leave
                    | StatementBody::Rejoin(_)
                    | StatementBody::Verdict(_)
                    | StatementBody::Reset(_) => return Err(VoidReason::Role.into()),
                },
                Posted::Devices(identity) => {
                    let account = identity.account();
                    let known = carried.lists.get(&account);
                    if known.is_none_or(|older| identity.list.is_newer_than(&older.list)) {
                        carried.lists.insert(account, identity);
                    }
                }
            }
        }
        Ok(carried)
    }

    /// Whether a device comes in by exactly the KeyPackage of its carried rejoin.
    fn takes_back(&self, device: &DeviceRef, proposed: &Proposed) -> bool {
        let added = proposed.packages.get(device);
        self.rejoins
            .get(device)
            .is_some_and(|wanted| added.is_some_and(|added| **wanted == **added))
    }

    fn revokes(&self, leaf: &Certificate) -> bool {
        let identity = self.lists.get(&leaf.device().account);
        identity.is_some_and(|identity| is_of(identity, leaf) && identity.list.revokes(leaf))
    }
}

/// Whether a leaf is of the account that a certificate names, by its root.
fn is_account(leaf: &MemberLeaf, certificate: &Certificate) -> bool {
    leaf.certificate.device().account == certificate.device().account
        && leaf.certificate.account_key.root == certificate.account_key.root
}

/// An id only names an account: the root is what it is.
fn is_of(identity: &PublicIdentity, leaf: &Certificate) -> bool {
    identity.account_key.root == leaf.account_key.root
}
