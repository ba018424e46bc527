//! Members come, renew and go in step, through reloads, races and leave statements.

use std::collections::BTreeSet;

use qpc_mls::engine::CommitPlan;
use qpc_mls::{MlsError, Unjudged, Verdict, VoidReason};
use qpc_proto::ChannelId;
use qpc_proto::roster::Role;

use super::support::{CHANNEL, Entry, Party, adding, assert_in_step, context, removing, trio};

fn applied(verdict: Verdict) -> qpc_mls::Applied {
    match verdict {
        Verdict::Applied(applied) => applied,
        Verdict::Void(_) | Verdict::Unjudged(_) => panic!("not in force: {verdict:?}"),
    }
}

#[test]
fn three_devices_come_renew_and_go_with_reloads_between() {
    let [mut alice, mut bob, mut carol] = trio();
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);

    // Everyone renews once, and the databases are closed and opened between.
    let update = CommitPlan::default();
    let entry = bob.commit(1, &update);
    for party in [&mut alice, &mut bob, &mut carol] {
        party.reopen();
    }
    let own = bob.merge(&entry);
    assert!(own.change.is_empty());
    assert_eq!(applied(alice.judge(&entry)), own);
    assert_eq!(applied(carol.judge(&entry)), own);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);

    let entry = alice.commit(2, &removing(&[&carol]));
    alice.reopen();
    alice.merge(&entry);
    let seen = applied(bob.judge(&entry));
    assert_eq!((seen.committer, seen.self_removed), (alice.id(), false));
    assert_eq!(seen.change.removes, BTreeSet::from([carol.id()]));
    assert!(applied(carol.judge(&entry)).self_removed);
    carol.reopen();
    let sealed = carol.try_commit(3, &update);
    assert!(matches!(sealed, Err(MlsError::NotMember)), "{sealed:?}");
    assert_in_step(&mut [&mut alice, &mut bob]);
    assert_eq!(alice.view().members.len(), 2);
}

#[test]
fn a_device_added_where_another_was_is_heard_under_its_own_name() {
    let [mut alice, mut bob, carol] = trio();
    let entry = alice.commit(1, &removing(&[&carol]));
    alice.merge(&entry);
    applied(bob.judge(&entry));
    let mut dave = Party::new(40);
    let entry = alice.commit(2, &adding(&[&dave.key_package()]));
    alice.merge(&entry);
    applied(bob.judge(&entry));
    dave.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut dave]);
    let payload = dave.seal(3, b"in Carol's place");
    assert_eq!(bob.open(&payload).unwrap().sender.device(), dave.id());
    alice.reads(&payload, b"in Carol's place");
}

#[test]
fn a_change_of_title_and_roles_is_declared_and_applied() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut after = context(&[&alice, &bob]);
    after.title = "Night fishing".to_owned();
    let plan = CommitPlan { context: Some(after.clone()), ..CommitPlan::default() };
    let entry = alice.commit(1, &plan);
    let own = alice.merge(&entry);
    assert_eq!(own.change.roles.get(&bob.account()), Some(&Role::Admin));
    assert_eq!(applied(bob.judge(&entry)), own);
    assert_eq!(applied(carol.judge(&entry)).context, after);
    // Bob may now do what only an admin may.
    let entry = bob.commit(2, &removing(&[&carol]));
    bob.merge(&entry);
    assert!(applied(alice.judge(&entry)).change.removes.contains(&carol.id()));
}

#[test]
fn of_two_commits_on_one_base_the_first_drops_the_other() {
    let [mut alice, mut bob, mut carol] = trio();
    let won = bob.commit(1, &CommitPlan::default());
    let lost = alice.commit(1, &removing(&[&carol]));
    let again = alice.try_commit(1, &CommitPlan::default());
    assert!(matches!(again, Err(MlsError::CommitPending)), "{again:?}");
    bob.merge(&won);
    applied(carol.judge(&won));
    applied(alice.judge(&won));
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
    // Nothing pends at the loser any more, and its bytes are void for all.
    let none = alice.run(|engine, tx| engine.merge_pending(tx, &super::support::GROUP));
    assert!(none.is_err());
    assert_eq!(bob.judge(&lost), Verdict::Void(VoidReason::Epoch));
    assert_eq!(carol.judge(&lost), Verdict::Void(VoidReason::Epoch));
    let rebased = alice.commit(2, &removing(&[&carol]));
    alice.merge(&rebased);
    applied(bob.judge(&rebased));
    assert_in_step(&mut [&mut alice, &mut bob]);
}

/// A non-admin's Commit that removes `leaver` on the strength of `statements`.
fn removal(bob: &mut Party, leaver: &Party, statements: Vec<bytes::Bytes>) -> Entry {
    bob.commit(1, &CommitPlan { statements, ..removing(&[leaver]) })
}

#[test]
fn a_leave_statement_lets_a_member_remove_the_leaver() {
    let [mut alice, mut bob, mut carol] = trio();
    let entry = removal(&mut bob, &carol, vec![carol.leave_statement(CHANNEL)]);
    assert!(applied(alice.judge(&entry)).change.removes.contains(&carol.id()));
    assert!(applied(carol.judge(&entry)).self_removed);
    bob.merge(&entry);
    assert_in_step(&mut [&mut alice, &mut bob]);
}

#[test]
fn a_member_removes_nobody_without_a_leave_of_that_channel() {
    let other = ChannelId([1; 16]);
    for wrong in 0..4 {
        let [mut alice, mut bob, mut carol] = trio();
        let mut spoiled = carol.leave_statement(CHANNEL).to_vec();
        spoiled[40] ^= 1;
        let (statements, reason) = match wrong {
            0 => (vec![], VoidReason::Role),
            1 => (vec![carol.leave_statement(other)], VoidReason::Role),
            2 => (vec![alice.leave_statement(CHANNEL)], VoidReason::Role),
            _ => (vec![spoiled.into()], VoidReason::Signature),
        };
        let entry = removal(&mut bob, &carol, statements);
        assert_eq!(alice.judge(&entry), Verdict::Void(reason), "{wrong}");
        assert_eq!(carol.judge(&entry), Verdict::Void(reason), "{wrong}");
        // The committer comes to the same verdict, and goes on in step.
        assert_eq!(bob.judge_pending(&entry), Verdict::Void(reason), "{wrong}");
        bob.clear();
        assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
    }
}

#[test]
fn a_sibling_may_be_added_and_removed_by_its_own_account() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut tablet = Party::device_of(20, 25);
    let entry = bob.commit(1, &adding(&[&tablet.key_package()]));
    bob.merge(&entry);
    applied(alice.judge(&entry));
    applied(carol.judge(&entry));
    tablet.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol, &mut tablet]);
    let entry = tablet.commit(2, &removing(&[&bob]));
    assert!(applied(bob.judge(&entry)).self_removed);
    tablet.merge(&entry);
    applied(alice.judge(&entry));
    applied(carol.judge(&entry));
    assert_in_step(&mut [&mut alice, &mut carol, &mut tablet]);
}

#[test]
fn a_forgotten_group_is_unknown_and_can_be_made_again() {
    let mut alice = Party::new(10);
    let context = context(&[&alice]);
    alice.create(&context);
    for _ in 0..2 {
        alice.run(|engine, tx| engine.forget(tx, &super::support::GROUP)).unwrap();
        let view = alice.run(|engine, tx| engine.view(tx, &super::support::GROUP));
        assert!(matches!(view, Err(MlsError::UnknownGroup)));
    }
    alice.create(&context);
    let entry = alice.commit(0, &CommitPlan::default());
    assert_eq!(alice.merge(&entry).committer, alice.id());
}

#[test]
fn judging_an_unknown_group_is_an_error_and_not_a_verdict() {
    let [mut alice, _, _] = trio();
    let entry = alice.commit(1, &CommitPlan::default());
    let mut dave = Party::new(40);
    let judged = dave.run(|engine, tx| engine.judge(tx, &super::support::GROUP, &entry.read()));
    assert!(matches!(judged, Err(MlsError::UnknownGroup)), "{judged:?}");
    // A removed member cannot tell what comes after its removal.
    let [mut alice, mut bob, mut carol] = trio();
    let out = alice.commit(1, &removing(&[&carol]));
    alice.merge(&out);
    applied(bob.judge(&out));
    applied(carol.judge(&out));
    let later = bob.commit(2, &CommitPlan::default());
    assert_eq!(carol.judge(&later), Verdict::Unjudged(Unjudged::Local));
}
