//! Retries, however late, and transactions that are rolled back.

use qpc_proto::message::{Accepted, Cursor, Enqueue, NewEntry};
use qpc_proto::{Digest, ErrorCode};

use crate::mls::Device;
use crate::support::{CHANNEL, NOW, Plan, World, message};

const DAY: u64 = 24 * 3_600 * 1_000;

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

fn sweep(world: &mut World) -> usize {
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, 1_000).unwrap())
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
