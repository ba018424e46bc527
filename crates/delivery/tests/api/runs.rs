//! Requests that share a run are answered as if each had come alone, and leave the same rows.

use std::collections::BTreeMap;

use qpc_delivery::{Call, Delivery, Room, Written};
use qpc_proto::MessageId;
use qpc_proto::message::{Cursor, DeviceRef, Enqueue, EnqueueAnswer, NewEntry};
use qpc_storage::{Tx, sql, sql::types::Value};

use crate::mls::Device;
use crate::support::{CHANNEL, NOW, Plan, World, message, message_on, sized};

/// Draws the same numbers in each run of the test.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(u64::try_from(all.len()).unwrap())).unwrap()]
    }
}

type Posting = (DeviceRef, u64, Enqueue);
type Answer = Result<Written<EnqueueAnswer>, String>;

/// Five devices, one of which was removed by the last Commit without anybody building on it yet.
fn world() -> (World, Vec<DeviceRef>) {
    let devices = [(1, 1), (1, 11), (2, 2), (3, 3), (4, 4)].map(|(a, d)| Device::new(a, d));
    let mut world = World::new();
    world.group(&devices.iter().collect::<Vec<_>>());
    world.commit(&devices[0], &Plan::on(1).removing(&[&devices[4]])).unwrap();
    // Little room, so that its edge is met.
    world.delivery.config.channel_bytes_max = 8_000;
    let stranger = Device::new(9, 9).id();
    (world, devices.iter().map(Device::id).chain([stranger]).collect())
}

fn entry(draw: &mut Draw) -> NewEntry {
    let id = u8::try_from(draw.below(60)).unwrap();
    // Mostly as it should be.
    let after = draw.one_of(&[2, 2, 2, 2, 2, 2, 2, 1, u64::MAX]);
    let base = draw.one_of(&[1, 1, 2, 2, 2, 3, u64::MAX]);
    let mut entry = message_on(id, after, base);
    if draw.below(8) == 0 {
        entry.message_id = MessageId([1; 16]);
    }
    if draw.below(16) == 0 {
        entry.payload = entry.payload.slice(1..);
    }
    entry
}

fn posting(draw: &mut Draw, now_ms: u64, devices: &[DeviceRef]) -> Posting {
    let entries = (0..=draw.below(4)).map(|_| entry(draw)).collect();
    let channel = if draw.below(20) == 0 { qpc_proto::ChannelId([7; 16]) } else { CHANNEL };
    (draw.one_of(devices), now_ms + draw.below(50), Enqueue { channel, entries })
}

fn in_a_run(delivery: &Delivery, tx: &Tx<'_>, postings: &[Posting]) -> Vec<Answer> {
    let mut posts = delivery.posts(tx);
    let answers = postings
        .iter()
        .map(|(caller, now_ms, enqueue)| {
            let call = Call { tx, caller: *caller, now_ms: *now_ms };
            posts.enqueue(&call, enqueue).map_err(|error| format!("{error:?}"))
        })
        .collect();
    posts.finish().unwrap();
    answers
}

/// What requests leave behind, but for the rows that payloads lie in.
fn rows(world: &mut World) -> Vec<Vec<Value>> {
    let tables = [
        "* FROM channels ORDER BY no",
        "* FROM members ORDER BY no, device_id",
        "id, no, seq, kind, after_commit, accepted_at_ms, message_id, head, sender, digest, welcome,
             bytes FROM log ORDER BY id",
    ];
    let read = |tx: &Tx<'_>, table: &str| -> sql::Result<Vec<Vec<Value>>> {
        let mut statement = tx.prepare(&format!("SELECT {table}"))?;
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|at| row.get(at)).collect())?;
        rows.collect()
    };
    world.serve(|_, (tx, _)| tables.map(|table| read(tx, table).unwrap()).concat())
}

#[test]
fn requests_in_a_run_are_answered_as_if_each_had_come_alone() {
    let (mut accepted, mut silent) = (0, 0);
    let mut refused = BTreeMap::new();
    for seed in 0..12 {
        let mut draw = Draw(seed);
        let ((mut together, devices), (mut alone, _)) = (world(), world());
        for _ in 0..12 {
            let now_ms = together.now_ms;
            let postings: Vec<_> =
                (0..=draw.below(12)).map(|_| posting(&mut draw, now_ms, &devices)).collect();
            let answers = together.serve(|d, (tx, _)| in_a_run(d, tx, &postings));
            for (posting, answer) in postings.iter().zip(answers) {
                let one = std::slice::from_ref(posting);
                let expected = alone.serve(|d, (tx, _)| in_a_run(d, tx, one)).remove(0);
                assert_eq!(answer, expected, "seed {seed}");
                if let Ok(written) = &answer {
                    let new = written.answer.accepted.iter().filter(|a| !a.duplicate).count();
                    accepted += new;
                    if let Some(refusal) = &written.answer.refusal {
                        *refused.entry(refusal.code.as_str()).or_insert(0) += 1;
                    }
                    silent += usize::from(new > 0 && written.posted.is_empty());
                }
            }
            assert_eq!(rows(&mut together), rows(&mut alone), "seed {seed}");
            let reader = Device::new(1, 1);
            let read = |world: &mut World| world.fetch(&reader, CHANNEL, 0).unwrap().entries;
            assert_eq!(read(&mut together), read(&mut alone), "seed {seed}");
            together.now_ms += 100;
        }
    }
    // All of it was met; the removal takes effect once in each world.
    assert!(accepted > 200, "{accepted}");
    let met = ["AAD_MISMATCH", "MESSAGE_ID_CONFLICT", "NOT_MEMBER", "QUOTA", "STALE_COMMIT"];
    assert!(met.iter().all(|code| refused.contains_key(code)), "{refused:?}");
    assert_eq!(silent, 12);
}

fn count(world: &mut World, what: &str) -> u64 {
    let all = format!("SELECT count(*) FROM {what}");
    world.serve(|_, (tx, _)| tx.query_row(&all, [], |row| row.get::<_, u32>(0)).unwrap().into())
}

#[test]
fn messages_that_come_together_share_rows_and_are_read_from_any_place() {
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    for (messages, bytes, rows) in [(130_u8, 300, 3), (5, 30 * 1_024, 3), (1, 70 * 1_024, 1)] {
        let mut world = World::new();
        world.group(&[&alice, &bob]);
        let before = count(&mut world, "payloads");
        let sizes = (1..).zip(bytes..bytes + usize::from(messages));
        let entries: Vec<_> = sizes.map(|(id, bytes)| sized(id, bytes)).collect();
        assert_eq!(world.enqueue(&alice, &entries).unwrap().accepted.len(), entries.len());
        assert_eq!(count(&mut world, "payloads") - before, rows, "{messages} of {bytes}");
        for (after, behind) in (1..).zip((0..entries.len()).map(|at| &entries[at..])) {
            let page = world.fetch(&bob, CHANNEL, after).unwrap();
            let read: Vec<_> = page.entries.iter().map(|entry| &entry.payload).collect();
            let sent: Vec<_> = behind.iter().map(|entry| &entry.payload).collect();
            assert_eq!(read, sent, "from {after}");
        }
    }
}

#[test]
fn a_large_message_lies_alone_and_small_ones_before_it_in_a_small_row() {
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    let mut world = World::new();
    world.group(&[&alice, &bob]);
    let sizes = (1..).zip([300, 300, 5_000_000, 65_000, 1_000, 300]);
    let entries: Vec<_> = sizes.map(|(id, bytes)| sized(id, bytes)).collect();
    assert_eq!(world.enqueue(&alice, &entries).unwrap().accepted.len(), entries.len());
    let rows = world.serve(|_, (tx, _)| {
        let sizes = "SELECT length(payload) / 1000 FROM payloads p JOIN log l USING (id)
             WHERE l.kind = 1 ORDER BY id";
        let mut sizes = tx.prepare(sizes).unwrap();
        let sizes = sizes.query_map([], |row| row.get::<_, u32>(0)).unwrap();
        sizes.collect::<sql::Result<Vec<_>>>().unwrap()
    });
    assert_eq!(rows, [0, 5_000, 65, 1]);
    let page = |world: &mut World, after| world.fetch(&bob, CHANNEL, after).unwrap().entries;
    let mut read = Vec::new();
    while read.len() < entries.len() {
        let after = u64::try_from(read.len()).unwrap() + 1;
        read.extend(page(&mut world, after).into_iter().map(|entry| entry.payload));
    }
    assert!(read.iter().eq(entries.iter().map(|entry| &entry.payload)));
}

#[test]
fn what_all_have_read_of_a_shared_row_waits_for_the_rest_and_takes_no_room() {
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    let mut world = World::new();
    world.group(&[&alice, &bob]);
    world.enqueue(&alice, &[1, 2, 3].map(|id| message(id, 1))).unwrap();
    let shared = "payloads WHERE id IN (SELECT id - place FROM log WHERE place > 0)";
    let held = |world: &mut World| {
        let all = "SELECT sum(app_bytes) FROM channels";
        world.serve(|_, (tx, _)| tx.query_row(all, [], |row| row.get::<_, u32>(0)).unwrap())
    };
    let each = held(&mut world) / 3;
    for (seq, rows, left) in [(3, 1, 1), (4, 0, 0)] {
        for device in [&alice, &bob] {
            let cursor = Cursor { channel: CHANNEL, seq };
            world.call(device, |d, call| d.ack(call, &[cursor])).unwrap();
        }
        assert!(world.serve(|d, at| d.trim_acked(at, &[CHANNEL], &mut Room::of(100)).unwrap()) > 0);
        assert_eq!((count(&mut world, shared), held(&mut world)), (rows, left * each));
        let read = world.fetch(&bob, CHANNEL, seq).unwrap().entries;
        let sent = [message(3, 1).payload];
        let sent = if left == 0 { &[] } else { sent.as_slice() };
        assert!(read.iter().map(|entry| &entry.payload).eq(sent));
    }
}

#[test]
fn a_row_that_entries_share_goes_with_the_last_of_them() {
    const RETENTION_MS: u64 = 7 * 24 * 3_600 * 1_000;
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    let mut world = World::new();
    world.group(&[&alice, &bob]);
    let posting = |id, now_ms| {
        (alice.id(), now_ms, Enqueue { channel: CHANNEL, entries: vec![message(id, 1)] })
    };
    let postings = [posting(1, NOW), posting(2, NOW + 10), posting(3, NOW + 10)];
    let answers = world.serve(|d, (tx, _)| in_a_run(d, tx, &postings));
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let shared = "payloads WHERE id IN (SELECT id - place FROM log WHERE place > 0)";
    let held = |world: &mut World| {
        let all = "SELECT sum(app_bytes) FROM channels";
        world.serve(|_, (tx, _)| tx.query_row(all, [], |row| row.get::<_, u32>(0)).unwrap())
    };
    let each = held(&mut world) / 3;
    for (now_ms, rows, left) in [(NOW, 1, 2), (NOW + 10, 0, 0)] {
        world.now_ms = now_ms + RETENTION_MS;
        let now_ms = world.now_ms;
        let swept =
            world.call(&alice, |d, call| d.sweep_expired(call.tx, now_ms, &mut Room::of(100)));
        assert!(swept.unwrap() > 0);
        assert_eq!(count(&mut world, shared), rows);
        assert_eq!(held(&mut world), left * each);
        let page = world.fetch(&bob, CHANNEL, 4 - u64::from(left)).unwrap();
        let read: Vec<_> = page.entries.into_iter().map(|entry| entry.payload).collect();
        let sent = [2, 3].map(|id| message(id, 1).payload);
        assert_eq!(read, if left == 0 { &[] } else { sent.as_slice() });
    }
}
