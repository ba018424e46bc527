//! What a run prints. Judges nothing.

use std::collections::BTreeMap;

use crate::ledger::Ledger;
use crate::weather::Tally;

/// Complaints that are printed; more of them say the same.
const COMPLAINTS_MAX: usize = 40;

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// What happened, by kind.
pub(crate) fn faults(done: &BTreeMap<&'static str, u64>, tally: &Tally) {
    line("\nwhat happened");
    for (what, count) in done {
        line(&format!("{count:>10}  {what}"));
    }
    line("\ndatagrams");
    for (what, count) in [
        ("seen", tally.seen),
        ("lost", tally.lost),
        ("doubled", tally.doubled),
        ("overtaken by others", tally.reordered),
        ("delayed", tally.delayed),
        ("with a byte changed", tally.corrupted),
        ("dropped for their length", tally.too_long),
        ("swallowed by a blackhole", tally.swallowed),
    ] {
        line(&format!("{count:>10}  {what}"));
    }
    line(&format!("{:>10}  ports changed under way", tally.rebindings));
}

/// Prints what does not hold, or that everything did.
pub(crate) fn verdict(ledger: &Ledger, messages: usize) -> bool {
    let lives = ledger.written.len();
    let given = ledger.given();
    line(&format!("\n{given} lines given to {lives} lives, {messages} messages"));
    for complaint in ledger.broken.iter().take(COMPLAINTS_MAX) {
        line(&format!("BROKEN {complaint}"));
    }
    match ledger.broken.len() {
        0 => line("every message arrived once at each member, in one order; every outbox drained"),
        count => line(&format!("FAILED: {count} complaints")),
    }
    ledger.broken.is_empty()
}
