//! A mutant's file: what it breaks, which test must notice, and a unified diff of the product.
//! Never applies it.

use anyhow::{Context as _, Result, ensure};

const WHAT: &str = "Mutant: ";
const KILLED_BY: &str = "Killed-by: ";

/// One way to break the product.
#[derive(Debug)]
pub(super) struct Mutant {
    /// Of the file, without `.patch`.
    pub(super) name: String,
    /// What is broken, and why that would be bad.
    pub(super) what: String,
    /// The test targets, as `cargo test` takes them: `--workspace --test cases`.
    pub(super) targets: Vec<String>,
    /// The test in them that must fail, or the beginning of its name.
    pub(super) filter: String,
    /// The files that the diff changes, from the root of the tree.
    pub(super) files: Vec<String>,
    /// The whole file: `git apply` skips the text before the diff.
    pub(super) text: String,
}

impl Mutant {
    /// Reads a file. What it says must be there, and only code of the product may be changed: a
    /// test that was broken notices nothing.
    pub(super) fn parse(name: &str, text: String) -> Result<Self> {
        let (head, diff) = text.split_once("\ndiff --git ").context("no diff")?;
        let (what, killed_by) = head.split_once(KILLED_BY).context("no `Killed-by:`")?;
        let what = what.strip_prefix(WHAT).context("does not begin with `Mutant:`")?;
        let mut targets: Vec<_> = killed_by.split_whitespace().map(str::to_owned).collect();
        let filter = targets.pop().filter(|word| !word.starts_with('-'));
        let filter = filter.context("`Killed-by:` ends with the name of a test")?;
        // Without the whole workspace other features are chosen, and all is built again.
        ensure!(
            targets.first().is_some_and(|word| word == "--workspace") && targets.len() > 1,
            "`Killed-by:` begins with --workspace and names a target"
        );
        let files: Vec<_> = diff
            .lines()
            .filter_map(|line| line.strip_prefix("+++ b/"))
            .map(str::to_owned)
            .collect();
        ensure!(!files.is_empty(), "the diff changes no file");
        for file in &files {
            let is_product = file.starts_with("crates/") && file.contains("/src/");
            ensure!(is_product && !file.starts_with("crates/sim/"), "{file} is not of the product");
        }
        Ok(Self {
            name: name.to_owned(),
            what: what.split_whitespace().collect::<Vec<_>>().join(" "),
            targets,
            filter,
            files,
            text,
        })
    }

    /// Whether tests in the file at `path` are in one of the targets.
    pub(super) fn is_of_target(&self, path: &str) -> bool {
        let named = |target: &String| {
            path.contains(&format!("/tests/{target}/"))
                || path.ends_with(&format!("/tests/{target}.rs"))
        };
        let lib = self.targets.iter().any(|word| word == "--lib") && path.contains("/src/");
        path.ends_with(".rs") && (lib || self.targets.iter().any(named))
    }
}

#[cfg(test)]
pub(super) fn fixture(name: &str) -> Mutant {
    let text =
        "Mutant: a\nKilled-by: --workspace --lib b\n\ndiff --git \n+++ b/crates/a/src/b.rs\n";
    Mutant::parse(name, text.to_owned()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "\ndiff --git a/x b/x\n--- a/crates/auth/src/a.rs\n\
                        +++ b/crates/auth/src/a.rs\n@@ -1,1 +1,1 @@\n-a\n+b\n";

    fn parsed(head: &str, diff: &str) -> Result<Mutant> {
        Mutant::parse("name", format!("{head}{diff}"))
    }

    #[test]
    fn a_file_says_what_it_breaks_and_who_must_notice() {
        let head = "Mutant: tokens\ncount twice\nKilled-by: --workspace --test api case_056_a\n";
        let mutant = parsed(head, DIFF).unwrap();
        assert_eq!(mutant.what, "tokens count twice");
        assert_eq!(mutant.targets, ["--workspace", "--test", "api"]);
        assert_eq!(mutant.filter, "case_056_a");
        assert_eq!(mutant.files, ["crates/auth/src/a.rs"]);
        assert!(mutant.is_of_target("crates/auth/tests/api/session.rs"));
        assert!(!mutant.is_of_target("crates/auth/tests/other/session.rs"));
        assert!(!mutant.is_of_target("crates/auth/src/a.rs"));
        assert!(fixture("a").is_of_target("crates/auth/src/a.rs"));
    }

    #[test]
    fn a_file_that_lacks_something_is_refused() {
        let good = "Mutant: a\nKilled-by: --workspace --test api b\n";
        assert!(parsed(good, DIFF).is_ok());
        assert!(parsed(good, "").is_err());
        assert!(parsed("Killed-by: --workspace --test api b\n", DIFF).is_err());
        assert!(parsed("Mutant: a\n", DIFF).is_err());
        assert!(parsed("Mutant: a\nKilled-by: --test api b\n", DIFF).is_err());
        assert!(parsed("Mutant: a\nKilled-by: --workspace b\n", DIFF).is_err());
        assert!(parsed("Mutant: a\nKilled-by: --workspace --lib\n", DIFF).is_err());
    }

    #[test]
    fn only_the_product_may_be_broken() {
        let good = "Mutant: a\nKilled-by: --workspace --test api b\n";
        for file in ["crates/auth/tests/api/a.rs", "crates/sim/src/a.rs", "xtask/src/a.rs"] {
            assert!(parsed(good, &DIFF.replace("crates/auth/src/a.rs", file)).is_err(), "{file}");
        }
    }
}
