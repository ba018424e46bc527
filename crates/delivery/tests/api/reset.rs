//! A channel that goes on as another: who may end it, what is left of it, and what lives on of a
//! server that was restored.

use bytes::Bytes;
use qpc_credential::StatementBody;
use qpc_delivery::Room;
use qpc_proto::chain::{Link, Log};
use qpc_proto::message::{
    Accepted, ChannelKind, CreateChannel, Cursor, EntryKind, Page, WelcomePointer, inbox_channel,
};
use qpc_proto::roster::Role;
use qpc_proto::{ChannelId, Digest, ErrorCode, ErrorDetail, Incarnation};

use crate::mls::{self, Device};
use crate::support::{CHANNEL, Plan, World, message, message_on};

const NEXT: ChannelId = ChannelId([0xee; 16]);
const LATER: ChannelId = ChannelId([0xef; 16]);
const DAY_MS: u64 = 86_400_000;

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

fn reset(device: &Device, successor: ChannelId) -> Bytes {
    device.state(CHANNEL, StatementBody::Reset(successor))
}

/// A group of three whose admin is Alice; she has made Bob's account an admin too.
fn group() -> (World, Device, Device, Device) {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let plan = world.adding(&[&bob, &carol]).with_role(&bob, Role::Admin);
    world.create(&alice, ChannelKind::Group, &plan).unwrap();
    (world, alice, bob, carol)
}

/// What creates `successor` with some devices in it.
fn creating(
    world: &mut World,
    (kind, successor): (ChannelKind, ChannelId),
    with: &[&Device],
) -> CreateChannel {
    let plan = match with {
        [] => Plan::default(),
        some => world.adding(some),
    };
    let plan = Plan { channel: successor, id: successor.0[0], ..plan };
    CreateChannel { channel: successor, kind, bundle: plan.bundle(), retention_ms: 0, reset: None }
}

/// The founder ends the old channel with a successor.
fn end(
    world: &mut World,
    (founder, with): (&Device, &[&Device]),
    (kind, successor): (ChannelKind, ChannelId),
) -> Result<(Accepted, Vec<ChannelId>), qpc_proto::ErrorBody> {
    let mut create = creating(world, (kind, successor), with);
    create.reset = Some(reset(founder, successor));
    let written = world.call(founder, |d, call| d.create_channel(call, &create));
    written.map(|w| (w.answer, w.wakes)).map_err(|e| e.to_body())
}

/// Every way to write into the old channel.
fn refusals(world: &mut World, device: &Device, after: u64) -> Vec<qpc_proto::ErrorBody> {
    let answer = world.enqueue(device, &[message(90, after)]).unwrap();
    vec![
        answer.refusal.unwrap(),
        world.commit(device, &Plan { id: 91, ..Plan::on(after) }).unwrap_err().to_body(),
        world.state_leave(device, 92).unwrap_err().to_body(),
    ]
}

#[test]
fn an_admin_ends_a_channel_and_all_is_read_to_its_end() {
    let (mut world, alice, bob, carol) = group();
    world.say(&carol, message(10, 1)).unwrap();
    let (first, wakes) =
        end(&mut world, (&bob, &[&alice, &carol]), (ChannelKind::Group, NEXT)).unwrap();
    assert_eq!(first.seq, 1);
    for id in [CHANNEL, NEXT, inbox_channel(&alice.id().device)] {
        assert!(wakes.contains(&id));
    }
    for device in [&alice, &bob, &carol] {
        for body in refusals(&mut world, device, 1) {
            assert_eq!(body.code, ErrorCode::ChannelClosed);
            assert_eq!(body.detail, Some(ErrorDetail::Channel(NEXT)));
        }
        assert_eq!(world.seqs(device), [1, 2, 3]);
    }
    let page = world.fetch(&carol, CHANNEL, 0).unwrap();
    world.check_chain(&page, Digest::ZERO);
    let last = &page.entries[2];
    assert_eq!((last.kind, &last.payload), (EntryKind::Statement, &reset(&bob, NEXT)));
    // What was accepted before gets its answer; a late Commit is kept no turn.
    assert!(world.say(&carol, message(10, 1)).unwrap().duplicate);
    let turn = world.call(&carol, |d, call| d.reserve_turn(call, &CHANNEL)).unwrap();
    assert_eq!(turn, None);
    let head = world.read(&carol, |d, call| d.head_of_member(call, &CHANNEL)).unwrap_err();
    assert_eq!(head.code(), ErrorCode::ChannelClosed);
    let read = [Cursor { channel: CHANNEL, seq: 3 }];
    world.call(&carol, |d, call| d.ack(call, &read)).unwrap();
    let states = world.read(&carol, |d, call| d.list_channels(call)).unwrap();
    assert_eq!((states[0].channel, states[0].head_seq, states[0].acked_seq), (CHANNEL, 3, 3));
    let ended: Vec<_> = states.iter().filter_map(|s| Some((s.channel, s.successor?))).collect();
    assert_eq!(ended, [(CHANNEL, NEXT)]);
    // The new one is a channel like any.
    let plan = Plan { channel: NEXT, id: 70, ..Plan::on(1) };
    world.commit(&carol, &plan).unwrap();
}

#[test]
fn a_retry_gets_the_first_answer_and_the_second_reset_the_first_successor() {
    let (mut world, alice, bob, _) = group();
    let mut create = creating(&mut world, (ChannelKind::Group, NEXT), &[&bob]);
    create.reset = Some(reset(&alice, NEXT));
    let first = world.call(&alice, |d, call| d.create_channel(call, &create)).unwrap();
    let again = world.call(&alice, |d, call| d.create_channel(call, &create)).unwrap();
    assert_eq!(again.answer, Accepted { duplicate: true, ..first.answer });
    assert!(again.wakes.is_empty());
    let late = end(&mut world, (&bob, &[&alice]), (ChannelKind::Group, LATER)).unwrap_err();
    assert_eq!(late.code, ErrorCode::ChannelClosed);
    assert_eq!(late.detail, Some(ErrorDetail::Channel(NEXT)));
    let none = world.fetch(&bob, LATER, 0).unwrap_err();
    assert_eq!(none.code(), ErrorCode::ChannelNotFound);
    assert_eq!(world.seqs(&bob), [1, 2]);
}

#[test]
fn members_end_a_channel_once_no_device_of_an_admin_can_commit() {
    let (mut world, alice, bob, carol) = group();
    let group = (ChannelKind::Group, NEXT);
    let refused = |world: &mut World| end(world, (&carol, &[]), group).unwrap_err().code;
    assert_eq!(refused(&mut world), ErrorCode::RosterRefused);
    let said = world.rejoin_of(&alice, 1, 100).0;
    world.state(&alice, (1, said)).unwrap();
    let own = world.rejoin_of(&carol, 1, 101).0;
    world.state(&carol, (2, own)).unwrap();
    assert_eq!(refused(&mut world), ErrorCode::RosterRefused);
    let said = world.rejoin_of(&bob, 1, 102);
    world.state(&bob, (3, said.0.clone())).unwrap();
    // One of them is back: then not.
    let plan = World::bringing_back(1, &[(&bob, &said)]);
    world.commit(&alice, &plan).unwrap();
    world.now_ms += DAY_MS;
    assert_eq!(refused(&mut world), ErrorCode::RosterRefused);
    let said = world.rejoin_of(&bob, 5, 103).0;
    world.state(&bob, (4, said)).unwrap();
    // Members have a day to take one of them back.
    world.now_ms += DAY_MS - 1;
    assert_eq!(refused(&mut world), ErrorCode::RosterRefused);
    world.now_ms += 1;
    end(&mut world, (&carol, &[]), group).unwrap();
}

/// Nobody waits for an admin there, and whoever ended it would be the successor's.
#[test]
fn a_group_without_any_admin_is_ended_by_nobody() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let plan = world.adding(&[&bob, &carol]);
    world.create(&alice, ChannelKind::Group, &plan).unwrap();
    let leave = alice.leave(CHANNEL);
    world.state(&alice, (1, leave.clone())).unwrap();
    let plan = Plan { statements: vec![leave], ..Plan::on(1).removing(&[&alice]) };
    world.commit(&bob, &plan).unwrap();
    let group = (ChannelKind::Group, NEXT);
    for _ in 0..2 {
        let refused = end(&mut world, (&carol, &[]), group).unwrap_err().code;
        assert_eq!(refused, ErrorCode::RosterRefused);
        world.now_ms += 2 * DAY_MS;
    }
}

#[test]
fn a_device_without_a_place_ends_nothing() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let tablet = Device::new(2, 22);
    let plan = world.adding(&[&bob, &tablet]).with_role(&bob, Role::Admin);
    world.create(&alice, ChannelKind::Group, &plan).unwrap();
    world.commit(&alice, &Plan::on(1).removing(&[&tablet])).unwrap();
    // Nobody has built on that: it may post still.
    let group = (ChannelKind::Group, NEXT);
    assert_eq!(end(&mut world, (&tablet, &[]), group).unwrap_err().code, ErrorCode::RosterRefused);
    end(&mut world, (&bob, &[]), group).unwrap();
}

#[test]
fn a_reset_is_of_the_caller_and_of_this_channel_alone() {
    let (mut world, alice, bob, carol) = group();
    let (dave, _) = (Device::new(4, 4), ());
    let group = (ChannelKind::Group, NEXT);
    let attempt = |world: &mut World, by: &Device, said: Bytes| {
        let mut create = creating(world, group, &[]);
        create.reset = Some(said);
        world.call(by, |d, call| d.create_channel(call, &create)).map_err(|e| e.code())
    };
    let wrong = [
        reset(&bob, NEXT),
        reset(&alice, LATER),
        alice.leave(CHANNEL),
        alice.list(2, &[&alice]),
        b"x".as_slice().into(),
    ];
    for (at, said) in wrong.into_iter().enumerate() {
        let refused = attempt(&mut world, &alice, said).unwrap_err();
        assert_eq!(refused, ErrorCode::StatementInvalid, "{at}");
    }
    let refused = attempt(&mut world, &dave, reset(&dave, NEXT)).unwrap_err();
    assert_eq!(refused, ErrorCode::ChannelNotFound);
    let unknown = alice.state(LATER, StatementBody::Reset(NEXT));
    assert_eq!(attempt(&mut world, &alice, unknown), Err(ErrorCode::ChannelNotFound));
    // By `Statement` it is nothing; nor in another channel's place, or of another kind.
    let alone = world.state(&alice, (1, reset(&alice, NEXT))).unwrap_err();
    assert_eq!(alone.code(), ErrorCode::StatementInvalid);
    let other = end(&mut world, (&alice, &[&bob]), (ChannelKind::Direct, NEXT)).unwrap_err();
    assert_eq!(other.code, ErrorCode::InvalidArgument);
    // Who was removed ends nothing, before that takes effect or after.
    world.commit(&alice, &Plan::on(1).removing(&[&bob])).unwrap();
    let refused = end(&mut world, (&bob, &[]), group).unwrap_err();
    assert_eq!(refused.code, ErrorCode::RosterRefused);
    world.say(&carol, message(10, 2)).unwrap();
    let refused = end(&mut world, (&bob, &[]), group).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotMember);
    assert_eq!(world.seqs(&alice), [1, 2, 3]);
    world.say(&carol, message(11, 2)).unwrap();
}

#[test]
fn a_refused_successor_ends_nothing() {
    let (mut world, alice, bob, _) = group();
    let mut create = creating(&mut world, (ChannelKind::Group, NEXT), &[&bob]);
    create.reset = Some(reset(&alice, NEXT));
    create.bundle.welcome = None;
    let refused = world.call(&alice, |d, call| d.create_channel(call, &create)).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::RosterRefused);
    world.say(&bob, message(10, 1)).unwrap();
}

#[test]
fn either_side_of_a_direct_channel_ends_it_for_the_same_two() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let plan = world.adding(&[&bob]);
    world.create(&alice, ChannelKind::Direct, &plan).unwrap();
    let direct = (ChannelKind::Direct, NEXT);
    let other = end(&mut world, (&bob, &[&carol]), direct).unwrap_err();
    assert_eq!(other.code, ErrorCode::RosterRefused);
    end(&mut world, (&bob, &[&alice]), direct).unwrap();
    // The pair's channel is the new one, which goes on in the same way.
    let create = creating(&mut world, (ChannelKind::Direct, LATER), &[&bob]);
    let live = world.call(&alice, |d, call| d.create_channel(call, &create)).unwrap_err();
    assert_eq!(live.to_body().detail, Some(ErrorDetail::Channel(NEXT)));
    let mut create = creating(&mut world, (ChannelKind::Direct, LATER), &[&bob]);
    create.reset = Some(alice.state(NEXT, StatementBody::Reset(LATER)));
    world.call(&alice, |d, call| d.create_channel(call, &create)).unwrap();
}

#[test]
fn a_closed_channel_expires_whatever_stood_in_it() {
    let (mut world, alice, bob, carol) = group();
    world.state_leave(&carol, 1).unwrap();
    let said = world.rejoin_of(&bob, 1, 100).0;
    world.state(&bob, (2, said)).unwrap();
    end(&mut world, (&alice, &[&bob]), (ChannelKind::Group, NEXT)).unwrap();
    // A list that takes a device off is no entry of it.
    let list = carol.list(2, &[]);
    assert_eq!(world.revoke(&[&carol], &list), []);
    world.now_ms += world.delivery.config.retention_ms - 1;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(100))).unwrap();
    assert_eq!(world.seqs(&bob), [1, 2, 3, 4]);
    world.now_ms += 1;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(100))).unwrap();
    match world.fetch(&bob, CHANNEL, 0) {
        Err(qpc_delivery::DeliveryError::GapExpired(5, _)) => {}
        other => panic!("{other:?}"),
    }
    // Who comes late is still told where it goes on.
    for body in refusals(&mut world, &bob, 1) {
        assert_eq!(body.detail, Some(ErrorDetail::Channel(NEXT)));
    }
}

#[test]
fn a_channel_of_another_life_expires_whatever_stood_in_it() {
    let (mut world, alice, bob, carol) = group();
    world.state_leave(&carol, 1).unwrap();
    let said = world.rejoin_of(&bob, 1, 100).0;
    world.state(&bob, (2, said)).unwrap();
    restored(&mut world);
    world.now_ms += world.delivery.config.retention_ms;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(100))).unwrap();
    match world.fetch(&alice, CHANNEL, 0) {
        Err(qpc_delivery::DeliveryError::GapExpired(4, _)) => {}
        other => panic!("{other:?}"),
    }
}

/// The same database in its next life.
fn restored(world: &mut World) -> Incarnation {
    let before = world.delivery.incarnation;
    let next = Incarnation([before.0[0] + 1; 16]);
    world.serve(|d, (tx, _)| d.end_life(tx, next)).unwrap();
    world.delivery.incarnation = next;
    before
}

fn heads(page: &Page, incarnation: Incarnation, before: Digest) -> Digest {
    let log = Log { incarnation, channel: page.channel };
    page.entries.iter().fold(before, |head, entry| {
        assert_eq!(log.next(&head, &Link::of(entry)), entry.head);
        entry.head
    })
}

#[test]
fn case_097_a_channel_of_another_life_takes_no_entry_but_the_reset_that_ends_it() {
    let (mut world, alice, bob, carol) = group();
    world.say(&carol, message(10, 1)).unwrap();
    let packages = world.packages(&[&alice]);
    let first = restored(&mut world);
    for device in [&alice, &bob, &carol] {
        for body in refusals(&mut world, device, 1) {
            assert_eq!((body.code, body.detail), (ErrorCode::ChannelClosed, None));
        }
        assert_eq!(world.seqs(device), [1, 2]);
    }
    assert!(world.say(&carol, message(10, 1)).unwrap().duplicate);
    assert_eq!(world.revoke(&[&carol], &carol.list(2, &[])), []);
    // No KeyPackage of before is served; one that is in somebody's hands may still be used.
    let status = world.read(&alice, |d, call| d.key_package_status(call)).unwrap();
    assert_eq!(status.available, 0);
    assert!(!packages.is_empty());
    // A third life changes nothing of it; what is new then is of that.
    restored(&mut world);
    let member = end(&mut world, (&carol, &[&bob]), (ChannelKind::Group, NEXT)).unwrap_err();
    assert_eq!(member.code, ErrorCode::RosterRefused);
    end(&mut world, (&bob, &[&alice]), (ChannelKind::Group, NEXT)).unwrap();
    for body in refusals(&mut world, &alice, 1) {
        assert_eq!(body.detail, Some(ErrorDetail::Channel(NEXT)));
    }
    // The old chain is of the life that it began in, to its end; the new one of the present.
    let page = world.fetch(&carol, CHANNEL, 0).unwrap();
    assert_eq!(page.entries.len(), 3);
    heads(&page, first, Digest::ZERO);
    let page = world.fetch(&alice, NEXT, 0).unwrap();
    world.check_chain(&page, Digest::ZERO);
    // So a device learns with which life to check which.
    let states = world.read(&alice, |d, call| d.list_channels(call)).unwrap();
    let life = |id| states.iter().find(|s| s.channel == id).unwrap().incarnation;
    let now = world.delivery.incarnation;
    let inbox = inbox_channel(&alice.id().device);
    assert_eq!([life(CHANNEL), life(NEXT), life(inbox)], [first, now, now]);
}

#[test]
fn case_097_an_inbox_goes_on_in_the_chain_of_the_new_life() {
    let (mut world, alice, bob, _) = group();
    let inbox = inbox_channel(&bob.id().device);
    for number in 0..3 {
        let channel = ChannelId([number; 16]);
        let create = creating(&mut world, (ChannelKind::Group, channel), &[&bob]);
        world.call(&alice, |d, call| d.create_channel(call, &create)).unwrap();
    }
    // The front was read, and is gone.
    world.call(&bob, |d, call| d.ack(call, &[Cursor { channel: inbox, seq: 2 }])).unwrap();
    world.serve(|d, at| d.trim_acked(at, &[inbox], &mut Room::of(100)).unwrap());
    let page = world.fetch(&bob, inbox, 2).unwrap();
    let head = page.entries.last().unwrap().head;
    restored(&mut world);
    let create = creating(&mut world, (ChannelKind::Group, NEXT), &[&bob]);
    let made = world.call(&alice, |d, call| d.create_channel(call, &create)).unwrap().answer;
    // Read from its beginning, as a client does that has met the new life.
    let boundary = match world.fetch(&bob, inbox, 0) {
        Err(qpc_delivery::DeliveryError::GapExpired(3, boundary)) => boundary,
        other => panic!("{other:?}"),
    };
    let page = world.fetch(&bob, inbox, 2).unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [3, 4, 5]);
    world.check_chain(&page, boundary);
    assert_ne!(page.entries[1].head, head);
    let last = WelcomePointer::decode(&page.entries[2].payload).unwrap();
    assert_eq!((last.channel, last.head), (NEXT, made.head));
    // One that was never cut begins with zeros.
    let page = world.fetch(&alice, inbox_channel(&alice.id().device), 0).unwrap();
    assert_eq!(page.entries.len(), 0);
    let carol = Device::new(3, 3);
    let page = world.fetch(&carol, inbox_channel(&carol.id().device), 0).unwrap();
    assert_eq!(page.entries.len(), 1);
    world.check_chain(&page, Digest::ZERO);
}

#[test]
fn a_direct_channel_of_another_life_goes_on_as_another() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let plan = world.adding(&[&bob]);
    world.create(&alice, ChannelKind::Direct, &plan).unwrap();
    restored(&mut world);
    let body = world.enqueue(&bob, &[message_on(1, 1, 1)]).unwrap().refusal.unwrap();
    assert_eq!((body.code, body.detail), (ErrorCode::ChannelClosed, None));
    end(&mut world, (&bob, &[&alice]), (ChannelKind::Direct, NEXT)).unwrap();
    assert_eq!(world.seqs(&alice), [1, 2]);
    let welcome = mls::welcome(&world.packages(&[&bob]));
    let plan = Plan { channel: LATER, welcome: Some(welcome), ..Plan::default() };
    let mut plan = plan;
    plan.change.adds = [bob.id()].into();
    let body = world.create(&alice, ChannelKind::Direct, &plan).unwrap_err().to_body();
    assert_eq!(body.detail, Some(ErrorDetail::Channel(NEXT)));
}
