//! Devices that were taken off their account: what goes with them, and what their list allows.

use qpc_delivery::Room;
use qpc_proto::message::{ChannelKind, Cursor, EntryKind, inbox_channel};
use qpc_proto::roster::Role;
use qpc_proto::{ChannelId, Digest, ErrorCode, MessageId};

use crate::mls::Device;
use crate::support::{CHANNEL, NOW, Plan, World, message};

const DAY: u64 = 24 * 3_600 * 1_000;

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

/// Alice (admin), Bob and Carol with two devices, the second of which was revoked. Returns the list
/// that stands as entry 2.
fn revoked() -> (World, [Device; 4], bytes::Bytes) {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let carol2 = Device::new(3, 33);
    world.group(&[&alice, &bob, &carol, &carol2]);
    let list = carol.list(2, &[&carol]);
    assert_eq!(world.revoke(&[&carol2], &list), [CHANNEL]);
    (world, [alice, bob, carol, carol2], list)
}

fn sweep(world: &mut World) -> usize {
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(100))).unwrap()
}

#[test]
fn a_revocation_is_shown_once_to_every_channel_of_the_device() {
    let (mut world, [alice, _, carol, carol2], list) = revoked();
    let page = world.fetch(&alice, CHANNEL, 0).unwrap();
    world.check_chain(&page, Digest::ZERO);
    let entry = &page.entries[1];
    assert_eq!((entry.kind, entry.after_commit), (EntryKind::Statement, 0));
    assert_eq!(entry.payload, list);
    let id = MessageId(qpc_proto::chain::sha256(&list).short());
    assert_eq!(entry.message_id, id);
    // No Commit came of it, and the same again says nothing.
    assert!(world.revoke(&[&carol2], &list).is_empty());
    world.say(&alice, message(1, 1)).unwrap();
    // A later list says more.
    let later = carol.list(3, &[]);
    assert_eq!(world.revoke(&[&carol], &later), [CHANNEL]);
    assert_eq!(world.fetch(&alice, CHANNEL, 3).unwrap().entries[0].payload, later);
}

#[test]
fn only_channels_that_a_revoked_device_is_in_are_told() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let bob2 = Device::new(2, 22);
    let others = ChannelId([2; 16]);
    world.group(&[&alice, &bob]);
    let plan = Plan { channel: others, ..world.adding(&[&bob, &bob2]) };
    world.create(&alice, ChannelKind::Group, &plan).unwrap();
    // It was removed from a third, and somebody has built on that.
    let third = ChannelId([3; 16]);
    let plan = Plan { channel: third, ..world.adding(&[&bob, &bob2]) };
    world.create(&alice, ChannelKind::Group, &plan).unwrap();
    let removal = Plan { channel: third, ..Plan::on(1).removing(&[&bob2]) };
    world.commit(&alice, &removal).unwrap();
    let unconfirmed = world.revoke(&[&bob2], &bob.list(2, &[&bob]));
    assert_eq!(unconfirmed, [others, third]);
    world.commit(&bob, &Plan { channel: third, ..Plan::on(2) }).unwrap();
    let confirmed = world.revoke(&[&bob2], &bob.list(3, &[&bob]));
    assert_eq!(confirmed, [others]);
}

#[test]
fn a_revoked_device_s_packages_and_inbox_are_gone() {
    let (mut world, [alice, bob, carol, carol2], _) = revoked();
    let entries = |world: &mut World, device: &Device| {
        world.fetch(device, inbox_channel(&device.id().device), 0).unwrap().entries.len()
    };
    assert_eq!(entries(&mut world, &carol2), 0);
    assert_eq!(entries(&mut world, &carol), 1);
    let held: u32 = world.serve(|_, (tx, _)| {
        tx.query_row("SELECT count(*) FROM channels WHERE inbox = 1", [], |row| row.get(0)).unwrap()
    });
    assert_eq!(held, 2, "of Bob and of Carol's other device");
    // A Welcome that was under way names a package whose owner is known: it is refused for that.
    let device = Device::new(2, 22);
    let adding = world.adding(&[&device]);
    world.revoke(&[&device], &bob.list(2, &[&bob]));
    let refused = world.commit(&alice, &adding.at(1, 1)).unwrap_err().to_body();
    assert_eq!(refused.code, ErrorCode::RosterRefused);
    assert_eq!(refused.message, "an added device was revoked: claim KeyPackages anew");
}

#[test]
fn case_059_any_member_removes_a_revoked_device_by_the_carried_list() {
    let (mut world, [_, bob, carol, carol2], list) = revoked();
    let bare = Plan::on(1).removing(&[&carol2]);
    assert_eq!(world.commit_code(&bob, &bare), ErrorCode::RosterRefused);
    // A list that holds the device, or is of another account.
    for other in [carol.list(1, &[&carol, &carol2]), bob.list(2, &[])] {
        let plan = bare.clone().stating(&[other]);
        assert_eq!(world.commit_code(&bob, &plan), ErrorCode::RosterRefused);
    }
    // A device that is in no list, but that the server did not revoke.
    let both = Plan::on(1).removing(&[&carol, &carol2]).stating(&[carol.list(2, &[])]);
    assert_eq!(world.commit_code(&bob, &both), ErrorCode::RosterRefused);
    let mut broken = list.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let plan = bare.clone().stating(&[broken.into()]);
    assert_eq!(world.commit_code(&bob, &plan), ErrorCode::StatementInvalid);
    assert_eq!(world.commit(&bob, &bare.stating(&[list])).unwrap().answer.seq, 3);
}

#[test]
fn who_removes_a_revoked_device_may_add_what_the_list_holds() {
    let (mut world, [_, bob, carol, carol2], _) = revoked();
    let phone = Device::new(3, 34);
    let list = carol.list(3, &[&carol, &phone]);
    let adding = world.adding(&[&phone]);
    let swap = adding.clone().at(1, 1).removing(&[&carol2]);
    // Without a removal, or by a list that doesn't hold it.
    let alone = adding.at(1, 1).stating(std::slice::from_ref(&list));
    assert_eq!(world.commit_code(&bob, &alone), ErrorCode::RosterRefused);
    let other = swap.clone().stating(&[carol.list(3, &[&carol])]);
    assert_eq!(world.commit_code(&bob, &other), ErrorCode::RosterRefused);
    // Of two lists the newer counts.
    let older = carol.list(2, &[&carol]);
    let newest = carol.list(4, &[&carol]);
    for lists in [[list.clone(), newest.clone()], [newest, list.clone()]] {
        let plan = swap.clone().stating(&lists);
        assert_eq!(world.commit_code(&bob, &plan), ErrorCode::RosterRefused);
    }
    // Another account's device doesn't come by it.
    let dave = Device::new(4, 4);
    let stranger = world.adding(&[&dave]).at(1, 1).removing(&[&carol2]);
    let stranger = stranger.stating(&[list.clone(), dave.list(1, &[&dave])]);
    assert_eq!(world.commit_code(&bob, &stranger), ErrorCode::RosterRefused);
    assert_eq!(world.commit(&bob, &swap.stating(&[older, list])).unwrap().answer.seq, 3);
    assert_eq!(world.seqs(&phone), [3]);
}

#[test]
fn a_direct_channel_is_kept_by_a_swap() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let phone = Device::new(2, 22);
    let plan = world.adding(&[&bob]);
    world.create(&alice, ChannelKind::Direct, &plan).unwrap();
    let list = bob.list(2, &[&phone]);
    assert_eq!(world.revoke(&[&bob], &list), [CHANNEL]);
    let alone = Plan::on(1).removing(&[&bob]).stating(std::slice::from_ref(&list));
    assert_eq!(world.commit_code(&alice, &alone), ErrorCode::RosterRefused);
    let swap = world.adding(&[&phone]).at(1, 1).removing(&[&bob]).stating(&[list]);
    world.commit(&alice, &swap).unwrap();
    world.say(&phone, message(1, 3)).unwrap();
}

#[test]
fn an_admin_removes_a_revoked_device_as_any_and_adds_it_never() {
    let (mut world, [alice, bob, _, carol2], _) = revoked();
    let readded = world.adding(&[&carol2]);
    world.commit(&alice, &Plan::on(1).removing(&[&carol2])).unwrap();
    assert_eq!(world.commit_code(&alice, &readded.at(3, 3)), ErrorCode::RosterRefused);
    // Nor does it found a channel with somebody.
    let plan = world.adding(&[&carol2]);
    let plan = Plan { channel: ChannelId([7; 16]), ..plan };
    let refused = world.create(&bob, ChannelKind::Group, &plan).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::RosterRefused);
}

#[test]
fn any_member_may_post_a_list_that_takes_a_present_device_off() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let carol2 = Device::new(3, 33);
    let dave = Device::new(4, 4);
    world.group(&[&alice, &bob, &carol, &carol2]);
    let list = carol.list(2, &[&carol]);
    let mut broken = list.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    for useless in [carol.list(2, &[&carol, &carol2]), dave.list(1, &[]), broken.into()] {
        let refused = world.state(&bob, (1, useless)).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::StatementInvalid);
    }
    let outside = world.state(&dave, (1, list.clone())).unwrap_err();
    assert_eq!(outside.code(), ErrorCode::ChannelNotFound);
    let written = world.state(&bob, (1, list.clone())).unwrap();
    assert_eq!((written.answer.seq, written.wakes), (2, vec![CHANNEL]));
    assert!(world.state(&bob, (1, list.clone())).unwrap().answer.duplicate);
    // It revokes nothing here: that is for the server that published it.
    let removal = Plan::on(1).removing(&[&carol2]).stating(std::slice::from_ref(&list));
    assert_eq!(world.commit_code(&bob, &removal), ErrorCode::RosterRefused);
    // Gone, the device is no reason any more.
    world.commit(&alice, &removal).unwrap();
    let refused = world.state(&bob, (2, list)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StatementInvalid);
}

#[test]
fn a_list_stands_until_its_devices_are_removed() {
    let (mut world, [alice, bob, _, carol2], list) = revoked();
    world.now_ms = NOW + 8 * DAY;
    sweep(&mut world);
    assert_eq!(world.fetch(&alice, CHANNEL, 1).unwrap().entries[0].payload, list);
    world.commit(&bob, &Plan::on(1).removing(&[&carol2]).stating(&[list])).unwrap();
    world.now_ms += 3_600 * 1_000;
    sweep(&mut world);
    let gap = world.fetch(&alice, CHANNEL, 1).unwrap_err();
    assert_eq!(gap.code(), ErrorCode::GapExpired);
}

#[test]
fn a_list_stands_for_nobody_who_could_act_on_it() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    world.revoke(&[&alice], &alice.list(2, &[]));
    world.now_ms = NOW + 8 * DAY;
    assert_eq!(sweep(&mut world), 2);
}

#[test]
fn the_cursor_of_a_revoked_device_holds_nothing() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    let cursor = Cursor { channel: inbox_channel(&bob.id().device), seq: 1 };
    world.call(&bob, |d, call| d.ack(call, &[cursor])).unwrap();
    // Carol has not read her Welcome, which waits for a month; revoked, it waits for nobody.
    world.revoke(&[&carol], &carol.list(2, &[]));
    let welcomes = |world: &mut World| -> u32 {
        let count = "SELECT count(*) FROM welcomes";
        world.serve(|_, (tx, _)| tx.query_row(count, [], |row| row.get(0)).unwrap())
    };
    assert_eq!(welcomes(&mut world), 1);
    world.now_ms = NOW + 7 * DAY;
    sweep(&mut world);
    assert_eq!(welcomes(&mut world), 0);
}

#[test]
fn a_revoked_admin_s_removal_needs_the_list_too() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let plan = world.adding(&[&bob, &carol]).with_role(&carol, Role::Admin);
    world.create(&alice, ChannelKind::Group, &plan).unwrap();
    let list = carol.list(2, &[]);
    world.revoke(&[&carol], &list);
    let removal = Plan::on(1).removing(&[&carol]);
    assert_eq!(world.commit_code(&bob, &removal), ErrorCode::RosterRefused);
    world.commit(&bob, &removal.stating(&[list])).unwrap();
}
