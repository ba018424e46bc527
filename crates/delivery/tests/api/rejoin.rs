//! A device that lost its place comes back by its own statement, and nobody else by it.

use bytes::Bytes;
use qpc_credential::{Rejoin, RejoinReason, StatementBody};
use qpc_delivery::Room;
use qpc_proto::message::{ChannelKind, Entry, UploadKeyPackages, WelcomePointer, inbox_channel};
use qpc_proto::roster::Role;
use qpc_proto::{ChannelId, Digest, ErrorCode, Incarnation};

use crate::mls::{self, Device};
use crate::support::{CHANNEL, Plan, World, message, message_on};

const HOUR_MS: u64 = 3_600_000;

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

/// A group of three whose admin, Alice, has posted a rejoin (entry 2).
fn lost() -> (World, [Device; 3], (Bytes, Bytes)) {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    let said = world.rejoin_of(&alice, 1, 100);
    assert_eq!(world.state(&alice, (1, said.0.clone())).unwrap().answer.seq, 2);
    (world, [alice, bob, carol], said)
}

fn join_of(world: &mut World, device: &Device) -> u64 {
    let inbox = inbox_channel(&device.id().device);
    let page = world.fetch(device, inbox, 0).unwrap();
    WelcomePointer::decode(&page.entries.last().unwrap().payload).unwrap().join_seq
}

#[test]
fn any_member_puts_the_only_admin_back_and_it_is_an_admin_still() {
    let (mut world, [alice, bob, carol], said) = lost();
    let plan = World::bringing_back(1, &[(&alice, &said)]);
    assert_eq!(world.commit(&bob, &plan).unwrap().answer.seq, 3);
    assert_eq!(join_of(&mut world, &alice), 3);
    // It reads on from where it was, seals after its join, and may do what an admin may.
    let states = world.read(&alice, |d, call| d.list_channels(call)).unwrap();
    assert_eq!((states[0].join_seq, states[0].added_seq), (1, 3));
    assert_eq!(world.seqs(&alice), [1, 2, 3]);
    assert_eq!(world.say(&alice, message_on(7, 3, 1)), Err(ErrorCode::AadMismatch));
    world.say(&alice, message(8, 3)).unwrap();
    let plan = Plan::on(3).with_role(&carol, Role::Admin);
    world.commit(&alice, &plan).unwrap();
}

#[test]
fn a_rejoin_counts_once() {
    let (mut world, [alice, bob, carol], said) = lost();
    // While it stands the device says nothing else; a retry of it is one.
    assert!(world.state(&alice, (1, said.0.clone())).unwrap().answer.duplicate);
    let other = world.rejoin_of(&alice, 1, 101);
    let refused = world.state(&alice, (2, other.0)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StatementInvalid);
    world.commit(&bob, &World::bringing_back(1, &[(&alice, &said)])).unwrap();
    let again = World::bringing_back(3, &[(&alice, &said)]);
    assert_eq!(world.commit_code(&carol, &again), ErrorCode::RosterRefused);
    // From its new place it may ask again, by another KeyPackage.
    let old = world.rejoin_of(&alice, 1, 102);
    let refused = world.state(&alice, (3, old.0)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StatementInvalid);
    let same = world.rejoin_of(&alice, 3, 100);
    world.now_ms += HOUR_MS;
    let refused = world.state(&alice, (4, same.0)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::KeyPackageReused);
    let next = world.rejoin_of(&alice, 3, 103);
    assert_eq!(world.state(&alice, (5, next.0.clone())).unwrap().answer.seq, 4);
    world.commit(&carol, &World::bringing_back(3, &[(&alice, &next)])).unwrap();
}

#[test]
fn a_commit_that_carries_a_rejoin_brings_nobody_else() {
    let (mut world, [alice, bob, carol], said) = lost();
    let good = World::bringing_back(1, &[(&alice, &said)]);
    let mut refused = |plan: &Plan, why| {
        assert_eq!(world.commit_code(&bob, plan), ErrorCode::RosterRefused, "{why}");
    };
    refused(&Plan { statements: Vec::new(), ..good.clone() }, "nothing is carried");
    let mut other = good.clone();
    other.change.removes = [carol.id()].into();
    refused(&other, "another goes");
    let mut other = good.clone();
    other.change.adds = [carol.id()].into();
    refused(&other, "another comes");
    let mut other = good.clone();
    other.change.removes.clear();
    refused(&other, "in beside itself");
    refused(&Plan::on(1).removing(&[&alice]).stating(&good.statements), "out alone");
    let mut other = good.clone();
    other.change.removes.insert(carol.id());
    refused(&other, "another goes, too");
    refused(&good.clone().with_role(&bob, Role::Admin), "with a role");
    // A KeyPackage that was claimed from the directory is not the one that it asks to come by.
    let claimed = world.packages(&[&alice]);
    let other = Plan { welcome: Some(mls::welcome(&claimed)), ..good.clone() };
    assert_eq!(world.commit_code(&bob, &other), ErrorCode::RosterRefused, "another KeyPackage");
    // One that is signed, and is not in the log.
    let (unsaid, package) = world.rejoin_of(&alice, 1, 110);
    let other = World::bringing_back(1, &[(&alice, &(unsaid, package))]);
    assert_eq!(world.commit_code(&bob, &other), ErrorCode::RosterRefused, "not posted");
    world.commit(&bob, &good).unwrap();
}

#[test]
fn the_key_package_of_a_rejoin_is_good_in_its_channel_alone() {
    let (mut world, [alice, bob, _], said) = lost();
    let mut plan = Plan { channel: ChannelId([0xce; 16]), id: 60, ..Plan::default() };
    plan.change.adds = [alice.id()].into();
    plan.welcome = Some(mls::welcome(std::slice::from_ref(&said.1)));
    let refused = world.create(&bob, ChannelKind::Group, &plan).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::RosterRefused);
    // Nor can it be put into the directory, or counted as one that is there.
    let upload = UploadKeyPackages { key_packages: Vec::new(), last_resort: Some(said.1.clone()) };
    let refused = world.call(&alice, |d, call| d.upload(call, &upload)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::KeyPackageReused);
    let status = world.read(&alice, |d, call| d.key_package_status(call)).unwrap();
    assert_eq!(status.available, 0);
    world.commit(&bob, &World::bringing_back(1, &[(&alice, &said)])).unwrap();
}

#[test]
fn a_rejoin_is_judged_before_it_gets_into_the_log() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob]);
    let sign = |world: &World, change: &dyn Fn(&mut Rejoin)| {
        let mut rejoin = Rejoin {
            incarnation: world.delivery.incarnation,
            join_seq: 1,
            base_commit: 0,
            reason: RejoinReason::Expired,
            key_package: bob.key_package(100, true, world.now_ms),
        };
        change(&mut rejoin);
        bob.state(CHANNEL, StatementBody::Rejoin(rejoin))
    };
    let now_ms = world.now_ms;
    let uploaded = bob.key_package(99, true, now_ms);
    let upload =
        UploadKeyPackages { key_packages: Vec::new(), last_resort: Some(uploaded.clone()) };
    world.call(&bob, |d, call| d.upload(call, &upload)).unwrap();
    type Change<'a> = Box<dyn Fn(&mut Rejoin) + 'a>;
    let package = |package: Bytes| -> Change<'_> {
        Box::new(move |rejoin| rejoin.key_package = package.clone())
    };
    let wrong: Vec<(Change<'_>, ErrorCode)> = vec![
        (Box::new(|r| r.incarnation = Incarnation([5; 16])), ErrorCode::StatementInvalid),
        (Box::new(|r| r.join_seq = 2), ErrorCode::StatementInvalid),
        (Box::new(|r| r.join_seq = 0), ErrorCode::StatementInvalid),
        (package(b"x".as_slice().into()), ErrorCode::KeyPackageInvalid),
        (package(alice.key_package(1, true, now_ms)), ErrorCode::CredentialMismatch),
        (package(bob.key_package(1, false, now_ms)), ErrorCode::KeyPackageInvalid),
        (package(bob.key_package(1, true, now_ms - 721 * HOUR_MS)), ErrorCode::KeyPackageInvalid),
        (package(uploaded), ErrorCode::KeyPackageReused),
    ];
    for (at, (change, code)) in wrong.iter().enumerate() {
        let statement = sign(&world, change);
        assert_eq!(world.state(&bob, (9, statement)).unwrap_err().code(), *code, "{at}");
    }
    let good = sign(&world, &|_| {});
    let of_other = world.state(&alice, (9, good.clone())).unwrap_err();
    assert_eq!(of_other.code(), ErrorCode::StatementInvalid);
    let stranger = world.rejoin_of(&carol, 1, 1).0;
    let of_stranger = world.state(&carol, (9, stranger)).unwrap_err();
    assert_eq!(of_stranger.code(), ErrorCode::ChannelNotFound);
    assert_eq!(world.seqs(&alice), [1]);
    world.state(&bob, (9, good)).unwrap();
}

#[test]
fn who_was_removed_asks_while_the_removal_is_open_and_comes_back_for_good_reason_only() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let carol2 = Device::new(3, 33);
    world.group(&[&alice, &bob, &carol, &carol2]);
    world.commit(&alice, &Plan::on(1).removing(&[&carol])).unwrap();
    let said = world.rejoin_of(&carol, 1, 100);
    world.state(&carol, (1, said.0.clone())).unwrap();
    let back = |after, base| {
        let mut plan = World::bringing_back(1, &[(&carol, &said)]).at(after, base);
        plan.change.removes.clear();
        plan
    };
    // Who has not applied that removal takes it out and in again; who has, puts it in.
    let plan = World::bringing_back(1, &[(&carol, &said)]).at(2, 1);
    world.undo(&bob, false, |d, call| {
        let bundle = plan.bundle();
        d.commit(call, &qpc_proto::message::CommitRequest { channel: CHANNEL, bundle })
    });
    assert_eq!(world.commit(&bob, &back(2, 2)).unwrap().answer.seq, 4);
    // Removed again, and that has taken effect: what it said is worth nothing.
    world.commit(&alice, &Plan::on(4).removing(&[&carol])).unwrap();
    world.now_ms += HOUR_MS;
    let said = world.rejoin_of(&carol, 4, 101);
    world.state(&carol, (2, said.0.clone())).unwrap();
    world.say(&bob, message(20, 5)).unwrap();
    let mut plan = World::bringing_back(5, &[(&carol, &said)]);
    plan.change.removes.clear();
    assert_eq!(world.commit_code(&bob, &plan), ErrorCode::RosterRefused);
    let late = world.rejoin_of(&carol, 4, 102).0;
    assert_eq!(world.state(&carol, (3, late)).unwrap_err().code(), ErrorCode::NotMember);
}

#[test]
fn an_undone_return_is_asked_for_by_the_same_statement() {
    let (mut world, [alice, bob, carol], said) = lost();
    world.commit(&bob, &World::bringing_back(1, &[(&alice, &said)])).unwrap();
    // Carol could not apply that Commit, and makes another.
    let plan = World::bringing_back(1, &[(&alice, &said)]).at(3, 1);
    assert_eq!(world.commit(&carol, &plan).unwrap().answer.seq, 4);
    assert_eq!(join_of(&mut world, &alice), 4);
}

#[test]
fn a_rejoin_outlives_all_but_thirty_days() {
    let (mut world, [alice, bob, carol], said) = lost();
    world.say(&bob, message(10, 1)).unwrap();
    let day_ms = 24 * 3_600_000;
    world.now_ms += 30 * day_ms - 1;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(1_000))).unwrap();
    let left: Vec<Entry> = world.fetch(&bob, CHANNEL, 1).unwrap().entries;
    assert_eq!(left[0].payload, said.0);
    let good = World::bringing_back(1, &[(&alice, &said)]);
    world.undo(&carol, false, |d, call| {
        let bundle = good.bundle();
        d.commit(call, &qpc_proto::message::CommitRequest { channel: CHANNEL, bundle })
    });
    let early = world.rejoin_of(&alice, 1, 101).0;
    assert_eq!(world.state(&alice, (2, early)).unwrap_err().code(), ErrorCode::StatementInvalid);
    world.now_ms += 1;
    assert_eq!(world.commit_code(&carol, &good), ErrorCode::RosterRefused);
    let next = world.rejoin_of(&alice, 1, 102);
    assert_eq!(world.state(&alice, (3, next.0.clone())).unwrap().answer.seq, 4);
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(1_000))).unwrap();
    let page = world.fetch(&bob, CHANNEL, 3).unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].payload, next.0);
    world.commit(&carol, &World::bringing_back(1, &[(&alice, &next)])).unwrap();
}

#[test]
fn several_come_back_by_one_commit_to_a_direct_channel_as_well() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let bob2 = Device::new(2, 22);
    let plan = world.adding(&[&bob, &bob2]);
    world.create(&alice, ChannelKind::Direct, &plan).unwrap();
    let said = world.rejoin_of(&bob, 1, 100);
    let said2 = world.rejoin_of(&bob2, 1, 101);
    world.state(&bob, (1, said.0.clone())).unwrap();
    world.state(&bob2, (1, said2.0.clone())).unwrap();
    let plan = World::bringing_back(1, &[(&bob, &said), (&bob2, &said2)]);
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 4);
    let page = world.fetch(&alice, CHANNEL, 0).unwrap();
    assert_eq!(world.check_chain(&page, Digest::ZERO), page.entries[3].head);
    assert_eq!(page.entries[3].statements, [said.0, said2.0]);
}

/// Nobody can add the KeyPackage of a certificate that has ended: the renewed device need not wait.
#[test]
fn a_rejoin_under_a_later_certificate_takes_the_place_of_one_that_stands() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    let ends_ms = world.now_ms + 2 * HOUR_MS;
    let (old, renewed) = (alice.ending(ends_ms), alice.ending(ends_ms + 1));
    let ask = |world: &mut World, device: &Device, seed| {
        let (said, package) = world.rejoin_of(device, 1, seed);
        let answer =
            world.state(device, (seed, said.clone())).map_err(|error| error.to_body().code);
        answer.map(|_| (said, package))
    };
    let first = ask(&mut world, &old, 100).unwrap();
    world.now_ms += HOUR_MS - 1;
    assert_eq!(ask(&mut world, &renewed, 101).err(), Some(ErrorCode::RateLimited));
    world.now_ms += 1;
    assert_eq!(ask(&mut world, &old, 102).err(), Some(ErrorCode::StatementInvalid));
    let second = ask(&mut world, &renewed, 103).unwrap();
    world.now_ms += HOUR_MS;
    assert_eq!(ask(&mut world, &renewed, 104).err(), Some(ErrorCode::StatementInvalid));
    let back = |said| World::bringing_back(1, &[(&alice, said)]);
    assert!(world.commit(&bob, &back(&first)).is_err());
    world.commit(&bob, &back(&second)).unwrap();
}

#[test]
fn a_device_asks_once_an_hour_whatever_its_join() {
    let (mut world, [alice, bob, _], said) = lost();
    world.commit(&bob, &World::bringing_back(1, &[(&alice, &said)])).unwrap();
    let ask = |world: &mut World, seed| {
        let said = world.rejoin_of(&alice, 3, seed).0;
        world.state(&alice, (seed, said)).map_err(|error| error.to_body())
    };
    world.now_ms += HOUR_MS - 1;
    let soon = ask(&mut world, 101).unwrap_err();
    assert_eq!((soon.code, soon.retry_after_ms), (ErrorCode::RateLimited, Some(1)));
    // Others are not kept waiting.
    let of_bob = world.rejoin_of(&bob, 1, 102).0;
    world.state(&bob, (102, of_bob)).unwrap();
    world.now_ms += 1;
    ask(&mut world, 103).unwrap();
}

#[test]
fn an_account_that_is_taken_back_has_said_that_it_leaves() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    world.state_leave(&carol, 1).unwrap();
    let said = world.rejoin_of(&carol, 1, 100);
    world.state(&carol, (2, said.0.clone())).unwrap();
    world.commit(&bob, &World::bringing_back(1, &[(&carol, &said)])).unwrap();
    // Nor does another Commit's change of the roster forget it.
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&dave]).at(4, 4);
    let joined = world.commit(&alice, &plan).unwrap().answer.seq;
    let removal = Plan::on(joined).removing(&[&carol]).carrying(&[&carol]);
    let gone = world.commit(&bob, &removal).unwrap().answer.seq;
    // Who was away comes anew.
    let plan = world.adding(&[&carol]).at(gone, gone);
    let back = world.commit(&alice, &plan).unwrap().answer.seq;
    let again = Plan::on(back).removing(&[&carol]).carrying(&[&carol]);
    assert_eq!(world.commit_code(&bob, &again), ErrorCode::RosterRefused);
}
