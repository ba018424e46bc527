//! Admission of KeyPackages: what policy, MLS and the certificate each refuse.

use openmls::prelude::tls_codec::{Deserialize as _, Serialize as _};
use openmls::prelude::*;
use openmls_rust_crypto::RustCrypto;
use qpc_credential::{CredentialError, admit_key_package, key_package_ref, lifetime};
use qpc_proto::{ErrorBody, ErrorCode, ErrorDetail};

use crate::fixtures::{Account, Key, NOW_MS, SUITE, build, flipped, package_at};

fn code(bytes: &[u8]) -> ErrorCode {
    admit_key_package(bytes, NOW_MS).unwrap_err().code()
}

fn with_capabilities(capabilities: CapabilitiesBuilder) -> KeyPackageBuilder {
    package_at(NOW_MS).leaf_node_capabilities(capabilities.build())
}

fn last_resort() -> KeyPackageBuilder {
    with_capabilities(Capabilities::builder().extensions(vec![ExtensionType::LastResort]))
        .mark_as_last_resort()
}

#[test]
fn a_key_package_of_policy_is_admitted() {
    let account = Account::of(1);
    let bytes = account.key_package();
    let admitted = admit_key_package(&bytes, NOW_MS).unwrap();
    assert_eq!(admitted.device, account.device());
    assert_eq!(admitted.certificate.as_bytes(), &account.certificate());
    assert_eq!(admitted.issued_at_ms, NOW_MS);
    assert!(!admitted.last_resort);
    let last = account.build(last_resort(), account.credential());
    let late = NOW_MS - 1;
    assert!(admit_key_package(&last, late).unwrap().last_resort);
    assert_ne!(key_package_ref(&last).unwrap(), admitted.reference);
}

#[test]
fn the_reference_is_what_openmls_computes() {
    let bytes = Account::of(1).key_package();
    let admitted = admit_key_package(&bytes, NOW_MS).unwrap();
    let crypto = RustCrypto::default();
    let reference =
        hash_ref::make_key_package_ref(&bytes, SUITE, &crypto).expect("hashing does not fail");
    assert_eq!(admitted.reference.as_bytes(), reference.as_slice());
}

/// The system clock never decides, on either side of it; nor does leaving it aside let anything in.
#[test]
fn only_now_ms_judges_the_lifetime() {
    let mut account = Account::of(1);
    account.entry.not_after_ms = u64::MAX;
    for now_ms in [1_000_000_000_000, 10_000_000_000_000] {
        let bytes = account.build(package_at(now_ms), account.credential());
        let parsed = KeyPackageIn::tls_deserialize_exact(&bytes).unwrap();
        let verdict = parsed.validate(&RustCrypto::default(), ProtocolVersion::Mls10);
        assert!(matches!(verdict, Err(KeyPackageVerifyError::LifetimeError(_))));
        assert!(admit_key_package(&bytes, now_ms).is_ok());
        let forged = flipped(&bytes, bytes.len() - 1);
        assert!(admit_key_package(&forged, now_ms).is_err());
        let hour = 3_600 * 1_000;
        assert!(admit_key_package(&bytes, now_ms + 25 * hour).is_ok());
        let late = admit_key_package(&bytes, now_ms + 25 * hour + 1);
        assert_eq!(late, Err(CredentialError::Lifetime));
    }
}

#[test]
fn case_079_lifetime_above_policy() {
    let account = Account::of(1);
    let (not_before, not_after) = lifetime::issued_at(NOW_MS);
    for (not_before, not_after) in [
        (not_before, not_after + 1),
        (not_before - 1, not_after),
        (not_before, not_after + 10 * 365 * 24 * 3_600),
        (0, u64::MAX),
    ] {
        let builder =
            KeyPackage::builder().key_package_lifetime(Lifetime::init(not_before, not_after));
        let bytes = account.build(builder, account.credential());
        let refused = admit_key_package(&bytes, NOW_MS);
        assert_eq!(refused, Err(CredentialError::Lifetime));
    }
}

#[test]
fn case_081_every_flipped_byte_and_cut_is_refused() {
    let bytes = Account::of(1).key_package();
    for at in 0..bytes.len() {
        let other = flipped(&bytes, at);
        assert!(admit_key_package(&other, NOW_MS).is_err(), "flipped at {at}");
        assert!(admit_key_package(&bytes[..at], NOW_MS).is_err(), "cut at {at}");
    }
    assert!(admit_key_package(&[bytes.as_slice(), &[0]].concat(), NOW_MS).is_err());
    assert_eq!(code(&vec![0; 8 * 1024 + 1]), ErrorCode::KeyPackageInvalid);
}

#[test]
fn case_081_foreign_key() {
    let (account, thief) = (Account::of(1), Account::of(11));
    let stolen =
        CredentialWithKey { credential: account.credential().credential, ..thief.credential() };
    let bytes = thief.build(package_at(NOW_MS), stolen);
    assert_eq!(code(&bytes), ErrorCode::CredentialMismatch);
    // The certified key stands in the leaf, but the thief signed.
    let bytes = build(package_at(NOW_MS), SUITE, &thief.device_key, account.credential());
    assert_eq!(code(&bytes), ErrorCode::KeyPackageInvalid);
}

#[test]
fn case_081_foreign_certificate() {
    let mut account = Account::of(1);
    account.primary = Key::of(90);
    let own = Account::of(1).statement();
    let certificate =
        qpc_credential::Certificate::sign(&own, &account.body(), |tbs| account.primary.sign(tbs));
    for identity in [certificate.to_vec(), b"ada".to_vec(), Vec::new()] {
        let credential = CredentialWithKey {
            credential: BasicCredential::new(identity).into(),
            ..account.credential()
        };
        let bytes = account.build(package_at(NOW_MS), credential);
        assert_eq!(code(&bytes), ErrorCode::IdentityInvalid);
    }
}

/// SignWithLabel (RFC 9420 section 5.1.2) over the KeyPackage before its signature.
fn resign(bytes: &mut [u8], signer: &Key) {
    let vector = |bytes: &[u8]| VLBytes::from(bytes).tls_serialize_detached().unwrap();
    let (tbs, signature) = bytes.split_at_mut(bytes.len() - 66);
    let content = [vector(b"MLS 1.0 KeyPackageTBS"), vector(tbs)].concat();
    signature[2..].copy_from_slice(signer.sign(&content).as_bytes());
}

#[test]
fn case_081_init_key_equals_encryption_key() {
    let account = Account::of(1);
    let mut bytes = account.key_package();
    resign(&mut bytes, &account.device_key);
    assert!(admit_key_package(&bytes, NOW_MS).is_ok());
    let encryption_key = bytes[38..70].to_vec();
    bytes[5..37].copy_from_slice(&encryption_key);
    resign(&mut bytes, &account.device_key);
    assert_eq!(
        admit_key_package(&bytes, NOW_MS),
        Err(CredentialError::KeyPackage("init key and encryption key are the same"))
    );
}

#[test]
fn case_082_unknown_suite_version_or_credential_type() {
    let account = Account::of(1);
    let other = build(
        package_at(NOW_MS),
        Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
        &account.device_key,
        account.credential(),
    );
    let good = account.key_package();
    let patched = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let x509 = account.build(
        package_at(NOW_MS),
        CredentialWithKey {
            credential: Credential::new(CredentialType::X509, vec![1; 8]),
            ..account.credential()
        },
    );
    for bytes in [other, patched(1, 2), patched(2, 0xfa), patched(3, 0), x509] {
        let error = admit_key_package(&bytes, NOW_MS).unwrap_err();
        let body = ErrorBody::from(error);
        assert_eq!(body.code, ErrorCode::UnsupportedCiphersuite);
        assert_eq!(body.detail, Some(ErrorDetail::Ciphersuites(vec![1])));
    }
}

#[test]
fn a_leaf_must_be_able_to_what_it_uses() {
    let account = Account::of(1);
    let all = Capabilities::builder;
    for capabilities in [
        all().ciphersuites(vec![Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256]),
        all().credentials(vec![CredentialType::X509]),
        all().versions(vec![ProtocolVersion::Other(7)]),
    ] {
        let bytes = account.build(with_capabilities(capabilities), account.credential());
        assert_eq!(code(&bytes), ErrorCode::KeyPackageInvalid);
    }
    let silent = package_at(NOW_MS).mark_as_last_resort();
    let bytes = account.build(silent, account.credential());
    assert_eq!(code(&bytes), ErrorCode::KeyPackageInvalid);
}

#[test]
fn extensions_without_a_place_are_refused_and_unknown_ones_are_not() {
    let account = Account::of(1);
    let mark = Extension::ApplicationId(ApplicationIdExtension::new(b"mark"));
    let builder = package_at(NOW_MS).leaf_node_extensions(Extensions::single(mark).unwrap());
    let bytes = account.build(builder, account.credential());
    assert_eq!(code(&bytes), ErrorCode::KeyPackageInvalid);
    let unknown = Extension::Unknown(0xf1f1, UnknownExtension(vec![1, 2, 3]));
    let listed = Capabilities::builder().extensions(vec![ExtensionType::Unknown(0xf1f1)]);
    let builder =
        with_capabilities(listed).key_package_extensions(Extensions::single(unknown).unwrap());
    let bytes = account.build(builder, account.credential());
    assert!(admit_key_package(&bytes, NOW_MS).is_ok());
}

#[test]
fn a_device_past_its_time_is_refused() {
    let account = Account::of(1);
    let bytes = account.key_package();
    let not_after = account.entry.not_after_ms;
    assert!(admit_key_package(&bytes, not_after - 1).is_ok());
    let refused = admit_key_package(&bytes, not_after);
    assert_eq!(refused, Err(CredentialError::DeviceExpired));
}
