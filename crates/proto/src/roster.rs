//! The declared change of a channel's roster: what a Commit says it does to devices and roles.
//!
//! Its canonical bytes are hashed into the Commit's authenticated data; the server follows it,
//! members void a Commit whose proposals differ. Never decides who may do what.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::sha256;
use crate::codec::{Reader, Writer};
use crate::error::Malformed;
use crate::ids::{AccountId, DeviceId, Digest};
use crate::limits;
use crate::message::DeviceRef;

/// What an account may do in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May send, and add or remove its own devices.
    Member,
    /// May also add, remove and rename.
    Admin,
}

impl Role {
    /// The number in canonical encodings.
    pub fn code(self) -> u8 {
        match self {
            Self::Member => 1,
            Self::Admin => 2,
        }
    }

    /// Parses a number.
    ///
    /// # Errors
    /// [`Malformed`] for an unknown one.
    pub fn from_code(code: u8) -> Result<Self, Malformed> {
        match code {
            1 => Ok(Self::Member),
            2 => Ok(Self::Admin),
            _ => Err(Malformed("unknown role")),
        }
    }
}

/// A declared change. Ordered sets make the encoding canonical.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RosterChange {
    /// Devices that join.
    pub adds: BTreeSet<DeviceRef>,
    /// Devices that leave.
    pub removes: BTreeSet<DeviceRef>,
    /// Accounts whose role is set.
    pub roles: BTreeMap<AccountId, Role>,
}

impl RosterChange {
    /// Whether nothing changes: a self-update.
    pub fn is_empty(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty() && self.roles.is_empty()
    }

    /// Canonical bytes: three counted lists in ascending order; 32 bytes a device, 17 a role.
    pub fn encode(&self) -> Vec<u8> {
        let writer = device_list(Writer::with_label("qpc/v1 roster change"), &self.adds);
        let writer = device_list(writer, &self.removes);
        let len = u32::try_from(self.roles.len()).unwrap_or(u32::MAX);
        self.roles
            .iter()
            .fold(writer.u32(len), |w, (account, role)| w.fixed(account).u8(role.code()))
            .finish()
    }

    /// Parses canonical bytes.
    ///
    /// # Errors
    /// [`Malformed`] for lists out of order, too long, or anything left over.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        r.label("qpc/v1 roster change")?;
        let adds = read_devices(&mut r)?;
        let removes = read_devices(&mut r)?;
        let mut roles = BTreeMap::new();
        for _ in 0..count(&mut r)? {
            let account = AccountId(r.array()?);
            if roles.last_key_value().is_some_and(|(last, _)| *last >= account) {
                return Err(Malformed("roster change out of order"));
            }
            roles.insert(account, Role::from_code(r.u8()?)?);
        }
        r.finish()?;
        Ok(Self { adds, removes, roles })
    }

    /// SHA-256 of the canonical bytes.
    pub fn digest(&self) -> Digest {
        sha256(&self.encode())
    }
}

fn device_list(writer: Writer, devices: &BTreeSet<DeviceRef>) -> Writer {
    let len = u32::try_from(devices.len()).unwrap_or(u32::MAX);
    devices.iter().fold(writer.u32(len), |w, d| w.fixed(d.account).fixed(d.device))
}

fn count(r: &mut Reader<'_>) -> Result<usize, Malformed> {
    let count = usize::try_from(r.u32()?).map_err(|_| Malformed("roster change too long"))?;
    if count > limits::CHANNEL_DEVICES_MAX {
        return Err(Malformed("roster change too long"));
    }
    Ok(count)
}

fn read_devices(r: &mut Reader<'_>) -> Result<BTreeSet<DeviceRef>, Malformed> {
    let mut devices = BTreeSet::new();
    for _ in 0..count(r)? {
        let device = DeviceRef { account: AccountId(r.array()?), device: DeviceId(r.array()?) };
        if devices.last().is_some_and(|last| *last >= device) {
            return Err(Malformed("roster change out of order"));
        }
        devices.insert(device);
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_bytes_round_trip_and_disorder_is_refused() {
        let device = |n| DeviceRef { account: AccountId([n; 16]), device: DeviceId([n; 16]) };
        let change = RosterChange {
            adds: [device(2), device(1)].into(),
            removes: [device(3)].into(),
            roles: [(AccountId([1; 16]), Role::Admin)].into(),
        };
        let bytes = change.encode();
        assert_eq!(RosterChange::decode(&bytes), Ok(change));
        let mut swapped = bytes.clone();
        let start = 1 + "qpc/v1 roster change".len() + 4;
        swapped[start..start + 64].rotate_left(32);
        assert!(RosterChange::decode(&swapped).is_err());
        for cut in 0..bytes.len() {
            assert!(RosterChange::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
