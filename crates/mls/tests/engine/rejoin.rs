//! A device that lost its place: any member takes it out and in again by one Commit that carries
//! its signed rejoin, and by exactly the KeyPackage in it. All members come to one verdict.

use bytes::Bytes;
use qpc_credential::{Rejoin, RejoinReason, StatementBody};
use qpc_mls::engine::{CommitPlan, NewKeyPackage};
use qpc_mls::{Verdict, VoidReason};
use qpc_proto::{ChannelId, Incarnation};

use super::support::{
    CHANNEL, Entry, Party, adding, applies, assert_in_step, context, devices_statement, removing,
    trio, void_for_all,
};

/// What `party` says with a KeyPackage.
fn rejoin(party: &Party, (channel, package): (ChannelId, &NewKeyPackage)) -> Bytes {
    let body = StatementBody::Rejoin(Rejoin {
        incarnation: Incarnation([1; 16]),
        join_seq: 1,
        base_commit: 1,
        reason: RejoinReason::Expired,
        key_package: package.bytes.clone().into(),
    });
    party.statement(channel, body)
}

/// Takes `gone` out and `packages` in, carrying `statements`.
fn taking(gone: &[&Party], packages: &[&NewKeyPackage], statements: &[Bytes]) -> CommitPlan {
    let removes = removing(gone).removes;
    CommitPlan { removes, statements: statements.to_vec(), ..adding(packages) }
}

/// A Commit of Bob's, who is no admin.
fn by_bob(bob: &mut Party, plan: &CommitPlan) -> Entry {
    bob.commit(1, plan)
}

#[test]
fn case_134_any_member_takes_a_device_out_and_in_again() {
    let [mut alice, mut bob, mut carol] = trio();
    // Carol misses a Commit, and what she has can't follow.
    let missed = alice.commit(1, &CommitPlan::default());
    alice.merge(&missed);
    applies(&mut bob, &missed);
    let package = carol.key_package();
    let statement = rejoin(&carol, (CHANNEL, &package));
    let entry = bob.commit(2, &taking(&[&carol], &[&package], &[statement]));
    let change = applies(&mut alice, &entry).change;
    assert_eq!((change.adds, change.removes), ([carol.id()].into(), [carol.id()].into()));
    bob.merge(&entry);
    carol.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
    let sealed = carol.seal(3, b"here again");
    alice.reads(&sealed, b"here again");
    bob.reads(&sealed, b"here again");
}

#[test]
fn the_only_admin_comes_back_as_one() {
    let [mut alice, mut bob, mut carol] = trio();
    let package = alice.key_package();
    let statement = rejoin(&alice, (CHANNEL, &package));
    let entry = by_bob(&mut bob, &taking(&[&alice], &[&package], &[statement]));
    applies(&mut carol, &entry);
    bob.merge(&entry);
    alice.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(alice.view().context, context(&[&alice]));
    let next = alice.commit(2, &removing(&[&carol]));
    assert!(applies(&mut bob, &next).change.removes.contains(&carol.id()));
}

#[test]
fn a_device_without_a_leaf_comes_back_to_its_account() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut tablet = Party::device_of(30, 36);
    let package = tablet.key_package();
    let statement = rejoin(&tablet, (CHANNEL, &package));
    let entry = by_bob(&mut bob, &taking(&[], &[&package], &[statement]));
    applies(&mut alice, &entry);
    applies(&mut carol, &entry);
    bob.merge(&entry);
    tablet.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol, &mut tablet]);
}

#[test]
fn several_come_back_by_one_commit() {
    let [mut alice, mut bob, mut carol] = trio();
    let packages = [alice.key_package(), carol.key_package()];
    let statements =
        [rejoin(&alice, (CHANNEL, &packages[0])), rejoin(&carol, (CHANNEL, &packages[1]))];
    let plan = taking(&[&alice, &carol], &[&packages[0], &packages[1]], &statements);
    let entry = by_bob(&mut bob, &plan);
    bob.merge(&entry);
    alice.join(&entry);
    carol.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
}

#[test]
fn a_rejoin_lets_nobody_do_anything_else() {
    type Forge = fn(&mut Party, &mut Party, &mut Party) -> CommitPlan;
    let lies: [(Forge, VoidReason); 7] = [
        // Out, but not in again.
        (
            |_, _, carol| {
                let package = carol.key_package();
                taking(&[carol], &[], &[rejoin(carol, (CHANNEL, &package))])
            },
            VoidReason::Role,
        ),
        // In by another KeyPackage, whose private part she may have lost.
        (
            |_, _, carol| {
                let (package, other) = (carol.key_package(), carol.key_package());
                taking(&[carol], &[&other], &[rejoin(carol, (CHANNEL, &package))])
            },
            VoidReason::Role,
        ),
        // Another device of hers.
        (
            |_, _, carol| {
                let package = carol.key_package();
                let other = Party::device_of(30, 36).key_package();
                taking(&[carol], &[&other], &[rejoin(carol, (CHANNEL, &package))])
            },
            VoidReason::Role,
        ),
        // Alice goes with it.
        (
            |alice, _, carol| {
                let package = carol.key_package();
                let said = rejoin(carol, (CHANNEL, &package));
                taking(&[alice, carol], &[&package], &[said])
            },
            VoidReason::Role,
        ),
        // It was said in another channel.
        (
            |_, _, carol| {
                let package = carol.key_package();
                let said = rejoin(carol, (ChannelId([8; 16]), &package));
                taking(&[carol], &[&package], &[said])
            },
            VoidReason::Role,
        ),
        // A stranger, by a statement of their own.
        (
            |_, _, _| {
                let mut stranger = Party::new(40);
                let package = stranger.key_package();
                let said = rejoin(&stranger, (CHANNEL, &package));
                taking(&[], &[&package], &[said])
            },
            VoidReason::Role,
        ),
        // Spoilt.
        (
            |_, _, carol| {
                let package = carol.key_package();
                let mut said = rejoin(carol, (CHANNEL, &package)).to_vec();
                *said.last_mut().unwrap() ^= 1;
                taking(&[carol], &[&package], &[said.into()])
            },
            VoidReason::Signature,
        ),
    ];
    for (forge, why) in lies {
        let [mut alice, mut bob, mut carol] = trio();
        let plan = forge(&mut alice, &mut bob, &mut carol);
        let entry = by_bob(&mut bob, &plan);
        void_for_all(&entry, why, [&mut bob, &mut alice, &mut carol]);
    }
}

#[test]
fn a_rejoin_signed_by_another_device_is_of_no_use() {
    let [mut alice, mut bob, mut carol] = trio();
    // Bob's own statement over Carol's package takes Carol nowhere.
    let package = carol.key_package();
    let said = rejoin(&bob, (CHANNEL, &package));
    let entry = by_bob(&mut bob, &taking(&[&carol], &[&package], &[said]));
    void_for_all(&entry, VoidReason::Role, [&mut bob, &mut alice, &mut carol]);
    assert!(matches!(alice.judge(&entry), Verdict::Void(VoidReason::Role)));
}

#[test]
fn a_rejoin_brings_no_device_that_a_carried_list_does_not_hold() {
    let tablet = Party::linked((30, 36), 2);
    for lists in [
        // Taken off, or never on it.
        devices_statement(30, (1, 2), &[]),
        devices_statement(30, (1, 2), &[&tablet]),
    ] {
        let [mut alice, mut bob, mut carol] = trio();
        let package = carol.key_package();
        let said = rejoin(&carol, (CHANNEL, &package));
        let entry = by_bob(&mut bob, &taking(&[&carol], &[&package], &[said, lists]));
        void_for_all(&entry, VoidReason::Role, [&mut bob, &mut alice, &mut carol]);
    }
    // One that holds it is in nobody's way.
    let [mut alice, mut bob, mut carol] = trio();
    let package = carol.key_package();
    let said = rejoin(&carol, (CHANNEL, &package));
    let list = devices_statement(30, (1, 2), &[&carol]);
    let entry = by_bob(&mut bob, &taking(&[&carol], &[&package], &[said, list]));
    applies(&mut alice, &entry);
    bob.merge(&entry);
    carol.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
}
