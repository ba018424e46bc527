//! What probing tells somebody who isn't in a channel, and what members see of each other: nothing.

use qpc_delivery::DeliveryError;
use qpc_proto::message::{ChannelState, Cursor, Page};
use qpc_proto::{ChannelId, ErrorCode};

use crate::mls::Device;
use crate::support::{CHANNEL, Plan, World, message};

fn states(world: &mut World, device: &Device) -> Vec<ChannelState> {
    world.read(device, |d, call| d.list_channels(call)).unwrap()
}

fn acked(world: &mut World, device: &Device) -> u64 {
    states(world, device).iter().find(|state| state.channel == CHANNEL).unwrap().acked_seq
}

fn ack(world: &mut World, device: &Device, cursors: &[Cursor]) -> Result<(), DeliveryError> {
    world.call(device, |d, call| d.ack(call, cursors))
}

const fn cursor(channel: ChannelId, seq: u64) -> Cursor {
    Cursor { channel, seq }
}

#[test]
fn case_159_acks_of_a_stranger_change_nothing_and_look_like_those_of_no_channel() {
    let mut world = World::new();
    let (alice, bob, eve) = (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3));
    world.group(&[&alice, &bob]);
    world.say(&alice, message(1, 1)).unwrap();
    ack(&mut world, &bob, &[cursor(CHANNEL, 1)]).unwrap();
    let (rows, before) = (world.rows(), [states(&mut world, &alice), states(&mut world, &bob)]);
    let nowhere = ChannelId([9; 16]);
    let bobs = qpc_proto::message::inbox_channel(&bob.id().device);
    let mut bodies = Vec::new();
    for channel in [CHANNEL, nowhere, bobs] {
        for seq in [0, 1, 2, u64::MAX] {
            bodies.push(ack(&mut world, &eve, &[cursor(channel, seq)]).unwrap_err().to_body());
        }
    }
    assert_eq!(bodies[0].code, ErrorCode::ChannelNotFound);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(world.rows(), rows);
    assert_eq!([states(&mut world, &alice), states(&mut world, &bob)], before);
    assert_eq!(states(&mut world, &eve).len(), 1, "her own inbox");
}

#[test]
fn case_159_a_stranger_s_channel_among_others_takes_the_whole_ack_back() {
    let mut world = World::new();
    let (alice, eve) = (Device::new(1, 1), Device::new(3, 3));
    world.group(&[&alice]);
    let elsewhere = ChannelId([7; 16]);
    let plan = Plan { channel: elsewhere, ..Plan::default() };
    world.create(&eve, qpc_proto::message::ChannelKind::Group, &plan).unwrap();
    world.say(&alice, message(1, 1)).unwrap();
    let cursors = [cursor(CHANNEL, 2), cursor(elsewhere, 1)];
    let refused = ack(&mut world, &alice, &cursors).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ChannelNotFound);
    assert_eq!(acked(&mut world, &alice), 0);
}

#[test]
fn case_159_what_one_device_has_read_is_shown_to_no_other_not_even_a_member() {
    let mut world = World::new();
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    let bob2 = Device::new(2, 22);
    world.group(&[&alice, &bob, &bob2]);
    world.say(&alice, message(1, 1)).unwrap();
    let seen = |world: &mut World, device: &Device| -> (Vec<ChannelState>, Page) {
        (states(world, device), world.fetch(device, CHANNEL, 0).unwrap())
    };
    let before = [seen(&mut world, &alice), seen(&mut world, &bob2)];
    ack(&mut world, &bob, &[cursor(CHANNEL, 2)]).unwrap();
    assert_eq!(acked(&mut world, &bob), 2);
    assert_eq!([seen(&mut world, &alice), seen(&mut world, &bob2)], before);
}
