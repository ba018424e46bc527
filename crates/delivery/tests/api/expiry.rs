//! The retention: a log loses its front and says so; what somebody still needs stays.

use qpc_proto::message::{Cursor, UploadKeyPackages, inbox_channel};
use qpc_proto::{ErrorCode, ErrorDetail};

use crate::mls::Device;
use crate::support::{CHANNEL, NOW, Plan, World, message};

const DAY: u64 = 24 * 3_600 * 1_000;

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

fn sweep(world: &mut World, limit: u32) -> usize {
    let now_ms = world.now_ms;
    world.call(&Device::new(9, 9), |d, call| d.sweep_expired(call.tx, now_ms, limit)).unwrap()
}

/// The first sequence number that a device gets from a log that lost its front.
fn first_available(world: &mut World, device: &Device) -> u64 {
    let body = world.fetch(device, CHANNEL, 0).unwrap_err().to_body();
    assert_eq!(body.code, ErrorCode::GapExpired);
    match body.detail {
        Some(ErrorDetail::FirstAvailable(seq)) => seq,
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_152_an_entry_ends_at_the_millisecond() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    world.now_ms = NOW + 10;
    world.say(&alice, message(1, 1)).unwrap();
    for (age, gone) in [(7 * DAY - 1, 0), (7 * DAY, 1), (7 * DAY + 1, 0)] {
        world.now_ms = NOW + age;
        assert_eq!(sweep(&mut world, 100), gone, "age {age}");
    }
    assert_eq!(first_available(&mut world, &alice), 2);
    world.now_ms = NOW + 10 + 7 * DAY;
    assert_eq!(sweep(&mut world, 100), 1);
}

#[test]
fn case_134_who_is_behind_is_told_where_the_log_begins() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    world.say(&alice, message(1, 1)).unwrap();
    world.now_ms += 7 * DAY;
    let kept = world.say(&alice, message(2, 1)).unwrap();
    assert_eq!(sweep(&mut world, 100), 2);
    assert_eq!(first_available(&mut world, &bob), 3);
    let refused = world.fetch(&bob, CHANNEL, 1).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::GapExpired);
    let page = world.fetch(&bob, CHANNEL, 2).unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].head, kept.head);
    // Numbers and chain go on; the expired Commit is still a base.
    let next = world.say(&bob, message(1, 1)).unwrap();
    assert_eq!(next.seq, 4);
    let page = world.fetch(&bob, CHANNEL, 3).unwrap();
    assert_eq!(world.check_chain(&page, kept.head), next.head);
    world.commit(&bob, &Plan::on(1)).unwrap();
}

#[test]
fn what_a_commit_carried_goes_with_its_entry() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    world.state_leave(&bob, 1).unwrap();
    world.commit(&alice, &Plan::on(1).removing(&[&bob]).carrying(&[&bob])).unwrap();
    let carried = |world: &mut World| -> u32 {
        let sum = "SELECT sum(length(roster_change) + length(statements)) FROM commits";
        world.serve(|_, (tx, _)| tx.query_row(sum, [], |row| row.get(0)).unwrap())
    };
    assert!(carried(&mut world) > 0);
    world.now_ms += 7 * DAY;
    assert_eq!(sweep(&mut world, 100), 3);
    assert_eq!(carried(&mut world), 0);
    // It is still a base.
    world.commit(&alice, &Plan::on(3)).unwrap();
}

#[test]
fn an_emptied_log_goes_on() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    world.now_ms += 8 * DAY;
    assert_eq!(sweep(&mut world, 100), 1);
    assert_eq!(sweep(&mut world, 100), 0);
    let page = world.fetch(&alice, CHANNEL, 1).unwrap();
    assert_eq!((page.entries.len(), page.head_seq), (0, 1));
    assert_eq!(world.say(&alice, message(1, 1)).unwrap().seq, 2);
    world.now_ms += 7 * DAY - 1;
    assert_eq!(sweep(&mut world, 100), 0);
    world.now_ms += 1;
    assert_eq!(sweep(&mut world, 100), 1);
}

#[test]
fn a_sweep_has_a_limit_and_loses_no_retry_of_what_stays() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    for id in 1..=5 {
        world.say(&alice, message(id, 1)).unwrap();
    }
    world.now_ms += 8 * DAY;
    assert_eq!(sweep(&mut world, 2), 2);
    assert_eq!(first_available(&mut world, &alice), 3);
    assert!(world.say(&alice, message(2, 1)).unwrap().duplicate);
    // Its entry is gone, and so is its id.
    assert!(!world.say(&alice, message(1, 1)).unwrap().duplicate);
    assert_eq!(sweep(&mut world, 2), 2);
    assert_eq!(sweep(&mut world, 2), 2);
    assert_eq!(sweep(&mut world, 2), 0);
}

#[test]
fn a_standing_statement_stays_until_it_is_done() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    world.state_leave(&carol, 1).unwrap();
    world.say(&alice, message(1, 1)).unwrap();
    world.now_ms += 8 * DAY;
    // The first Commit alone: inboxes are unread, and the statement holds what is behind it.
    assert_eq!(sweep(&mut world, 100), 1);
    assert_eq!(first_available(&mut world, &alice), 2);
    world.commit(&bob, &Plan::on(1).removing(&[&carol]).carrying(&[&carol])).unwrap();
    assert_eq!(sweep(&mut world, 100), 0);
    world.now_ms += 3_600 * 1_000;
    assert_eq!(sweep(&mut world, 100), 2);
}

#[test]
fn a_welcome_waits_30_days_for_its_reader() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    let entries = |world: &mut World, device: &Device, after| {
        let inbox = inbox_channel(&device.id().device);
        world.fetch(device, inbox, after).map(|page| page.entries)
    };
    let cursor = Cursor { channel: inbox_channel(&bob.id().device), seq: 1 };
    world.call(&bob, |d, call| d.ack(call, &[cursor])).unwrap();
    world.now_ms = NOW + 7 * DAY;
    // The group's one entry and Bob's pointer.
    assert_eq!(sweep(&mut world, 100), 2);
    assert!(entries(&mut world, &bob, 1).unwrap().is_empty());
    world.now_ms = NOW + 30 * DAY - 1;
    assert_eq!(sweep(&mut world, 100), 0);
    let unread = entries(&mut world, &carol, 0).unwrap();
    assert!(unread[0].welcome.is_some());
    world.now_ms = NOW + 30 * DAY + 3_600 * 1_000;
    assert_eq!(sweep(&mut world, 100), 1);
    assert!(entries(&mut world, &carol, 0).is_err());
}

#[test]
fn a_tombstone_goes_when_its_package_can_t_come_back() {
    let mut world = World::new();
    let device = Device::new(1, 1);
    let package = device.key_package(1, false, NOW);
    let upload = UploadKeyPackages { key_packages: vec![package], last_resort: None };
    let put = |world: &mut World| {
        let done = world.call(&device, |d, call| d.upload(call, &upload));
        done.map_err(|error| error.code())
    };
    assert_eq!(put(&mut world), Ok(1));
    world.now_ms = NOW + DAY;
    assert_eq!(put(&mut world), Err(ErrorCode::KeyPackageReused));
    let kept = (qpc_credential::lifetime::BACK + qpc_credential::lifetime::AHEAD) * 1_000;
    for (age, gone) in [(kept - 1, 0), (kept, 1), (kept + 1, 0)] {
        world.now_ms = NOW + age;
        assert_eq!(sweep(&mut world, 10), gone);
        assert_eq!(put(&mut world), Err(ErrorCode::KeyPackageInvalid));
    }
}
