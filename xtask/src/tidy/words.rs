//! Words that promise work instead of doing it, in any text file.
//! Whole words only, in any case.

use super::Finding;
use crate::tree::Text;

const WORDS: [&str; 3] = [concat!("to", "do"), concat!("fix", "me"), concat!("unimple", "mented")];
/// The lint that refuses one of them has to name it.
const LINT: &str = concat!("to", "do = \"");

pub(crate) fn check(text: &Text) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, content) in (1..).zip(text.text.lines()) {
        if text.path == "Cargo.toml" && content.starts_with(LINT) {
            continue;
        }
        let lower = content.to_lowercase();
        for word in lower.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if WORDS.contains(&word) {
                let message = format!("`{word}`: do it, or open an issue");
                findings.push(Finding::new(&text.path, line, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: String) -> usize {
        check(&Text { path: path.into(), text }).len()
    }

    #[test]
    fn promises_are_found_in_any_case_and_file() {
        for word in WORDS {
            assert_eq!(count("docs/a.md", format!("first {word}: later")), 1);
            assert_eq!(count("crates/a/src/a.rs", format!("{}!()", word.to_uppercase())), 1);
            assert_eq!(count("crates/a/src/a.rs", format!("{word}s and mas{word}n")), 0);
        }
    }

    #[test]
    fn only_the_workspace_manifest_may_name_the_lint() {
        assert_eq!(count("Cargo.toml", format!("{LINT}warn\"")), 0);
        assert_eq!(count("crates/auth/Cargo.toml", format!("{LINT}warn\"")), 1);
    }
}
