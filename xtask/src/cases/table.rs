//! The case table: read, renewed from the code, written as TOML and as a page of the book.
//! Never touches the file system.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;

use super::scan::Tests;

/// docs/cases.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    section: BTreeMap<String, String>,
    case: Vec<Case>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    number: u16,
    section: String,
    title: String,
    status: Status,
    /// Why a case is not applicable.
    reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Status {
    Word(Word),
    Tests(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Word {
    #[serde(rename = "open")]
    Open,
    #[serde(rename = "not applicable")]
    NotApplicable,
}

const PREAMBLE: &str = "\
# Each numbered case is a stimulus that the system must survive; numbers are stable, missing ones
# are free. A test that covers case 7 is called `case_007_...`. `cargo xtask cases --write` takes
# the lists of tests from the code; titles and reasons are written by hand.
";
const PAGE: &str = "\
# Cases

<!-- Written by `cargo xtask cases --write` from docs/cases.toml. -->

Each case is a stimulus that the system must survive, and is covered by the tests named beside it.
*Open* means: no test of this name shows it yet.
";
const HEAD: &str = "| # | case | covered by |\n|---|---|---|\n";

impl Table {
    /// Reads and checks what no type can: order, sections, reasons.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let table: Self = toml::from_str(text)?;
        let mut last = 0;
        for case in &table.case {
            let number = case.number;
            if number <= last {
                bail!("case {number} is out of order or there twice");
            }
            if !table.section.contains_key(&case.section) {
                bail!("case {number} names the unknown section {}", case.section);
            }
            let not_applicable = case.status == Status::Word(Word::NotApplicable);
            if not_applicable != case.reason.is_some() {
                bail!("case {number}: a reason belongs to `not applicable`, and only to it");
            }
            last = number;
        }
        Ok(table)
    }

    /// The table with the tests that exist now, and names whose number it does not know.
    pub(crate) fn renewed(mut self, tests: &Tests) -> (Self, Vec<String>) {
        let mut unplaced = Vec::new();
        let mut found: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for (number, name) in tests.numbered() {
            match self.case.iter().find(|case| case.number == number).map(|case| &case.status) {
                Some(Status::Word(Word::NotApplicable)) => {
                    unplaced.push(format!("{name}: case {number} is marked not applicable"));
                }
                Some(Status::Word(Word::Open) | Status::Tests(_)) => {
                    found.entry(number).or_default().push(name.to_owned());
                }
                None => unplaced.push(format!("{name}: there is no case {number}")),
            }
        }
        for case in &mut self.case {
            let mut names = found.remove(&case.number).unwrap_or_default();
            if let Status::Tests(listed) = &case.status {
                // A test that covers a case under another name is listed by hand and stays.
                names.extend(listed.iter().filter(|name| tests.has(name)).cloned());
            }
            names.sort();
            names.dedup();
            if !names.is_empty() {
                case.status = Status::Tests(names);
            } else if case.status != Status::Word(Word::NotApplicable) {
                case.status = Status::Word(Word::Open);
            }
        }
        (self, unplaced)
    }

    pub(crate) fn to_toml(&self) -> String {
        let mut out = PREAMBLE.to_owned();
        out.push_str("\n[section]\n");
        for (letter, title) in &self.section {
            out.push_str(&format!("{letter} = {}\n", quoted(title)));
        }
        for case in &self.case {
            let Case { number, section, title, status, reason } = case;
            let (section, title) = (quoted(section), quoted(title));
            out.push_str(&format!(
                "\n[[case]]\nnumber = {number}\nsection = {section}\ntitle = {title}\n{}\n",
                status.to_toml()
            ));
            if let Some(reason) = reason {
                out.push_str(&format!("reason = {}\n", quoted(reason)));
            }
        }
        out
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut out = format!("{PAGE}\n{}.\n", self.counts());
        for (letter, title) in &self.section {
            out.push_str(&format!("\n## {letter}. {title}\n\n{HEAD}"));
            for case in self.case.iter().filter(|case| case.section == *letter) {
                let covered = case.covered();
                out.push_str(&format!("| {} | {} | {covered} |\n", case.number, case.title));
            }
        }
        out
    }

    /// How many cases are covered, open and not applicable.
    pub(crate) fn counts(&self) -> String {
        let count = |wanted: fn(&Status) -> bool| {
            self.case.iter().filter(|case| wanted(&case.status)).count()
        };
        let covered = count(|status| matches!(status, Status::Tests(_)));
        let open = count(|status| *status == Status::Word(Word::Open));
        let other = count(|status| *status == Status::Word(Word::NotApplicable));
        format!("{covered} covered, {open} open, {other} not applicable")
    }
}

impl Case {
    fn covered(&self) -> String {
        match &self.status {
            Status::Word(Word::Open) => "*open*".into(),
            Status::Word(Word::NotApplicable) => {
                format!("not applicable: {}", self.reason.as_deref().unwrap_or_default())
            }
            Status::Tests(names) => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                names.join("<br>")
            }
        }
    }
}

impl Status {
    fn to_toml(&self) -> String {
        match self {
            Self::Word(Word::Open) => "status = \"open\"".into(),
            Self::Word(Word::NotApplicable) => "status = \"not applicable\"".into(),
            Self::Tests(names) => {
                let names: String = names.iter().map(|n| format!("    {},\n", quoted(n))).collect();
                format!("status = [\n{names}]")
            }
        }
    }
}

fn quoted(text: &str) -> String {
    // A JSON string is a TOML basic string.
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::scan::fixture;
    use super::*;

    const TEXT: &str = r#"
        section = { A = "Frames" }
        case = [
            { number = 1, section = "A", title = "cut", status = "open" },
            { number = 2, section = "A", title = "long", status = ["qpc-proto::case_002_gone"] },
            { number = 3, section = "A", title = "none", status = "not applicable", reason = "no" },
        ]
    "#;

    fn renewed(names: &[&str]) -> (Table, Vec<String>) {
        Table::parse(TEXT).unwrap().renewed(&fixture(names))
    }

    fn status(table: &Table) -> Vec<String> {
        table.case.iter().map(Case::covered).collect()
    }

    #[test]
    fn new_tests_are_listed_and_gone_ones_leave() {
        let (table, unplaced) = renewed(&["qpc-mls::case_001_cut"]);
        assert_eq!(status(&table), ["`qpc-mls::case_001_cut`", "*open*", "not applicable: no"]);
        assert_eq!(unplaced, [""; 0]);
        assert_eq!(table.counts(), "1 covered, 1 open, 1 not applicable");
    }

    #[test]
    fn a_hand_listed_test_stays_while_it_exists() {
        let text = TEXT.replace("qpc-proto::case_002_gone", "qpc-sim::seeds_hold");
        let table = Table::parse(&text).unwrap();
        let (kept, _) = table.clone().renewed(&fixture(&["qpc-sim::seeds_hold"]));
        assert_eq!(status(&kept)[1], "`qpc-sim::seeds_hold`");
        let (dropped, _) = table.renewed(&fixture(&[]));
        assert_eq!(status(&dropped)[1], "*open*");
    }

    #[test]
    fn a_number_without_a_case_and_a_case_not_applicable_are_problems() {
        assert_eq!(renewed(&["qpc-mls::case_004_new"]).1.len(), 1);
        assert_eq!(renewed(&["qpc-mls::case_003_none"]).1.len(), 1);
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let (table, _) = renewed(&["qpc-mls::case_001_cut", "qpc-mls::case_001_\"quoted\""]);
        let text = table.to_toml();
        assert_eq!(Table::parse(&text).unwrap().to_toml(), text);
    }

    #[test]
    fn disorder_unknown_sections_and_missing_reasons_are_refused() {
        for (from, to) in [("number = 2", "number = 1"), ("\"A\", title", "\"B\", title")] {
            assert!(Table::parse(&TEXT.replace(from, to)).is_err(), "{to}");
        }
        assert!(Table::parse(&TEXT.replace(", reason = \"no\"", "")).is_err());
    }
}
