//! Device lists that a Commit carries: what they let a member do who is no admin, and what not. All
//! members come to one verdict.

use bytes::Bytes;
use qpc_mls::engine::CommitPlan;
use qpc_mls::{Verdict, VoidReason};
use qpc_proto::message::{ChannelKind, WelcomePointer};

use super::support::{
    CHANNEL, Entry, Party, adding, applies, assert_in_step, context, devices_statement, pointer,
    removing, trio, void_for_all,
};

/// Commits that carry `statements`, by a member who asks nobody whether they may.
fn carrying(party: &mut Party, plan: CommitPlan, statements: &[Bytes]) -> Entry {
    party.commit(1, &CommitPlan { statements: statements.to_vec(), ..plan })
}

/// Adds `new` and removes `old`.
fn swapping(new: &mut Party, old: &[&Party]) -> CommitPlan {
    CommitPlan { removes: removing(old).removes, ..adding(&[&new.key_package()]) }
}

#[test]
fn case_059_a_list_lets_any_member_remove_the_device_that_it_took_off() {
    // A later version, or a later generation that counts its versions anew.
    for numbers in [(1, 2), (2, 1)] {
        let [mut alice, mut bob, mut carol] = trio();
        let list = devices_statement(30, numbers, &[]);
        let plan = removing(&[&carol]);
        let entry = carrying(&mut bob, plan, &[list]);
        assert!(applies(&mut alice, &entry).change.removes.contains(&carol.id()));
        assert!(applies(&mut carol, &entry).self_removed);
        bob.merge(&entry);
        assert_in_step(&mut [&mut alice, &mut bob]);
    }
}

#[test]
fn a_list_that_does_not_revoke_the_leaf_lets_nobody_remove_it() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut spoiled = devices_statement(30, (1, 2), &[]).to_vec();
    *spoiled.last_mut().unwrap() ^= 1;
    let other = Party::linked((30, 36), 2);
    for (list, why) in [
        // As old as the certificate.
        (devices_statement(30, (1, 1), &[]), VoidReason::Role),
        (devices_statement(30, (1, 2), &[&carol, &other]), VoidReason::Role),
        (devices_statement(40, (1, 2), &[]), VoidReason::Role),
        (devices_statement(10, (1, 2), &[]), VoidReason::Role),
        (spoiled.into(), VoidReason::Signature),
    ] {
        let plan = removing(&[&carol]);
        let entry = carrying(&mut bob, plan, &[list]);
        void_for_all(&entry, why, [&mut bob, &mut alice, &mut carol]);
    }
    // Nor more than it revokes.
    let list = devices_statement(30, (1, 2), &[]);
    let plan = removing(&[&carol, &alice]);
    let entry = carrying(&mut bob, plan, &[list]);
    void_for_all(&entry, VoidReason::Role, [&mut bob, &mut alice, &mut carol]);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
}

#[test]
fn an_old_list_removes_no_device_that_was_linked_since() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut tablet = Party::linked((30, 36), 3);
    let entry = carol.commit(1, &adding(&[&tablet.key_package()]));
    carol.merge(&entry);
    applies(&mut alice, &entry);
    applies(&mut bob, &entry);
    tablet.join(&entry);
    // Signed by the account, without the tablet: because it did not exist.
    for version in [1, 2, 3] {
        let list = devices_statement(30, (1, version), &[&carol]);
        let plan = CommitPlan { statements: vec![list], ..removing(&[&tablet]) };
        let entry = bob.commit(2, &plan);
        assert_eq!(bob.judge_pending(&entry), Verdict::Void(VoidReason::Role));
        bob.clear();
        for party in [&mut alice, &mut carol, &mut tablet] {
            assert_eq!(party.judge(&entry), Verdict::Void(VoidReason::Role), "{version}");
        }
    }
    let list = devices_statement(30, (1, 4), &[&carol]);
    let plan = CommitPlan { statements: vec![list], ..removing(&[&tablet]) };
    let entry = bob.commit(2, &plan);
    assert!(applies(&mut tablet, &entry).self_removed);
    applies(&mut alice, &entry);
    applies(&mut carol, &entry);
    bob.merge(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
}

#[test]
fn who_removes_a_revoked_leaf_may_add_what_the_list_holds() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut phone = Party::linked((30, 36), 2);
    let list = devices_statement(30, (2, 1), &[&phone]);
    let plan = swapping(&mut phone, &[&carol]);
    let entry = carrying(&mut bob, plan, &[list]);
    let applied = applies(&mut alice, &entry);
    assert!(applied.change.adds.contains(&phone.id()));
    assert!(applies(&mut carol, &entry).self_removed);
    bob.merge(&entry);
    phone.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut phone]);
}

#[test]
fn a_swap_adds_nothing_else_and_needs_the_removal() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut phone = Party::linked((30, 36), 2);
    let mut dave = Party::new(40);
    let held = devices_statement(30, (1, 2), &[&phone]);
    let both = devices_statement(30, (1, 2), &[&phone, &carol]);
    let none = devices_statement(30, (1, 2), &[]);
    let newer = devices_statement(30, (1, 3), &[]);
    let daves = devices_statement(40, (1, 2), &[&dave]);
    let leave = carol.leave_statement(CHANNEL);
    let twin = Party::with_key((30, 36, 37));
    let other_key = devices_statement(30, (1, 2), &[&twin]);
    let plans = [
        // A device that the list doesn't hold, or holds with another key.
        (swapping(&mut phone, &[&carol]), vec![none]),
        (swapping(&mut phone, &[&carol]), vec![other_key]),
        // Nothing is removed.
        (swapping(&mut phone, &[]), vec![held.clone()]),
        // What is removed leaves, and isn't revoked.
        (swapping(&mut phone, &[&carol]), vec![leave, both]),
        // Of another account.
        (swapping(&mut dave, &[&carol]), vec![held.clone()]),
        (swapping(&mut dave, &[&carol]), vec![held.clone(), daves]),
        // Of two lists the newer counts, wherever it stands.
        (swapping(&mut phone, &[&carol]), vec![held.clone(), newer.clone()]),
        (swapping(&mut phone, &[&carol]), vec![newer, held]),
    ];
    for (at, (plan, statements)) in plans.into_iter().enumerate() {
        let entry = carrying(&mut bob, plan, &statements);
        let verdict = alice.judge(&entry);
        assert_eq!(verdict, Verdict::Void(VoidReason::Role), "plan {at}");
        void_for_all(&entry, VoidReason::Role, [&mut bob, &mut alice, &mut carol]);
    }
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
}

#[test]
fn a_sibling_that_the_own_carried_list_does_not_hold_does_not_come() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut tablet = Party::device_of(20, 25);
    let without = devices_statement(20, (1, 2), &[&bob]);
    let with = devices_statement(20, (1, 2), &[&bob, &tablet]);
    let plan = adding(&[&tablet.key_package()]);
    let entry = carrying(&mut bob, plan.clone(), &[without]);
    void_for_all(&entry, VoidReason::Role, [&mut bob, &mut alice, &mut carol]);
    let entry = carrying(&mut bob, plan, &[with]);
    applies(&mut alice, &entry);
    applies(&mut carol, &entry);
    bob.merge(&entry);
    tablet.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol, &mut tablet]);
}

#[test]
fn a_list_lets_no_member_change_the_context() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut renamed = context(&[&alice]);
    renamed.title = "mine now".to_owned();
    let list = devices_statement(30, (1, 2), &[]);
    let plan = CommitPlan { context: Some(renamed), ..removing(&[&carol]) };
    let entry = carrying(&mut bob, plan, &[list]);
    void_for_all(&entry, VoidReason::Role, [&mut bob, &mut alice, &mut carol]);
}

#[test]
fn a_direct_channel_swaps_and_keeps_its_two_accounts() {
    let (mut alice, mut bob) = (Party::new(10), Party::new(20));
    let mut direct = context(&[&alice, &bob]);
    direct.kind = ChannelKind::Direct;
    alice.create(&direct);
    let entry = alice.commit(0, &adding(&[&bob.key_package()]));
    alice.merge(&entry);
    join_direct(&mut bob, &entry);

    let list = devices_statement(20, (2, 1), &[]);
    let plan = removing(&[&bob]);
    let entry = carrying(&mut alice, plan, &[list]);
    assert_eq!(alice.judge_pending(&entry), Verdict::Void(VoidReason::Roster));
    assert_eq!(bob.judge(&entry), Verdict::Void(VoidReason::Roster));
    alice.clear();

    let mut phone = Party::linked((20, 26), 2);
    let list = devices_statement(20, (2, 1), &[&phone]);
    let plan = swapping(&mut phone, &[&bob]);
    let entry = carrying(&mut alice, plan, &[list]);
    assert!(applies(&mut bob, &entry).self_removed);
    alice.merge(&entry);
    join_direct(&mut phone, &entry);
    assert_in_step(&mut [&mut alice, &mut phone]);
}

fn join_direct(party: &mut Party, entry: &Entry) {
    let welcome = entry.welcome.as_deref().unwrap();
    let pointer = WelcomePointer { kind: ChannelKind::Direct, ..pointer(welcome) };
    party.try_join(&pointer, welcome).unwrap();
}
