//! The machine's share of a review: style budgets, forbidden words and imports, the crate table.
//! Every rule is a pure function over text; this file only reads the tree and prints findings.

mod boundary;
mod house;
mod layout;
mod shape;
mod source;
mod summary;
mod words;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

use crate::tree::{self, Text};
use source::Source;

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Checks the tree below `root` and prints each finding; an error where there is any.
pub(crate) fn run(root: &Path) -> Result<()> {
    let texts = tree::read(root)?;
    let findings = check(&texts);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} finding(s)", findings.len());
    }
    println!("tidy: {} files, nothing to say", texts.len());
    Ok(())
}

/// All findings over a whole tree, in the order of its files.
fn check(texts: &[Text]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = texts.iter().flat_map(words::check).collect();
    for text in texts.iter().filter(|text| text.path.ends_with("Cargo.toml")) {
        findings.extend(house::manifest(text));
    }
    findings.extend(summary::check(texts));
    let (sources, unread) = source::parse(texts);
    findings.extend(unread);
    for source in &sources {
        findings.extend(check_source(source));
    }
    findings
}

fn check_source(source: &Source) -> Vec<Finding> {
    let mut findings = boundary::check(source);
    findings.extend(house::imports(source));
    if !source.generated {
        findings.extend(layout::check(source));
        findings.extend(shape::check(source));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> Vec<Text> {
        let text =
            |(path, text): &(&str, &str)| Text { path: (*path).into(), text: (*text).into() };
        files.iter().map(text).collect()
    }

    #[test]
    fn a_clean_tree_has_no_findings() {
        let files = [("crates/auth/src/lib.rs", "//! Accounts.\nuse qpc_proto::ids;\n")];
        assert_eq!(check(&texts(&files)), []);
    }

    #[test]
    fn a_forbidden_import_is_found_where_it_stands() {
        let files = [("crates/auth/src/lib.rs", "//! Accounts.\nuse qpc_delivery::log;\n")];
        let findings = check(&texts(&files));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].to_string().starts_with("crates/auth/src/lib.rs:2: "));
    }

    #[test]
    fn a_file_that_does_not_parse_is_a_finding() {
        let files = [("crates/auth/src/lib.rs", "//! Accounts.\nfn {\n")];
        assert_eq!(check(&texts(&files)).len(), 1);
    }

    #[test]
    fn a_module_declared_for_tests_is_a_test_file() {
        let files = [
            ("crates/auth/src/service.rs", "//! Entry.\n#[cfg(test)]\nmod tests;\n"),
            ("crates/auth/src/service/tests.rs", "//! Tests.\nuse qpc_delivery::log;\n"),
        ];
        assert_eq!(check(&texts(&files)), []);
    }
}
