//! A short simulation as an ordinary test, its determinism, and the seeds that once showed a bug.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "Clippy excuses test functions, not the functions they share"
)]

use std::thread;

use qpc_sim::{Report, run};

fn good(seed: u64, operations: u32) -> Report {
    match run(seed, operations) {
        Ok(report) => report,
        Err(failure) => {
            let trace = failure.trace.join("\n");
            panic!("seed {seed} at {operations} operations: {:#}\n{trace}", failure.error)
        }
    }
}

fn seeds(range: std::ops::RangeInclusive<u64>) {
    for seed in range {
        let report = good(seed, 300);
        assert!(report.messages > 0 && report.faults > 0, "{report:?}");
    }
}

#[test]
fn seeds_1_to_6() {
    seeds(1..=6);
}

#[test]
fn seeds_7_to_12() {
    seeds(7..=12);
}

#[test]
fn a_seed_repeats_its_events() {
    let runs = [(); 2].map(|()| thread::spawn(|| good(42, 200)));
    let [one, two] = runs.map(|run| run.join().expect("a run panicked"));
    assert_eq!((one.digest, one.events), (two.digest, two.events));
    assert_ne!(good(43, 200).events, 0);
}

/// A leave was posted again with other bytes under the same id.
#[test]
fn seed_5_a_statement_is_retried_with_the_same_bytes() {
    good(5, 800);
}

/// A sealed message was sealed anew behind those that a direct channel's adoption had moved.
#[test]
fn seed_12_a_sealed_message_goes_before_moved_ones() {
    good(12, 800);
}

/// A leave set a sealed message aside that the server had already.
#[test]
fn seed_15_a_leave_leaves_sealed_messages_to_the_log() {
    good(15, 800);
}

/// The last member left while its own Add was on its way.
#[test]
fn seed_54_a_lone_leaver_with_an_add_in_flight_ends() {
    good(54, 800);
}
