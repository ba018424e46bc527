//! Rules over a file's lines: its opening, length, width and name.
//! Never looks into the code.

use super::Finding;
use super::source::Source;

/// Lines of a file that are not tests.
const FILE_LINES: usize = 400;
/// Characters of one line.
const LINE_CHARS: usize = 100;
/// Lines of the `//!` that opens a file.
const HEADER_LINES: usize = 6;
/// Files whose opening explains a whole crate or state machine and may be longer.
const LONG_HEADERS: [&str; 2] = ["lib.rs", "machine.rs"];
const VAGUE_MODULES: [&str; 5] = ["common", "utils", "util", "helpers", "misc"];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = width(source);
    findings.extend(header(source));
    findings.extend(length(source));
    findings.extend(name(source));
    findings
}

fn file_name(source: &Source) -> &str {
    source.path.rsplit('/').next().unwrap_or_default()
}

fn header(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().take_while(|line| line.starts_with("//!")).count();
    let longest = LONG_HEADERS.contains(&file_name(source));
    let message = match lines {
        0 => "opens without `//!`: say what it is responsible for and what it never does".into(),
        n if n > HEADER_LINES && !longest => format!("opens with {n} lines of `//!`, at most 6"),
        _ => return None,
    };
    Some(Finding::new(&source.path, 1, message))
}

fn width(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in (1..).zip(source.text.lines()) {
        let chars = text.chars().count();
        if chars > LINE_CHARS {
            let message = format!("line of {chars} characters, at most {LINE_CHARS}");
            findings.push(Finding::new(&source.path, line, message));
        }
    }
    findings
}

fn length(source: &Source) -> Option<Finding> {
    let lines = (1..).zip(source.text.lines()).filter(|(line, _)| !source.is_test_line(*line));
    let lines = lines.count();
    let message = format!("file of {lines} lines without tests, at most {FILE_LINES}: split it");
    (lines > FILE_LINES).then(|| Finding::new(&source.path, 1, message))
}

fn name(source: &Source) -> Option<Finding> {
    let name = file_name(source);
    if name == "mod.rs" {
        return Some(Finding::new(&source.path, 1, "`foo.rs` beside `foo/` instead of `mod.rs`"));
    }
    let folder = source.path.rsplit('/').nth(1).unwrap_or_default();
    let vague = VAGUE_MODULES
        .iter()
        .find(|vague| **vague == name.trim_end_matches(".rs") || **vague == folder)?;
    Some(Finding::new(&source.path, 1, format!("a module called `{vague}` says nothing")))
}

#[cfg(test)]
mod tests {
    use super::super::source::fixture;
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&fixture(path, text)).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_file_says_first_what_it_is_for() {
        assert_eq!(messages("crates/auth/src/a.rs", "//! A.\nfn f() {}\n"), [""; 0]);
        assert_eq!(messages("crates/auth/src/a.rs", "fn f() {}\n").len(), 1);
    }

    #[test]
    fn an_opening_has_at_most_six_lines_except_for_a_crate() {
        let seven = "//! A line.\n".repeat(7);
        assert_eq!(messages("crates/auth/src/a.rs", &"//! A line.\n".repeat(6)), [""; 0]);
        assert_eq!(messages("crates/auth/src/a.rs", &seven).len(), 1);
        assert_eq!(messages("crates/auth/src/lib.rs", &seven), [""; 0]);
    }

    #[test]
    fn a_line_has_at_most_hundred_characters() {
        let line = |chars: usize| format!("//! {}\n", "ä".repeat(chars - 4));
        assert_eq!(messages("crates/auth/src/a.rs", &line(100)), [""; 0]);
        assert_eq!(messages("crates/auth/src/a.rs", &line(101)).len(), 1);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let code = |lines: usize| format!("//! A.\n{}", "const _: u8 = 0;\n".repeat(lines - 1));
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(50));
        assert_eq!(messages("crates/auth/src/a.rs", &(code(400) + &tests)), [""; 0]);
        assert_eq!(messages("crates/auth/src/a.rs", &code(401)).len(), 1);
    }

    #[test]
    fn vague_modules_and_mod_rs_are_refused() {
        assert_eq!(messages("crates/auth/src/a/mod.rs", "//! A.\n").len(), 1);
        assert_eq!(messages("crates/auth/src/utils.rs", "//! A.\n").len(), 1);
        assert_eq!(messages("crates/auth/tests/common/server.rs", "//! A.\n").len(), 1);
    }
}
