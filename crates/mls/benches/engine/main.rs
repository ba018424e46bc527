//! What the engine costs against plain OpenMLS over its storage in memory: instructions counted by
//! Valgrind, so that a busy machine changes nothing, and bytes written to the log of the database.
//! Fails when a ratio is above its bar.
//!
//! The parent makes groups and leaves them in files; children, each under Valgrind, begin from
//! those, so that nothing of the making is counted.
#![expect(clippy::unwrap_used, reason = "a benchmark that can't begin ends")]
#![expect(clippy::print_stdout, reason = "its report")]

mod child;
mod commits;
mod groups;
mod rows;

use std::path::Path;
use std::process::{Command, ExitCode};

use child::{Operation, Side};

/// Messages are costly to count: fewer in a large group.
fn messages(members: u32) -> u64 {
    if members > 100 { 24 } else { 64 }
}

/// Ours may cost this times the floor's.
const MESSAGE_BAR: f64 = 1.3;
const MEMBER_BAR: f64 = 1.1;
/// From how many members on a join is judged.
const JUDGED_JOIN: u32 = 1_000;
/// Bytes written to the database's log for a message that is received alone, by members.
const WRITTEN_BARS: [(u32, f64); 3] = [(2, 8_192.0), (100, 8_192.0), (1_000, 16_384.0)];

/// Bytes of a self-update's Commit in a group of 1,000: fresh, there is something to shrink; then
/// it must be below the other.
const FRESH_AT_LEAST: usize = 80_000;
const RENEWED_AT_MOST: usize = 3_000;

/// What one child came to.
#[derive(Clone, Copy)]
struct Cost {
    instructions: f64,
    written: f64,
}

/// Runs `count` operations of a side in a child of its own.
fn run(dir: &Path, (side, operation): (Side, Operation), count: u64) -> Cost {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["child", side.name(), operation.name(), &count.to_string()])
        .arg(dir)
        .output();
    let output = output.map_err(|error| format!("valgrind doesn't start: {error}")).unwrap();
    let (said, counted) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let (said, counted) = (said.unwrap(), counted.unwrap());
    let of = |text: &str, label: &str| {
        let line = text.lines().find_map(|line| line.split_once(label));
        line.and_then(|(_, number)| number.trim().parse().ok())
    };
    let instructions = of(&counted, "Collected :");
    let (Some(instructions), Some(written)) = (instructions, of(&said, "written:")) else {
        println!("{counted}");
        std::process::exit(2);
    };
    Cost { instructions, written }
}

/// The cost of one operation: of `more` without what the first `fewer` and the beginning cost.
fn of_one(dir: &Path, what: (Side, Operation), (fewer, more): (u64, u64)) -> Cost {
    // A count that isn't one would pass every bar.
    let (few, many) = (run(dir, what, fewer), run(dir, what, more));
    if !(many.instructions > few.instructions && few.instructions > 0.0 && many.written > 0.0) {
        println!("nothing was counted of {} ({})", what.1.name(), what.0.name());
        std::process::exit(2);
    }
    let each = f64::from(u32::try_from(more.saturating_sub(fewer)).unwrap());
    Cost {
        instructions: (many.instructions - few.instructions) / each,
        written: (many.written - few.written) / each,
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, side, operation, count, dir] = arguments.as_slice()
        && first == "child"
    {
        child::run((side, operation), count.parse().unwrap(), Path::new(dir));
    }
    let chosen = |text: &String| text.parse::<u32>().ok();
    let chosen = arguments.iter().find_map(chosen);
    println!("{:>8} {:>9} {:>14} {:>14} {:>6}", "", "members", "ours", "OpenMLS", "ratio");
    let mut worst = 0.0_f64;
    for (members, written_bar) in WRITTEN_BARS {
        if chosen.is_none_or(|chosen| chosen == members) {
            worst = worst.max(measure(members, written_bar));
        }
    }
    println!("highest part of a bar: {worst:.2}");
    if worst > 1.0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What is judged. Joins of few members are not: a certificate has two signatures of which OpenMLS
/// knows nothing, and only among many is one cheap.
fn bar(operation: Operation, members: u32) -> Option<f64> {
    match operation {
        Operation::Seal | Operation::Open => Some(MESSAGE_BAR),
        Operation::Add => Some(MEMBER_BAR),
        Operation::Join => (members >= JUDGED_JOIN).then_some(MEMBER_BAR),
    }
}

/// The highest part of a bar.
fn measure(members: u32, written_bar: f64) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let most = messages(members).saturating_add(1);
    groups::prepare(dir.path(), members, most);
    let mut worst = 0.0_f64;
    for operation in Operation::ALL {
        let span = if operation.repeats() { (1, most) } else { (0, 1) };
        let ours = of_one(dir.path(), (Side::Ours, operation), span);
        let floor = of_one(dir.path(), (Side::Floor, operation), span);
        let ratio = ours.instructions / floor.instructions;
        let bar = bar(operation, members);
        let said = bar.map_or(String::new(), |bar| format!("(at most {bar})"));
        println!(
            "{:>8} {members:>9} {:>14.0} {:>14.0} {ratio:>6.2} {said}",
            operation.name(),
            ours.instructions,
            floor.instructions,
        );
        worst = bar.map_or(worst, |bar| worst.max(ratio / bar));
        if operation == Operation::Open {
            println!("{:>18} {:>14.0} bytes written (at most {written_bar})", "", ours.written);
            worst = worst.max(ours.written / written_bar);
        }
    }
    if members == 1_000 { worst.max(commits(dir.path(), members)) } else { worst }
}

/// Bytes of a Commit before and after members renewed their leaves, as a part of the bar.
fn commits(dir: &Path, members: u32) -> f64 {
    let (fresh, renewed) = (commits::fresh(dir), commits::renewed(dir, members));
    println!("{:>8} {members:>9} {fresh:>14} bytes where all came by one Commit", "commit");
    println!("{:>18} {renewed:>14} bytes after self-updates (at most {RENEWED_AT_MOST})", "");
    if fresh < FRESH_AT_LEAST {
        println!("the group was not fresh: nothing is shown");
        std::process::exit(2);
    }
    let bytes = |count: usize| f64::from(u32::try_from(count).unwrap());
    bytes(renewed) / bytes(RENEWED_AT_MOST)
}
