//! Direct channels: two accounts, one live channel for each pair.

use qpc_delivery::Room;
use qpc_proto::message::ChannelKind::{Direct, Group};
use qpc_proto::{ChannelId, ErrorCode, ErrorDetail};

use crate::mls::Device;
use crate::support::{CHANNEL, Plan, World, message};

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(2, 22))
}

#[test]
fn a_pair_has_one_direct_channel() {
    let mut world = World::new();
    let (alice, bob, bob2) = devices();
    let plan = world.adding(&[&bob]);
    world.create(&alice, Direct, &plan).unwrap();
    let other = Plan { channel: ChannelId([2; 16]), ..world.adding(&[&bob2]) };
    let body = world.create(&alice, Direct, &other).unwrap_err().to_body();
    assert_eq!(body.code, ErrorCode::ChannelExists);
    assert_eq!(body.detail, Some(ErrorDetail::Channel(CHANNEL)));
    // From the other side as well.
    let back = Plan { channel: ChannelId([3; 16]), ..world.adding(&[&alice]) };
    let body = world.create(&bob, Direct, &back).unwrap_err().to_body();
    assert_eq!(body.detail, Some(ErrorDetail::Channel(CHANNEL)));
    // A refused one takes nothing, and groups of the two are free.
    world.create(&alice, Group, &other).unwrap();
    world.create(&bob, Group, &back).unwrap();
}

#[test]
fn a_direct_channel_has_two_accounts() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let carol = Device::new(3, 3);
    let three = world.adding(&[&bob, &carol]);
    for plan in [Plan::default(), three] {
        let refused = world.create(&alice, Direct, &plan).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::RosterRefused);
    }
    let plan = world.adding(&[&bob]);
    world.create(&alice, Direct, &plan).unwrap();
    let plan = world.adding(&[&carol]).at(1, 1);
    assert_eq!(world.commit_code(&alice, &plan), ErrorCode::RosterRefused);
    let plan = Plan::on(1).removing(&[&bob]);
    assert_eq!(world.commit_code(&alice, &plan), ErrorCode::RosterRefused);
}

#[test]
fn either_side_adds_and_removes_devices_of_the_two() {
    let mut world = World::new();
    let (alice, bob, bob2) = devices();
    let plan = world.adding(&[&bob]);
    world.create(&alice, Direct, &plan).unwrap();
    let plan = world.adding(&[&bob2]).at(1, 1);
    world.commit(&bob, &plan).unwrap();
    world.commit(&alice, &Plan::on(2).removing(&[&bob2])).unwrap();
    let plan = world.adding(&[&bob2]).at(3, 3);
    world.commit(&alice, &plan).unwrap();
}

#[test]
fn nobody_leaves_a_direct_channel_and_what_was_taken_of_it_holds_no_log_up() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let plan = world.adding(&[&bob]);
    world.create(&alice, Direct, &plan).unwrap();
    let refused = world.state_leave(&bob, 1).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StatementInvalid);
    assert_eq!(world.seqs(&alice), [1]);
    // An older server took one, entry 2.
    world.say(&bob, message(10, 1)).unwrap();
    world.say(&bob, message(11, 1)).unwrap();
    world.serve(|_, (tx, _)| {
        let leave = "INSERT INTO leaves (no, account_id, seq)
                     SELECT no, ?1, 2 FROM channels WHERE kind = 1";
        tx.execute(leave, [bob.id().account.as_bytes()]).unwrap();
    });
    world.now_ms += world.delivery.config.retention_ms;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(100))).unwrap();
    match world.fetch(&alice, CHANNEL, 0) {
        Err(qpc_delivery::DeliveryError::GapExpired(4, _)) => {}
        other => panic!("{other:?}"),
    }
    // It takes nobody out, either.
    let bob2 = Device::new(2, 22);
    let plan = world.adding(&[&bob2]).at(1, 1);
    assert_eq!(world.commit(&alice, &plan).unwrap().answer.seq, 4);
    assert_eq!(world.seqs(&bob2), [4]);
}
