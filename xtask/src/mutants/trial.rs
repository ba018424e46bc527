//! Runs the tests that must notice a mutant, and reads from cargo's output whether one did. A
//! mutant that does not build, or whose tests do not run, was not killed.

use std::collections::BTreeMap;
use std::fmt;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::copy::TreeCopy;
use super::patch::Mutant;

/// The longest that building and testing one mutant may take, in seconds.
const SECONDS_MAX: &str = "3600";
/// What `timeout` answers for a program that it had to end.
const TIMED_OUT: i32 = 124;
/// Lines of output shown of what went wrong.
const LINES_SHOWN: usize = 40;

/// What became of a mutant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// These tests failed.
    Killed(Vec<String>),
    /// The tests ran, and all passed.
    Survived,
    /// Nothing is known of it, because of this; with the end of the output.
    Unknown(&'static str, String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(tests) => write!(f, "killed by {}", tests.join(", ")),
            Self::Survived => f.write_str("SURVIVED"),
            Self::Unknown(why, _) => write!(f, "NOT TRIED: {why}"),
        }
    }
}

impl Verdict {
    /// The end of the output, where that says more.
    pub(super) fn told(&self) -> &str {
        match self {
            Self::Unknown(_, output) => output,
            Self::Killed(_) | Self::Survived => "",
        }
    }
}

/// What a run of tests printed.
struct Output {
    code: Option<i32>,
    text: String,
}

/// Runs a mutant's tests on the patched tree.
pub(super) fn run(copy: &TreeCopy, mutant: &Mutant) -> Result<Verdict> {
    let output = copy.patched(mutant, || test(copy, &mutant.targets, &[&mutant.filter]))?;
    Ok(judge(&output))
}

/// The tests of all mutants pass on the tree as it is, and each filter matches one: else a broken
/// test, or none, would kill.
pub(super) fn unbroken(copy: &TreeCopy, mutants: &[&Mutant]) -> Result<()> {
    let mut filters: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
    for mutant in mutants {
        filters.entry(&mutant.targets).or_default().push(&mutant.filter);
    }
    for (targets, mut filters) in filters {
        filters.sort_unstable();
        filters.dedup();
        println!("unbroken: {} {}", targets.join(" "), filters.join(" "));
        let output = test(copy, targets, &filters)?;
        let passed = named(&output.text, "ok");
        let unmatched = |filter: &&&str| !passed.iter().any(|test| test.contains(**filter));
        if output.code != Some(0) {
            bail!("fails on the tree as it is:\n{}", tail(&output.text));
        }
        if let Some(filter) = filters.iter().find(unmatched) {
            bail!("no test of {} is called {filter}", targets.join(" "));
        }
    }
    Ok(())
}

fn test(copy: &TreeCopy, targets: &[String], filters: &[&str]) -> Result<Output> {
    let output = Command::new("timeout")
        .args(["--kill-after=10", SECONDS_MAX, "cargo", "test", "--locked", "--target-dir"])
        .arg(&copy.build)
        .args(targets)
        .arg("--")
        .args(filters)
        .env("CARGO_TERM_COLOR", "never")
        // Nobody follows their traces; the libraries of others have none anyway.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .current_dir(&copy.tree)
        .stdin(Stdio::null())
        .output()
        .context("cannot start `timeout` (of coreutils)")?;
    let text = [output.stderr, output.stdout].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(Output { code: output.status.code(), text })
}

fn judge(output: &Output) -> Verdict {
    let failed = named(&output.text, "FAILED");
    let unknown = |why| Verdict::Unknown(why, tail(&output.text));
    match output.code {
        Some(TIMED_OUT) => unknown("it took too long"),
        Some(0) if named(&output.text, "ok").is_empty() => unknown("no test ran"),
        Some(0) => Verdict::Survived,
        _ if !failed.is_empty() => Verdict::Killed(failed),
        _ if output.text.contains("error: could not compile") => unknown("it does not build"),
        _ => unknown("no test failed, and yet cargo did"),
    }
}

/// The tests that a run says `end` of.
fn named(text: &str, end: &str) -> Vec<String> {
    let line = |line: &str| {
        let name = line.strip_prefix("test ")?.strip_suffix(end)?.strip_suffix(" ... ")?;
        Some(name.to_owned())
    };
    text.lines().filter_map(line).collect()
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).fold(
        String::new(),
        |mut told, line| {
            told.push_str("  | ");
            told.push_str(line);
            told.push('\n');
            told
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: Option<i32>, text: &str) -> Verdict {
        judge(&Output { code, text: text.to_owned() })
    }

    const RUN: &str = "running 2 tests\ntest a::one ... ok\n";

    #[test]
    fn only_a_failing_test_kills() {
        let failing = format!("{RUN}test a::two ... FAILED\n\ntest result: FAILED. 1 passed\n");
        assert_eq!(judged(Some(101), &failing), Verdict::Killed(vec!["a::two".to_owned()]));
        assert_eq!(judged(Some(0), RUN), Verdict::Survived);
        let unknown = |verdict| matches!(verdict, Verdict::Unknown(..));
        assert!(unknown(judged(Some(0), "running 0 tests\n\ntest result: ok. 0 passed\n")));
        assert!(unknown(judged(Some(101), "error: could not compile `qpc-auth` (lib)\n")));
        assert!(unknown(judged(Some(101), RUN)));
        assert!(unknown(judged(None, RUN)));
        assert!(unknown(judged(Some(TIMED_OUT), &failing)));
    }

    #[test]
    fn a_line_that_a_test_prints_names_no_test() {
        assert_eq!(named("test one ... ok\n test two ... ok\ntest three ok\n", "ok"), ["one"]);
    }
}
