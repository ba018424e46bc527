//! Reading without holes: whatever page is asked for, and while entries expire.

use qpc_delivery::{DeliveryError, Room};
use qpc_proto::message::{Fetch, Page};
use qpc_proto::{ErrorCode, ErrorDetail, ExpiredRange};

use crate::mls::Device;
use crate::support::{CHANNEL, NOW, World, message};

const DAY: u64 = 24 * 3_600 * 1_000;

/// A log of nine, one a minute.
fn nine() -> (World, Device) {
    let mut world = World::new();
    let alice = Device::new(1, 1);
    world.group(&[&alice]);
    for id in 2..=9 {
        world.now_ms += 60_000;
        world.say(&alice, message(id, 1)).unwrap();
    }
    (world, alice)
}

fn fetch(after_seq: u64, bytes_max: u64) -> Fetch {
    Fetch { channel: CHANNEL, after_seq, bytes_max }
}

fn seqs(page: &Page) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.seq).collect()
}

#[test]
fn case_144_a_page_begins_with_the_entry_behind_the_cursor_and_has_no_hole() {
    let (mut world, alice) = nine();
    for after in 0..=9 {
        for bytes_max in [0, 1, 300, 700] {
            let page = world.read(&alice, |d, call| d.fetch(call, &fetch(after, bytes_max)));
            let page = page.unwrap();
            let count = u64::try_from(page.entries.len()).unwrap();
            assert!(seqs(&page).into_iter().eq(after + 1..=after + count), "after {after}");
            assert!(count > 0 || after == 9);
            assert_eq!(page.head_seq, 9);
        }
    }
    // 7, then 9: the one between is there to be fetched, and fits the chain.
    let seven = world.fetch(&alice, CHANNEL, 6).unwrap().entries[0].head;
    let rest = world.fetch(&alice, CHANNEL, 7).unwrap();
    assert_eq!(seqs(&rest), [8, 9]);
    world.check_chain(&rest, seven);
}

#[test]
fn case_144_how_many_have_expired_is_told_to_whoever_is_behind() {
    let (mut world, alice) = nine();
    let boundary_head = world.fetch(&alice, CHANNEL, 4).unwrap().entries[0].head;
    let range = ExpiredRange { first_available: 6, boundary_head };
    world.now_ms = NOW + 7 * DAY + 4 * 60_000;
    assert_eq!(
        world.serve(|d, (tx, now)| d.sweep_expired(tx, now, &mut Room::of(100)).unwrap()),
        5
    );
    for after in 0..=9 {
        let read = world.fetch(&alice, CHANNEL, after);
        if after < 5 {
            let body = read.unwrap_err().to_body();
            assert_eq!(body.code, ErrorCode::GapExpired);
            assert!(!body.code.retryable());
            assert_eq!(body.detail, Some(ErrorDetail::Expired(range)));
        } else {
            let page = read.unwrap();
            assert!(seqs(&page).into_iter().eq(after + 1..=9));
            if after == 5 {
                world.check_chain(&page, boundary_head);
            }
        }
    }
}

#[test]
fn case_152_a_fetch_before_during_and_after_a_sweep_says_the_same() {
    for (age, first) in [(4 * 60_000 - 1, 5), (4 * 60_000, 6), (4 * 60_000 + 1, 6)] {
        let (mut world, alice) = nine();
        world.now_ms = NOW + 7 * DAY + age;
        let before = [first - 2, first - 1, 9].map(|at| world.fetch(&alice, CHANNEL, at));
        assert_eq!(before[0].as_ref().unwrap_err().code(), ErrorCode::GapExpired);
        assert!(seqs(before[1].as_ref().unwrap()).into_iter().eq(first..=9));
        let from = fetch(first - 1, 0);
        let (first_page, second_page) = world.read_around_a_sweep(&alice, (&from, &from));
        assert_eq!(&first_page, before[1].as_ref().unwrap());
        assert_eq!(second_page, first_page, "the snapshot of the first");
        let after = [first - 2, first - 1, 9].map(|at| world.fetch(&alice, CHANNEL, at));
        for (before, after) in before.into_iter().zip(after) {
            let told = |read: Result<Page, DeliveryError>| read.map_err(|error| error.to_body());
            assert_eq!(told(after), told(before));
        }
    }
}
