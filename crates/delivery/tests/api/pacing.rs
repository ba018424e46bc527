//! How often Commits come: nobody's hold up the others', and who came too late comes next.

use qpc_delivery::{DeliveryError, Pacing};
use qpc_proto::message::Accepted;
use qpc_proto::{ErrorCode, MessageId};

use crate::mls::Device;
use crate::support::{CHANNEL, Plan, World, message, message_on};

const MINUTE: u64 = 60_000;

/// One channel with everybody in it, and what Commits are named by.
struct Paced {
    world: World,
    last: u64,
    next_id: u64,
}

impl Paced {
    fn new(pacing: Pacing, devices: &[&Device]) -> Self {
        let mut world = World::new();
        world.group(devices);
        // The first Commit has had its turn long ago.
        world.now_ms += 60 * MINUTE;
        world.delivery.config.pacing = pacing;
        Self { world, last: 1, next_id: 0 }
    }

    /// A Commit after the last one, on the base that its sender has applied.
    fn commit_on(&mut self, device: &Device, plan: Plan, base: u64) -> Result<Accepted, u64> {
        let (after, last) = (plan.after, self.last);
        let plan = Plan { after: if after == 0 { last } else { after }, base, ..plan };
        self.next_id += 1;
        let mut bundle = plan.bundle();
        bundle.message_id = MessageId(u128::from(self.next_id).to_be_bytes());
        let request = qpc_proto::message::CommitRequest { channel: CHANNEL, bundle };
        match self.world.call(device, |d, call| d.commit(call, &request)) {
            Ok(written) => {
                self.last = written.answer.seq;
                Ok(written.answer)
            }
            Err(DeliveryError::Paced(wait_ms)) => Err(wait_ms),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// A Commit by who has applied all; else how long it has to wait.
    fn commit(&mut self, device: &Device) -> Result<Accepted, u64> {
        self.commit_on(device, Plan::default(), self.last)
    }

    /// A Commit that comes too late, as the server answers it.
    fn late(&mut self, device: &Device) -> Option<u64> {
        let plan = Plan { id: 200, ..Plan::on(1) };
        assert_eq!(self.world.commit_code(device, &plan), ErrorCode::StaleCommit);
        self.world.call(device, |d, call| d.reserve_turn(call, &CHANNEL)).unwrap()
    }

    fn pass(&mut self, ms: u64) {
        self.world.now_ms += ms;
    }
}

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

/// What one device may do, without regard to the others.
fn own() -> Pacing {
    Pacing { channel_wait_ms: 0, reserved_ms: 0, ..Pacing::default() }
}

/// What all may do together.
fn together() -> Pacing {
    Pacing { wait_ms: 0, reserved_ms: 0, ..Pacing::default() }
}

#[test]
fn a_device_commits_three_times_at_once_and_then_once_a_minute() {
    let (alice, bob, _) = devices();
    let mut paced = Paced::new(own(), &[&alice, &bob]);
    for _ in 0..3 {
        paced.commit(&alice).unwrap();
    }
    assert_eq!(paced.commit(&alice), Err(MINUTE));
    // The others' turns are their own.
    paced.commit(&bob).unwrap();
    paced.pass(MINUTE - 1);
    assert_eq!(paced.commit(&alice), Err(1));
    paced.pass(1);
    paced.commit(&alice).unwrap();
    assert_eq!(paced.commit(&alice), Err(MINUTE));
    paced.pass(2 * MINUTE);
    for _ in 0..2 {
        paced.commit(&alice).unwrap();
    }
    assert_eq!(paced.commit(&alice), Err(MINUTE));
    paced.pass(60 * MINUTE);
    for _ in 0..3 {
        paced.commit(&alice).unwrap();
    }
    assert_eq!(paced.commit(&alice), Err(MINUTE));
}

#[test]
fn case_157_a_commit_beyond_its_turn_is_told_to_wait_and_leaves_nothing() {
    let (alice, bob, carol) = devices();
    let mut paced = Paced::new(own(), &[&alice, &bob]);
    for _ in 0..3 {
        paced.commit(&alice).unwrap();
    }
    let rows = paced.world.rows();
    let plan = paced.world.adding(&[&carol]).at(4, 4);
    let refused = paced.world.commit(&alice, &plan).unwrap_err().to_body();
    assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::RateLimited, Some(MINUTE)));
    assert!(refused.code.retryable());
    paced.world.now_ms += MINUTE - 1;
    let refused = paced.world.commit(&alice, &plan).unwrap_err().to_body();
    assert_eq!(refused.retry_after_ms, Some(1));
    let kept = |rows: &std::collections::BTreeMap<String, u64>| {
        rows.iter().filter(|(name, _)| *name != "key_packages").map(|(_, n)| *n).collect::<Vec<_>>()
    };
    assert_eq!(kept(&paced.world.rows()), kept(&rows));
    // The very same goes through in its time.
    paced.world.now_ms += 1;
    paced.world.commit(&alice, &plan).unwrap();
    // What comes too late hears that first, and is sealed anew while it waits.
    assert_eq!(paced.world.commit_code(&alice, &Plan::on(4)), ErrorCode::MessageIdConflict);
    let stale = Plan { id: 99, ..Plan::on(4) };
    assert_eq!(paced.world.commit_code(&alice, &stale), ErrorCode::StaleCommit);
}

#[test]
fn turns_double_only_while_others_build_on_something_older() {
    let (eve, bob, carol) = devices();
    let mut paced = Paced::new(own(), &[&eve, &bob, &carol]);
    let mut id = 0;
    // Bob goes on from the first Commit, whatever Eve commits.
    let mut doubt = |paced: &mut Paced, base| {
        id += 1;
        paced.world.say(&bob, message_on(id, paced.last, base)).unwrap();
    };
    for _ in 0..3 {
        paced.commit(&eve).unwrap();
        doubt(&mut paced, 1);
    }
    // The third one's turn lasted four minutes; the next one would last eight.
    for minutes in [8, 16, 32, 60, 60] {
        assert_eq!(paced.commit(&eve), Err(minutes * MINUTE));
        paced.pass(minutes * MINUTE - 1);
        assert_eq!(paced.commit(&eve), Err(1));
        paced.pass(1);
        paced.commit(&eve).unwrap();
        doubt(&mut paced, 1);
    }
    // Carol, who has said nothing, and Bob, who has come round: no doubt is left.
    let last = paced.last;
    doubt(&mut paced, last);
    assert_eq!(paced.commit(&eve), Err(MINUTE));
    paced.pass(MINUTE);
    paced.commit(&eve).unwrap();
    // What was posted before her Commit says nothing about it.
    assert_eq!(paced.commit(&eve), Err(MINUTE));
    // Nor does what her own devices or those who are gone say.
    paced.world.say(&carol, message(200, paced.last)).unwrap();
}

#[test]
fn who_was_removed_makes_nobody_wait_longer() {
    let (alice, bob, carol) = devices();
    let mut paced = Paced::new(own(), &[&alice, &bob, &carol]);
    let removing = Plan::default().removing(&[&carol]);
    paced.commit_on(&alice, removing, 1).unwrap();
    // Carol holds on to what was, while she may.
    paced.world.say(&carol, message_on(1, 2, 1)).unwrap();
    for _ in 0..2 {
        paced.commit(&alice).unwrap();
    }
    assert_eq!(paced.commit(&alice), Err(MINUTE));
}

#[test]
fn many_messages_on_one_base_set_a_commit_free() {
    for (messages, free) in [(4, false), (5, true), (6, true)] {
        let (alice, bob, _) = devices();
        let mut paced = Paced::new(Pacing { free_after: 5, ..own() }, &[&alice, &bob]);
        for _ in 0..3 {
            paced.commit(&alice).unwrap();
        }
        for id in 0..messages {
            paced.world.say(&alice, message(id, paced.last)).unwrap();
        }
        assert_eq!(paced.commit(&alice).is_ok(), free, "{messages}");
        // A new base begins at nothing.
        assert_eq!(paced.commit(&alice), Err(MINUTE));
    }
    assert_eq!(Pacing::default().free_after, 1_000);
}

#[test]
fn many_messages_set_one_commit_free_and_not_all_behind_it() {
    let (eve, bob, _) = devices();
    let mut paced = Paced::new(Pacing { free_after: 5, ..own() }, &[&eve, &bob]);
    let post = |paced: &mut Paced, ids: std::ops::Range<u8>| {
        for id in ids {
            paced.world.say(&eve, message_on(id, paced.last, 1)).unwrap();
        }
    };
    post(&mut paced, 1..6);
    // She never applies her own Commits: the base that she posted on stays hers.
    for _ in 0..4 {
        paced.commit_on(&eve, Plan::default(), 1).unwrap();
    }
    assert_eq!(paced.commit_on(&eve, Plan::default(), 1), Err(MINUTE));
    post(&mut paced, 10..15);
    paced.commit_on(&eve, Plan::default(), 1).unwrap();
    assert_eq!(paced.commit_on(&eve, Plan::default(), 1), Err(MINUTE));
}

#[test]
fn an_account_that_is_alone_commits_whenever_it_wants() {
    let (alice, bob, _) = devices();
    let alice2 = Device::new(1, 11);
    let mut paced = Paced::new(Pacing::default(), &[&alice, &alice2]);
    for _ in 0..10 {
        paced.commit(&alice).unwrap();
        paced.commit(&alice2).unwrap();
    }
    let adding = paced.world.adding(&[&bob]);
    let base = paced.last;
    paced.commit_on(&alice, adding, base).unwrap();
    // It can't go on so by building on what was before Bob came.
    let old = |paced: &mut Paced| paced.commit_on(&alice, Plan::default(), base);
    assert!(old(&mut paced).is_err());
    paced.pass(60 * MINUTE);
    for _ in 0..3 {
        old(&mut paced).unwrap();
        paced
            .world
            .say(&bob, message_on(u8::try_from(paced.last).unwrap(), paced.last, base + 1))
            .ok();
    }
}

#[test]
fn a_channel_takes_three_commits_at_once_and_then_one_in_two_seconds() {
    let (alice, bob, carol) = devices();
    let mut paced = Paced::new(together(), &[&alice, &bob, &carol]);
    for device in [&alice, &bob, &carol] {
        paced.commit(device).unwrap();
    }
    for device in [&alice, &bob] {
        assert_eq!(paced.commit(device), Err(2_000));
    }
    paced.pass(1_999);
    assert_eq!(paced.commit(&bob), Err(1));
    // Messages never wait.
    paced.world.say(&carol, message(1, paced.last)).unwrap();
    paced.pass(1);
    paced.commit(&bob).unwrap();
    assert_eq!(paced.commit(&alice), Err(2_000));
}

#[test]
fn who_came_too_late_has_the_next_turn() {
    let (alice, bob, carol) = devices();
    let pacing = Pacing { wait_ms: 0, channel_burst: 1, ..Pacing::default() };
    let mut paced = Paced::new(pacing, &[&alice, &bob, &carol]);
    paced.commit(&alice).unwrap();
    paced.pass(500);
    assert_eq!(paced.late(&bob), Some(1_500));
    // One turn, one device; and it stays in the rows.
    assert_eq!(paced.late(&carol), None);
    assert_eq!(paced.late(&bob), None);
    paced.pass(1_500);
    assert_eq!(paced.commit(&alice), Err(2_000));
    assert_eq!(paced.commit(&carol), Err(2_000));
    paced.world.say(&alice, message(1, paced.last)).unwrap();
    paced.pass(1_999);
    assert_eq!(paced.commit(&alice), Err(1));
    paced.commit(&bob).unwrap();
    // Once a minute.
    paced.pass(MINUTE - 4_000);
    assert_eq!(paced.late(&bob), None);
    paced.pass(MINUTE);
    assert_eq!(paced.late(&bob), Some(0));
    // One that is not taken is over after its time.
    paced.pass(1_999);
    assert_eq!(paced.commit(&alice), Err(1));
    paced.pass(1);
    paced.commit(&alice).unwrap();
}

#[test]
fn a_turn_is_kept_for_nobody_who_could_not_take_it() {
    let (alice, bob, eve) = devices();
    let stranger = Device::new(9, 9);
    let mut paced = Paced::new(Pacing::default(), &[&alice, &bob, &eve]);
    for _ in 0..3 {
        paced.pass(2_000);
        paced.commit(&eve).unwrap();
    }
    assert_eq!(paced.late(&eve), None, "her own turns are used up");
    let none = paced.world.call(&stranger, |d, call| d.reserve_turn(call, &CHANNEL)).unwrap();
    assert_eq!(none, None);
    assert_eq!(paced.late(&bob), Some(0));
}

/// Commits as soon as it may, for `seconds`; the honest device tries once a second like a client:
/// sealed on what it has read, and anew when it came too late.
fn flood(eves: &[Device], honest: &Device, plan: Plan, paced: &mut Paced) -> u64 {
    let mut read = paced.last;
    let mut retry_at = 0;
    for second in 0..120 {
        for eve in eves {
            while paced.commit(eve).is_ok() {
                assert!(paced.last < 200, "nobody is held back");
            }
        }
        if second >= retry_at {
            let sealed = Plan { after: read, ..plan.clone() };
            if read == paced.last {
                match paced.commit_on(honest, sealed, read) {
                    Ok(_) => return second,
                    Err(wait_ms) => retry_at = second + wait_ms.div_ceil(1_000),
                }
            } else {
                let wait = paced.late(honest).unwrap_or(0);
                retry_at = second + wait.div_ceil(1_000);
                read = paced.last;
            }
        }
        paced.pass(1_000);
    }
    panic!("starved");
}

#[test]
fn case_093_a_member_that_floods_commits_starves_nobody() {
    let (alice, bob, _) = devices();
    let eves: Vec<_> = (50..60).map(|n| Device::new(5, n)).collect();
    let everybody: Vec<_> = [&alice, &bob].into_iter().chain(&eves).collect();
    // Adding a device of one's own, taking the flooder out, and what every client does in turn.
    for what in 0..3 {
        let mut paced = Paced::new(Pacing::default(), &everybody);
        let bob2 = Device::new(2, 22);
        let (honest, plan) = match what {
            0 => (&bob, paced.world.adding(&[&bob2])),
            1 => (&alice, Plan::default().removing(&everybody[2..])),
            _ => (&bob, Plan::default()),
        };
        let seconds = flood(&eves, honest, plan, &mut paced);
        assert!(seconds <= 10, "{seconds} s");
    }
}

#[test]
fn case_093_fifty_members_who_all_commit_get_there_one_after_the_other() {
    let members: Vec<_> = (1..=50).map(|n| Device::new(n, n)).collect();
    let mut paced = Paced::new(Pacing::default(), &members.iter().collect::<Vec<_>>());
    let mut left: Vec<(usize, u64)> = (0..members.len()).map(|at| (at, 1)).collect();
    let mut seconds = 0;
    while !left.is_empty() {
        let mut waiting = Vec::new();
        for (at, read) in left {
            if read != paced.last {
                paced.late(&members[at]);
                waiting.push((at, paced.last));
            } else if paced.commit_on(&members[at], Plan::default(), read).is_err() {
                waiting.push((at, read));
            }
        }
        left = waiting;
        paced.pass(1_000);
        seconds += 1;
        assert!(seconds <= 50 * 4, "{} are left", left.len());
    }
    let page = paced.world.fetch(&members[0], CHANNEL, 0).unwrap();
    assert_eq!(page.head_seq, 51);
}

#[test]
fn without_pacing_commits_come_as_they_come() {
    let (alice, bob, _) = devices();
    let mut paced = Paced::new(Pacing::NONE, &[&alice, &bob]);
    for _ in 0..10 {
        paced.commit(&alice).unwrap();
    }
    assert_eq!(paced.late(&bob), None);
}
