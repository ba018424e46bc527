//! Device certificates before and after their end: renewed by the primary, taken by each device,
//! seen by everybody.

use std::collections::BTreeMap;

use qpc_client::machine::{Input, Work};
use qpc_credential::{AccountKey, DeviceList};
use qpc_proto::ChannelId;
use qpc_proto::message::{DeviceRef, Response};
use qpc_sim::World;

use super::support::{at_peace, group, history, in_step, say, words, world};

const DAY_MS: u64 = 24 * 3_600_000;
/// How long an entry lasts.
const ENTRY_MS: u64 = 730 * DAY_MS;

fn ends(world: &mut World, index: usize, group: &ChannelId) -> BTreeMap<DeviceRef, u64> {
    world.user(index, |m, s| m.leaf_ends(s, group)).unwrap()
}

/// All see the same ends in a group; these.
fn seen_by(world: &mut World, group: &ChannelId, all: &[usize]) -> Vec<u64> {
    let first = ends(world, all[0], group);
    for index in all {
        assert_eq!(ends(world, *index, group), first, "client {index}");
    }
    first.into_values().collect()
}

/// The newest list of a client's account, as the server has it.
fn list(world: &mut World, index: usize) -> DeviceList {
    let newest = world.newest(index).unwrap();
    let key = AccountKey::verify(&newest.account_key).unwrap();
    DeviceList::verify(&newest.device_list, &key).unwrap()
}

/// Some come back after so long; the others stay away.
fn later(world: &mut World, ms: u64, some: &[usize]) {
    world.sleep_until(world.now_ms + ms).unwrap();
    world.settle_among(some).unwrap();
}

/// A group of two accounts, one of them with a linked device, client 2.
fn three() -> (World, ChannelId) {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    assert_eq!(world.link(0).unwrap(), 2);
    at_peace(&mut world);
    (world, group)
}

#[test]
fn case_130_entries_near_their_end_are_renewed_and_all_channels_follow() {
    let (mut world, group) = three();
    let all = [0, 1, 2];
    let before = seen_by(&mut world, &group, &all);
    assert_eq!(before.len(), 3);
    later(&mut world, ENTRY_MS - 31 * DAY_MS, &all);
    assert_eq!((list(&mut world, 0).version, list(&mut world, 1).version), (2, 1));
    later(&mut world, 2 * DAY_MS, &all);
    at_peace(&mut world);
    let (renewed, now) = (list(&mut world, 0), world.now_ms);
    assert_eq!((renewed.version, list(&mut world, 1).version), (3, 2));
    assert!(renewed.devices.iter().all(|entry| entry.not_after_ms > now + ENTRY_MS - DAY_MS));
    // The linked device asks once a day, and each makes its Commit within a day of its renewal.
    for _ in 0..3 {
        later(&mut world, DAY_MS, &all);
        at_peace(&mut world);
    }
    let after = seen_by(&mut world, &group, &all);
    assert!(after.iter().all(|end| *end > now + ENTRY_MS - DAY_MS), "{before:?} {after:?}");
    in_step(&mut world, &group, &all);
    // It is done once, and nobody is told that a device came or went.
    later(&mut world, 20 * DAY_MS, &all);
    at_peace(&mut world);
    assert_eq!((list(&mut world, 0).version, list(&mut world, 1).version), (3, 2));
    assert_eq!(seen_by(&mut world, &group, &all), after);
    for index in all {
        assert!(world.alarms(index).unwrap().is_empty(), "client {index}");
        let told = history(&mut world, index, &group);
        assert!(told.iter().all(|line| !line.text.contains("revoked")), "client {index}");
    }
    say(&mut world, 2, (&group, "as before"));
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), ["as before"]);
    // A certificate is kept over a restart.
    world.crash(2).unwrap();
    later(&mut world, 9 * DAY_MS, &all);
    at_peace(&mut world);
    assert_eq!(seen_by(&mut world, &group, &all), after);
    in_step(&mut world, &group, &all);
}

#[test]
fn case_130_a_leaf_whose_certificate_has_ended_is_judged_alike_and_may_be_renewed() {
    let (mut world, group) = three();
    // Nobody is there for the last month of the entries; the primary not then either.
    later(&mut world, ENTRY_MS - 31 * DAY_MS, &[0, 1, 2]);
    later(&mut world, 32 * DAY_MS, &[1, 2]);
    let now = world.now_ms;
    let ended = |ends: &[u64]| ends.iter().filter(|end| **end < now).count();
    in_step(&mut world, &group, &[1, 2]);
    assert!(ended(&seen_by(&mut world, &group, &[1, 2])) >= 2);
    say(&mut world, 2, (&group, "ended, but here"));
    world.settle_among(&[1, 2]).unwrap();
    assert_eq!(words(&mut world, 1, &group), ["ended, but here"]);
    assert_eq!(list(&mut world, 2).version, 2);
    // It comes back and renews all; the sibling, which asks once a day, takes its own.
    later(&mut world, DAY_MS, &[0]);
    assert_eq!(list(&mut world, 0).version, 3);
    for _ in 0..2 {
        later(&mut world, DAY_MS, &[0, 1, 2]);
    }
    at_peace(&mut world);
    assert_eq!(ended(&seen_by(&mut world, &group, &[0, 1, 2])), 0);
    in_step(&mut world, &group, &[0, 1, 2]);
}

#[test]
fn a_device_that_was_away_while_it_was_renewed_takes_its_certificate_later() {
    let (mut world, group) = three();
    later(&mut world, ENTRY_MS - 31 * DAY_MS, &[0, 1, 2]);
    let now = world.now_ms;
    let renewed = |ends: &[u64]| ends.iter().filter(|end| **end > now + 60 * DAY_MS).count();
    later(&mut world, 2 * DAY_MS, &[0, 1]);
    later(&mut world, 2 * DAY_MS, &[0, 1]);
    assert_eq!(list(&mut world, 0).version, 3);
    assert_eq!(renewed(&seen_by(&mut world, &group, &[0, 1])), 2);
    later(&mut world, DAY_MS, &[0, 1, 2]);
    later(&mut world, 2 * DAY_MS, &[0, 1, 2]);
    at_peace(&mut world);
    assert_eq!(renewed(&seen_by(&mut world, &group, &[0, 1, 2])), 3);
}

/// The next primary's list keeps the renewed entry, and signs nothing for two years.
#[test]
fn a_certificate_from_before_a_recovery_is_taken_after_it() {
    let (mut world, group) = three();
    let linked = world.device(2).unwrap();
    later(&mut world, ENTRY_MS - 20 * DAY_MS, &[0, 1]);
    let renewed = list(&mut world, 0).get(&linked).unwrap().not_after_ms;
    assert!(renewed > world.now_ms + 60 * DAY_MS);
    world.disconnect(0).unwrap();
    let back = world.recover_keeping(0, &[2]).unwrap();
    world.settle_among(&[1, back]).unwrap();
    assert_eq!(list(&mut world, back).get(&linked).unwrap().not_after_ms, renewed);
    later(&mut world, DAY_MS, &[1, 2, back]);
    later(&mut world, 2 * DAY_MS, &[1, 2, back]);
    let held = world.user(2, |m, _| m.certificate_ends()).unwrap();
    assert_eq!(held, renewed);
    let seen = ends(&mut world, 1, &group);
    let seen = seen.into_iter().find(|(device, _)| device.device == linked).unwrap().1;
    assert_eq!(seen, renewed);
}

/// The answers of the own list to client 2, with another certificate in them.
fn lie(world: &mut World, certificate: Vec<u8>) {
    world.liar = Some(Box::new(move |index, input| {
        if let Input::Answer(Work::OwnDevices, Ok(Response::Devices(devices))) = input
            && index == 2
        {
            devices.certificate = certificate.clone().into();
        }
    }));
}

#[test]
fn a_device_takes_no_certificate_but_its_own() {
    let (mut world, group) = three();
    let stash = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&stash);
    world.liar = Some(Box::new(move |index, input| {
        if let Input::Answer(Work::OwnDevices, Ok(Response::Devices(devices))) = input
            && index == 0
            && !devices.certificate.is_empty()
        {
            *sink.lock().unwrap() = devices.certificate.to_vec();
        }
    }));
    later(&mut world, ENTRY_MS - 20 * DAY_MS, &[0, 1]);
    let siblings: Vec<u8> = stash.lock().unwrap().clone();
    assert!(!siblings.is_empty());
    let before = world.device(2).unwrap();
    let end = |world: &mut World| {
        let all = ends(world, 2, &group);
        all.into_iter().find(|(device, _)| device.device == before).unwrap().1
    };
    let first = end(&mut world);
    lie(&mut world, siblings);
    later(&mut world, 2 * DAY_MS, &[0, 1, 2]);
    later(&mut world, 2 * DAY_MS, &[0, 1, 2]);
    assert_eq!(end(&mut world), first);
    lie(&mut world, b"no certificate".to_vec());
    later(&mut world, 2 * DAY_MS, &[0, 1, 2]);
    assert_eq!(end(&mut world), first);
    assert!(world.alarms(2).unwrap().iter().any(|alarm| alarm.contains("certificate")));
    world.liar = None;
    later(&mut world, 2 * DAY_MS, &[0, 1, 2]);
    later(&mut world, 2 * DAY_MS, &[0, 1, 2]);
    assert!(end(&mut world) > first);
}

/// The primary's answer is lost, and the program ends before it came.
#[test]
fn a_renewal_whose_answer_was_lost_is_published_once() {
    let (mut world, _) = three();
    world.sleep_until(world.now_ms + ENTRY_MS - 20 * DAY_MS).unwrap();
    world.connect(0).unwrap();
    super::support::until_sent(&mut world, 0, qpc_proto::message::Method::RenewDevices);
    world.deliver(0, (qpc_proto::message::Method::RenewDevices, false)).unwrap();
    world.crash(0).unwrap();
    at_peace(&mut world);
    assert_eq!(list(&mut world, 0).version, 3);
    assert!(world.alarms(0).unwrap().is_empty());
}
