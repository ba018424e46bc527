//! What a Commit comes to is known before it is sealed.

use std::collections::BTreeSet;

use qpc_mls::engine::{CommitPlan, bytes_of_add};

use crate::support::{Party, adding, context};

/// The bytes foretold, and those that were sealed.
fn foretold(party: &mut Party, base: u64, plan: &CommitPlan) -> (usize, usize) {
    let group = party.group;
    let bound = party.run(|engine, tx| engine.bytes_of_commit(tx, &group, plan)).unwrap();
    let entry = party.commit(base, plan);
    let sealed = entry.payload.len() + entry.welcome.as_ref().map_or(0, Vec::len);
    party.merge(&entry);
    (bound, sealed)
}

/// Never too little, and not so much too much that it would refuse what fits.
fn is_close((bound, sealed): (usize, usize), what: &str) {
    assert!(sealed <= bound, "{what}: {sealed} > {bound}");
    assert!(bound < sealed + sealed / 2 + 20_000, "{what}: {bound} for {sealed}");
}

#[test]
fn case_129_the_size_of_a_commit_and_its_welcome_is_known_before_it_is_sealed() {
    let mut alice = Party::new(10);
    let long = "x".repeat(4_096);
    let mut about = context(&[&alice]);
    alice.create(&about);
    let mut others: Vec<Party> = (0..60).map(|n| Party::device_of(20, 40 + n)).collect();
    let packages: Vec<_> = others.iter_mut().map(Party::key_package).collect();
    let packages: Vec<_> = packages.iter().collect();
    is_close(foretold(&mut alice, 0, &adding(&packages[..1])), "one");
    is_close(foretold(&mut alice, 1, &adding(&packages[1..50])), "many");
    is_close(foretold(&mut alice, 2, &adding(&packages[50..51])), "one behind many");
    is_close(foretold(&mut alice, 3, &CommitPlan::default()), "new keys");
    about.description = long;
    let described = CommitPlan { context: Some(about), ..adding(&packages[51..60]) };
    is_close(foretold(&mut alice, 4, &described), "a long description");
    let removes: BTreeSet<_> = others.iter().take(20).map(Party::id).collect();
    let out = CommitPlan { removes, ..CommitPlan::default() };
    is_close(foretold(&mut alice, 5, &out), "twenty out");
}

#[test]
fn case_129_every_device_counts_with_what_its_key_package_takes() {
    let mut alice = Party::new(10);
    let about = context(&[&alice]);
    alice.create(&about);
    let package = Party::new(20).key_package();
    let group = alice.group;
    let mut bytes = |count: usize| {
        let plan = CommitPlan { adds: vec![package.bytes.clone(); count], ..CommitPlan::default() };
        alice.run(|engine, tx| engine.bytes_of_commit(tx, &group, &plan)).unwrap()
    };
    assert_eq!(bytes(500) - bytes(1), 499 * bytes_of_add(package.bytes.len()));
}
