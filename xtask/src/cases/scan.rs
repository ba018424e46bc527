//! Finds the test functions of the workspace and the shell checks, by name.
//! Reads tokens, so that tests inside `proptest!` count too.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use crate::tree::Text;

/// Names of all tests, as the table lists them: `qpc-proto::case_032_cut`, `ci:case_136_cross`.
pub(crate) struct Tests(BTreeSet<String>);

impl Tests {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Tests whose name carries case numbers, with each number.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u16, &str)> {
        self.0.iter().flat_map(|name| numbers(name).into_iter().map(|n| (n, name.as_str())))
    }
}

/// The tests of `texts`, and what is wrong with some of them.
pub(crate) fn tests(texts: &[Text]) -> (Tests, Vec<String>) {
    let mut names = BTreeSet::new();
    let mut problems = Vec::new();
    for text in texts {
        if text.path.ends_with(".sh") || text.path == ".ci/run" {
            names.extend(shell_checks(&text.text));
        }
        let Some(house) = package(&text.path).filter(|_| text.path.ends_with(".rs")) else {
            continue;
        };
        let Ok(stream) = text.text.parse::<TokenStream>() else {
            continue;
        };
        let mut functions = Vec::new();
        collect(stream, &mut functions);
        for function in functions {
            let name = format!("{house}::{}", function.name);
            let is_case = !numbers(&name).is_empty();
            if is_case && !function.is_test {
                problems.push(format!("{}: {name} is no test", text.path));
            } else if is_case && function.is_ignored {
                problems.push(format!("{}: {name} never runs", text.path));
            } else if is_case && names.contains(&name) {
                problems.push(format!("{}: {name} exists twice", text.path));
            }
            if function.is_test && !function.is_ignored {
                names.insert(name);
            }
        }
    }
    (Tests(names), problems)
}

/// The names of the tests in a file that run by themselves.
pub(crate) fn test_names(text: &Text) -> Vec<String> {
    let mut functions = Vec::new();
    if let Ok(stream) = text.text.parse() {
        collect(stream, &mut functions);
    }
    functions.retain(|function| function.is_test && !function.is_ignored);
    functions.into_iter().map(|function| function.name).collect()
}

/// `function case_136_cross()` or `case_136_cross() {` at the start of a line of a script.
fn shell_checks(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| {
        let name = line.trim_start_matches("function ").split_once("()")?.0;
        (!numbers(name).is_empty()).then(|| format!("ci:{name}"))
    })
}

/// The package that a file belongs to.
fn package(path: &str) -> Option<String> {
    match path.strip_prefix("crates/") {
        Some(rest) => rest.split_once('/').map(|(house, _)| format!("qpc-{house}")),
        None => path.starts_with("xtask/").then(|| "xtask".to_owned()),
    }
}

/// `case_099_100_text` carries 99 and 100.
fn numbers(name: &str) -> Vec<u16> {
    let name = name.rsplit(':').next().unwrap_or_default();
    let Some(rest) = name.strip_prefix("case_") else {
        return Vec::new();
    };
    let digits = |part: &&str| part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
    rest.split('_').take_while(digits).filter_map(|part| part.parse().ok()).collect()
}

struct Function {
    name: String,
    is_test: bool,
    is_ignored: bool,
}

fn collect(stream: TokenStream, functions: &mut Vec<Function>) {
    let mut attributes = Vec::new();
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                if let Some(TokenTree::Group(group)) = trees.peek() {
                    attributes.extend(attribute_name(group.stream()));
                    trees.next();
                }
            }
            TokenTree::Ident(word) if word == "fn" => {
                if let Some(TokenTree::Ident(name)) = trees.peek() {
                    functions.push(Function {
                        name: name.to_string(),
                        is_test: attributes.iter().any(|name| name == "test"),
                        is_ignored: attributes.iter().any(|name| name == "ignore"),
                    });
                }
                attributes.clear();
            }
            TokenTree::Ident(word) if is_visibility(&word) => {}
            TokenTree::Group(group) => collect(group.stream(), functions),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => attributes.clear(),
        }
    }
}

fn is_visibility(word: &proc_macro2::Ident) -> bool {
    ["pub", "async", "const", "unsafe"].iter().any(|known| word == known)
}

/// The last segment of the attribute's path: `test` of `tokio::test(...)`, `cfg` of `cfg(test)`.
fn attribute_name(stream: TokenStream) -> Option<String> {
    let mut last = None;
    for tree in stream {
        match tree {
            TokenTree::Ident(ident) => last = Some(ident.to_string()),
            TokenTree::Punct(punct) if punct.as_char() == ':' => {}
            TokenTree::Punct(_) | TokenTree::Group(_) | TokenTree::Literal(_) => break,
        }
    }
    last
}

#[cfg(test)]
pub(crate) fn fixture(names: &[&str]) -> Tests {
    Tests(names.iter().map(|name| (*name).to_owned()).collect())
}

#[cfg(test)]
mod tests_of_scan {
    use super::*;

    fn scan(path: &str, text: &str) -> (Vec<String>, usize) {
        let (tests, problems) = tests(&[Text { path: path.into(), text: text.into() }]);
        (tests.0.into_iter().collect(), problems.len())
    }

    #[test]
    fn tests_are_found_in_modules_and_macros() {
        let text = "mod tests { #[test] fn case_001_a() {} }
            #[tokio::test(start_paused = true)] #[should_panic] async fn case_002_b() {}
            proptest! { #[test] fn case_003_c(x in 0..9u8) {} }
            #[cfg(test)] fn helper() {}
            #[test] fn plain() {}";
        let (names, problems) = scan("crates/proto/src/frame.rs", text);
        let expected = ["case_001_a", "case_002_b", "case_003_c", "plain"];
        assert_eq!(names, expected.map(|name| format!("qpc-proto::{name}")));
        assert_eq!(problems, 0);
    }

    #[test]
    fn a_case_that_is_no_test_or_never_runs_is_a_problem() {
        assert_eq!(scan("xtask/src/a.rs", "fn case_001_a() {}"), (vec![], 1));
        assert_eq!(scan("xtask/src/a.rs", "#[test] #[ignore] fn case_001_a() {}"), (vec![], 1));
        assert_eq!(scan("xtask/src/a.rs", "#[cfg(test)] fn case_001_a() {}"), (vec![], 1));
    }

    #[test]
    fn the_attribute_of_one_item_says_nothing_about_the_next() {
        let text = "#[test] fn a() {} const B: u8 = 0; fn case_001_c() {}";
        assert_eq!(scan("xtask/src/a.rs", text), (vec!["xtask::a".to_owned()], 1));
    }

    #[test]
    fn shell_checks_count_by_their_function() {
        let (names, _) = scan("deploy/testnet.sh", "case_188_drain() {\n  case_189_x\n}\n");
        assert_eq!(names, ["ci:case_188_drain"]);
    }

    #[test]
    fn a_name_carries_as_many_numbers_as_it_begins_with() {
        assert_eq!(numbers("qpc-mls::case_099_100_own_commit"), [99, 100]);
        assert_eq!(numbers("case_138_same_id_200_times"), [138]);
        assert_eq!(numbers("case_12_short"), [0; 0]);
        assert_eq!(numbers("showcase_138_a"), [0; 0]);
    }
}
