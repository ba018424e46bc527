//! A short simulation as an ordinary test, its determinism, and the seeds that once showed a bug.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "Clippy excuses test functions, not the functions they share"
)]

use std::thread;

use qpc_sim::{Report, Run, run};

/// what each found. What they do changes with the code; that they hold does not.
const FOUND: &[(u64, &str)] = &[
    (84, "168,193,198,230-231,266,269,368"),
    (89, "45,64-65,70,343-344,387"),
    (273, "137-139,210-211,221,313"),
    (279, "30,37"),
    (343, "70,73,93,97,99,252,289"),
    (377, "220,224-225,229,304,306,311-312,328,330,352,388-389,397"),
    (404, "27,50,52,67-68,156-157,170,204-206"),
    (462, "0,16-17,20,23,53,59,62,71-72,127,129-130,134,284"),
    (1017, "110,122-123,158,160,185,268,276"),
    (1028, "49,60,103,113,231,233,236,327,366"),
    (1152, "23,87,135,143,145,250-252,254,273-276,288,298"),
    (1188, "15,21,28,48-49,53,58,60,128,199,269,325-326"),
    (1310, "75,108"),
    (1933, "37,112-113,115,117,121,192,328,331,334-336,343-344"),
    (2023, "80,82-83,111-112,116,121,136-137,142,180"),
    (2126, "83,107,188,275,288,294-295,310-311"),
    (5224, "90,132-133,164,167-169,201-202,218,292-293,298"),
    (5528, "123,136,138,141,149,200,254,256,262-264,287,317"),
    (5605, "10,15-17,73-74,87,233"),
    (7092, "23,32-33,45-46,69-70,264,394"),
    (
        10108,
        "44,52-54,85-87,143-145,152-154,158-160,182-187,264-266,322-327,355-360,367-369,373-378,\
         385-387,391-393",
    ),
    (10224, "43,121,123,301"),
    (10599, "13,17-18,23,52-53,61,69,72,83,170,311,315,376,390"),
    (10730, "2,7,10,123,200,208,210,212,220,262"),
    (11146, "6-7,15,18-19,22,26,181-182,184,244,248,279,281,290,292-294,300,323,325,334-335"),
    (16078, "2,4,8-9,14,17,25,29,35,50,54,57-58"),
    (17476, "15,147,223,389"),
];

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
fn seeds_that_once_failed_hold() {
    for (seed, only) in FOUND {
        let only = Some(only.parse().expect("numbers"));
        if let Err(failure) = run(&Run { only, ..Run::new(*seed, 400) }) {
            panic!("seed {seed}: {:#}\n{}", failure.error, failure.trace.join("\n"));
        }
    }
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
