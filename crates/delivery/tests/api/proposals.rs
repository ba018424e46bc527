//! Proposals: none stands alone, nobody commits from outside, and a Commit declares no more than
//! fits beside any payload.

use bytes::Bytes;
use qpc_proto::message::{CommitRequest, DeviceRef, NewEntry};
use qpc_proto::roster::{Role, RosterChange};
use qpc_proto::{AccountId, DeviceId, ErrorCode, MessageId};

use crate::mls::{self, Device};
use crate::support::{CHANNEL, Plan, World, aad};

/// What becomes of a Commit with another payload.
fn committed(world: &mut World, device: &Device, payload: Bytes) -> ErrorCode {
    let mut bundle = Plan::on(1).bundle();
    bundle.payload = payload;
    let request = CommitRequest { channel: CHANNEL, bundle };
    world.call(device, |d, call| d.commit(call, &request)).unwrap_err().code()
}

#[test]
fn case_132_a_flood_of_proposals_is_refused_and_stores_nothing() {
    let mut world = World::new();
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    world.group(&[&alice, &bob]);
    let before = world.rows();
    for number in 0..200 {
        let payload = mls::private_message(mls::PROPOSAL, &aad(CHANNEL, 1), &[number]);
        let entry = NewEntry { message_id: MessageId([number; 16]), after_commit: 1, payload };
        assert_eq!(world.say(&bob, entry), Err(ErrorCode::InvalidMlsType));
        let payload = mls::private_message(mls::PROPOSAL, &Plan::on(1).aad(), &[number]);
        assert_eq!(committed(&mut world, &bob, payload), ErrorCode::InvalidMlsType);
    }
    assert_eq!(world.rows(), before);
    world.commit(&bob, &Plan::on(1)).unwrap();
}

/// Devices that come and go, and roles that change: so many of each.
fn change((adds, removes, roles): (u16, u16, u16)) -> RosterChange {
    let id = |number: u16, kind: u8| {
        let [high, low] = number.to_be_bytes();
        let mut id = [kind; 16];
        (id[0], id[1]) = (high, low);
        id
    };
    let devices = |count, kind| {
        let of = |n| DeviceRef { account: AccountId(id(n, kind)), device: DeviceId(id(n, kind)) };
        (0..count).map(of).collect()
    };
    RosterChange {
        adds: devices(adds, 1),
        removes: devices(removes, 2),
        roles: (0..roles).map(|n| (AccountId(id(n, 3)), Role::Admin)).collect(),
    }
}

#[test]
fn case_132_a_commit_declares_as_much_as_has_room_and_no_more() {
    let mut world = World::new();
    let alice = Device::new(1, 1);
    world.group(&[&alice]);
    let before = world.rows();
    let mut code = |change| world.commit_code(&alice, &Plan { change, ..Plan::on(1) });
    // What is read and judged by its roster was not too long.
    let judged = |code| matches!(code, ErrorCode::RosterRefused | ErrorCode::GroupTooLarge);
    let most = change((1_000, 911, 15));
    assert_eq!(most.encode().len(), 60 * 1_024);
    assert!(judged(code(most)));
    assert_eq!(code(change((1_000, 911, 16))), ErrorCode::InvalidArgument);
    assert_eq!(code(change((1_000, 912, 15))), ErrorCode::InvalidArgument);
    assert!(judged(code(change((1_000, 0, 0)))));
    assert_eq!(code(change((1_001, 0, 0))), ErrorCode::InvalidArgument);
    assert!(judged(code(change((0, 1_000, 0)))));
    assert_eq!(code(change((0, 1_001, 0))), ErrorCode::InvalidArgument);
    assert_eq!(world.rows(), before);
}

/// An external Commit is a PublicMessage, whoever sends it; and who is not in sends nothing.
#[test]
fn case_122_a_commit_from_outside_is_refused() {
    let mut world = World::new();
    let (alice, bob, eve) = (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3));
    world.group(&[&alice, &bob]);
    let before = world.rows();
    let mut external = mls::private_message(mls::COMMIT, &Plan::on(1).aad(), b"x").to_vec();
    external[3] = 1;
    for member in [&alice, &bob] {
        let code = committed(&mut world, member, external.clone().into());
        assert_eq!(code, ErrorCode::InvalidMlsType);
    }
    assert_eq!(committed(&mut world, &eve, external.into()), ErrorCode::ChannelNotFound);
    let removal = Plan::on(1).removing(&[&alice]);
    assert_eq!(world.commit_code(&eve, &removal), ErrorCode::ChannelNotFound);
    assert_eq!(world.rows(), before);
}
