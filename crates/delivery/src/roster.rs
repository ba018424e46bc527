//! Rosters as members declare them, Commit by Commit, and who may change what in them.
//!
//! Pure: knows no storage. Never learns whether a Commit's proposals really do what it declares;
//! the members judge that, and the next valid Commit starts from the base that they applied.

use std::collections::{BTreeMap, BTreeSet};

use qpc_credential::DeviceList;
use qpc_proto::codec::{Reader, Writer};
use qpc_proto::limits::CHANNEL_DEVICES_MAX;
use qpc_proto::message::{ChannelKind, DeviceRef};
use qpc_proto::roster::{Role, RosterChange};
use qpc_proto::{AccountId, DeviceId, ErrorCode, Malformed};

use crate::DeliveryError;

/// The devices of a channel after some Commit, and the roles of their accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Roster {
    /// Each device with the sequence number of the Commit that added it.
    devices: BTreeMap<DeviceRef, u64>,
    /// Of exactly the accounts that have a device.
    roles: BTreeMap<AccountId, Role>,
    /// Since when accounts have had a device here, where all that they have came later.
    since: BTreeMap<AccountId, u64>,
}

impl Roster {
    /// What the first Commit of a channel starts from.
    pub(crate) fn founding(founder: DeviceRef) -> Self {
        Self {
            devices: [(founder, 1)].into(),
            roles: [(founder.account, Role::Admin)].into(),
            since: BTreeMap::new(),
        }
    }

    pub(crate) fn has(&self, device: &DeviceRef) -> bool {
        self.devices.contains_key(device)
    }

    pub(crate) fn has_account(&self, account: &AccountId) -> bool {
        self.roles.contains_key(account)
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = &AccountId> {
        self.roles.keys()
    }

    /// Each device with the Commit that added it.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (&DeviceRef, u64)> {
        self.devices.iter().map(|(device, join)| (device, *join))
    }

    /// The Commit that added a device.
    pub(crate) fn join_seq(&self, device: &DeviceRef) -> Option<u64> {
        self.devices.get(device).copied()
    }

    /// Whether an account's Leave statement at `seq` stands: it came after the account did.
    pub(crate) fn leaves(&self, account: &AccountId, seq: u64) -> bool {
        self.account_since(account).is_some_and(|since| seq > since)
    }

    /// Since when an account has had a device here: one that goes and comes by one Commit counts as
    /// one that stays.
    fn account_since(&self, account: &AccountId) -> Option<u64> {
        let of_account = self.devices().filter(|(d, _)| d.account == *account);
        self.since.get(account).copied().or_else(|| of_account.map(|(_, join)| join).min())
    }

    /// The first join of the devices that each account has here now.
    fn first_joins(&self) -> BTreeMap<AccountId, u64> {
        let mut first = BTreeMap::new();
        for (device, join) in self.devices() {
            let known = first.entry(device.account).or_insert(join);
            *known = join.min(*known);
        }
        first
    }

    /// What [`Self::since`] is after a change, of whose devices each account's first join is known.
    fn since_after(&self, joins: BTreeMap<AccountId, u64>) -> BTreeMap<AccountId, u64> {
        let before = self.first_joins();
        let since = |account| self.since.get(account).or_else(|| before.get(account)).copied();
        let kept = joins.iter().filter_map(|(account, join)| {
            since(account).filter(|since| since < join).map(|since| (*account, since))
        });
        kept.collect()
    }

    pub(crate) fn is_admin(&self, account: &AccountId) -> bool {
        self.roles.get(account) == Some(&Role::Admin)
    }

    /// The roster after a change by the Commit at `seq`. A device that goes and comes joins anew,
    /// and its account keeps its role. In a direct channel both accounts are admins, and stay the
    /// same two for ever.
    ///
    /// # Errors
    /// `ROSTER_REFUSED` for a change that does not fit, `GROUP_TOO_LARGE` above the limit.
    pub(crate) fn apply(
        &self,
        change: &RosterChange,
        kind: ChannelKind,
        seq: u64,
    ) -> Result<Self, DeliveryError> {
        let mut next = self.clone();
        for device in &change.removes {
            if next.devices.remove(device).is_none() {
                return Err(refused("a removed device is not in the roster"));
            }
        }
        for device in &change.adds {
            if next.devices.insert(*device, seq).is_some() {
                return Err(refused("an added device is in the roster"));
            }
        }
        if next.devices.len() > CHANNEL_DEVICES_MAX {
            let why = "the channel would have too many devices";
            return Err(DeliveryError::Refused(ErrorCode::GroupTooLarge, why));
        }
        let accounts: BTreeSet<_> = next.devices.keys().map(|device| device.account).collect();
        if !change.roles.keys().all(|account| accounts.contains(account)) {
            return Err(refused("a role for an account without a device here"));
        }
        next.since = self.since_after(next.first_joins());
        next.roles = accounts
            .into_iter()
            .map(|account| (account, self.role_after(&account, change, kind)))
            .collect();
        next.check_direct(self, kind)?;
        Ok(next)
    }

    fn role_after(&self, account: &AccountId, change: &RosterChange, kind: ChannelKind) -> Role {
        let newcomer = match kind {
            ChannelKind::Direct => Role::Admin,
            ChannelKind::Group | ChannelKind::Inbox => Role::Member,
        };
        let set = change.roles.get(account).or(self.roles.get(account));
        set.copied().unwrap_or(newcomer)
    }

    fn check_direct(&self, before: &Self, kind: ChannelKind) -> Result<(), DeliveryError> {
        if kind != ChannelKind::Direct {
            return Ok(());
        }
        let stays = |account| self.has_account(account);
        if self.roles.len() != 2 || !before.accounts().all(stays) {
            return Err(refused("a direct channel has the same two accounts for ever"));
        }
        if self.roles.values().any(|role| *role != Role::Admin) {
            return Err(refused("both accounts of a direct channel are admins"));
        }
        Ok(())
    }

    /// 41 bytes a device, ascending: account (16), device (16), role u8, join seq u64.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let role = |account| self.roles.get(account).copied().unwrap_or(Role::Member);
        self.devices
            .iter()
            .fold(Writer::default(), |w, (device, join)| {
                w.fixed(device.account)
                    .fixed(device.device)
                    .u8(role(&device.account).code())
                    .u64(*join)
            })
            .finish()
    }

    /// 24 bytes for each account that has been here longer than the devices it has, ascending:
    /// account (16), since u64.
    pub(crate) fn encode_since(&self) -> Vec<u8> {
        let all = self.since.iter();
        all.fold(Writer::default(), |w, (account, since)| w.fixed(account).u64(*since)).finish()
    }

    /// Reads [`Self::encode`] and [`Self::encode_since`].
    pub(crate) fn decode((bytes, since): (&[u8], &[u8])) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let mut roster = Self::default();
        while r.remaining() > 0 {
            let device = DeviceRef { account: AccountId(r.array()?), device: DeviceId(r.array()?) };
            let role = Role::from_code(r.u8()?)?;
            roster.roles.insert(device.account, role);
            roster.devices.insert(device, r.u64()?);
        }
        let mut r = Reader::new(since);
        while r.remaining() > 0 {
            roster.since.insert(AccountId(r.array()?), r.u64()?);
        }
        Ok(roster)
    }
}

/// Who asks for a change, and by what right.
pub(crate) struct Right<'a> {
    /// The committing device.
    pub(crate) committer: DeviceRef,
    /// The roster at the Commit's base.
    pub(crate) before: &'a Roster,
    /// Accounts with a standing Leave statement, which the Commit carries.
    pub(crate) leavers: &'a BTreeSet<AccountId>,
    /// Devices with a standing rejoin that the Commit carries, and a Welcome for its KeyPackage.
    pub(crate) rejoiners: &'a BTreeSet<DeviceRef>,
    /// The newest device list of each account that the Commit carries.
    pub(crate) lists: &'a BTreeMap<AccountId, DeviceList>,
    /// Which devices that the change names are known to be revoked.
    pub(crate) revoked: &'a BTreeSet<DeviceId>,
}

impl Right<'_> {
    /// Roles change by an admin; a device comes by an admin or a device of its own account, and
    /// goes by those or once its account has said that it leaves, or was revoked by a list that the
    /// Commit carries. Who so removes a device may add others of that account which the list holds.
    /// A device that comes back is taken out, if it is there, and put in by any member, while its
    /// account has a device here. A revoked device comes by nobody.
    ///
    /// # Errors
    /// `ROSTER_REFUSED` for anything else.
    pub(crate) fn check(&self, change: &RosterChange) -> Result<(), DeliveryError> {
        if !self.before.has(&self.committer) {
            return Err(refused("this device is not in the roster of its base"));
        }
        if change.removes.contains(&self.committer) {
            return Err(refused("a device can't remove itself: post a leave statement"));
        }
        if change.adds.iter().any(|device| self.revoked.contains(&device.device)) {
            return Err(refused("an added device was revoked: claim KeyPackages anew"));
        }
        let own = &self.committer.account;
        if self.before.is_admin(own) {
            return Ok(());
        }
        if !change.roles.is_empty() {
            return Err(refused("only an admin changes roles"));
        }
        if !change.adds.iter().all(|device| self.may_come(device, change)) {
            return Err(refused("only an admin adds other accounts' devices"));
        }
        let may_go = |d: &DeviceRef| {
            d.account == *own
                || self.leavers.contains(&d.account)
                || self.is_taken_off(d)
                || (change.adds.contains(d) && self.comes_back(d, change))
        };
        if !change.removes.iter().all(may_go) {
            return Err(refused("only an admin removes devices of others who stay"));
        }
        Ok(())
    }

    /// Whether a device that the Commit adds was in its place before, and asks for it.
    fn comes_back(&self, device: &DeviceRef, change: &RosterChange) -> bool {
        let is_free = !self.before.has(device) || change.removes.contains(device);
        is_free && self.before.has_account(&device.account) && self.rejoiners.contains(device)
    }

    /// Whether the Commit carries a list without a device that is known to be revoked.
    fn is_taken_off(&self, device: &DeviceRef) -> bool {
        let list = self.lists.get(&device.account);
        self.revoked.contains(&device.device)
            && list.is_some_and(|list| list.get(&device.device).is_none())
    }

    fn may_come(&self, device: &DeviceRef, change: &RosterChange) -> bool {
        let own = device.account == self.committer.account || self.comes_back(device, change);
        let mut same = change.removes.iter().filter(|gone| gone.account == device.account);
        match self.lists.get(&device.account) {
            Some(list) if list.get(&device.device).is_none() => false,
            Some(_) => own || same.any(|gone| self.is_taken_off(gone)),
            None => own,
        }
    }
}

/// `ROSTER_REFUSED` with what to change.
pub(crate) fn refused(why: &'static str) -> DeliveryError {
    DeliveryError::Refused(ErrorCode::RosterRefused, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(account: u8, device: u8) -> DeviceRef {
        DeviceRef { account: AccountId([account; 16]), device: DeviceId([device; 16]) }
    }

    fn adds(devices: &[DeviceRef]) -> RosterChange {
        RosterChange { adds: devices.iter().copied().collect(), ..RosterChange::default() }
    }

    fn removes(devices: &[DeviceRef]) -> RosterChange {
        RosterChange { removes: devices.iter().copied().collect(), ..RosterChange::default() }
    }

    /// Account 1 (admin) with device 1; accounts 2 and 3 with devices 2, 22 and 3.
    fn group() -> Roster {
        Roster::founding(device(1, 1))
            .apply(&adds(&[device(2, 2), device(2, 22), device(3, 3)]), ChannelKind::Group, 1)
            .unwrap()
    }

    #[test]
    fn canonical_bytes_round_trip() {
        let roster = group();
        assert_eq!(roster.encode().len(), 4 * 41);
        assert_eq!(roster.encode_since().len(), 0);
        assert_eq!(Roster::decode((&roster.encode(), &[])), Ok(roster.clone()));
        assert!(Roster::decode((&roster.encode()[1..], &[])).is_err());
        assert!(Roster::decode((&roster.encode(), &[1])).is_err());
    }

    #[test]
    fn a_change_must_fit() {
        let roster = group();
        let apply = |change: &RosterChange| roster.apply(change, ChannelKind::Group, 5);
        assert!(apply(&adds(&[device(2, 2)])).is_err());
        assert!(apply(&removes(&[device(4, 4)])).is_err());
        let mut both = adds(&[device(2, 2)]);
        both.removes = both.adds.clone();
        assert_eq!(apply(&both).unwrap().join_seq(&device(2, 2)), Some(5));
        let roles = RosterChange {
            roles: [(AccountId([4; 16]), Role::Admin)].into(),
            ..RosterChange::default()
        };
        assert!(apply(&roles).is_err());
        let next = apply(&adds(&[device(2, 23)])).unwrap();
        assert_eq!(next.account_since(&AccountId([2; 16])), Some(1));
        assert_eq!(next.join_seq(&device(2, 23)), Some(5));
    }

    #[test]
    fn an_account_without_devices_loses_its_role() {
        let promoted = RosterChange {
            roles: [(AccountId([3; 16]), Role::Admin)].into(),
            ..RosterChange::default()
        };
        let apply = |roster: &Roster, change: &RosterChange| {
            roster.apply(change, ChannelKind::Group, 2).unwrap()
        };
        let roster = apply(&group(), &promoted);
        assert!(roster.is_admin(&AccountId([3; 16])));
        let roster = apply(&roster, &removes(&[device(3, 3)]));
        assert!(!roster.has_account(&AccountId([3; 16])));
        let roster = apply(&roster, &adds(&[device(3, 33)]));
        assert!(!roster.is_admin(&AccountId([3; 16])));
    }

    #[test]
    fn a_channel_holds_1000_devices() {
        let many = |n: u16| {
            adds(
                &(0..n)
                    .map(|i| DeviceRef {
                        account: AccountId([9; 16]),
                        device: DeviceId(std::array::from_fn(|at| match at {
                            0 => i.to_be_bytes()[0],
                            _ => i.to_be_bytes()[1],
                        })),
                    })
                    .collect::<Vec<_>>(),
            )
        };
        let founding = Roster::founding(device(1, 1));
        let apply = |n| founding.apply(&many(n), ChannelKind::Group, 1);
        assert!(apply(998).is_ok());
        assert!(apply(999).is_ok());
        assert_eq!(apply(1_000).unwrap_err().code(), ErrorCode::GroupTooLarge);
    }

    #[test]
    fn members_change_only_their_own() {
        let roster = group();
        let leavers = [AccountId([3; 16])].into();
        let none = BTreeSet::new();
        let (lists, revoked, nobody) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let right = |account, leavers| Right {
            committer: device(account, account),
            before: &roster,
            leavers,
            rejoiners: &nobody,
            lists: &lists,
            revoked: &revoked,
        };
        assert!(right(1, &none).check(&adds(&[device(4, 4)])).is_ok());
        assert!(right(1, &none).check(&removes(&[device(3, 3)])).is_ok());
        assert!(right(1, &none).check(&removes(&[device(1, 1)])).is_err());
        assert!(right(2, &none).check(&adds(&[device(2, 23)])).is_ok());
        assert!(right(2, &none).check(&removes(&[device(2, 22)])).is_ok());
        assert!(right(2, &none).check(&removes(&[device(2, 2)])).is_err());
        assert!(right(2, &none).check(&adds(&[device(4, 4)])).is_err());
        assert!(right(2, &none).check(&removes(&[device(3, 3)])).is_err());
        assert!(right(2, &leavers).check(&removes(&[device(3, 3)])).is_ok());
        assert!(right(2, &leavers).check(&removes(&[device(1, 1)])).is_err());
        assert!(right(4, &none).check(&RosterChange::default()).is_err());
        let roles = RosterChange {
            roles: [(AccountId([2; 16]), Role::Admin)].into(),
            ..RosterChange::default()
        };
        assert!(right(1, &none).check(&roles).is_ok());
        assert!(right(2, &none).check(&roles).is_err());
    }

    #[test]
    fn who_comes_back_is_taken_out_and_put_in_by_any_member_and_keeps_its_role() {
        let roster = group();
        let again = |d: DeviceRef| RosterChange { removes: [d].into(), ..adds(&[d]) };
        let check = |asks: &[DeviceRef], change: &RosterChange, gone: &[DeviceId]| {
            Right {
                committer: device(2, 2),
                before: &roster,
                leavers: &BTreeSet::new(),
                rejoiners: &asks.iter().copied().collect(),
                lists: &BTreeMap::new(),
                revoked: &gone.iter().copied().collect(),
            }
            .check(change)
        };
        let admin = device(1, 1);
        assert!(check(&[admin], &again(admin), &[]).is_ok());
        let after = roster.apply(&again(admin), ChannelKind::Group, 7).unwrap();
        assert!(after.is_admin(&admin.account));
        assert_eq!(after.join_seq(&admin), Some(7));
        // Of another device, out alone, in beside another, one that was revoked, itself.
        assert!(check(&[device(3, 3)], &again(admin), &[]).is_err());
        assert!(check(&[admin], &removes(&[admin]), &[]).is_err());
        let mut beside = again(admin);
        beside.adds.insert(device(4, 4));
        assert!(check(&[admin], &beside, &[]).is_err());
        let mut beside = again(admin);
        beside.removes.insert(device(3, 3));
        assert!(check(&[admin], &beside, &[]).is_err());
        assert!(check(&[admin], &again(admin), &[admin.device]).is_err());
        assert!(check(&[device(2, 2)], &again(device(2, 2)), &[]).is_err());
        // A device that lost its leaf comes while its account has another, else not.
        assert!(check(&[device(3, 33)], &adds(&[device(3, 33)]), &[]).is_ok());
        assert!(check(&[device(4, 4)], &adds(&[device(4, 4)]), &[]).is_err());
    }

    #[test]
    fn a_direct_channel_keeps_its_two_accounts() {
        let founding = Roster::founding(device(1, 1));
        let apply =
            |roster: &Roster, change: &RosterChange| roster.apply(change, ChannelKind::Direct, 1);
        assert!(apply(&founding, &RosterChange::default()).is_err());
        assert!(apply(&founding, &adds(&[device(1, 11)])).is_err());
        assert!(apply(&founding, &adds(&[device(2, 2), device(3, 3)])).is_err());
        let roster = apply(&founding, &adds(&[device(2, 2), device(2, 22)])).unwrap();
        assert!(roster.is_admin(&AccountId([2; 16])));
        assert!(apply(&roster, &removes(&[device(2, 22)])).is_ok());
        assert!(apply(&roster, &removes(&[device(2, 2), device(2, 22)])).is_err());
        let mut swap = removes(&[device(2, 2), device(2, 22)]);
        swap.adds.insert(device(3, 3));
        assert!(apply(&roster, &swap).is_err());
        let demoted = RosterChange {
            roles: [(AccountId([2; 16]), Role::Member)].into(),
            ..RosterChange::default()
        };
        assert!(apply(&roster, &demoted).is_err());
    }
}
