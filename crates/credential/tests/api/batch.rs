//! Signatures and certificates that are checked together.

use curve25519_dalek::constants::EIGHT_TORSION;
use qpc_credential::{
    AccountKey, Certificate, CertificateBody, Certificates, CredentialError, DeviceEntry,
    Signatures, verify,
};
use qpc_proto::{Digest, PublicKey, Signature};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use crate::fixtures::{Account, Key};
use crate::objects::{WEAK, entry, refuses_every_change, weak_signature};

const COUNT: u8 = 50;
/// Order of the prime subgroup, little-endian.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

const NO_POINT: PublicKey = {
    let mut key = [0; 32];
    key[0] = 2;
    PublicKey(key)
};

type Signed = (PublicKey, Vec<u8>, Signature);

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

fn signed(seed: u8) -> Signed {
    let message = vec![seed; usize::from(seed)];
    (Key::of(seed).public(), message.clone(), Key::of(seed).sign(&message))
}

fn together(all: &[Signed], seed: u8) -> Result<(), CredentialError> {
    let mut signatures = Signatures::default();
    for (key, message, signature) in all {
        signatures.put_off(key, message, signature)?;
    }
    signatures.verify(&mut rng(seed))
}

/// The same signature with the order added to s.
fn other_scalar(signature: &Signature) -> Signature {
    let order = Digest::from_hex(ORDER).unwrap();
    let mut bytes = *signature.as_bytes();
    let mut carry = 0;
    for (byte, add) in bytes[32..].iter_mut().zip(order.as_bytes()) {
        let sum = u16::from(*byte) + u16::from(*add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    Signature(bytes)
}

#[test]
fn one_wrong_signature_among_many_is_refused_wherever_it_stands() {
    let good: Vec<Signed> = (0..COUNT).map(signed).collect();
    assert_eq!(together(&[], 0), Ok(()));
    assert_eq!(together(&good, 0), Ok(()));
    let spoils: [fn(&mut Signed); 7] = [
        |(_, message, _)| message.push(0),
        |(key, _, _)| *key = Key::of(200).public(),
        |(_, _, signature)| signature.0[0] ^= 1,
        |(_, _, signature)| signature.0[32] ^= 1,
        |(_, _, signature)| *signature = other_scalar(signature),
        |(key, _, signature)| (*key, *signature) = (WEAK, weak_signature()),
        // No curve point.
        |(key, _, _)| *key = NO_POINT,
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        for at in [0, 1, 24, 49] {
            let mut all = good.clone();
            spoil(&mut all[at]);
            assert_eq!(together(&all, 0), Err(CredentialError::Signature), "{number} at {at}");
        }
    }
}

/// All encodings of points of small order, those whose y is not reduced or whose x is -0 too.
#[test]
fn no_weak_key_gets_into_a_batch_however_it_is_written() {
    let torsion = EIGHT_TORSION.map(|point| point.compress().0);
    // From p to 2^255 - 1.
    let unreduced = (0xed..=0xff_u8).map(|low| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        bytes
    });
    let mut weak = 0;
    for bytes in torsion.into_iter().chain(unreduced) {
        for sign in [0, 0x80] {
            let mut key = bytes;
            key[31] ^= sign;
            let put_off = Signatures::default().put_off(&PublicKey(key), b"", &weak_signature());
            assert_eq!(put_off, Err(CredentialError::Signature), "{key:?}");
            let read = ed25519_dalek::VerifyingKey::from_bytes(&key);
            weak += u8::from(read.is_ok_and(|key| key.is_weak()));
        }
    }
    // Each of the eight with either sign, and four more ways to write them.
    assert_eq!(weak, 20);
}

/// What is wrong with one is not made good by what is wrong with another.
#[test]
fn two_wrong_signatures_do_not_cancel_out() {
    let (first, second) = (signed(1), signed(2));
    let (mut one, mut other) = (first.clone(), second.clone());
    one.2.0[32] ^= 1;
    other.2.0[32] ^= 1;
    assert!(together(&[one, other], 0).is_err());
    let swapped = [(first.0, first.1, second.2), (second.0, second.1, first.2)];
    assert!(together(&swapped, 0).is_err());
}

/// Vector 4 of "Taming the many EdDSAs" (ed25519-speccheck): key and R have a part of small order,
/// and the equation holds only times the cofactor.
#[test]
fn a_signature_that_only_its_signer_can_make_lax_is_judged_alike_in_every_batch() {
    let lax: Signed = (
        PublicKey::from_hex("cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d")
            .unwrap(),
        Digest::from_hex("e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c")
            .unwrap()
            .as_bytes()
            .to_vec(),
        Signature::from_hex(
            "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512\
             5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        )
        .unwrap(),
    );
    assert!(verify(&lax.0, &lax.1, &lax.2).is_err());
    for seed in 0..COUNT {
        let all: Vec<Signed> = (0..seed).map(signed).chain([lax.clone()]).collect();
        assert_eq!(together(&all, seed), Ok(()));
    }
}

fn all_of(certificates: &[&[u8]]) -> Result<Vec<Certificate>, CredentialError> {
    let mut read = Certificates::default();
    for bytes in certificates {
        read.push(bytes)?;
    }
    read.verify(&mut rng(0))
}

#[test]
fn one_of_many_certificates_is_verified_as_it_would_be_alone() {
    let account = Account::of(1);
    let (own, stranger) = (account.certificate(), Account::of(7).certificate());
    let among = |bytes: &[u8]| all_of(&[&own, bytes, &stranger]);
    let other = CertificateBody { entry: entry(7), ..account.body() };
    let other = Certificate::sign(&account.statement(), &other, |tbs| account.primary.sign(tbs));
    refuses_every_change(&other, |bytes| among(bytes).is_ok());
    let alone = [&own, &other, &stranger].map(|bytes| Certificate::verify(bytes).unwrap());
    assert_eq!(among(&other).unwrap(), alone);
    let wrong = |tbs: &[u8]| Account::of(2).device_key.sign(tbs);
    let signed_by_another = Certificate::sign(&account.statement(), &account.body(), wrong);
    let stated_by_another =
        Certificate::sign(&account.account_key().sign(wrong), &account.body(), |tbs| {
            account.primary.sign(tbs)
        });
    let weak_device =
        CertificateBody { entry: DeviceEntry { key: WEAK, ..entry(7) }, ..account.body() };
    let weak_device =
        Certificate::sign(&account.statement(), &weak_device, |tbs| account.primary.sign(tbs));
    let weak = |key: AccountKey| {
        let statement = key.sign(|_| weak_signature());
        Certificate::sign(&statement, &account.body(), |tbs| account.primary.sign(tbs))
    };
    let weak_root = weak(AccountKey { root: WEAK, ..account.account_key() });
    let weak_primary = AccountKey { key: WEAK, ..account.account_key() };
    let weak_primary = weak_primary.sign(|tbs| account.root.sign(tbs));
    let weak_primary = Certificate::sign(&weak_primary, &account.body(), |_| weak_signature());
    for bytes in [signed_by_another, stated_by_another, weak_device, weak_root, weak_primary] {
        assert!(among(&bytes).is_err() && Certificate::verify(&bytes).is_err());
    }
}

/// They are checked with what was put off before.
#[test]
fn signatures_beside_certificates_are_checked_with_them() {
    let certificate = Account::of(1).certificate();
    for (key, good) in [(Key::of(9), true), (Key::of(10), false)] {
        let mut signatures = Signatures::default();
        signatures.put_off(&key.public(), b"a leaf", &Key::of(9).sign(b"a leaf")).unwrap();
        let mut read = Certificates::with(signatures);
        read.push(&certificate).unwrap();
        assert_eq!(read.verify(&mut rng(0)).is_ok(), good);
    }
}
