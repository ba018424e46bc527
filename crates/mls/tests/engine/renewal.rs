//! A device goes on under a renewed certificate: it comes into its leaf by a Commit, all judge that
//! alike, and who joins later verifies it.

use openmls::prelude::{BasicCredential, CredentialWithKey, LeafNodeParameters};
use qpc_credential::Certificate;
use qpc_mls::engine::CommitPlan;
use qpc_mls::{Verdict, VoidReason};
use qpc_proto::roster::RosterChange;

use super::hostile::Attack;
use super::support::{
    Entry, Party, aad, adding, applies, assert_in_step, certificate_over, now_ms, trio,
};

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// The certificate in a device's leaf, as a member sees it.
fn shown(party: &mut Party, of: &Certificate) -> Certificate {
    let view = party.view();
    let leaf = view.members.iter().find(|leaf| leaf.certificate.device() == of.device());
    leaf.unwrap().certificate.clone()
}

/// Bob's certificate with another end, signed by the account key with a list of version 2.
fn renewed(not_after_ms: u64) -> Certificate {
    certificate_over((20, 22, 22), (2, not_after_ms))
}

/// Bob's own engine takes it, and makes honest Commits.
fn renew(trio: &mut [Party; 3]) -> Certificate {
    let certificate = renewed(now_ms() + 3 * YEAR_MS);
    trio[1].engine.renew(certificate.as_bytes().to_vec());
    certificate
}

#[test]
fn a_renewed_certificate_comes_into_the_leaf_by_a_commit_and_all_see_it() {
    let mut trio = trio();
    let certificate = renew(&mut trio);
    let entry = trio[1].commit(1, &CommitPlan::default());
    assert_eq!(entry.change, RosterChange::default().encode());
    trio[1].merge(&entry);
    for at in [0, 2] {
        assert_ne!(shown(&mut trio[at], &certificate), certificate);
        applies(&mut trio[at], &entry);
    }
    for party in &mut trio {
        assert_eq!(shown(party, &certificate), certificate);
        party.reopen();
        assert_eq!(shown(party, &certificate), certificate);
    }
    // It stays: the next Commit has nothing to renew, and messages go as before.
    let next = trio[1].commit(2, &CommitPlan::default());
    trio[1].merge(&next);
    applies(&mut trio[0], &next);
    applies(&mut trio[2], &next);
    let sealed = trio[1].seal(3, b"as before");
    trio[0].reads(&sealed, b"as before");
    assert_eq!(shown(&mut trio[2], &certificate), certificate);
    let [a, b, c] = &mut trio;
    assert_in_step(&mut [a, b, c]);
}

#[test]
fn a_commit_that_was_dropped_renews_nothing() {
    let mut trio = trio();
    let before = trio[1].certificate.clone();
    renew(&mut trio);
    trio[1].commit(1, &CommitPlan::default());
    trio[1].clear();
    assert_eq!(shown(&mut trio[1], &before), before);
    // Another's Commit came first; the next own one takes it along.
    let other = trio[0].commit(1, &CommitPlan::default());
    trio[0].merge(&other);
    applies(&mut trio[1], &other);
    applies(&mut trio[2], &other);
    let entry = trio[1].commit(2, &CommitPlan::default());
    trio[1].merge(&entry);
    applies(&mut trio[0], &entry);
    assert_eq!(shown(&mut trio[0], &before).list_version, 2);
}

#[test]
fn who_is_invited_after_a_renewal_verifies_it() {
    let mut trio = trio();
    let certificate = renewed(now_ms() + 3 * YEAR_MS);
    // Alice is the admin, so it is she who renews and invites in one Commit, and in the next.
    let own = certificate_over((10, 12, 12), (2, now_ms() + 3 * YEAR_MS));
    trio[0].engine.renew(own.as_bytes().to_vec());
    let (mut dave, mut erin) = (Party::new(40), Party::new(50));
    let with = trio[0].commit(1, &adding(&[&dave.key_package()]));
    trio[0].merge(&with);
    let joined = dave.join(&with);
    assert_eq!(joined.inviter, own);
    for at in [1, 2] {
        applies(&mut trio[at], &with);
    }
    trio[1].engine.renew(certificate.as_bytes().to_vec());
    let update = trio[1].commit(2, &CommitPlan::default());
    trio[1].merge(&update);
    applies(&mut dave, &update);
    applies(&mut trio[0], &update);
    let after = trio[0].commit(3, &adding(&[&erin.key_package()]));
    trio[0].merge(&after);
    assert_eq!(erin.join(&after).inviter, own);
    assert_eq!(shown(&mut erin, &certificate), certificate);
    assert_eq!(shown(&mut erin, &own), own);
    // A KeyPackage that was made after a renewal has the new certificate, too.
    let mut fay = Party::new(60);
    let newer = certificate_over((60, 62, 62), (2, now_ms() + 3 * YEAR_MS));
    fay.engine.renew(newer.as_bytes().to_vec());
    let last = trio[0].commit(4, &adding(&[&fay.key_package()]));
    trio[0].merge(&last);
    applies(&mut erin, &last);
    fay.join(&last);
    assert_eq!(shown(&mut erin, &newer), newer);
}

fn attacked(trio: &mut [Party; 3], taken: &Certificate) -> Entry {
    let own = trio[1].certificate.entry.key.as_bytes().to_vec();
    let leaf = LeafNodeParameters::builder()
        .with_credential_with_key(CredentialWithKey {
            credential: BasicCredential::new(taken.as_bytes().to_vec()).into(),
            signature_key: own.into(),
        })
        .build();
    let change = RosterChange::default();
    let attack = Attack { leaf: Some(leaf), ..Attack::default() };
    Entry {
        payload: trio[1].attack(&aad(1, &change, &[]), attack),
        change: change.encode(),
        statements: Vec::new(),
        accepted_at_ms: now_ms(),
        welcome: None,
    }
}

/// Alice and Carol give the same verdict; nothing is changed by a void Commit.
fn judged(trio: &mut [Party; 3], entry: &Entry) -> bool {
    let verdicts = [0, 2].map(|at: usize| {
        let before = trio[at].state();
        let verdict = trio[at].judge(entry);
        if !matches!(verdict, Verdict::Applied(_)) {
            assert_eq!(verdict, Verdict::Void(VoidReason::Certificate));
            assert_eq!(trio[at].state(), before);
        }
        matches!(verdict, Verdict::Applied(_))
    });
    assert_eq!(verdicts[0], verdicts[1]);
    verdicts[0]
}

#[test]
fn only_a_later_certificate_of_the_same_device_and_key_renews_a_leaf() {
    let later = now_ms() + 3 * YEAR_MS;
    let certificate = |account, device, key| certificate_over((account, device, key), (2, later));
    let good = certificate(20, 22, 22);
    let mut world = trio();
    let entry = attacked(&mut world, &good);
    assert!(judged(&mut world, &entry));
    let of_another_account = certificate(30, 22, 22);
    let of_another_device = certificate(20, 23, 22);
    let of_another_key = certificate(20, 22, 23);
    let sooner = renewed(now_ms() + YEAR_MS / 2);
    for wrong in [of_another_account, of_another_device, of_another_key, sooner] {
        let mut world = trio();
        let entry = attacked(&mut world, &wrong);
        assert!(!judged(&mut world, &entry), "{wrong:?}");
    }
}

#[test]
fn case_130_a_renewal_that_had_ended_when_accepted_is_void_and_an_ended_leaf_is_not() {
    let ends = now_ms() + 2 * YEAR_MS;
    let mut world = trio();
    let mut entry = attacked(&mut world, &renewed(ends));
    entry.accepted_at_ms = ends + 1;
    assert!(!judged(&mut world, &entry));
    entry.accepted_at_ms = ends;
    assert!(judged(&mut world, &entry));
    // A leaf whose certificate has ended goes on, for all alike, and may still be renewed.
    let mut world = trio();
    let mut update = world[1].commit(1, &CommitPlan::default());
    update.accepted_at_ms = now_ms() + 2 * YEAR_MS;
    assert!(judged(&mut world, &update));
    world[1].merge(&update);
    renew(&mut world);
    let mut late = world[1].commit(2, &CommitPlan::default());
    late.accepted_at_ms = now_ms() + 2 * YEAR_MS;
    assert!(judged(&mut world, &late));
}
