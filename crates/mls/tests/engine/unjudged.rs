//! Commits that one member alone cannot judge: its state stays, and it says why.

use qpc_mls::engine::CommitPlan;
use qpc_mls::{Unjudged, Verdict};
use qpc_proto::roster::RosterChange;

use super::hostile::{Attack, Lie};
use super::support::{Entry, Party, aad, assert_in_step, context, now_ms, removing, trio};

fn self_update(committer: &mut Party, lie: Lie) -> Entry {
    let change = RosterChange::default();
    let attack = Attack { lie, ..Attack::default() };
    Entry {
        payload: committer.attack(&aad(1, &change, &[]), attack),
        change: change.encode(),
        statements: Vec::new(),
        accepted_at_ms: now_ms(),
        welcome: None,
    }
}

#[test]
fn case_120_a_path_that_one_member_cannot_open_is_unjudged_by_that_member_alone() {
    for other_secret in [false, true] {
        let [mut alice, mut bob, mut carol] = trio();
        let key = bob.leaf_key_of(&carol);
        let lie = if other_secret { Lie::OtherSecretFor(key) } else { Lie::RubbishFor(key) };
        let entry = self_update(&mut bob, lie);
        let before = carol.state();
        assert_eq!(carol.judge(&entry), Verdict::Unjudged(Unjudged::Path));
        assert_eq!(carol.committer(&entry), Some(bob.id()));
        assert_eq!(carol.state(), before, "an unjudged Commit left a trace");
        assert!(matches!(alice.judge(&entry), Verdict::Applied(_)));
        // The victim goes on from its own base: what it seals is of the old epoch.
        let mut dave = Party::new(40);
        assert!(carol.try_commit(1, &removing(&[&bob])).is_ok());
        let (old, new) = (carol.view().epoch, alice.view().epoch);
        assert_eq!(new, old + 1);
        drop(dave.key_package());
    }
}

/// Who is left out is told by nothing but the sealed sender data of a Commit that it can't open.
#[test]
fn case_120_half_of_a_group_knows_whose_commit_the_other_half_applied() {
    let [mut alice, mut bob, mut carol] = trio();
    let keys = vec![bob.leaf_key_of(&carol), bob.leaf_key_of(&alice)];
    let entry = self_update(&mut bob, Lie::RubbishForAll(keys));
    for victim in [&mut alice, &mut carol] {
        assert_eq!(victim.judge(&entry), Verdict::Unjudged(Unjudged::Path));
        assert_eq!(victim.committer(&entry), Some(bob.id()));
    }
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
    // The next valid Commit of either side goes on from the base that both know.
    let next = alice.commit(1, &CommitPlan::default());
    alice.merge(&next);
    assert!(matches!(carol.judge(&next), Verdict::Applied(_)));
    assert_in_step(&mut [&mut alice, &mut carol]);
}

#[test]
fn nobody_is_named_as_the_maker_of_a_commit_that_is_not_unjudged_for_its_path() {
    let [mut alice, mut bob, mut carol] = trio();
    let entry = alice.commit(1, &CommitPlan::default());
    let before = bob.state();
    assert_eq!(bob.committer(&entry), None, "a good one");
    assert_eq!(bob.state(), before, "asking left a trace");
    let mut torn = Entry { payload: entry.payload.clone(), ..self_update(&mut carol, Lie::None) };
    if let Some(last) = torn.payload.last_mut() {
        *last ^= 1;
    }
    assert_eq!(bob.committer(&torn), None, "one whose sender signed nothing");
    assert_eq!(bob.state(), before, "asking left a trace");
}

#[test]
fn a_policy_of_the_future_stops_the_reader_and_keeps_its_state() {
    let [mut alice, mut bob, _] = trio();
    let mut after = context(&[&alice]);
    after.policy_version += 1;
    let plan = CommitPlan { context: Some(after), ..CommitPlan::default() };
    let entry = alice.commit(1, &plan);
    let before = bob.state();
    assert_eq!(bob.judge(&entry), Verdict::Unjudged(Unjudged::Local));
    assert_eq!(bob.state(), before);
}

#[test]
fn damaged_keys_are_unjudged_and_never_void() {
    let [mut alice, mut bob, mut carol] = trio();
    let entry = alice.commit(1, &CommitPlan::default());
    // Bob's own HPKE keys of the epoch are gone.
    bob.run(|_, tx| Ok(tx.execute("DELETE FROM mls_epoch_key_pairs", []).map(drop)?)).unwrap();
    let verdict = bob.run(|engine, tx| engine.judge(tx, &super::support::GROUP, &entry.read()));
    match verdict {
        Ok(Verdict::Applied(_) | Verdict::Void(_)) => panic!("{verdict:?}"),
        Ok(Verdict::Unjudged(_)) | Err(_) => {}
    }
    assert!(matches!(carol.judge(&entry), Verdict::Applied(_)));
    alice.merge(&entry);
    assert_in_step(&mut [&mut alice, &mut carol]);
}
