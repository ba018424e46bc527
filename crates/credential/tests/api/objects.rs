//! Account keys, device lists, certificates, statements, identities, proofs.

use bytes::Bytes;
use qpc_credential::{
    AccountKey, Certificate, CertificateBody, CredentialError, DeviceEntry, DeviceList,
    PublicIdentity, Statement, StatementBody, verify, verify_binding,
};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::{DeviceRef, Identity};
use qpc_proto::{AccountId, ChannelId, DeviceId, ErrorCode, PublicKey, Signature};

use crate::fixtures::{Account, Key, flipped};

/// The neutral element: signatures "verify" under it with lax rules.
pub(crate) const WEAK: PublicKey = {
    let mut key = [0; 32];
    key[0] = 1;
    PublicKey(key)
};

fn statement(account: &Account) -> Statement {
    Statement {
        channel: ChannelId([9; 16]),
        certificate: Certificate::verify(&account.certificate()).unwrap(),
        issued_at_ms: 7,
        body: StatementBody::Leave,
    }
}

pub(crate) fn entry(n: u8) -> DeviceEntry {
    DeviceEntry { device: DeviceId([n; 16]), key: Key::of(100 + n).public(), not_after_ms: 0 }
}

/// Every cut, every flipped byte and an appended one are refused.
pub(crate) fn refuses_every_change(bytes: &Bytes, verifies: impl Fn(&[u8]) -> bool) {
    assert!(verifies(bytes));
    for at in 0..bytes.len() {
        assert!(!verifies(&bytes[..at]), "cut at {at}");
        assert!(!verifies(&flipped(bytes, at)), "flipped at {at}");
    }
    assert!(!verifies(&[bytes.as_ref(), &[0]].concat()));
    assert!(!verifies(&[&[0], bytes.as_ref()].concat()));
}

#[test]
fn every_change_of_a_signed_object_is_refused() {
    let account = Account::of(1);
    let key = account.account_key();
    let list = account.signed_list(&account.list());
    let leave = statement(&account).sign(|tbs| account.device_key.sign(tbs));
    refuses_every_change(&account.statement(), |b| AccountKey::verify(b).is_ok());
    refuses_every_change(&list, |b| DeviceList::verify(b, &key).is_ok());
    refuses_every_change(&account.certificate(), |b| Certificate::verify(b).is_ok());
    refuses_every_change(&leave, |b| Statement::verify(b).is_ok());
}

#[test]
fn what_was_signed_comes_back() {
    let account = Account::of(1);
    let key = account.account_key();
    assert_eq!(AccountKey::verify(&account.statement()), Ok(key));
    let list = account.signed_list(&account.list());
    assert_eq!(DeviceList::verify(&list, &key), Ok(account.list()));
    let certificate = Certificate::verify(&account.certificate()).unwrap();
    assert_eq!(certificate.account_key, key);
    assert_eq!(certificate.entry, account.entry);
    assert_eq!((certificate.list_version, certificate.name.as_str()), (1, "ada"));
    assert_eq!(certificate.device(), account.device());
    assert_eq!(certificate.as_bytes(), &account.certificate());
    let leave = statement(&account);
    let bytes = leave.sign(|tbs| account.device_key.sign(tbs));
    assert_eq!(Statement::verify(&bytes), Ok(leave));
}

#[test]
fn a_kept_certificate_is_read_as_it_was_verified() {
    let bytes = Account::of(1).certificate();
    assert_eq!(Certificate::read_verified(&bytes), Certificate::verify(&bytes));
    for cut in 0..bytes.len() {
        assert!(Certificate::read_verified(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_wrong_signer_is_refused_everywhere() {
    let account = Account::of(1);
    let key = account.account_key();
    for wrong in [&account.primary, &account.device_key, &Key::of(40)] {
        let bytes = key.sign(|tbs| wrong.sign(tbs));
        assert!(AccountKey::verify(&bytes).is_err());
    }
    for wrong in [&account.root, &account.device_key, &Key::of(40)] {
        let list = account.list().sign(|tbs| wrong.sign(tbs));
        assert!(DeviceList::verify(&list, &key).is_err());
        let certificate =
            Certificate::sign(&account.statement(), &account.body(), |tbs| wrong.sign(tbs));
        assert!(Certificate::verify(&certificate).is_err());
    }
    for wrong in [&account.root, &account.primary, &Key::of(40)] {
        let bytes = statement(&account).sign(|tbs| wrong.sign(tbs));
        let error = Statement::verify(&bytes).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StatementInvalid);
    }
}

#[test]
fn one_object_is_never_another() {
    let account = Account::of(1);
    let objects = [
        account.statement(),
        account.signed_list(&account.list()),
        account.certificate(),
        statement(&account).sign(|tbs| account.device_key.sign(tbs)),
    ];
    let key = account.account_key();
    for (at, bytes) in objects.iter().enumerate() {
        let read_as = [
            AccountKey::verify(bytes).is_ok(),
            DeviceList::verify(bytes, &key).is_ok(),
            Certificate::verify(bytes).is_ok(),
            Statement::verify(bytes).is_ok(),
        ];
        let itself: Vec<_> = (0..4).map(|other| other == at).collect();
        assert_eq!(read_as.as_slice(), itself);
    }
}

#[test]
fn an_account_key_has_a_generation_and_strength() {
    let account = Account::of(1);
    for bad in [
        AccountKey { generation: 0, ..account.account_key() },
        AccountKey { key: WEAK, ..account.account_key() },
    ] {
        let bytes = bad.sign(|tbs| account.root.sign(tbs));
        assert!(AccountKey::verify(&bytes).is_err());
    }
    let weak_root = AccountKey { root: WEAK, ..account.account_key() };
    let forged = weak_root.sign(|_| weak_signature());
    assert!(AccountKey::verify(&forged).is_err());
}

/// R neutral, s zero: with a weak key, lax rules accept it for every message.
pub(crate) fn weak_signature() -> Signature {
    let mut signature = [0; 64];
    signature[0] = 1;
    Signature(signature)
}

#[test]
fn weak_keys_prove_nothing() {
    let refused = verify(&WEAK, b"anything", &weak_signature());
    assert_eq!(refused, Err(CredentialError::Signature));
}

#[test]
fn a_device_list_keeps_its_rules() {
    let account = Account::of(1);
    let verify = |change: &dyn Fn(&mut DeviceList)| {
        let mut list = account.list();
        change(&mut list);
        DeviceList::verify(&account.signed_list(&list), &account.account_key())
    };
    let devices = |n: u8| (1..=n).map(entry).collect::<Vec<_>>();
    assert!(verify(&|list| list.devices = devices(1)).is_ok());
    assert!(verify(&|list| list.devices = devices(10)).is_ok());
    assert!(verify(&|list| list.devices.clear()).is_ok());
    let refused = verify(&|list| list.devices = devices(11)).unwrap_err();
    assert_eq!(refused, CredentialError::DeviceLimit);

    assert!(verify(&|list| list.devices = vec![entry(2), entry(1)]).is_err());
    let same_id = DeviceEntry { device: entry(1).device, ..entry(2) };
    assert!(verify(&|list| list.devices = vec![entry(1), same_id]).is_err());
    let same_key = DeviceEntry { key: entry(1).key, ..entry(2) };
    assert!(verify(&|list| list.devices = vec![entry(1), same_key]).is_err());
    let weak = DeviceEntry { key: WEAK, ..entry(1) };
    assert!(verify(&|list| list.devices = vec![weak]).is_err());
    assert!(verify(&|list| list.name = "é".repeat(64)).is_ok());
    assert!(verify(&|list| list.name = "é".repeat(64) + "x").is_err());
    assert!(verify(&|list| list.name = String::new()).is_err());
    assert!(verify(&|list| list.name = "a\u{1b}[2J".to_owned()).is_err());
    assert!(verify(&|list| list.account = AccountId([0; 16])).is_err());
    assert!(verify(&|list| list.generation = 2).is_err());
}

/// A number that no database holds would stop every member who tries to keep it.
#[test]
fn a_version_is_one_that_every_database_holds() {
    let account = Account::of(1);
    for (version, good) in [(i64::MAX.unsigned_abs(), true), (1 << 63, false), (u64::MAX, false)] {
        let list = account.signed_list(&DeviceList { version, ..account.list() });
        let identity = Identity { device_list: list, ..account.identity() };
        assert_eq!(PublicIdentity::verify(&identity).is_ok(), good, "{version}");
        let posted = qpc_credential::devices_statement(&identity);
        assert_eq!(qpc_credential::Posted::verify_signed(&posted).is_ok(), good, "{version}");
        let body = CertificateBody { list_version: version, ..account.body() };
        let certificate =
            Certificate::sign(&account.statement(), &body, |tbs| account.primary.sign(tbs));
        assert_eq!(Certificate::verify(&certificate).is_ok(), good, "{version}");
    }
}

#[test]
fn the_newer_list_is_of_the_higher_generation_then_version() {
    let numbered =
        |generation, version| DeviceList { generation, version, ..Account::of(1).list() };
    assert!(numbered(2, 1).is_newer_than(&numbered(1, 9)));
    assert!(numbered(1, 2).is_newer_than(&numbered(1, 1)));
    assert!(!numbered(1, 1).is_newer_than(&numbered(1, 1)));
    assert!(!numbered(1, 9).is_newer_than(&numbered(2, 1)));
}

#[test]
fn a_certificate_counts_while_the_list_holds_its_device_and_key() {
    let account = Account::of(1);
    let certificate = Certificate::verify(&account.certificate()).unwrap();
    let mut list = account.list();
    list.version = 5;
    assert!(list.holds(&certificate));
    list.devices[0].key = Key::of(50).public();
    assert!(!list.holds(&certificate));
    list.devices = vec![DeviceEntry { device: DeviceId([50; 16]), ..account.entry }];
    assert!(!list.holds(&certificate));
    let other = DeviceList { account: AccountId([0; 16]), ..account.list() };
    assert!(!other.holds(&certificate));
}

#[test]
fn an_identity_belongs_together() {
    let (account, other) = (Account::of(1), Account::of(11));
    let identity = PublicIdentity::verify(&account.identity()).unwrap();
    assert_eq!(identity.account(), account.id());
    assert_eq!(identity.list.get(&account.entry.device), Some(&account.entry));
    assert_eq!(identity.list.get(&other.entry.device), None);
    assert_eq!(identity.to_message(), account.identity());
    let digest = identity.digest();
    assert_eq!((digest.generation, digest.version), (1, 1));
    assert_eq!(digest, account.list().digest(&account.identity().device_list));
    for mixed in [
        Identity { account: other.id(), ..account.identity() },
        Identity { account_key: other.statement(), ..account.identity() },
        Identity { device_list: other.identity().device_list, ..account.identity() },
    ] {
        let error = PublicIdentity::verify(&mixed).unwrap_err();
        assert_eq!(error.code(), ErrorCode::IdentityInvalid);
    }
}

#[test]
fn a_proof_is_for_one_connection_device_and_purpose() {
    let account = Account::of(1);
    let (key, device) = (account.entry.key, account.device());
    let binding = ChannelBinding { exporter: [1; 32], fingerprint: [2; 32] };
    let proof = account.device_key.sign(&binding.to_be_signed(&device, Purpose::Login));
    let check = |binding: ChannelBinding, device: DeviceRef, purpose| {
        verify_binding(&key, &binding, (&device, purpose), &proof)
    };
    assert_eq!(check(binding, device, Purpose::Login), Ok(()));
    let refused = Err(CredentialError::Proof);
    assert_eq!(check(binding, device, Purpose::Register), refused);
    let elsewhere = ChannelBinding { exporter: [3; 32], ..binding };
    assert_eq!(check(elsewhere, device, Purpose::Login), refused);
    let server = ChannelBinding { fingerprint: [3; 32], ..binding };
    assert_eq!(check(server, device, Purpose::Login), refused);
    let sibling = DeviceRef { device: DeviceId([3; 16]), ..device };
    assert_eq!(check(binding, sibling, Purpose::Login), refused);
}
