//! What must hold of signed objects and MLS messages, whatever bytes come: no panic, one encoding,
//! and no other reading than that of OpenMLS, by which members read.
//!
//! Input: a mode byte, then the object. Modes above 0 sign it first with keys known to everybody,
//! because no mutation gets past a signature; what lies behind would never be tried.

use std::sync::LazyLock;

use ed25519_dalek::{Signer as _, SigningKey};
use openmls::prelude::tls_codec::DeserializeBytes as _;
use openmls::prelude::{
    Ciphersuite, ContentType, KeyPackageIn, MlsMessageBodyIn, MlsMessageIn, ProtocolMessage,
    hash_ref::make_key_package_ref,
};
use openmls_rust_crypto::RustCrypto;
use qpc_credential::{
    AccountKey, AdmittedKeyPackage, Certificate, CertificateBody, DeviceList, MlsContent,
    MlsHeader, Posted, PublicIdentity, admit_key_package, devices_statement, key_package_ref,
    mls_header, welcome_references,
};
use qpc_proto::aad::Aad;
use qpc_proto::message::Identity;
use qpc_proto::{Digest, PublicKey, Signature};

/// As it is.
pub(crate) const RAW: u8 = 0;
/// An account key statement without its signature.
pub(crate) const ACCOUNT_KEY: u8 = 1;
/// A device list without its signature.
pub(crate) const DEVICE_LIST: u8 = 2;
/// A certificate without its signature.
pub(crate) const CERTIFICATE: u8 = 3;
/// A statement without its signature.
pub(crate) const STATEMENT: u8 = 4;
/// A KeyPackage without its two signatures: the length of its extensions as a byte, all up to the
/// end of the leaf, then the extensions.
pub(crate) const KEY_PACKAGE: u8 = 5;

/// When the seeds were issued, Unix milliseconds.
pub(crate) const NOW_MS: u64 = 1_000_000_000_000;
const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// Where the leaf begins when the init key has 32 bytes.
const LEAF_AT: usize = 37;

struct Keys {
    root: SigningKey,
    account: SigningKey,
    device: SigningKey,
    account_key: AccountKey,
    statement: Vec<u8>,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let [root, account, device] = [1, 2, 3].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let public = |key: &SigningKey| PublicKey(key.verifying_key().to_bytes());
    let account_key = AccountKey { root: public(&root), generation: 1, key: public(&account) };
    let statement = account_key.sign(|tbs| Signature(root.sign(tbs).to_bytes())).to_vec();
    Keys { root, account, device, account_key, statement }
});

/// Checks one input; returns whether anything took it.
pub(crate) fn check(data: &[u8]) -> bool {
    let Some((mode, object)) = data.split_first() else {
        return false;
    };
    match *mode {
        ACCOUNT_KEY => check_account_key(&signed(&KEYS.root, object)),
        DEVICE_LIST => check_device_list(&signed(&KEYS.account, object)),
        CERTIFICATE => check_certificate(&signed(&KEYS.account, object)),
        STATEMENT => check_statement(&signed(&KEYS.device, object)),
        KEY_PACKAGE => {
            signed_key_package(object).is_some_and(|package| check_key_package(&package))
        }
        RAW | 6..=u8::MAX => check_raw(object),
    }
}

fn check_raw(object: &[u8]) -> bool {
    [
        check_account_key(object),
        check_device_list(object),
        check_certificate(object),
        check_statement(object),
        check_key_package(object),
        check_header(object),
        check_welcome(object),
    ]
    .contains(&true)
}

fn signed(key: &SigningKey, tbs: &[u8]) -> Vec<u8> {
    [tbs, &key.sign(tbs).to_bytes()].concat()
}

/// The signature at the end of a signed object.
fn signature_of(bytes: &[u8]) -> Signature {
    Signature(*bytes.last_chunk().expect("a signature was verified"))
}

fn check_account_key(bytes: &[u8]) -> bool {
    AccountKey::verify(bytes).is_ok_and(|statement| {
        assert_eq!(statement.sign(|_| signature_of(bytes)), bytes);
        assert!(statement.generation > 0);
        true
    })
}

fn check_device_list(bytes: &[u8]) -> bool {
    let Ok(list) = DeviceList::verify(bytes, &KEYS.account_key) else {
        return false;
    };
    assert_eq!(list.sign(|_| signature_of(bytes)), bytes);
    assert!(!list.is_newer_than(&list));
    assert!(list.devices.iter().all(|entry| list.get(&entry.device) == Some(entry)));
    let identity = Identity {
        account: list.account,
        account_key: KEYS.statement.clone().into(),
        device_list: bytes.to_vec().into(),
    };
    let verified = PublicIdentity::verify(&identity).expect("both halves were verified");
    assert_eq!(verified.to_message(), identity);
    true
}

fn check_certificate(bytes: &[u8]) -> bool {
    let Ok(certificate) = Certificate::verify(bytes) else {
        // Reading what is said to be verified must not panic either.
        return Certificate::read_verified(bytes).is_ok_and(|_| false);
    };
    assert_eq!(Certificate::read_verified(bytes).as_ref(), Ok(&certificate));
    assert_eq!(certificate.as_bytes(), bytes);
    let body = CertificateBody {
        list_version: certificate.list_version,
        entry: certificate.entry,
        name: certificate.name.clone(),
    };
    let end = bytes.len() - Signature::LEN;
    let statement = KEYS.statement.as_slice();
    if certificate.account_key == KEYS.account_key {
        let again = Certificate::sign(statement, &body, |_| signature_of(bytes));
        assert_eq!(again.get(..end), bytes.get(..end));
    }
    true
}

fn check_statement(bytes: &[u8]) -> bool {
    match Posted::verify_signed(bytes) {
        Ok(Posted::Said(statement)) => {
            assert_eq!(statement.sign(|_| signature_of(bytes)), bytes);
            true
        }
        Ok(Posted::Devices(identity)) => {
            assert_eq!(devices_statement(&identity.to_message()), bytes);
            true
        }
        Err(_) => false,
    }
}

fn check_key_package(bytes: &[u8]) -> bool {
    admit_key_package(bytes, NOW_MS).is_ok_and(|admitted| {
        check_admitted(bytes, &admitted);
        true
    })
}

/// What policy judged is what members will see.
fn check_admitted(bytes: &[u8], admitted: &AdmittedKeyPackage) {
    let package = KeyPackageIn::tls_deserialize_exact_bytes(bytes).expect("members read it");
    let leaf = package.unverified_credential();
    assert_eq!(leaf.credential.serialized_content(), admitted.certificate.as_bytes());
    assert_eq!(leaf.signature_key.as_slice(), admitted.certificate.entry.key.as_bytes());
    let reference = make_key_package_ref(bytes, SUITE, &RustCrypto::default());
    assert_eq!(reference.expect("hashing does not fail").as_slice(), admitted.reference.as_bytes());
    assert_eq!(key_package_ref(bytes), Ok(admitted.reference));
    assert!(admitted.certificate.entry.not_after_ms > NOW_MS);
}

fn check_header(bytes: &[u8]) -> bool {
    let header = mls_header(bytes).ok();
    assert_eq!(header, header_by_openmls(bytes));
    header.is_some()
}

fn header_by_openmls(bytes: &[u8]) -> Option<MlsHeader> {
    let MlsMessageBodyIn::PrivateMessage(message) =
        MlsMessageIn::tls_deserialize_exact_bytes(bytes).ok()?.extract()
    else {
        return None;
    };
    let aad = Aad::decode(message.aad()).ok()?;
    let message = ProtocolMessage::from(message);
    let content = match message.content_type() {
        ContentType::Application => MlsContent::Application,
        ContentType::Commit => MlsContent::Commit,
        ContentType::Proposal => return None,
    };
    let fits = aad.commit.is_some() == (content == MlsContent::Commit);
    let group_id = message.group_id().as_slice().try_into().ok()?;
    let epoch = message.epoch().as_u64();
    fits.then_some(MlsHeader { group_id, epoch, content, aad })
}

fn check_welcome(bytes: &[u8]) -> bool {
    let references = welcome_references(bytes).ok();
    assert_eq!(references, welcome_by_openmls(bytes));
    references.is_some()
}

fn welcome_by_openmls(bytes: &[u8]) -> Option<Vec<Digest>> {
    let MlsMessageBodyIn::Welcome(welcome) =
        MlsMessageIn::tls_deserialize_exact_bytes(bytes).ok()?.extract()
    else {
        return None;
    };
    let recipients = welcome.secrets().iter().map(|secret| secret.new_member());
    let references = recipients.map(|reference| Digest::try_from(reference.as_slice()).ok());
    references.collect::<Option<_>>().filter(|_| welcome.ciphersuite() == SUITE)
}

/// Puts both signatures (RFC 9420 section 5.1.2) into a KeyPackage.
pub(crate) fn signed_key_package(input: &[u8]) -> Option<Vec<u8>> {
    let (extensions, package) = input.split_first()?;
    let end = package.len().checked_sub(usize::from(*extensions))?;
    let (package, extensions) = package.split_at(end);
    let leaf = package.get(LEAF_AT..)?;
    let package = [package, &mls_signature("LeafNodeTBS", leaf), extensions].concat();
    let signature = mls_signature("KeyPackageTBS", &package);
    Some([package, signature].concat())
}

/// `SignWithLabel` by the device, as a vector.
fn mls_signature(label: &str, content: &[u8]) -> Vec<u8> {
    let label = format!("MLS 1.0 {label}");
    let tbs = [vector(label.as_bytes()), vector(content)].concat();
    vector(&KEYS.device.sign(&tbs).to_bytes())
}

/// A `<V>` vector of less than 2^30 bytes (RFC 9420 section 2.1.2).
pub(crate) fn vector(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("below 2^30");
    let [a, b, c, d] = len.to_be_bytes();
    let prefix: &[u8] = match len {
        0..0x40 => &[d],
        0x40..0x4000 => &[c | 0x40, d],
        _ => &[a | 0x80, b, c, d],
    };
    [prefix, bytes].concat()
}
