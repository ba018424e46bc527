//! What stands is shown to who joins behind it, once for all who join together, and no more than
//! the channel has room for.

use bytes::Bytes;
use qpc_delivery::Room;
use qpc_proto::chain::sha256;
use qpc_proto::message::{ChannelKind, Cursor, EntryKind, Statement, inbox_channel};
use qpc_proto::{ChannelId, Digest, ErrorCode, MessageId};

use crate::mls::Device;
use crate::support::{CHANNEL, NOW, Plan, World, message};

/// The statements behind `after_seq`: number, payload and message id.
fn statements(world: &mut World, reader: &Device, after_seq: u64) -> Vec<(u64, Bytes, MessageId)> {
    let page = world.fetch(reader, CHANNEL, after_seq).unwrap();
    let of_kind = page.entries.into_iter().filter(|e| e.kind == EntryKind::Statement);
    of_kind.map(|entry| (entry.seq, entry.payload, entry.message_id)).collect()
}

fn shown(statement: &Bytes, seq: u64, commit: u64) -> (u64, Bytes, MessageId) {
    let id = sha256(&[statement.as_ref(), &commit.to_be_bytes()].concat()).short();
    (seq, statement.clone(), MessageId(id))
}

/// A group of Alice, Bob and Carol with two devices: Bob asks to come back (entry 2), Carol leaves
/// (3), and her phone was revoked (4).
fn stood() -> (World, [Device; 4], [Bytes; 3]) {
    let mut world = World::new();
    let (alice, bob, carol) = (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3));
    let phone = Device::new(3, 33);
    world.group(&[&alice, &bob, &carol, &phone]);
    let rejoin = world.rejoin_of(&bob, 1, 100).0;
    world.state(&bob, (1, rejoin.clone())).unwrap();
    world.state_leave(&carol, 2).unwrap();
    let list = carol.list(2, &[&carol]);
    assert_eq!(world.revoke(&[&phone], &list), [CHANNEL]);
    let leave = carol.leave(CHANNEL);
    (world, [alice, bob, carol, phone], [rejoin, leave, list])
}

#[test]
fn who_joins_is_shown_what_stands_in_the_order_of_the_log() {
    let (mut world, [alice, bob, ..], [rejoin, leave, list]) = stood();
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&dave]).at(1, 1);
    let written = world.commit(&alice, &plan).unwrap();
    assert_eq!((written.answer.seq, written.posted.len()), (5, 0));
    assert!(written.wakes.contains(&CHANNEL));
    let expected = [shown(&rejoin, 6, 5), shown(&leave, 7, 5), shown(&list, 8, 5)];
    assert_eq!(statements(&mut world, &dave, 0), expected);
    let page = world.fetch(&alice, CHANNEL, 0).unwrap();
    assert_eq!(world.check_chain(&page, Digest::ZERO), page.entries[7].head);
    // No Commit came of it, and another shows nothing once more.
    world.say(&bob, message(10, 5)).unwrap();
    world.commit(&bob, &Plan::on(5)).unwrap();
    assert_eq!(statements(&mut world, &dave, 8), []);
    // But to the next who joins.
    let erin = Device::new(5, 5);
    let plan = world.adding(&[&erin]).at(10, 10);
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 11);
    let expected = [shown(&rejoin, 12, 11), shown(&leave, 13, 11), shown(&list, 14, 11)];
    assert_eq!(statements(&mut world, &erin, 0), expected);
}

#[test]
fn what_a_commit_settles_is_not_shown() {
    let (mut world, [alice, bob, carol, phone], [rejoin, leave, list]) = stood();
    let dave = Device::new(4, 4);
    let mut plan = world.adding(&[&dave]).at(1, 1).removing(&[&carol, &phone]);
    plan.statements = vec![leave, list];
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 5);
    assert_eq!(statements(&mut world, &dave, 0), [shown(&rejoin, 6, 5)]);
    let said = (rejoin, bob.key_package(100, true, world.now_ms));
    let erin = Device::new(5, 5);
    let mut plan = World::bringing_back(5, &[(&bob, &said)]);
    let key_package = world.packages(&[&erin]).remove(0);
    plan.change.adds.insert(erin.id());
    plan.welcome = Some(crate::mls::welcome(&[said.1, key_package]));
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 7);
    assert_eq!(statements(&mut world, &erin, 0), []);
}

#[test]
fn a_rejoin_of_a_revoked_device_stands_no_more() {
    let (mut world, [alice, bob, ..], [rejoin, leave, list]) = stood();
    let of_bob = bob.list(2, &[]);
    assert_eq!(world.revoke(&[&bob], &of_bob), [CHANNEL]);
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&dave]).at(1, 1);
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 6);
    let expected = [shown(&leave, 7, 6), shown(&list, 8, 6), shown(&of_bob, 9, 6)];
    assert_eq!(statements(&mut world, &dave, 0), expected);
    let back = World::bringing_back(6, &[(&bob, &(rejoin, bob.key_package(100, true, NOW)))]);
    assert_eq!(world.commit_code(&dave, &back), ErrorCode::RosterRefused);
}

#[test]
fn a_leave_that_was_shown_again_counts_from_where_it_was_said() {
    let (mut world, [alice, bob, carol, _], [rejoin, leave, list]) = stood();
    let dave = Device::new(4, 4);
    // It lets any member remove the account, as ever.
    let plan = world.adding(&[&dave]).at(1, 1);
    world.commit(&alice, &plan).unwrap();
    let phone = Device::new(3, 33);
    let both = Plan::on(5).removing(&[&carol, &phone]).stating(&[leave.clone(), list]);
    assert_eq!(world.commit(&dave, &both).unwrap().answer.seq, 9);
    // Added again, the account has not left; and who joins then is not told that it has.
    let erin = Device::new(5, 5);
    let plan = world.adding(&[&carol, &erin]).at(9, 9);
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 10);
    assert_eq!(statements(&mut world, &erin, 0), [shown(&rejoin, 11, 10)]);
    let again = Plan::on(10).removing(&[&carol]).stating(&[leave]);
    assert_eq!(world.commit_code(&bob, &again), ErrorCode::RosterRefused);
}

#[test]
fn what_was_shown_again_lets_the_front_go_and_stays_itself() {
    let (mut world, [alice, bob, carol, phone], _) = stood();
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&dave]).at(1, 1);
    world.commit(&alice, &plan).unwrap();
    world.say(&alice, message(10, 5)).unwrap();
    let read = [Cursor { channel: CHANNEL, seq: 9 }];
    for device in [&alice, &bob, &carol, &phone, &dave] {
        world.call(device, |d, call| d.ack(call, &read)).unwrap();
    }
    world.serve(|d, at| d.trim_acked(at, &[CHANNEL], &mut Room::of(100)).unwrap());
    world.now_ms += 2 * world.delivery.config.retention_ms;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(100))).unwrap();
    let page = world.fetch(&alice, CHANNEL, 5).unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [6, 7, 8, 9]);
    assert!(world.fetch(&alice, CHANNEL, 4).is_err());
    // What the next who joins is shown is still there.
    let erin = Device::new(5, 5);
    let plan = world.adding(&[&erin]).at(5, 5);
    world.commit(&alice, &plan).unwrap();
    assert_eq!(statements(&mut world, &erin, 0).len(), 3);
}

#[test]
fn one_commit_shows_sixty_four_and_the_next_the_rest() {
    let mut world = World::new();
    let alice = Device::new(1, 1);
    let others: Vec<_> = (100..165).map(Device::lone).collect();
    let mut all = vec![&alice];
    all.extend(&others);
    world.group(&all);
    for (at, device) in (0_u8..).zip(&others) {
        assert_eq!(world.state_leave(device, at).unwrap().answer.seq, u64::from(at) + 2);
    }
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&dave]).at(1, 1);
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 67);
    assert_eq!(statements(&mut world, &dave, 0).len(), 64);
    let last = others[64].leave(CHANNEL);
    assert_eq!(world.commit(&alice, &Plan::on(67)).unwrap().answer.seq, 132);
    assert_eq!(statements(&mut world, &dave, 131), [shown(&last, 133, 132)]);
    world.commit(&alice, &Plan { id: 200, ..Plan::on(132) }).unwrap();
    assert_eq!(statements(&mut world, &dave, 133), []);
}

#[test]
fn nothing_is_shown_again_beyond_the_room_for_statements() {
    let (mut world, [alice, ..], [rejoin, leave, list]) = stood();
    let long = |all: &[&Bytes]| all.iter().map(|one| u64::try_from(one.len()).unwrap()).sum();
    // Half of it is for what the server posts, the list among it.
    let half: u64 = long(&[&list, &rejoin, &leave]);
    world.delivery.config.channel_bytes_max = 2 * half * 16;
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&dave]).at(1, 1);
    world.commit(&alice, &plan).unwrap();
    let expected = [shown(&rejoin, 6, 5), shown(&leave, 7, 5)];
    assert_eq!(statements(&mut world, &dave, 0), expected);
    // Once there is room, with the next Commit.
    world.delivery.config.channel_bytes_max *= 2;
    world.commit(&alice, &Plan::on(5)).unwrap();
    assert_eq!(statements(&mut world, &dave, 7), [shown(&list, 9, 8)]);
}

#[test]
fn what_is_gone_takes_no_place_among_the_shown() {
    let mut world = World::new();
    let alice = Device::new(1, 1);
    let others: Vec<_> = (100..165).map(Device::lone).collect();
    let mut all = vec![&alice];
    all.extend(&others);
    world.group(&all);
    // All leave, so that what they said expires; then one wants back.
    for (at, device) in (0_u8..).zip(&all) {
        world.state_leave(device, at).unwrap();
    }
    world.now_ms += world.delivery.config.retention_ms;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(1_000))).unwrap();
    let rejoin = world.rejoin_of(&alice, 1, 200).0;
    assert_eq!(world.state(&alice, (200, rejoin.clone())).unwrap().answer.seq, 68);
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&dave]).at(1, 1);
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 69);
    assert_eq!(statements(&mut world, &dave, 0), [shown(&rejoin, 70, 69)]);
}

#[test]
fn case_127_a_channel_that_all_have_left_is_collected() {
    let mut world = World::new();
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    world.group(&[&alice, &bob]);
    world.say(&bob, message(10, 1)).unwrap();
    // The creator leaves, and is removed; then nobody is left to remove who leaves last.
    world.state_leave(&alice, 1).unwrap();
    let removal = Plan::on(1).removing(&[&alice]).carrying(&[&alice]);
    world.commit(&bob, &removal).unwrap();
    let inbox = inbox_channel(&bob.id().device);
    world.call(&bob, |d, call| d.ack(call, &[Cursor { channel: inbox, seq: 1 }])).unwrap();
    let config = world.delivery.config;
    let sweep = |world: &mut World| {
        world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(1_000))).unwrap();
    };
    world.now_ms += config.retention_ms + config.outbox_age_ms;
    sweep(&mut world);
    assert!(world.fetch(&bob, CHANNEL, 4).is_ok(), "an empty channel that somebody is in");
    assert_eq!(world.state_leave(&bob, 2).unwrap().answer.seq, 5);
    world.now_ms += config.retention_ms + config.outbox_age_ms - 1;
    sweep(&mut world);
    assert!(world.fetch(&bob, CHANNEL, 5).is_ok(), "a retry may still come");
    world.now_ms += 1;
    sweep(&mut world);
    let gone = world.fetch(&bob, CHANNEL, 0).unwrap_err();
    assert_eq!(gone.code(), ErrorCode::ChannelNotFound);
    let rows = world.rows();
    for table in ["log", "payloads", "commits", "rosters", "leaves"] {
        assert_eq!(rows[table], 0, "{table}");
    }
}

#[test]
fn a_channel_may_follow_one_whose_welcome_is_still_unread() {
    let mut world = World::new();
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    let mut made = 0;
    let mut invites_bob = |world: &mut World| {
        made += 1;
        let mut plan = world.adding(&[&bob]);
        plan.channel = ChannelId([made; 16]);
        world.create(&alice, ChannelKind::Group, &plan).map(|_| plan.channel)
    };
    // The inbox comes first, so that the next channel is the newest row of all.
    invites_bob(&mut world).unwrap();
    let over = invites_bob(&mut world).unwrap();
    let removal = Plan { channel: over, ..Plan::on(1).removing(&[&bob]) };
    world.commit(&alice, &removal).unwrap();
    let leave = Statement { channel: over, statement: alice.leave(over) };
    world.call(&alice, |d, call| d.statement(call, &leave, MessageId([1; 16]))).unwrap();
    let config = world.delivery.config;
    world.now_ms += config.retention_ms + config.outbox_age_ms;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(1_000))).unwrap();
    let gone = world.fetch(&alice, over, 0).unwrap_err();
    assert_eq!(gone.code(), ErrorCode::ChannelNotFound);
    invites_bob(&mut world).unwrap();
}

#[test]
fn what_has_gone_and_stands_again_by_a_commit_on_an_old_base_keeps_nothing() {
    let mut world = World::new();
    let (alice, bob, dave) = (Device::new(1, 1), Device::new(2, 2), Device::new(4, 4));
    world.group(&[&alice, &bob, &dave]);
    world.state_leave(&bob, 1).unwrap();
    world.commit(&alice, &Plan::on(1).removing(&[&bob]).carrying(&[&bob])).unwrap();
    let pass = |world: &mut World| {
        world.now_ms += world.delivery.config.retention_ms;
        world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(1_000)).unwrap())
    };
    pass(&mut world);
    // Dave has named no later base. With Bob back his leave stands, and is nowhere.
    assert_eq!(world.commit(&dave, &Plan::default().at(3, 1)).unwrap().answer.seq, 4);
    pass(&mut world);
    let gap = world.fetch(&alice, CHANNEL, 0).unwrap_err().to_body();
    assert_eq!(gap.code, ErrorCode::GapExpired);
    assert_eq!(world.fetch(&alice, CHANNEL, 4).unwrap().entries, []);
    assert_eq!(world.fetch(&alice, CHANNEL, 3).unwrap_err().code(), ErrorCode::GapExpired);
}
