//! A short simulation as an ordinary test, its determinism, and the seeds that once showed a bug.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "Clippy excuses test functions, not the functions they share"
)]

use std::thread;

use qpc_sim::{Report, Run, run};

fn good(seed: u64, operations: u32) -> Report {
    match run(&Run::new(seed, operations)) {
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
        assert!(report.messages > 0 && report.faults.total() > 0, "{report:?}");
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
    // Honest, under a lying server, with a hostile member, with backups.
    for seed in [42, 15, 174, 84] {
        let runs = [(); 2].map(|()| thread::spawn(move || good(seed, 200)));
        let [one, two] = runs.map(|run| run.join().expect("a run panicked"));
        assert_eq!((one.digest, one.events), (two.digest, two.events), "seed {seed}");
    }
}
