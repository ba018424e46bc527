//! Commits: a compare-and-swap on the last one, and everything that wins or loses with it.
//!
//! One transaction holds the entry, the declared roster, the Welcome and its pointers. A Commit
//! that loses leaves nothing, its Welcome least of all (RFC 9750 section 5.2.3).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use qpc_credential::{
    DeviceList, MlsHeader, Posted, StatementBody, key_package_ref, welcome_references,
};
use qpc_proto::chain::{sha256, statements_digest};
use qpc_proto::limits::{PAYLOAD_BYTES_MAX, STATEMENT_BYTES_MAX};
use qpc_proto::message::{
    Accepted, ChannelKind, CommitBundle, CommitRequest, CreateChannel, DeviceRef, inbox_channel,
};
use qpc_proto::roster::RosterChange;
use qpc_proto::{AccountId, ChannelId, DeviceId, Digest, Malformed};

use super::pacing::Turn;
use super::reset::Ending;
use super::writing::{Draft, Writing, mismatch};
use super::{Call, Delivery, Written, inbox, removal};
use crate::DeliveryError;
use crate::roster::{Right, Roster, refused};
use crate::store::channels::{self, NewChannel};
use crate::store::commits::{self, NewCommit};
use crate::store::members::{self, Member, Removal};
use crate::store::{key_packages, revoked};

/// Room that a Commit's declared change and statements have beside a payload of any size, so that
/// the entry always fits into one frame on its way out.
const BUNDLE_BYTES_MAX: usize = 60 * 1024;

/// A Commit with what was found out about it before it was judged.
struct Proposed<'a> {
    bundle: &'a CommitBundle,
    header: MlsHeader,
    turn: Turn,
    welcome_hash: Digest,
    change: RosterChange,
    /// The roster at its base.
    before: Roster,
    /// The roster after it.
    after: Roster,
}

impl Delivery {
    /// Creates a channel with its first Commit, all or nothing, and ends the one that it takes the
    /// place of, if it brings a reset. The caller founds it, as an admin; in a direct channel both
    /// accounts are admins. The same bundle again gets the first answer, in the same life of the
    /// server.
    ///
    /// # Errors
    /// `CHANNEL_CLOSED` for one that the caller made in an earlier life; `INVALID_ARGUMENT` for
    /// another channel id in use, or another kind than that of the channel that
    /// ends; [`DeliveryError::ChannelExists`] for a pair that has a direct channel; of the channel
    /// that ends: [`DeliveryError::ChannelNotFound`], [`DeliveryError::NotMember`],
    /// [`DeliveryError::ChannelClosed`], `STATEMENT_INVALID`, `ROSTER_REFUSED`; else as
    /// [`Self::commit`].
    pub fn create_channel(
        &self,
        call: &Call<'_>,
        create: &CreateChannel,
    ) -> Result<Written<Accepted>, DeliveryError> {
        if create.kind == ChannelKind::Inbox {
            return Err(Malformed("inboxes are made by the server").into());
        }
        let welcome_hash = welcome_hash(&create.bundle);
        let draft = Draft::commit(&create.bundle, &welcome_hash);
        if call.means_its_inbox(&create.channel) {
            return Err(named_like_an_inbox());
        }
        if channels::find(call.tx, &create.channel, false)?.is_some() {
            let taken = || Malformed("the channel id is in use; choose another").into();
            return match Writing::open(self, call, &create.channel) {
                Ok(writing) => {
                    // Of an earlier life the first answer is of no use: that log has ended.
                    if writing.channel.lived_in.is_some() {
                        writing.check_rights()?;
                    }
                    writing.replay(&draft)?.map(Written::silent).ok_or_else(taken)
                }
                Err(DeliveryError::ChannelNotFound) => Err(taken()),
                Err(other) => Err(other),
            };
        }
        let ending = Ending::of(self, call, create)?;
        let new = NewChannel {
            id: create.channel,
            kind: create.kind,
            retention_ms: self.own_retention(create.retention_ms)?,
            due_under_ms: self.config.retention_ms,
        };
        let channel = channels::insert(call.tx, &new)?;
        let mut writing = Writing::new(self, call, channel, Member::founding(call.caller));
        writing.check_current(create.bundle.after_commit)?;
        let header = writing.check_header(&draft)?;
        writing.note_base(header.aad.base_commit, 0);
        let before = Roster::founding(call.caller);
        let turn = Turn::default();
        let proposed = writing.propose(&create.bundle, (header, turn), before)?;
        let ended = ending.map(|ending| ending.close(&proposed.after)).transpose()?;
        if create.kind == ChannelKind::Direct {
            writing.take_pair(&proposed.after)?;
        }
        let mut written = writing.put_commit(&draft, &proposed, &Roster::default())?;
        written.wakes.extend(ended);
        Ok(written)
    }

    /// Appends a Commit with its Welcome and its declared change of the roster.
    ///
    /// # Errors
    /// In order: [`DeliveryError::ChannelNotFound`], `MESSAGE_ID_CONFLICT`,
    /// [`DeliveryError::NotMember`], [`DeliveryError::StaleCommit`] (then the caller may have
    /// [`Self::reserve_turn`]), `QUOTA`, `INVALID_MLS_TYPE`, `AAD_MISMATCH`,
    /// [`DeliveryError::Paced`], `STATEMENT_INVALID`, `ROSTER_REFUSED`, `GROUP_TOO_LARGE`; and
    /// [`DeliveryError::Malformed`], [`DeliveryError::Store`].
    pub fn commit(
        &self,
        call: &Call<'_>,
        commit: &CommitRequest,
    ) -> Result<Written<Accepted>, DeliveryError> {
        let welcome_hash = welcome_hash(&commit.bundle);
        let draft = Draft::commit(&commit.bundle, &welcome_hash);
        let mut writing = Writing::open(self, call, &commit.channel)?;
        if let Some(first) = writing.replay(&draft)? {
            return Ok(Written::silent(first));
        }
        writing.check_rights()?;
        writing.check_current(draft.after_commit)?;
        writing.check_room(&draft)?;
        let header = writing.check_header(&draft)?;
        writing.note_base(header.aad.base_commit, 0);
        let (tx, no) = (call.tx, writing.channel.no);
        let before = commits::roster(tx, no, header.aad.base_commit)?;
        let current = commits::roster(tx, no, writing.channel.last_commit)?;
        let turn = writing.check_turn(&before, &current)?;
        let proposed = writing.propose(&commit.bundle, (header, turn), before)?;
        writing.confirm_removals()?;
        writing.put_commit(&draft, &proposed, &current)
    }
}

impl<'a> Writing<'a> {
    /// Judges a Commit by what it declares.
    fn propose(
        &self,
        bundle: &'a CommitBundle,
        (header, turn): (MlsHeader, Turn),
        before: Roster,
    ) -> Result<Proposed<'a>, DeliveryError> {
        check_size(bundle)?;
        let change = RosterChange::decode(&bundle.roster_change)?;
        check_binding(bundle, &header)?;
        if change.adds.iter().any(|added| inbox_channel(&added.device) == self.channel.id) {
            return Err(named_like_an_inbox());
        }
        let carried = Carried::verify(&self.channel.id, &bundle.statements)?;
        // Members judge by what the Commit carries, so that a leave that only the log holds is not
        // enough; and one that the log does not hold any more is an old one.
        let leavers = match change.removes.is_empty() {
            true => BTreeSet::new(),
            false => &self.leavers(&before)? & &carried.leavers,
        };
        let references = references(bundle)?;
        let right = Right {
            committer: self.call.caller,
            before: &before,
            leavers: &leavers,
            rejoiners: &self.rejoiners((&carried, &references), &before)?,
            lists: &carried.lists,
            revoked: &self.revoked(&change)?,
        };
        right.check(&change)?;
        let after = before.apply(&change, self.channel.kind, self.next_seq()?)?;
        self.check_welcome(&references, &change)?;
        let welcome_hash = welcome_hash(bundle);
        Ok(Proposed { bundle, header, turn, welcome_hash, change, before, after })
    }

    /// Devices whose rejoin stands, is carried, and has the KeyPackage that the Welcome is for.
    fn rejoiners(
        &self,
        (carried, references): (&Carried, &Option<Vec<Digest>>),
        before: &Roster,
    ) -> Result<BTreeSet<DeviceRef>, DeliveryError> {
        let mut rejoiners = BTreeSet::new();
        for asked in &carried.rejoins {
            let is_welcome = references.as_ref().is_some_and(|all| all.contains(&asked.2));
            if is_welcome && self.may_come_back(asked, before)? {
                rejoiners.insert(asked.0);
            }
        }
        Ok(rejoiners)
    }

    /// Which of the devices that come or go are known to be revoked.
    fn revoked(&self, change: &RosterChange) -> Result<BTreeSet<DeviceId>, DeliveryError> {
        let mut revoked = BTreeSet::new();
        for device in change.adds.iter().chain(&change.removes) {
            if revoked::contains(self.call.tx, &device.device)? {
                revoked.insert(device.device);
            }
        }
        Ok(revoked)
    }

    /// The Welcome is for exactly the added devices, each by a KeyPackage of its own.
    fn check_welcome(
        &self,
        references: &Option<Vec<Digest>>,
        change: &RosterChange,
    ) -> Result<(), DeliveryError> {
        let Some(references) = references else {
            return match change.adds.is_empty() {
                true => Ok(()),
                false => Err(refused("devices are added without a Welcome")),
            };
        };
        if change.adds.is_empty() || references.len() != change.adds.len() {
            return Err(refused("the Welcome is not for the added devices alone"));
        }
        let mut welcomed = BTreeSet::new();
        for reference in references {
            let owner = key_packages::owner(self.call.tx, reference, self.channel.no)?;
            welcomed.insert(owner.ok_or(refused("the Welcome uses an unknown KeyPackage"))?);
        }
        (welcomed == change.adds)
            .then_some(())
            .ok_or(refused("an added device is not in the Welcome"))
    }

    /// Notes the pair of a new direct channel.
    fn take_pair(&self, roster: &Roster) -> Result<(), DeliveryError> {
        let accounts: Vec<&AccountId> = roster.accounts().collect();
        let &[lo, hi] = accounts.as_slice() else {
            return Err(refused("a direct channel has two accounts"));
        };
        match channels::of_pair(self.call.tx, (lo, hi))? {
            Some(live) => Err(DeliveryError::ChannelExists(live)),
            None => Ok(channels::insert_pair(self.call.tx, (lo, hi), self.channel.no)?),
        }
    }

    /// Stores a Commit that was judged, with all its consequences. `current` is the roster that the
    /// members' rows hold now.
    fn put_commit(
        mut self,
        draft: &Draft<'_>,
        proposed: &Proposed<'_>,
        current: &Roster,
    ) -> Result<Written<Accepted>, DeliveryError> {
        let (tx, no) = (self.call.tx, self.channel.no);
        let accepted = self.append_new(draft)?;
        let seq = accepted.seq;
        // The roster of the base is stored already, unless there is no base.
        let unchanged = proposed.change.is_empty() && proposed.header.aad.base_commit != 0;
        let row = NewCommit {
            seq,
            committer: self.call.caller.account,
            base_commit: proposed.header.aad.base_commit,
            roster: (!unchanged).then_some(&proposed.after),
            roster_change: &proposed.bundle.roster_change,
            statements: &proposed.bundle.statements,
            welcome_hash: proposed.welcome_hash,
        };
        commits::insert(tx, no, &row)?;
        self.channel.devices = u64::try_from(proposed.after.devices().count()).unwrap_or(u64::MAX);
        self.take_turn(proposed.turn, seq);
        self.put_members(proposed, current, &accepted)?;
        self.save_turns()?;
        self.show_standing(&proposed.after, seq)?;
        let mut wakes = match &proposed.bundle.welcome {
            Some(welcome) => {
                let row = commits::insert_welcome(tx, welcome)?;
                let adds = (&proposed.change.adds, proposed.welcome_hash);
                inbox::post_welcome(&self, &accepted, adds, (row, draft.message_id))?
            }
            None => Vec::new(),
        };
        wakes.push(self.finish()?);
        Ok(Written::waking(accepted, wakes))
    }

    /// Moves the members' rows from the roster of the last Commit to that of this one. Its base may
    /// be older, so that devices come back or go which it does not name.
    fn put_members(
        &self,
        proposed: &Proposed<'_>,
        current: &Roster,
        accepted: &Accepted,
    ) -> Result<(), DeliveryError> {
        let (tx, no, after) = (self.call.tx, self.channel.no, &proposed.after);
        for (device, join_seq) in after.devices() {
            if current.join_seq(device) != Some(join_seq) {
                members::put(tx, no, device, join_seq)?;
            }
        }
        let removal = Removal {
            seq: accepted.seq,
            at_ms: accepted.accepted_at_ms,
            confirmed: removal::is_lone(&self.call.caller, &proposed.before, after),
        };
        let listed = current.devices().chain(proposed.before.devices());
        let gone: BTreeSet<_> = listed.map(|(d, _)| d).filter(|d| !after.has(d)).collect();
        for device in gone {
            members::remove(tx, no, device, &removal)?;
        }
        Ok(())
    }
}

/// What the statements of a Commit say.
#[derive(Default)]
struct Carried {
    /// Accounts of which a device says that it leaves.
    leavers: BTreeSet<AccountId>,
    /// Devices that want to come back, each with the join that it names and its KeyPackage's
    /// reference.
    rejoins: BTreeSet<(DeviceRef, u64, Digest)>,
    /// The newest list of each account.
    lists: BTreeMap<AccountId, DeviceList>,
}

impl Carried {
    fn verify(channel: &ChannelId, statements: &[Bytes]) -> Result<Self, DeliveryError> {
        let mut carried = Self::default();
        for statement in statements {
            match Posted::verify(statement, channel)? {
                Posted::Said(said) => match said.body {
                    StatementBody::Leave => {
                        carried.leavers.insert(said.certificate.device().account);
                    }
                    StatementBody::Rejoin(rejoin) => {
                        let reference = key_package_ref(&rejoin.key_package)?;
                        let device = said.certificate.device();
                        carried.rejoins.insert((device, rejoin.join_seq, reference));
                    }
                    StatementBody::Verdict(_) | StatementBody::Reset(_) => {}
                },
                Posted::Devices(identity) => {
                    let account = identity.account();
                    let known = carried.lists.get(&account);
                    if known.is_none_or(|older| identity.list.is_newer_than(older)) {
                        carried.lists.insert(account, identity.list);
                    }
                }
            }
        }
        Ok(carried)
    }
}

/// Whom a bundle's Welcome is for; none without one.
fn references(bundle: &CommitBundle) -> Result<Option<Vec<Digest>>, DeliveryError> {
    Ok(bundle.welcome.as_ref().map(|welcome| welcome_references(welcome)).transpose()?)
}

/// A device that followed its inbox would else hear the group.
fn named_like_an_inbox() -> DeliveryError {
    Malformed("the channel id is that of a member's inbox; choose another").into()
}

/// SHA-256 of a bundle's Welcome; zeros without one.
fn welcome_hash(bundle: &CommitBundle) -> Digest {
    bundle.welcome.as_ref().map_or(Digest::ZERO, |w| sha256(w))
}

fn check_size(bundle: &CommitBundle) -> Result<(), DeliveryError> {
    if bundle.statements.iter().any(|s| s.len() > STATEMENT_BYTES_MAX) {
        return Err(Malformed("a statement is too long").into());
    }
    let statements: usize = bundle.statements.iter().map(|s| s.len()).sum();
    if bundle.roster_change.len().saturating_add(statements) > BUNDLE_BYTES_MAX {
        return Err(Malformed("the roster change and statements are too long").into());
    }
    if bundle.welcome.as_ref().is_some_and(|w| w.len() > PAYLOAD_BYTES_MAX) {
        return Err(Malformed("the Welcome is too long").into());
    }
    Ok(())
}

/// The authenticated data binds what the bundle declares. The encoding is canonical, so that the
/// bytes have the digest of what they say.
fn check_binding(bundle: &CommitBundle, header: &MlsHeader) -> Result<(), DeliveryError> {
    let Some(binding) = header.aad.commit else {
        return Err(mismatch("a Commit binds its roster change"));
    };
    if binding.roster_change != sha256(&bundle.roster_change) {
        return Err(mismatch("another roster change is bound"));
    }
    if binding.statements != statements_digest(&bundle.statements) {
        return Err(mismatch("other statements are bound"));
    }
    Ok(())
}
