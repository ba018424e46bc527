//! How much a channel holds, by whom, and that what goes gives its room back.

use qpc_delivery::Room;
use qpc_proto::message::{CommitRequest, Cursor, NewEntry};
use qpc_proto::{ErrorCode, MessageId};

use crate::mls::{self, Device};
use crate::support::{CHANNEL, Plan, World, message, sized};

const DAY: u64 = 24 * 3_600 * 1_000;

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

/// Alice and Bob in a channel of so many bytes.
fn world_of(bytes: u64) -> (World, Device, Device) {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    world.delivery.config.channel_bytes_max = bytes;
    (world, alice, bob)
}

/// Bytes of the first Commit, which counts.
fn first_commit(world: &mut World) -> u64 {
    held(world).iter().map(|(.., bytes)| bytes).sum()
}

/// What the counters say: the channel's by kind, then each device's.
fn counted(world: &mut World) -> Vec<[u64; 4]> {
    world.serve(|_, (tx, _)| {
        let all = "SELECT no, app_bytes, commit_bytes, statement_bytes FROM channels
                   UNION ALL SELECT * FROM (SELECT no, app_bytes, commit_bytes, statement_bytes
                       FROM members ORDER BY no, device_id)";
        let mut statement = tx.prepare(all).unwrap();
        let rows =
            statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]));
        rows.unwrap().map(Result::unwrap).collect()
    })
}

/// The same from what is there.
fn summed(world: &mut World) -> Vec<[u64; 4]> {
    world.serve(|_, (tx, _)| {
        let size = "WITH size AS (SELECT l.no AS no, l.sender AS sender, l.kind AS kind,
                coalesce(l.bytes, length(p.payload)) + coalesce(length(c.roster_change), 0)
                    + coalesce(length(c.statements), 0) AS bytes
            FROM channels ch JOIN log l ON l.no = ch.no AND l.seq >= ch.first_seq
            JOIN payloads p ON p.id = l.id - coalesce(l.place, 0)
            LEFT JOIN commits c ON l.kind = 2 AND c.id = l.no * 4294967296 + l.seq)";
        let sum = |owner: &str| {
            ["kind = 1", "kind = 2", "kind > 2"].map(|kind| {
                format!("(SELECT coalesce(sum(bytes), 0) FROM size WHERE {owner} AND {kind})")
            })
        };
        let of_channels = sum("size.no = channels.no").join(", ");
        let of_members = sum("size.no = members.no AND sender = device_id").join(", ");
        let all = format!(
            "{size} SELECT * FROM (SELECT no, {of_channels} FROM channels ORDER BY no)
             UNION ALL SELECT * FROM (SELECT no, {of_members} FROM members ORDER BY no, device_id)"
        );
        let mut statement = tx.prepare(&all).unwrap();
        let rows =
            statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]));
        rows.unwrap().map(Result::unwrap).collect()
    })
}

/// Kind and bytes of every entry of the channel.
fn held(world: &mut World) -> Vec<(u8, u64)> {
    world.serve(|_, (tx, _)| {
        let all = "SELECT l.kind, coalesce(l.bytes, length(p.payload))
                       + coalesce(length(c.roster_change), 0) + coalesce(length(c.statements), 0)
                   FROM channels ch JOIN log l USING (no)
                   JOIN payloads p ON p.id = l.id - coalesce(l.place, 0)
                   LEFT JOIN commits c ON l.kind = 2 AND c.id = l.no * 4294967296 + l.seq
                   WHERE ch.channel_id = ?1 AND ch.inbox = 0 ORDER BY l.seq";
        let mut statement = tx.prepare(all).unwrap();
        let rows = statement.query_map([CHANNEL.0], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    })
}

#[test]
fn a_device_posts_up_to_its_share_of_the_room_for_messages() {
    // 16 KiB: 14 KiB for messages, half of that for each of two devices.
    let share = 7 * 1_024;
    for (bytes, code) in [(share - 1, None), (share, None), (share + 1, Some(ErrorCode::Quota))] {
        let (mut world, alice, bob) = world_of(16 * 1_024);
        assert_eq!(world.say(&alice, sized(1, bytes)).err(), code, "{bytes}");
        // Whatever Alice does, Bob's share is his.
        world.say(&bob, sized(1, share)).unwrap();
    }
    let (mut world, alice, _) = world_of(16 * 1_024);
    world.say(&alice, sized(1, share - 400)).unwrap();
    let answer = world.enqueue(&alice, &[sized(2, 400), sized(3, 200)]).unwrap();
    assert_eq!(answer.accepted.len(), 1, "the good prefix");
    let refusal = answer.refusal.unwrap();
    assert_eq!(refusal.code, ErrorCode::Quota);
    assert!(refusal.code.retryable() && refusal.message.contains("retry"));
    // A retry of what was accepted is no matter of room.
    assert!(world.say(&alice, sized(2, 400)).unwrap().duplicate);
}

#[test]
fn among_many_a_share_is_no_smaller_than_a_sixteenth() {
    let sixteenth = 14 * 1_024 / 16;
    for (count, share) in [(15, 14 * 1_024 / 15), (16, sixteenth), (17, sixteenth)] {
        for (bytes, code) in [(share, None), (share + 1, Some(ErrorCode::Quota))] {
            let mut world = World::new();
            let all: Vec<_> = (1..=count).map(|n| Device::new(n, n)).collect();
            world.group(&all.iter().collect::<Vec<_>>());
            world.delivery.config.channel_bytes_max = 16 * 1_024;
            assert_eq!(world.say(&all[1], sized(1, bytes)).err(), code, "{count}: {bytes}");
        }
    }
    // Then the room of all may end before one's share does.
    let mut world = World::new();
    let all: Vec<_> = (1..=17).map(|n| Device::new(n, n)).collect();
    world.group(&all.iter().collect::<Vec<_>>());
    world.delivery.config.channel_bytes_max = 1 << 20;
    let share = (14 << 16) / 16;
    for device in &all[..16] {
        world.say(device, sized(1, share)).unwrap();
    }
    assert_eq!(world.say(&all[16], message(1, 1)), Err(ErrorCode::Quota));
}

#[test]
fn messages_leave_room_for_commits_and_statements() {
    let (mut world, alice, bob) = world_of(64 * 1_024);
    for device in [&alice, &bob] {
        world.say(device, sized(1, 28 * 1_024)).unwrap();
        assert_eq!(world.say(device, message(2, 1)), Err(ErrorCode::Quota));
    }
    world.commit(&alice, &Plan::on(1)).unwrap();
    world.state_leave(&bob, 3).unwrap();
}

/// A Commit with a payload that brings it to `bytes`.
fn large_commit(plan: &Plan, bytes: usize) -> CommitRequest {
    let seal = |n| mls::private_message(mls::COMMIT, &plan.aad(), &vec![0; n]);
    let mut bundle = plan.bundle();
    let carried = bundle.statements.iter().map(|s| s.len() + 4).sum::<usize>();
    let payload = bytes - bundle.roster_change.len() - carried;
    let around = seal(payload).len() - payload;
    bundle.payload = seal(payload - around);
    assert_eq!(bundle.payload.len(), payload);
    CommitRequest { channel: CHANNEL, bundle }
}

#[test]
fn a_device_s_commits_hold_a_sixteenth_at_most() {
    for (more, code) in [(-1, None), (0, None), (1, Some(ErrorCode::Quota))] {
        let (mut world, alice, bob) = world_of(64 * 1_024);
        let own = usize::try_from(first_commit(&mut world)).unwrap();
        let bytes = (4 * 1_024 - own).checked_add_signed(more).unwrap();
        let plan = Plan::on(1).carrying(&[&bob]);
        let request = large_commit(&plan, bytes);
        let refused = world.call(&alice, |d, call| d.commit(call, &request)).err();
        assert_eq!(refused.map(|error| error.code()), code, "{more}");
        // Bob's are his own.
        let last = if code.is_some() { 1 } else { 2 };
        world.commit(&bob, &Plan::on(last)).unwrap();
    }
}

#[test]
fn nothing_goes_beyond_the_quota_of_all() {
    let (mut world, alice, bob) = world_of(u64::MAX);
    world.say(&alice, sized(1, 20_000)).unwrap();
    let now: u64 = held(&mut world).iter().map(|(_, bytes)| bytes).sum();
    let next: u64 = {
        world.commit(&bob, &Plan::on(1)).unwrap();
        held(&mut world).last().unwrap().1
    };
    for (more, code) in [(-1, Some(ErrorCode::Quota)), (0, None), (1, None)] {
        let (mut world, alice, bob) = world_of(u64::MAX);
        world.say(&alice, sized(1, 20_000)).unwrap();
        let quota = (now + next).checked_add_signed(more).unwrap();
        world.delivery.config.channel_bytes_max = quota;
        assert_eq!(world.commit(&bob, &Plan::on(1)).err().map(|e| e.code()), code, "{more}");
    }
}

#[test]
fn statements_have_a_share_of_their_own() {
    let mut probe = world_of(u64::MAX);
    probe.0.state_leave(&probe.2, 1).unwrap();
    let one = held(&mut probe.0).last().unwrap().1;
    // Room for two devices' statements: two of each, but for one byte.
    for (quota, second) in [(64 * one - 16, Err(ErrorCode::Quota)), (64 * one, Ok(()))] {
        let (mut world, alice, bob) = world_of(quota);
        world.state_leave(&bob, 1).unwrap();
        let again = world.state_leave(&bob, 2);
        assert_eq!(again.map(drop).map_err(|error| error.code()), second);
        let third = world.state_leave(&bob, 3).unwrap_err();
        assert_eq!(third.code(), ErrorCode::Quota);
        world.state_leave(&alice, 4).unwrap();
        // What the server says of a revocation is never refused.
        world.delivery.config.channel_bytes_max = 0;
        assert_eq!(world.revoke(&[&bob], &bob.list(2, &[])), [CHANNEL]);
    }
}

#[test]
fn what_goes_gives_its_room_back() {
    let (mut world, alice, bob) = world_of(16 * 1_024);
    let share = 7 * 1_024;
    world.say(&alice, sized(1, share)).unwrap();
    assert_eq!(world.say(&alice, message(2, 1)), Err(ErrorCode::Quota));
    // All have read it.
    for device in [&alice, &bob] {
        let cursor = Cursor { channel: CHANNEL, seq: 2 };
        world.call(device, |d, call| d.ack(call, &[cursor])).unwrap();
    }
    world.serve(|d, at| d.trim_acked(at, &[CHANNEL], &mut Room::of(100)).unwrap());
    world.say(&alice, sized(2, share)).unwrap();
    assert_eq!(world.say(&alice, message(3, 1)), Err(ErrorCode::Quota));
    // It has expired.
    world.now_ms += 7 * DAY;
    world.serve(|d, (tx, now)| d.sweep_expired(tx, now, &mut Room::of(100)).unwrap());
    world.say(&alice, sized(3, share)).unwrap();
    assert_eq!(counted(&mut world), summed(&mut world));
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A world whose log anything may happen to.
struct Play {
    world: World,
    dice: Dice,
    devices: Vec<Device>,
    last_commit: u64,
    next_id: u64,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        world.delivery.config.channel_bytes_max = 48 * 1_024;
        let devices: Vec<_> = (1..=5).map(|n| Device::new(n, n)).collect();
        world.group(&devices.iter().collect::<Vec<_>>());
        Self { world, dice: Dice(seed), devices, last_commit: 1, next_id: 1 }
    }

    fn id(&mut self) -> MessageId {
        self.next_id += 1;
        MessageId(u128::from(self.next_id).to_be_bytes())
    }

    fn step(&mut self) {
        let at = usize::try_from(self.dice.below(4)).unwrap();
        let bytes = usize::try_from(300 + self.dice.below(1_500)).unwrap();
        match self.dice.below(9) {
            0..=2 => {
                let message_id = self.id();
                let batch: Vec<_> = (0..3)
                    .map(|n| {
                        let after_commit = self.last_commit;
                        let payload = sealed(after_commit, bytes);
                        let message_id =
                            MessageId((u128::from_be_bytes(message_id.0) | n << 64).to_be_bytes());
                        NewEntry { message_id, after_commit, payload }
                    })
                    .collect();
                self.world.enqueue(&self.devices[at], &batch).ok();
            }
            3 => {
                let mut bundle =
                    Plan { after: self.last_commit, base: self.last_commit, ..Plan::default() }
                        .carrying(&[&self.devices[at]])
                        .bundle();
                bundle.message_id = self.id();
                let request = CommitRequest { channel: CHANNEL, bundle };
                if let Ok(written) =
                    self.world.call(&self.devices[at], |d, call| d.commit(call, &request))
                {
                    self.last_commit = written.answer.seq;
                }
            }
            4 => {
                let id = u8::try_from(self.dice.below(250)).unwrap();
                drop(self.world.state_leave(&self.devices[at], id));
            }
            5 => {
                let seq = self.dice.below(200);
                let cursor = Cursor { channel: CHANNEL, seq };
                self.world.call(&self.devices[at], |d, call| d.ack(call, &[cursor])).unwrap();
            }
            6 => drop(
                self.world.serve(|d, at| d.trim_acked(at, &[CHANNEL], &mut Room::of(7)).unwrap()),
            ),
            7 => {
                self.world.now_ms += DAY * self.dice.below(3);
                self.world
                    .serve(|d, (tx, now)| d.sweep_expired(tx, now, &mut Room::of(11)).unwrap());
            }
            _ => {
                let version = self.next_id + 2;
                let list = self.devices[4].list(version, &[]);
                self.next_id += 1;
                self.world.revoke(&[&self.devices[4]], &list);
            }
        }
    }
}

fn sealed(base: u64, bytes: usize) -> bytes::Bytes {
    mls::private_message(mls::APPLICATION, &crate::support::aad(CHANNEL, base), &vec![0; bytes])
}

#[test]
fn counters_are_what_is_there_whatever_happens() {
    let mut refused = 0;
    for seed in 1..=6 {
        let mut play = Play::new(seed);
        for step in 0..120 {
            play.step();
            let (counted, summed) = (counted(&mut play.world), summed(&mut play.world));
            assert_eq!(counted, summed, "seed {seed}, step {step}");
        }
        let full = play.world.say(&play.devices[0], {
            let mut entry = message(255, 1);
            entry.after_commit = play.last_commit;
            entry.payload = sealed(play.last_commit, 21_000);
            entry
        });
        refused += u32::from(full == Err(ErrorCode::Quota));
        // The end of an account takes its counters along.
        let account = play.devices[4].id().account;
        play.world.revoke(&[&play.devices[4]], &play.devices[4].list(9_999, &[]));
        while play
            .world
            .serve(|d, (tx, _)| d.erase_devices(tx, &account, &mut Room::of(3)).unwrap())
        {}
        assert_eq!(counted(&mut play.world), summed(&mut play.world), "seed {seed}");
        play.world.now_ms += 40 * DAY;
        while play.world.serve(|d, (tx, now)| d.sweep_expired(tx, now, &mut Room::of(50)).unwrap())
            > 0
        {}
        assert_eq!(counted(&mut play.world), summed(&mut play.world), "seed {seed}");
    }
    assert!(refused > 0, "the quota was never felt");
}

#[test]
fn a_first_commit_counts_for_whoever_posted_it() {
    let (mut world, _, _) = world_of(1 << 20);
    let counted = counted(&mut world);
    assert_eq!(counted, summed(&mut world));
    let commits: Vec<u64> = counted.iter().map(|row| row[2]).collect();
    assert_eq!(commits.iter().filter(|bytes| **bytes > 0).count(), 2, "the channel and Alice");
}
