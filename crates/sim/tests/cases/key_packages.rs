//! The pool of KeyPackages at the server, and claims of it.

use qpc_client::view::ChannelStatus;
use qpc_proto::message::{ClaimKeyPackages, KeyPackageStatus, Method, Request, Response};
use qpc_sim::World;

use super::support::{add, at_peace, channel, group, in_step, until_sent, world};

/// The pool of a simulated client: made up to 8 when fewer than 4 are left.
const FULL: u32 = 8;

fn status(world: &mut World, index: usize) -> KeyPackageStatus {
    let answer = world.ask(index, &Request::KeyPackageStatus).unwrap();
    let Response::KeyPackageStatus(status) = answer else { panic!("{answer:?}") };
    status
}

/// Client 0 claims of client 1, past its machine.
fn claim(world: &mut World) -> bool {
    let account = world.account(1).unwrap();
    let claim = ClaimKeyPackages { account, devices: Vec::new() };
    let Response::Claims(claims) = world.ask(0, &Request::ClaimKeyPackages(claim)).unwrap() else {
        panic!("no claims")
    };
    claims.claimed[0].last_resort
}

#[test]
fn a_claim_whose_answer_is_lost_burns_no_second_package() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    let before = status(&mut world, 2).available;
    add(&mut world, &group, &[2]);
    until_sent(&mut world, 0, Method::ClaimKeyPackages);
    for _ in 0..2 {
        assert!(world.deliver(0, (Method::ClaimKeyPackages, true)).unwrap());
        world.crash(0).unwrap();
        world.connect(0).unwrap();
        until_sent(&mut world, 0, Method::ClaimKeyPackages);
    }
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(status(&mut world, 2).available, before - 1);
}

#[test]
fn a_pool_below_its_mark_is_filled_and_one_at_it_is_not() {
    let mut world = world(2);
    assert_eq!(status(&mut world, 1).available, FULL);
    for _ in 0..4 {
        assert!(!claim(&mut world));
    }
    world.disconnect(1).unwrap();
    world.settle().unwrap();
    assert_eq!(status(&mut world, 1).available, 4, "four are not fewer than four");
    claim(&mut world);
    world.disconnect(1).unwrap();
    world.settle().unwrap();
    assert_eq!(status(&mut world, 1).available, FULL);
}

#[test]
fn case_078_a_last_resort_that_was_handed_out_is_replaced() {
    let mut world = world(2);
    let last: Vec<bool> = (0..=FULL).map(|_| claim(&mut world)).collect();
    assert_eq!(last.iter().filter(|last| **last).count(), 1);
    assert_eq!(last.last(), Some(&true));
    let seen = status(&mut world, 1);
    assert_eq!((seen.available, seen.last_resort_used), (0, true));
    world.disconnect(1).unwrap();
    world.settle().unwrap();
    let seen = status(&mut world, 1);
    assert_eq!((seen.available, seen.has_last_resort, seen.last_resort_used), (FULL, true, false));
    // Who was claimed by the last resort still joins by it.
    let group = group(&mut world, &[1]);
    in_step(&mut world, &group, &[0, 1]);
}

#[test]
fn case_085_an_upload_whose_answer_is_lost_is_repeated_and_stored_once() {
    let mut world = World::new(9, 2).unwrap();
    world.connect(1).unwrap();
    until_sent(&mut world, 1, Method::UploadKeyPackages);
    assert!(world.deliver(1, (Method::UploadKeyPackages, true)).unwrap());
    world.crash(1).unwrap();
    at_peace(&mut world);
    assert_eq!(status(&mut world, 1).available, FULL);
    let group = group(&mut world, &[1]);
    in_step(&mut world, &group, &[0, 1]);
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Active);
}
