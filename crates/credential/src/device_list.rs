//! The devices of an account, signed by its account key. Knows nothing of names' rules or of which
//! list is the newest anywhere.

use bytes::Bytes;
use qpc_proto::chain::sha256;
use qpc_proto::codec::{Reader, Writer};
use qpc_proto::content::DeviceListDigest;
use qpc_proto::limits::{DEVICES_PER_ACCOUNT_MAX, IDENTITY_BYTES_MAX};
use qpc_proto::{AccountId, DeviceId, Malformed, PublicKey, Signature};

use crate::account::AccountKey;
use crate::certificate::Certificate;
use crate::error::CredentialError;
use crate::signature::{refuse_weak, seal, split, verify};

const LABEL: &str = "qpc/v1 device list";
/// Bytes of an account's name in a signed object.
const NAME_BYTES_MAX: usize = 128;

/// The highest number of a list: databases count with signed integers, and one that a member can't
/// keep would stop that member for good.
const VERSION_MAX: u64 = i64::MAX.unsigned_abs();

const TOO_MANY: Malformed = Malformed("device list: number of devices");

/// One device of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceEntry {
    /// The device.
    pub device: DeviceId,
    /// Its Ed25519 key, which is also its MLS signature key.
    pub key: PublicKey,
    /// Unix milliseconds from which it may not join anything new.
    pub not_after_ms: u64,
}

impl DeviceEntry {
    /// Appends device (16), key (32), not-after u64.
    pub(crate) fn write(&self, writer: Writer) -> Writer {
        writer.fixed(self.device).fixed(self.key).u64(self.not_after_ms)
    }

    /// Checks the form alone; see [`Self::refuse_weak`].
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            device: DeviceId(r.array()?),
            key: PublicKey(r.array()?),
            not_after_ms: r.u64()?,
        })
    }

    /// Refuses a key under which signatures prove nothing, when an entry comes in. It costs more
    /// than all the rest, and what came in is read again often.
    pub(crate) fn refuse_weak(&self) -> Result<(), Malformed> {
        refuse_weak(&self.key)
    }
}

/// Reads a name of 1 to 128 bytes of UTF-8 without control characters: it is shown on terminals.
pub(crate) fn read_name(r: &mut Reader<'_>) -> Result<String, Malformed> {
    let name = std::str::from_utf8(r.var(NAME_BYTES_MAX)?).map_err(|_| Malformed("name: UTF-8"))?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Malformed("name: empty or with control characters"));
    }
    Ok(name.to_owned())
}

/// Reads the number of a list, at most 2^63 - 1.
pub(crate) fn read_version(r: &mut Reader<'_>) -> Result<u64, Malformed> {
    let version = r.u64()?;
    (version <= VERSION_MAX).then_some(version).ok_or(Malformed("a device list's number: too high"))
}

/// The devices of an account, as its account key lists them.
///
/// Signed bytes: label, account (16), generation u32, version u64, name (u32 length, UTF-8), count
/// u8, entries of 56 bytes in ascending order of device id, signature by the account key (64).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceList {
    /// The account.
    pub account: AccountId,
    /// Generation of the account key that signs it.
    pub generation: u32,
    /// Grows with each list of a generation; at most 2^63 - 1.
    pub version: u64,
    /// The account's name: 1 to 128 bytes, no control characters.
    pub name: String,
    /// At most 10 devices, ascending by id; ids and keys are distinct. A list without any ends the
    /// account.
    pub devices: Vec<DeviceEntry>,
}

impl DeviceList {
    /// The signed list; `sign` signs with the account key. The fields are taken as they are:
    /// [`Self::verify`] refuses what breaks their rules.
    pub fn sign(&self, sign: impl FnOnce(&[u8]) -> Signature) -> Bytes {
        let head = Writer::with_label(LABEL)
            .fixed(self.account)
            .u32(self.generation)
            .u64(self.version)
            .var(&self.name)
            .u8(u8::try_from(self.devices.len()).unwrap_or(u8::MAX));
        let tbs = self.devices.iter().fold(head, |to, entry| entry.write(to));
        seal(tbs.finish(), sign)
    }

    /// Parses a signed list and verifies it against the account key that must have signed it.
    ///
    /// # Errors
    /// [`CredentialError::Identity`] when it is malformed, breaks a rule of its fields, is of
    /// another account or generation, or its signature is wrong; [`CredentialError::DeviceLimit`]
    /// for more than 10 devices.
    pub fn verify(bytes: &[u8], account_key: &AccountKey) -> Result<Self, CredentialError> {
        let invalid = |malformed: Malformed| CredentialError::Identity(malformed.0);
        let (tbs, signature) = split(bytes, IDENTITY_BYTES_MAX).map_err(invalid)?;
        verify(&account_key.key, tbs, &signature)
            .map_err(|_| CredentialError::Identity("device list: wrong signature"))?;
        let list = Self::decode(tbs).map_err(|malformed| match malformed == TOO_MANY {
            true => CredentialError::DeviceLimit,
            false => CredentialError::Identity(malformed.0),
        })?;
        if list.account != account_key.account() || list.generation != account_key.generation {
            return Err(CredentialError::Identity("device list: other account or generation"));
        }
        Ok(list)
    }

    /// Names this list by the hash of its signed `bytes`.
    pub fn digest(&self, bytes: &[u8]) -> DeviceListDigest {
        DeviceListDigest { generation: self.generation, version: self.version, hash: sha256(bytes) }
    }

    /// The entry of a device.
    pub fn get(&self, device: &DeviceId) -> Option<&DeviceEntry> {
        self.devices.iter().find(|entry| entry.device == *device)
    }

    /// Whether this list supersedes `other` of the same account: generation first, then version.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.generation, self.version) > (other.generation, other.version)
    }

    /// Whether a certificate counts by this list: it holds the device's id with the same key,
    /// whatever version the certificate names. Expiry is the caller's: it is judged for new leaves.
    pub fn holds(&self, certificate: &Certificate) -> bool {
        let entry = &certificate.entry;
        self.account == certificate.account_key.account()
            && self.get(&entry.device).is_some_and(|held| held.key == entry.key)
    }

    /// Whether this list took a certified device off: it came after the one that the certificate
    /// names, and does not hold the device. An earlier list says nothing about a later device.
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        self.account == certificate.account_key.account()
            && (self.generation, self.version) > certificate.list_number()
            && !self.holds(certificate)
    }

    fn decode(tbs: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(tbs);
        r.label(LABEL)?;
        let account = AccountId(r.array()?);
        let generation = r.u32()?;
        let version = read_version(&mut r)?;
        let name = read_name(&mut r)?;
        let count = usize::from(r.u8()?);
        if count > DEVICES_PER_ACCOUNT_MAX {
            return Err(TOO_MANY);
        }
        let devices: Vec<_> =
            (0..count).map(|_| DeviceEntry::read(&mut r)).collect::<Result<_, _>>()?;
        r.finish()?;
        devices.iter().try_for_each(DeviceEntry::refuse_weak)?;
        check_distinct(&devices)?;
        Ok(Self { account, generation, version, name, devices })
    }
}

/// One order only, so that one list has one encoding; one key for one device.
fn check_distinct(devices: &[DeviceEntry]) -> Result<(), Malformed> {
    if !devices.is_sorted_by(|a, b| a.device < b.device) {
        return Err(Malformed("device list: order of devices"));
    }
    let mut keys: Vec<_> = devices.iter().map(|entry| entry.key).collect();
    keys.sort_unstable();
    if !keys.is_sorted_by(|a, b| a < b) {
        return Err(Malformed("device list: a key twice"));
    }
    Ok(())
}
