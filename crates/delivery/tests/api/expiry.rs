//! The retention: a log loses its front and says so; what somebody still needs stays.

use bytes::Bytes;
use qpc_delivery::Room;
use qpc_proto::message::{
    Accepted, ChannelKind, CreateChannel, Cursor, NewEntry, UploadKeyPackages, inbox_channel,
};
use qpc_proto::{ChannelId, ErrorCode, ErrorDetail, ExpiredRange, MessageId};

use crate::mls::{Device, welcome_of};
use crate::support::{CHANNEL, NOW, Plan, World, message, message_on, sized};

const DAY: u64 = 24 * 3_600 * 1_000;

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

fn sweep(world: &mut World, limit: u32) -> usize {
    let now_ms = world.now_ms;
    world
        .call(&Device::new(9, 9), |d, call| d.sweep_expired(call.tx, now_ms, &mut Room::of(limit)))
        .unwrap()
}

fn trim_acked(world: &mut World, limit: u32) -> usize {
    world.serve(|d, at| d.trim_acked(at, &[CHANNEL], &mut Room::of(limit)).unwrap())
}

fn ack(world: &mut World, device: &Device, seq: u64) {
    let cursor = Cursor { channel: CHANNEL, seq };
    world.call(device, |d, call| d.ack(call, &[cursor])).unwrap();
}

/// The first sequence number that a device gets from a log that lost its front.
fn first_available(world: &mut World, device: &Device) -> u64 {
    let body = world.fetch(device, CHANNEL, 0).unwrap_err().to_body();
    assert_eq!(body.code, ErrorCode::GapExpired);
    match body.detail {
        Some(ErrorDetail::Expired(range)) => range.first_available,
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_152_an_entry_ends_at_the_millisecond_swept_or_not() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    let first = world.fetch(&alice, CHANNEL, 0).unwrap().entries[0].head;
    world.now_ms = NOW + 10;
    world.say(&alice, message(1, 1)).unwrap();
    world.now_ms = NOW + 7 * DAY - 1;
    assert_eq!(world.seqs(&alice), [1, 2]);
    assert_eq!(sweep(&mut world, 100), 0);
    assert_eq!(world.seqs(&alice), [1, 2]);
    world.now_ms = NOW + 7 * DAY;
    let told = |world: &mut World| world.fetch(&alice, CHANNEL, 0).unwrap_err().to_body().detail;
    let range = ExpiredRange { first_available: 2, boundary_head: first };
    assert_eq!(told(&mut world), Some(ErrorDetail::Expired(range)), "before the sweep");
    assert_eq!(world.fetch(&alice, CHANNEL, 1).unwrap().entries.len(), 1);
    assert_eq!(sweep(&mut world, 100), 1);
    assert_eq!(told(&mut world), Some(ErrorDetail::Expired(range)), "after it");
    assert_eq!(world.fetch(&alice, CHANNEL, 1).unwrap().entries.len(), 1);
    world.now_ms = NOW + 7 * DAY + 9;
    assert_eq!(sweep(&mut world, 100), 0);
    world.now_ms = NOW + 7 * DAY + 10;
    assert_eq!(first_available(&mut world, &alice), 3);
    assert_eq!(sweep(&mut world, 100), 1);
    assert_eq!(first_available(&mut world, &alice), 3);
    assert!(world.fetch(&alice, CHANNEL, 2).unwrap().entries.is_empty());
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
fn who_made_a_channel_gets_the_first_answer_as_long_as_there_is_the_channel() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let plan = world.adding(&[&bob]);
    let created = world.create(&alice, ChannelKind::Direct, &plan).unwrap().answer;
    for _ in 0..10 {
        world.now_ms += 30 * DAY;
        world.say(&bob, message(1, 1)).unwrap();
        sweep(&mut world, 100);
    }
    let again = world.create(&alice, ChannelKind::Direct, &plan).unwrap().answer;
    assert_eq!(again, Accepted { duplicate: true, ..created });
    let other = world.create(&alice, ChannelKind::Direct, &Plan { id: plan.id + 1, ..plan });
    assert_eq!(other.unwrap_err().code(), ErrorCode::InvalidArgument);
}

#[test]
fn commits_that_nobody_can_build_on_are_forgotten_with_their_rosters() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob]);
    let mut last = 1;
    for day in 0..40 {
        world.now_ms += DAY;
        // Everybody renews, and now and then somebody comes or goes.
        let plan = match day % 10 {
            3 => world.adding(&[&carol]).at(last, last),
            7 => Plan::on(last).removing(&[&carol]),
            _ => Plan::on(last),
        };
        last = world.commit(&alice, &plan).unwrap().answer.seq;
        last = world.commit(&bob, &Plan::on(last)).unwrap().answer.seq;
        sweep(&mut world, 100);
        assert!(world.rows()["commits"] <= 2 * 22, "{:?}", world.rows());
        assert!(world.rows()["rosters"] <= 6, "{:?}", world.rows());
    }
    // Bob is silent from now on: what he may name stays.
    let bobs = last;
    for _ in 0..40 {
        world.now_ms += DAY;
        last = world.commit(&alice, &Plan::on(last)).unwrap().answer.seq;
        sweep(&mut world, 100);
    }
    world.say(&bob, message_on(1, last, bobs)).unwrap();
    world.commit(&bob, &Plan::on(last).at(last, last)).unwrap();
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
fn a_sweep_has_a_limit_and_what_it_left_is_not_served_all_the_same() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    for id in 1..=5 {
        world.say(&alice, message(id, 1)).unwrap();
    }
    world.now_ms += 8 * DAY;
    for left in [2, 2, 2, 0] {
        assert_eq!(first_available(&mut world, &alice), 7);
        assert_eq!(sweep(&mut world, 2), left);
    }
    // The entries are gone, their ids are not.
    for id in [1, 5] {
        assert!(world.say(&alice, message(id, 1)).unwrap().duplicate);
    }
    world.now_ms += 6 * DAY;
    for left in [2, 2, 1, 0] {
        assert_eq!(sweep(&mut world, 2), left);
    }
    assert_eq!(world.say(&alice, message(1, 1)).unwrap().seq, 7);
}

#[test]
fn case_140_an_expired_entry_still_answers_its_retry() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob]);
    let adding = world.adding(&[&carol]).at(1, 1);
    let said = world.say(&bob, message(1, 1)).unwrap();
    let committed = world.commit(&alice, &adding).unwrap().answer;
    let stated = world.state_leave(&bob, 2).unwrap().answer;
    world.commit(&alice, &Plan::on(3).removing(&[&bob]).carrying(&[&bob])).unwrap();
    for days in [7, 8, 13] {
        world.now_ms = NOW + days * DAY;
        sweep(&mut world, 100);
        let again = |first: Accepted| Accepted { duplicate: true, ..first };
        assert_eq!(world.say(&bob, message(1, 1)).unwrap(), again(said), "day {days}");
        assert_eq!(world.commit(&alice, &adding).unwrap().answer, again(committed));
        assert_eq!(world.state_leave(&bob, 2).unwrap().answer, again(stated));
        let other = world.say(&bob, message_on(1, 1, 0));
        assert_eq!(other, Err(ErrorCode::MessageIdConflict));
    }
    // None of it is served, or holds room but for the pointers in the inboxes.
    assert_eq!(first_available(&mut world, &alice), 6);
    assert_eq!(world.rows()["payloads"], 2);
    world.now_ms = NOW + 14 * DAY - 1;
    sweep(&mut world, 100);
    assert!(world.commit(&alice, &adding).unwrap().answer.duplicate);
    world.now_ms += 1;
    sweep(&mut world, 100);
    assert_eq!(world.commit_code(&alice, &adding), ErrorCode::StaleCommit);
    // The Commit that made the channel is remembered, and the pointers wait.
    assert_eq!(world.rows()["log"], 3);
}

/// What a server pays for the memory of ids. `cargo test --workspace --test api
/// what_a_remembered_id_costs -- --nocapture` prints it.
#[test]
fn what_a_remembered_id_costs() {
    const IDS: usize = 2_000;
    const PAGE_BYTES: usize = 4_096;
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    let size = |world: &mut World| -> usize {
        world.serve(|_, (tx, _)| {
            let of =
                |name| tx.pragma_query_value(None, name, |row| row.get::<_, usize>(0)).unwrap();
            (of("page_count") - of("freelist_count")) * PAGE_BYTES
        })
    };
    let before = size(&mut world);
    for first in (0..IDS).step_by(200) {
        // As clients make them: a cursor, then what is random.
        let entry = |n: usize| {
            let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let id = [(n / 64).to_be_bytes(), random.to_be_bytes()].concat();
            NewEntry { message_id: MessageId(id.try_into().unwrap()), ..message(1, 1) }
        };
        let entries: Vec<_> = (first..first + 200).map(entry).collect();
        assert_eq!(world.enqueue(&alice, &entries).unwrap().accepted.len(), 200);
    }
    world.now_ms += 7 * DAY;
    assert_eq!(sweep(&mut world, 10_000), IDS + 1);
    let each = (size(&mut world) - before) / IDS;
    println!("{each} bytes for each id");
    assert!((100..=300).contains(&each), "{each} bytes for each id");
    world.now_ms += 7 * DAY;
    assert_eq!(sweep(&mut world, 10_000), IDS);
    assert!(size(&mut world) <= before + 8_192);
}

/// Alice's group with Bob, whose entries are kept so long.
fn keeping(retention_ms: u64) -> (World, Device, Device, Result<Accepted, ErrorCode>) {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let (channel, kind) = (CHANNEL, ChannelKind::Group);
    let bundle = world.adding(&[&bob]).bundle();
    let create = CreateChannel { channel, kind, bundle, retention_ms, reset: None };
    let created = world.call(&alice, |d, call| d.create_channel(call, &create));
    let created = created.map(|written| written.answer).map_err(|error| error.code());
    (world, alice, bob, created)
}

fn shown_retention(world: &mut World, device: &Device) -> u64 {
    let states = world.read(device, |d, call| d.list_channels(call)).unwrap();
    states.iter().find(|state| state.channel == CHANNEL).unwrap().retention_ms
}

#[test]
fn a_channel_keeps_entries_at_most_as_long_as_the_server() {
    for (asked, granted) in [
        (0, Some(7 * DAY)),
        (1, None),
        (59_999, None),
        (60_000, Some(60_000)),
        (60_001, Some(60_001)),
        (7 * DAY - 1, Some(7 * DAY - 1)),
        (7 * DAY, Some(7 * DAY)),
        (7 * DAY + 1, None),
        (u64::MAX, None),
    ] {
        let (mut world, alice, _, created) = keeping(asked);
        match granted {
            Some(granted) => assert_eq!(shown_retention(&mut world, &alice), granted),
            None => assert_eq!(created, Err(ErrorCode::InvalidArgument), "{asked}"),
        }
    }
}

#[test]
fn a_channel_of_a_minute_forgets_after_a_minute_and_still_answers_retries() {
    let (mut world, alice, bob, created) = keeping(60_000);
    let said = world.say(&bob, message(1, 1)).unwrap();
    world.now_ms = NOW + 60_000 - 1;
    assert_eq!(world.seqs(&alice), [1, 2]);
    assert_eq!(sweep(&mut world, 100), 0);
    world.now_ms += 1;
    assert_eq!(first_available(&mut world, &alice), 3);
    assert_eq!(sweep(&mut world, 100), 2);
    world.now_ms = NOW + 14 * DAY - 1;
    assert_eq!(sweep(&mut world, 100), 0);
    assert_eq!(world.say(&bob, message(1, 1)).unwrap().head, said.head);
    assert!(world.say(&alice, message(9, 1)).unwrap().seq > created.unwrap().seq);
    world.now_ms += 60_000;
    // The entry, and the id whose time has come since.
    assert_eq!(sweep(&mut world, 100), 2);
}

#[test]
fn a_shorter_retention_of_the_server_holds_for_old_channels_at_once() {
    let (mut world, alice, _, _) = keeping(3 * DAY);
    let old = ChannelId([2; 16]);
    world.create(&alice, ChannelKind::Group, &Plan { channel: old, ..Plan::default() }).unwrap();
    world.now_ms += 2 * DAY;
    assert_eq!(sweep(&mut world, 100), 0);
    // The server starts anew with another setting.
    world.delivery.config.retention_ms = 2 * DAY;
    assert_eq!(shown_retention(&mut world, &alice), 2 * DAY);
    for channel in [CHANNEL, old] {
        let refused = world.fetch(&alice, channel, 0).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::GapExpired);
    }
    assert_eq!(sweep(&mut world, 100), 2);
    // A longer one brings nothing back, and keeps what comes.
    world.delivery.config.retention_ms = 7 * DAY;
    assert_eq!(first_available(&mut world, &alice), 2);
    world.say(&alice, message(1, 1)).unwrap();
    world.now_ms += 3 * DAY - 1;
    assert_eq!(sweep(&mut world, 100), 0);
    world.now_ms += 1;
    assert_eq!(sweep(&mut world, 100), 1);
}

#[test]
fn what_all_have_read_goes_and_its_ids_stay() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    let said = world.say(&alice, message(1, 1)).unwrap();
    world.say(&alice, message(2, 1)).unwrap();
    assert_eq!(trim_acked(&mut world, 100), 0);
    ack(&mut world, &alice, 3);
    assert_eq!(trim_acked(&mut world, 100), 0, "Bob has read nothing");
    ack(&mut world, &bob, 2);
    assert_eq!(trim_acked(&mut world, 1), 1);
    assert_eq!(first_available(&mut world, &bob), 2);
    // What was too much for once goes with the next sweep.
    assert_eq!(sweep(&mut world, 100), 1);
    assert_eq!(trim_acked(&mut world, 100), 0);
    assert_eq!(first_available(&mut world, &bob), 3);
    assert_eq!(world.fetch(&bob, CHANNEL, 2).unwrap().entries.len(), 1);
    assert_eq!(world.say(&alice, message(1, 1)).unwrap(), Accepted { duplicate: true, ..said });
    // What is left expires in its time, and the ids in theirs.
    world.now_ms = NOW + 7 * DAY;
    assert_eq!(sweep(&mut world, 100), 1);
    world.now_ms = NOW + 14 * DAY;
    assert_eq!(sweep(&mut world, 100), 2);
}

#[test]
fn who_joins_or_whose_removal_is_open_holds_what_it_needs() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    world.say(&alice, message(1, 1)).unwrap();
    world.commit(&alice, &Plan::on(1).removing(&[&carol])).unwrap();
    ack(&mut world, &alice, 3);
    ack(&mut world, &bob, 3);
    assert_eq!(trim_acked(&mut world, 100), 0, "Carol's removal is open");
    world.say(&bob, message(2, 3)).unwrap();
    ack(&mut world, &alice, 4);
    ack(&mut world, &bob, 4);
    assert_eq!(trim_acked(&mut world, 100), 0, "she may read up to it");
    assert_eq!(world.fetch(&carol, CHANNEL, 0).unwrap().entries.len(), 3);
    ack(&mut world, &carol, 3);
    assert_eq!(trim_acked(&mut world, 100), 4);
    // A newcomer needs what came since it did.
    let dave = Device::new(4, 4);
    let plan = world.adding(&[&dave]).at(3, 3);
    world.commit(&alice, &plan).unwrap();
    world.say(&alice, message(3, 5)).unwrap();
    ack(&mut world, &alice, 6);
    ack(&mut world, &bob, 6);
    assert_eq!(trim_acked(&mut world, 100), 0);
    assert_eq!(world.seqs(&dave), [5, 6]);
    ack(&mut world, &dave, 5);
    assert_eq!(trim_acked(&mut world, 100), 1);
}

#[test]
fn a_revoked_device_that_is_gone_holds_nothing() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let carol2 = Device::new(3, 33);
    world.group(&[&alice, &bob, &carol, &carol2]);
    let list = carol.list(2, &[&carol]);
    world.revoke(&[&carol2], &list);
    for device in [&alice, &bob, &carol] {
        ack(&mut world, device, 2);
    }
    assert_eq!(trim_acked(&mut world, 100), 0, "it is still in the roster");
    world.commit(&alice, &Plan::on(1).removing(&[&carol2]).stating(&[list])).unwrap();
    world.say(&bob, message(1, 3)).unwrap();
    assert_eq!(trim_acked(&mut world, 100), 2);
}

#[test]
fn what_all_have_read_stays_while_it_stands() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob, &carol]);
    world.state_leave(&carol, 1).unwrap();
    world.say(&alice, message(1, 1)).unwrap();
    for device in [&alice, &bob, &carol] {
        ack(&mut world, device, 3);
    }
    assert_eq!(trim_acked(&mut world, 100), 1);
    assert_eq!(world.fetch(&bob, CHANNEL, 1).unwrap().entries.len(), 2);
    world.commit(&bob, &Plan::on(1).removing(&[&carol]).carrying(&[&carol])).unwrap();
    assert_eq!(trim_acked(&mut world, 100), 2);
}

#[test]
fn an_inbox_loses_what_was_acked_and_nothing_else() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    let second = Plan { channel: ChannelId([2; 16]), ..world.adding(&[&bob]) };
    world.create(&alice, ChannelKind::Group, &second).unwrap();
    let inbox = inbox_channel(&bob.id().device);
    let trim = |world: &mut World| {
        world.serve(|d, at| d.trim_acked(at, &[inbox], &mut Room::of(100)).unwrap())
    };
    assert_eq!(trim(&mut world), 0);
    let cursor = Cursor { channel: inbox, seq: 1 };
    world.call(&bob, |d, call| d.ack(call, &[cursor])).unwrap();
    assert_eq!(trim(&mut world), 1);
    let page = world.fetch(&bob, inbox, 1).unwrap();
    assert!(page.entries[0].welcome.is_some());
    assert_eq!(world.rows()["welcomes"], 1);
    // Once it is acked, the other is due a retention after it came, not 30 days.
    let cursor = Cursor { channel: inbox, seq: 2 };
    world.call(&bob, |d, call| d.ack(call, &[cursor])).unwrap();
    world.now_ms += 7 * DAY;
    assert_eq!(sweep(&mut world, 100), 3);
    assert_eq!(world.rows()["welcomes"], 0);
}

#[test]
fn an_unknown_channel_has_nothing_to_trim() {
    let mut world = World::new();
    assert_eq!(trim_acked(&mut world, 100), 0);
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
    world.now_ms = NOW + 30 * DAY;
    assert!(entries(&mut world, &carol, 0).is_err());
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

#[test]
fn a_step_of_a_sweep_ends_at_a_mib_and_the_next_goes_on() {
    const LARGE: usize = 600 * 1_024;
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    for id in 1..=5 {
        world.say(&alice, sized(id, LARGE)).unwrap();
    }
    let due = |world: &mut World| world.serve(|d, (tx, now)| d.has_due(tx, now).unwrap());
    // What all have read: the first Commit and two messages in the first step.
    for device in [&alice, &bob] {
        ack(&mut world, device, 5);
    }
    assert!(!due(&mut world));
    assert_eq!((trim_acked(&mut world, 100), due(&mut world)), (3, true));
    assert_eq!(first_available(&mut world, &alice), 4);
    assert_eq!((sweep(&mut world, 100), due(&mut world)), (2, false));
    assert_eq!(first_available(&mut world, &alice), 6);
    // What expires: one message more is larger than what is left of a step.
    world.now_ms += 7 * DAY;
    assert!(due(&mut world));
    assert_eq!((sweep(&mut world, 100), due(&mut world)), (1, false));
    // One larger than a step goes alone.
    world.say(&alice, message(8, 1)).unwrap();
    world.say(&alice, sized(9, 2 * LARGE)).unwrap();
    world.say(&alice, message(10, 1)).unwrap();
    world.now_ms += 6 * DAY;
    assert_eq!(sweep(&mut world, 100), 0);
    world.now_ms += DAY;
    let mut steps = vec![];
    while due(&mut world) {
        steps.push(sweep(&mut world, 100));
    }
    // With the ids of the messages that went a week ago.
    assert_eq!(steps, [7, 1]);
}

#[test]
fn the_inboxes_of_revoked_devices_go_in_steps_and_a_welcome_with_its_last_pointer() {
    const LARGE: usize = 600 * 1_024;
    let mut world = World::new();
    let (alice, bob, _) = devices();
    let phone = Device::new(2, 22);
    for n in 1..=5 {
        let mut plan = Plan { channel: ChannelId([n; 16]), ..Plan::default() };
        plan.change.adds = [bob.id(), phone.id()].into();
        let key_packages = world.packages(&[&bob, &phone]);
        let reference = |package: &Bytes| qpc_credential::key_package_ref(package).unwrap();
        let references: Vec<_> = key_packages.iter().map(reference).collect();
        plan.welcome = Some(welcome_of(&references, LARGE));
        world.create(&alice, ChannelKind::Group, &plan).unwrap();
    }
    let left = |world: &mut World| world.rows()["welcomes"];
    assert_eq!(left(&mut world), 5);
    // The first inbox goes as a whole, of the second what fits.
    world.revoke(&[&bob, &phone], &bob.list(2, &[]));
    assert_eq!(left(&mut world), 3);
    assert_eq!((sweep(&mut world, 100), left(&mut world)), (2, 1));
    assert_eq!((sweep(&mut world, 100), left(&mut world)), (1, 0));
    let inboxes = "SELECT count(*) FROM channels WHERE inbox = 1";
    let inboxes = world.serve(|_, (tx, _)| tx.query_row(inboxes, [], |row| row.get::<_, u32>(0)));
    assert_eq!(inboxes.unwrap(), 0);
}

#[test]
fn commits_that_nobody_can_build_on_are_forgotten_in_steps() {
    let mut world = World::new();
    let (alice, ..) = devices();
    world.group(&[&alice]);
    for after in 1..=80 {
        world.commit(&alice, &Plan::on(after)).unwrap();
    }
    world.say(&alice, message(200, 81)).unwrap();
    world.now_ms += 7 * DAY;
    sweep(&mut world, 1_000);
    world.now_ms += 7 * DAY;
    let commits = |world: &mut World| world.rows()["commits"];
    let mut steps = vec![commits(&mut world)];
    while world.serve(|d, (tx, now)| d.has_due(tx, now).unwrap()) {
        sweep(&mut world, 1_000);
        steps.push(commits(&mut world));
    }
    // All but the last.
    assert_eq!(steps, [81, 49, 17, 1]);
}

#[test]
fn what_an_erased_account_was_alone_in_goes_in_steps() {
    const LARGE: usize = 600 * 1_024;
    let mut world = World::new();
    let (alice, ..) = devices();
    world.group(&[&alice]);
    for id in 1..=5 {
        world.say(&alice, sized(id, LARGE)).unwrap();
    }
    world.revoke(&[&alice], &alice.list(2, &[]));
    let mut steps = vec![];
    let erase = |world: &mut World| {
        let account = alice.id().account;
        world.serve(|d, (tx, _)| d.erase_devices(tx, &account, &mut Room::of(100)).unwrap())
    };
    while erase(&mut world) {
        steps.push(world.rows()["payloads"]);
    }
    assert_eq!(steps, [4, 2]);
    assert_eq!((world.rows()["payloads"], world.rows()["channels"]), (0, 0));
}
