//! Retries, however late, and transactions that are rolled back.

use qpc_delivery::{RecentIds, Room};
use qpc_proto::message::{Accepted, ChannelKind, Cursor, Enqueue, NewEntry};
use qpc_proto::{ChannelId, Digest, ErrorCode, MessageId};

use crate::mls::{self, Device};
use crate::support::{CHANNEL, NOW, Plan, World, aad, message, message_on};

const DAY: u64 = 24 * 3_600 * 1_000;

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

fn sweep(world: &mut World) -> usize {
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(1_000)).unwrap())
}

fn again(first: Accepted) -> Accepted {
    Accepted { duplicate: true, ..first }
}

#[test]
fn case_140_a_retry_after_six_days_gets_the_first_answer_whatever_came_between() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob]);
    let adding = world.adding(&[&carol]).at(1, 1);
    let said = world.say(&alice, message(1, 1)).unwrap();
    let committed = world.commit(&alice, &adding).unwrap().answer;
    let stated = world.state_leave(&alice, 2).unwrap().answer;
    for _ in 0..6 {
        world.now_ms += DAY;
        world.say(&bob, message(u8::try_from(world.now_ms / DAY % 100).unwrap(), 3)).unwrap();
        assert_eq!(sweep(&mut world), 0);
    }
    world.commit(&bob, &Plan::on(3)).unwrap();
    let log = world.seqs(&alice);
    assert_eq!(world.say(&alice, message(1, 1)).unwrap(), again(said));
    let late = world.commit(&alice, &adding).unwrap();
    assert_eq!((late.answer, late.wakes), (again(committed), Vec::new()));
    let late = world.state_leave(&alice, 2).unwrap();
    assert_eq!((late.answer, late.wakes), (again(stated), Vec::new()));
    assert_eq!(world.seqs(&alice), log);
    let inbox = qpc_proto::message::inbox_channel(&carol.id().device);
    assert_eq!(world.fetch(&carol, inbox, 0).unwrap().entries.len(), 1, "welcomed once");
}

/// Ids in the table, at its edge and in memory, before and after a restart.
#[test]
fn case_138_a_retry_is_known_wherever_its_id_is_kept() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    // Ids that grow, and ids that do not.
    let ids: Vec<u8> = (1..=20).chain((21..=40).rev()).collect();
    let mut said: Vec<(u8, Accepted)> = Vec::new();
    for id in ids {
        said.push((id, world.say(&alice, message(id, 1)).unwrap()));
        // Another's ids are none of its own.
        assert!(!world.say(&bob, message(id, 1)).unwrap().duplicate);
    }
    let log = world.seqs(&alice);
    for _ in 0..3 {
        for (id, first) in &said {
            assert_eq!(world.say(&alice, message(*id, 1)).unwrap(), again(*first));
            let other = message_on(*id, 1, 0);
            assert_eq!(world.say(&alice, other).unwrap_err(), ErrorCode::MessageIdConflict);
        }
        world.restart();
    }
    assert_eq!(world.seqs(&alice), log);
}

#[test]
fn case_143_an_id_whose_transaction_was_rolled_back_is_as_new_as_before() {
    for panics in [false, true] {
        let mut world = World::new();
        let (alice, _, _) = devices();
        world.group(&[&alice]);
        for id in 1..=12 {
            let enqueue = Enqueue { channel: CHANNEL, entries: vec![message(id, 1)] };
            // Ids may be put away in it, too.
            world.undo(&alice, panics, |d, call| d.enqueue(call, &enqueue));
            // Another entry gets the number of the row.
            assert!(!world.say(&alice, message(id + 100, 1)).unwrap().duplicate);
            assert!(!world.say(&alice, message(id, 1)).unwrap().duplicate);
            assert!(world.say(&alice, message(id, 1)).unwrap().duplicate);
        }
        world.restart();
        assert!((1..=12).all(|id| world.say(&alice, message(id, 1)).unwrap().duplicate));
    }
}

/// The rows of a channel that has gone had the highest numbers, which are given again.
#[test]
fn ids_are_known_in_rows_whose_numbers_were_used_before() {
    const ALONE: ChannelId = ChannelId([0xaa; 16]);
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice]);
    world.create(&bob, ChannelKind::Group, &Plan { channel: ALONE, ..Plan::default() }).unwrap();
    for id in 1..=9 {
        let entry = NewEntry {
            payload: mls::private_message(mls::APPLICATION, &aad(ALONE, 1), &[id; 40]),
            ..message(id, 1)
        };
        let enqueue = Enqueue { channel: ALONE, entries: vec![entry] };
        world.call(&bob, |d, call| d.enqueue(call, &enqueue)).unwrap();
    }
    let account = bob.id().account;
    world.revoke(&[&bob], &bob.list(2, &[]));
    while world.serve(|d, (tx, _)| d.erase_devices(tx, &account, &mut Room::of(100))).unwrap() {}
    let said: Vec<_> = (1..=9).map(|id| world.say(&alice, message(id, 1)).unwrap()).collect();
    for _ in 0..2 {
        for (id, first) in (1..=9).zip(&said) {
            assert_eq!(world.say(&alice, message(id, 1)).unwrap(), again(*first));
        }
        world.restart();
    }
}

/// The retention, and the time that a client keeps an entry in its outbox.
#[test]
fn case_140_an_id_is_known_for_a_week_longer_than_its_entry() {
    let known_until = 14 * DAY;
    for (age, known) in
        [(7 * DAY, true), (known_until - 1, true), (known_until, false), (known_until + 1, false)]
    {
        let mut world = World::new();
        let (alice, _, _) = devices();
        world.group(&[&alice]);
        let first = world.say(&alice, message(1, 1)).unwrap();
        world.now_ms = NOW + age;
        assert!(sweep(&mut world) > 0);
        let late = world.say(&alice, message(1, 1)).unwrap();
        assert_eq!(late.duplicate, known, "age {age}");
        assert_eq!(late.seq, if known { first.seq } else { first.seq + 1 });
    }
}

fn batch(ids: &[u8]) -> Enqueue {
    let entries: Vec<NewEntry> = ids.iter().map(|id| message(*id, 1)).collect();
    Enqueue { channel: CHANNEL, entries }
}

#[test]
fn case_143_what_is_rolled_back_leaves_no_hole() {
    for panics in [false, true] {
        let mut world = World::new();
        let (alice, bob, carol) = devices();
        world.group(&[&alice, &bob]);
        let adding = world.adding(&[&carol]).at(1, 1);
        world.say(&alice, message(1, 1)).unwrap();
        let (rows, log) = (world.rows(), world.seqs(&alice));
        world.undo(&bob, panics, |d, call| {
            let accepted = d.enqueue(call, &batch(&[2, 3]))?.answer.accepted;
            assert_eq!(accepted.iter().map(|a| a.seq).collect::<Vec<_>>(), [3, 4]);
            d.ack(call, &[Cursor { channel: CHANNEL, seq: 4 }])
        });
        world.undo(&alice, panics, |d, call| {
            let commit =
                qpc_proto::message::CommitRequest { channel: CHANNEL, bundle: adding.bundle() };
            assert_eq!(d.commit(call, &commit)?.answer.seq, 3);
            Ok(())
        });
        assert_eq!((world.rows(), world.seqs(&alice)), (rows, log));
        let states = world.read(&bob, |d, call| d.list_channels(call)).unwrap();
        let state = states.iter().find(|state| state.channel == CHANNEL).unwrap();
        assert_eq!((state.acked_seq, state.last_message_id), (0, None));
        // The numbers and ids are free again, and the chain is whole.
        let next = world.say(&bob, message(3, 1)).unwrap();
        assert_eq!((next.seq, next.duplicate), (3, false));
        assert_eq!(world.commit(&alice, &adding).unwrap().answer.seq, 4);
        let page = world.fetch(&alice, CHANNEL, 0).unwrap();
        world.check_chain(&page, Digest::ZERO);
        assert_eq!(world.seqs(&alice), [1, 2, 3, 4]);
    }
}

#[test]
fn case_143_a_refused_entry_takes_no_number_from_those_around_it() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    for round in 0..3_u8 {
        let id = 10 * round;
        world.say(&alice, message(id + 1, 1)).unwrap();
        assert_eq!(world.say(&bob, message(id + 2, 9)), Err(ErrorCode::StaleCommit));
        world.state_leave(&bob, id + 3).unwrap();
        assert_eq!(world.commit_code(&bob, &Plan::on(9)), ErrorCode::StaleCommit);
        let answer = world.enqueue(&bob, &[message(id + 4, 1), message(id + 5, 9)]).unwrap();
        assert_eq!((answer.accepted.len(), answer.refusal.is_some()), (1, true));
    }
    let page = world.fetch(&alice, CHANNEL, 0).unwrap();
    world.check_chain(&page, Digest::ZERO);
    assert!(page.entries.iter().map(|entry| entry.seq).eq(1..=10));
}

#[test]
fn ids_in_memory_stay_few_however_many_come_at_once() {
    let (kept, at_once) = (64, 200);
    let mut world = World::new();
    world.delivery.recent = RecentIds::keeping(kept);
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    let mut ids = 1_u128..;
    for _ in 0..20 {
        let entry =
            |id: u128| NewEntry { message_id: MessageId(id.to_be_bytes()), ..message(1, 1) };
        let entries: Vec<_> = ids.by_ref().take(at_once).map(entry).collect();
        assert_eq!(world.enqueue(&alice, &entries).unwrap().accepted.len(), at_once);
        assert!(world.delivery.recent.held() <= kept + 2 * at_once);
    }
}
