//! Joining: a refused Welcome costs nothing, a tampered one never joins.

use ed25519_dalek::SigningKey;
use openmls::prelude::tls_codec::{Deserialize as _, Serialize as _};
use openmls::prelude::{KeyPackage, KeyPackageIn, ProtocolVersion};
use qpc_credential::{Certificate, CertificateBody};
use qpc_mls::engine::CommitPlan;
use qpc_mls::{Device, Engine, MlsError};
use qpc_proto::ChannelId;
use qpc_proto::message::{ChannelKind, WelcomePointer};
use qpc_proto::roster::RosterChange;

use super::hostile::{Attack, Lie};
use super::support::{
    Entry, GROUP, Party, aad, adding, assert_in_step, certificate, context, crypto, now_ms,
    pointer, sign, trio,
};
use super::void::forged_package;

/// Alice has added Bob; Bob has not joined yet.
fn invited() -> (Party, Party, Entry) {
    let (mut alice, mut bob) = (Party::new(10), Party::new(20));
    let context = context(&[&alice]);
    alice.create(&context);
    let plan = adding(&[&bob.key_package()]);
    let entry = alice.commit(0, &plan);
    alice.merge(&entry);
    (alice, bob, entry)
}

fn refused(party: &mut Party, pointer: &WelcomePointer, welcome: &[u8]) {
    let before = party.state();
    let joined = party.try_join(pointer, welcome);
    // Whose key is named wrongly, or is used up, is of no home.
    let refused = matches!(joined, Err(MlsError::Refused(_) | MlsError::UnknownKeyPackage));
    assert!(refused, "{joined:?}");
    assert_eq!(party.state(), before, "a refused Welcome left a trace");
}

#[test]
fn a_refused_welcome_keeps_the_init_key() {
    let (mut alice, mut bob, entry) = invited();
    let welcome = entry.welcome.clone().unwrap();
    let named = pointer(&welcome);
    refused(&mut bob, &WelcomePointer { channel: ChannelId([1; 16]), ..named }, &welcome);
    refused(&mut bob, &WelcomePointer { kind: ChannelKind::Direct, ..named }, &welcome);
    let mut other = welcome.clone();
    other[10] ^= 1;
    refused(&mut bob, &named, &other);
    bob.reopen();
    assert_eq!(bob.join(&entry).inviter.device(), alice.id());
    assert_in_step(&mut [&mut alice, &mut bob]);
}

#[test]
fn case_119_a_tampered_welcome_does_not_join_and_stores_nothing() {
    let (mut alice, mut bob, entry) = invited();
    let welcome = entry.welcome.clone().unwrap();
    let last = welcome.len() - 1;
    for at in (0..welcome.len()).step_by(17).chain([last]) {
        let mut flipped = welcome.clone();
        flipped[at] ^= 0x20;
        refused(&mut bob, &pointer(&flipped), &flipped);
        refused(&mut bob, &pointer(&welcome[..at]), &welcome[..at]);
    }
    bob.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob]);
}

#[test]
fn a_welcome_joins_once() {
    let (_, mut bob, entry) = invited();
    bob.join(&entry);
    let welcome = entry.welcome.unwrap();
    refused(&mut bob, &pointer(&welcome), &welcome);
}

#[test]
fn a_last_resort_key_package_joins_more_than_once() {
    let (mut alice, mut bob) = (Party::new(10), Party::new(20));
    let context = context(&[&alice]);
    let package = bob.run(|engine, tx| engine.key_package(tx, true, now_ms())).unwrap();
    alice.create(&context);
    let entry = alice.commit(0, &adding(&[&package]));
    alice.merge(&entry);
    bob.join(&entry);
    let out = alice.commit(1, &super::support::removing(&[&bob]));
    alice.merge(&out);
    bob.judge(&out);
    let entry = alice.commit(2, &adding(&[&package]));
    alice.merge(&entry);
    bob.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob]);
}

#[test]
fn a_welcome_of_a_member_that_was_removed_replaces_the_old_group() {
    let (mut alice, mut bob, entry) = invited();
    bob.join(&entry);
    let out = alice.commit(1, &super::support::removing(&[&bob]));
    alice.merge(&out);
    bob.judge(&out);
    let again = alice.commit(2, &adding(&[&bob.key_package()]));
    alice.merge(&again);
    bob.join(&again);
    assert_in_step(&mut [&mut alice, &mut bob]);
    let entry = bob.commit(3, &CommitPlan::default());
    bob.merge(&entry);
    assert!(matches!(alice.judge(&entry), qpc_mls::Verdict::Applied(_)));
}

/// A Welcome for Dave of an inviter who signs other bytes than its group has.
fn forged(alice: &mut Party, dave: &mut Party, (from, to): (&[u8], &[u8])) -> Vec<u8> {
    let package = dave.key_package();
    let package = KeyPackageIn::tls_deserialize_exact(&package.bytes)
        .unwrap()
        .validate(&crypto(), ProtocolVersion::Mls10)
        .unwrap();
    let lie = Lie::Swap(from.to_vec(), to.to_vec());
    let attack = Attack { adds: vec![package], lie, ..Attack::default() };
    let change = RosterChange { adds: [dave.id()].into(), ..RosterChange::default() };
    alice.attack_with_welcome(&aad(1, &change, &[]), attack).1.unwrap()
}

#[test]
fn case_119_a_tree_that_the_inviter_forged_does_not_join_and_stores_nothing() {
    let [mut alice, _bob, carol] = trio();
    let mut dave = Party::new(40);
    let key = alice.leaf_key_of(&carol);
    let mut other_key = key.clone();
    other_key[5] ^= 1;
    let certificate = carol.certificate.as_bytes().to_vec();
    let mut other_certificate = certificate.clone();
    *other_certificate.last_mut().unwrap() ^= 1;
    for (from, to) in [
        // A leaf's key, which its signature and the tree hash cover.
        (&key[..], &other_key[..]),
        (&certificate[..], &other_certificate[..]),
        // The GroupContext, which all keys depend on.
        (b"Fishing", b"Phishin"),
        (&GROUP[..], &[8; 32][..]),
    ] {
        let welcome = forged(&mut alice, &mut dave, (from, to));
        refused(&mut dave, &pointer(&welcome), &welcome);
    }
    // The same without a lie joins.
    let welcome = forged(&mut alice, &mut dave, (b"Fishing", b"Fishing"));
    dave.try_join(&pointer(&welcome), &welcome).unwrap();
}

/// The number of rows of HPKE keys that a member keeps for its groups.
fn epoch_keys(party: &mut Party) -> u64 {
    let count = "SELECT count(*) FROM mls_epoch_key_pairs";
    party.run(|_, tx| Ok(tx.query_row(count, [], |row| row.get(0))?)).unwrap()
}

/// What could open what was sealed in the old membership goes with it.
#[test]
fn a_group_joined_anew_or_forgotten_leaves_no_keys() {
    let [mut alice, mut bob, mut carol] = trio();
    let before = epoch_keys(&mut bob);
    assert!(before > 0);
    let plan = CommitPlan { removes: [bob.id()].into(), ..adding(&[&bob.key_package()]) };
    let entry = alice.commit(1, &plan);
    alice.merge(&entry);
    carol.judge(&entry);
    bob.judge(&entry);
    bob.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(epoch_keys(&mut bob), before);
    let group = bob.group;
    bob.run(|engine, tx| engine.forget(tx, &group)).unwrap();
    assert_eq!(epoch_keys(&mut bob), 0);
}

/// The tree is sound for the library: the leaf has signed itself.
#[test]
fn a_tree_with_a_ghost_whose_certificate_is_none_does_not_join() {
    for wrong in 0..2 {
        let [mut alice, _bob, _carol] = trio();
        let mut ghost = Party::new(40);
        let (signer, credential) = if wrong == 0 {
            // That of another device, over a key of the ghost's.
            (Party::new(50), certificate((40, 42), now_ms() + 1_000_000_000).as_bytes().to_vec())
        } else {
            let mut unsigned = ghost.certificate.as_bytes().to_vec();
            *unsigned.last_mut().unwrap() ^= 1;
            (Party::new(40), unsigned)
        };
        let package = forged_package(&mut ghost, &signer, credential);
        let adds = vec![package.tls_serialize_detached().unwrap()];
        alice.commit(1, &CommitPlan { adds, ..CommitPlan::default() });
        // Void for whoever judges it; a liar does not.
        alice.run(|engine, tx| engine.merge_pending(tx, &GROUP)).unwrap();
        let mut dave = Party::new(60);
        let entry = alice.commit(2, &adding(&[&dave.key_package()]));
        let welcome = entry.welcome.unwrap();
        let before = dave.state();
        let joined = dave.try_join(&pointer(&welcome), &welcome);
        let refused = matches!(joined, Err(MlsError::Refused(_) | MlsError::Credential(_)));
        assert!(refused, "{wrong}: {joined:?}");
        assert_eq!(dave.state(), before, "a refused Welcome left a trace");
    }
}

/// A KeyPackage of device 60 whose leaf holds `certificate` and is signed by the key of a seed.
fn ghost(certificate: Vec<u8>, seed: u8) -> KeyPackage {
    let mut signer = Party::new(60);
    let key = SigningKey::from_bytes(&[seed; 32]);
    signer.engine = Engine::new(Device::new(signer.id(), certificate.clone(), key));
    forged_package(&mut Party::new(60), &signer, certificate)
}

/// The tree is what the inviter has signed, and all but one signature in it are good.
#[test]
fn a_tree_with_one_wrong_signature_among_many_does_not_join() {
    let good = certificate((60, 62), now_ms() + 1_000_000_000);
    let by = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    let stated = |root: u8| good.account_key.sign(sign(&by(root)));
    let body = CertificateBody {
        list_version: good.list_version,
        entry: good.entry,
        name: good.name.clone(),
    };
    let certified =
        |root, primary| Certificate::sign(&stated(root), &body, sign(&by(primary))).to_vec();
    let mut alice = Party::new(10);
    alice.create(&context(&[&alice]));
    let packages: Vec<_> = (0..8).map(|n| Party::new(100 + 3 * n).key_package()).collect();
    let entry = alice.commit(0, &adding(&packages.iter().collect::<Vec<_>>()));
    alice.merge(&entry);
    let mut dave = Party::new(40);
    let package = dave.key_package();
    let read = KeyPackageIn::tls_deserialize_exact(&package.bytes).unwrap();
    let own = read.validate(&crypto(), ProtocolVersion::Mls10).unwrap();
    let devices = [dave.id(), good.device()];
    let mut welcome_beside = |ghost: KeyPackage| {
        let change = RosterChange { adds: devices.into(), ..RosterChange::default() };
        let adds = vec![ghost, own.clone()];
        let attack = Attack { adds, ..Attack::default() };
        alice.attack_with_welcome(&aad(1, &change, &[]), attack).1.unwrap()
    };
    for ((root, primary, device), error) in [
        ((60, 61, 99), "refused: the Welcome does not verify"),
        ((60, 99, 62), "signed identity object refused: certificate: wrong signature"),
        ((99, 61, 62), "signed identity object refused: account key: wrong signature"),
    ] {
        let welcome = welcome_beside(ghost(certified(root, primary), device));
        let before = dave.state();
        let refused = dave.try_join(&pointer(&welcome), &welcome).unwrap_err();
        assert_eq!(refused.to_string(), error);
        assert_eq!(dave.state(), before, "a refused Welcome left a trace");
    }
    // The same with a sound one joins, by the same KeyPackage.
    let welcome = welcome_beside(ghost(certified(60, 61), 62));
    let joined = dave.try_join(&pointer(&welcome), &welcome).unwrap();
    assert_eq!(joined.view.members.len(), 11);
}
