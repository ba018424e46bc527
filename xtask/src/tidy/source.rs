//! A parsed Rust file with what the rules ask of it: its crate, its identifiers and which of its
//! lines are tests. Judges nothing.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::Finding;
use crate::tokens::{self, Leaf};
use crate::tree::Text;

pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) file: syn::File,
    pub(crate) leaves: Vec<Leaf>,
    /// Whether a program wrote it: style budgets then say nothing.
    pub(crate) generated: bool,
    /// Whether it is reached only from a `main.rs`, never from a library.
    pub(crate) binary: bool,
    test_file: bool,
    test_lines: Vec<RangeInclusive<usize>>,
}

/// The lines in which a generator signs its work.
const SIGNATURE_LINES: usize = 3;

impl Source {
    fn new(text: &Text) -> syn::Result<Self> {
        let file = syn::parse_file(&text.text)?;
        let mut lines = TestLines::default();
        lines.visit_file(&file);
        let mut opening = text.text.lines().take(SIGNATURE_LINES);
        Ok(Self {
            leaves: tokens::leaves(text.text.parse()?),
            generated: text.path.starts_with("crates/proto/src/wire/")
                || opening.any(|line| line.contains("@generated")),
            binary: text.path.ends_with("/main.rs") || text.path.contains("/src/bin/"),
            test_file: is_test_path(&text.path) || is_test(&file.attrs),
            test_lines: lines.0,
            path: text.path.clone(),
            text: text.text.clone(),
            file,
        })
    }

    /// The folder below `crates/`, or `xtask`, or `fuzz`.
    pub(crate) fn house(&self) -> &str {
        let path = self.path.strip_prefix("crates/").unwrap_or(&self.path);
        path.split('/').next().unwrap_or_default()
    }

    /// Whether `line` (from 1) belongs to a test.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.test_file || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// Modules declared with `mod x;` and whether only tests see them; paths without `.rs`.
    fn children(&self) -> Vec<(String, bool)> {
        let folder = module_folder(&self.path);
        let mut children = Vec::new();
        for item in &self.file.items {
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
            {
                children.push((format!("{folder}{}", module.ident), is_test(&module.attrs)));
            }
        }
        children
    }
}

/// Parses all `.rs` files; a file that does not parse becomes a finding.
pub(crate) fn parse(texts: &[Text]) -> (Vec<Source>, Vec<Finding>) {
    let mut sources = Vec::new();
    let mut unread = Vec::new();
    for text in texts.iter().filter(|text| text.path.ends_with(".rs")) {
        match Source::new(text) {
            Ok(source) => sources.push(source),
            Err(error) => {
                let line = error.span().start().line;
                unread.push(Finding::new(&text.path, line, format!("does not parse: {error}")));
            }
        }
    }
    spread(&mut sources);
    (sources, unread)
}

/// Hands "only tests" and "only the binary" on to the modules below.
fn spread(sources: &mut [Source]) {
    let mut tests = BTreeSet::new();
    let mut binary = BTreeSet::new();
    let mut library = BTreeSet::new();
    for source in sources.iter() {
        for (child, is_test) in source.children() {
            if is_test {
                tests.insert(child.clone());
            }
            if source.binary {
                binary.insert(child);
            } else if source.path.ends_with("/lib.rs") {
                library.insert(child);
            }
        }
    }
    for source in sources {
        let stem = source.path.trim_end_matches(".rs");
        let below = |set: &BTreeSet<String>| set.iter().any(|child| is_below(stem, child));
        source.test_file |= below(&tests);
        source.binary |= below(&binary) && !below(&library);
    }
}

fn is_below(stem: &str, module: &str) -> bool {
    stem.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_test_path(path: &str) -> bool {
    let path = path.strip_prefix("crates/").unwrap_or(path);
    let inside = path.split('/').nth(1);
    matches!(inside, Some("tests" | "benches" | "examples")) || path.starts_with("fuzz/")
}

/// Where the children of the module at `path` live, with a `/` at the end.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    let is_root = matches!(name, "lib.rs" | "main.rs") || folder.ends_with("/src/bin");
    if is_root { format!("{folder}/") } else { format!("{}/", path.trim_end_matches(".rs")) }
}

/// Whether `#[test]`, `#[tokio::test]` or a `cfg` that names `test` stands there.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let last = attribute.path().segments.last().map(|segment| segment.ident.to_string());
        match (last.as_deref(), &attribute.meta) {
            (Some("test"), _) => true,
            (Some("cfg"), syn::Meta::List(list)) => {
                let words = list.tokens.to_string();
                let mut words = words.split(|c: char| !c.is_alphanumeric() && c != '_');
                words.clone().any(|word| word == "test") && !words.any(|word| word == "not")
            }
            _ => false,
        }
    })
}

#[derive(Default)]
struct TestLines(Vec<RangeInclusive<usize>>);

impl TestLines {
    fn note(&mut self, attributes: &[syn::Attribute], span: proc_macro2::Span) {
        if is_test(attributes) {
            self.0.push(span.start().line..=span.end().line);
        }
    }
}

impl<'ast> Visit<'ast> for TestLines {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        self.note(attributes_of(item), item.span());
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, method: &'ast syn::ImplItemFn) {
        self.note(&method.attrs, method.span());
        visit::visit_impl_item_fn(self, method);
    }
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::ExternCrate(item) => &item.attrs,
        syn::Item::ForeignMod(item) => &item.attrs,
        syn::Item::TraitAlias(item) => &item.attrs,
        syn::Item::Union(item) => &item.attrs,
        syn::Item::Verbatim(_) | _ => &[],
    }
}

#[cfg(test)]
pub(crate) fn fixture(path: &str, text: &str) -> Source {
    Source::new(&Text { path: path.into(), text: text.into() }).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_lines_are_those_of_test_items() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n}\nfn b() {}\n#[test]\nfn c() {}\n";
        let source = fixture("crates/auth/src/lib.rs", text);
        let lines: Vec<_> = (1..=7).filter(|line| source.is_test_line(*line)).collect();
        assert_eq!(lines, [2, 3, 4, 6, 7]);
    }

    #[test]
    fn code_that_is_left_out_of_tests_is_no_test() {
        let source = fixture("crates/auth/src/lib.rs", "#[cfg(not(test))]\nfn a() {}\n");
        assert!(!source.is_test_line(2));
    }

    #[test]
    fn modules_of_main_are_binary_unless_the_library_has_them() {
        let text = |path: &str, text: &str| Text { path: path.into(), text: text.into() };
        let texts = [
            text("crates/server/src/lib.rs", "mod router;"),
            text("crates/server/src/main.rs", "mod options; mod router;"),
            text("crates/server/src/options.rs", "mod parse;"),
            text("crates/server/src/options/parse.rs", ""),
            text("crates/server/src/router.rs", "mod table;"),
            text("crates/server/src/router/table.rs", ""),
        ];
        let (sources, unread) = parse(&texts);
        assert_eq!(unread, []);
        let binary: Vec<_> = sources.iter().map(|source| source.binary).collect();
        assert_eq!(binary, [false, true, true, true, false, false]);
    }
}
