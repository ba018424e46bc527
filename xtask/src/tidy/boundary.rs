//! What may be named where: no clock, async or randomness in the pure crates, SQL only in stores,
//! `anyhow` only in programs, `unsafe` only in faultvfs. Reads identifiers and literals, not types.

use super::Finding;
use super::source::Source;
use crate::tokens::{Kind, Leaf};

/// Crates and files that get `now_ms` and the random generator as arguments.
const PURE: [&str; 5] = [
    "crates/auth/src/",
    "crates/delivery/src/",
    "crates/mls/src/",
    "crates/client/src/machine/",
    "crates/client/src/machine.rs",
];
const IMPURE_NAMES: [&str; 9] = [
    "tokio",
    "async",
    "await",
    "SystemTime",
    "Instant",
    "OsRng",
    "thread_rng",
    "from_entropy",
    "getrandom",
];
/// The houses of programs and tools, where an error only has to be read by a person.
const ANYHOW: [&str; 4] = ["cli", "sim", "xtask", "fuzz"];
const STATEMENTS: [&str; 4] = [
    concat!("SEL", "ECT "),
    concat!("INS", "ERT "),
    concat!("DEL", "ETE FROM"),
    concat!("CRE", "ATE TABLE"),
];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let rule = |leaf: &Leaf| {
        let message = match &leaf.kind {
            Kind::Ident(name) => ident(source, leaf.line, name)?,
            Kind::Str(text) => sql(source, leaf.line, text)?,
        };
        Some(Finding::new(&source.path, leaf.line, message))
    };
    source.leaves.iter().filter_map(rule).collect()
}

fn ident(source: &Source, line: usize, name: &str) -> Option<String> {
    if name == "unsafe" && source.house() != "faultvfs" {
        return Some("`unsafe` is forbidden".into());
    }
    if source.is_test_line(line) {
        return None;
    }
    if IMPURE_NAMES.contains(&name) && PURE.iter().any(|pure| source.path.starts_with(pure)) {
        return Some(format!("`{name}`: time, async and randomness are the caller's here"));
    }
    let in_program = source.binary || ANYHOW.contains(&source.house());
    (name == "anyhow" && !in_program)
        .then(|| "`anyhow` is for programs; a library has typed errors".into())
}

fn sql(source: &Source, line: usize, text: &str) -> Option<String> {
    let path = &source.path;
    let in_store = path.ends_with("/store.rs")
        || path.contains("/store/")
        || path.contains("/migrations")
        || path.starts_with("crates/storage/")
        || path.starts_with("crates/mls/src/provider");
    let update = text.split_once("UPDATE ").is_some_and(|(_, rest)| rest.contains(" SET "));
    let is_sql = update || STATEMENTS.iter().any(|statement| text.contains(statement));
    (is_sql && !in_store && !source.is_test_line(line))
        .then(|| "SQL belongs into `store.rs` or `store/`".into())
}

#[cfg(test)]
mod tests {
    use super::super::source::fixture;
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&fixture(path, text)).len()
    }

    #[test]
    fn pure_crates_have_no_clock_async_or_randomness() {
        for text in [
            "use std::time::Instant;",
            "async fn f() {}",
            "use tokio::sync::mpsc;",
            "fn f() { let t = std::time::SystemTime::UNIX_EPOCH; }",
            "use rand_core::OsRng;",
        ] {
            assert_eq!(count("crates/auth/src/service.rs", text), 1, "{text}");
            assert_eq!(count("crates/client/src/machine/outbox.rs", text), 1, "{text}");
            assert_eq!(count("crates/client/src/driver.rs", text), 0, "{text}");
            let test = format!("#[cfg(test)]\nmod tests {{ {text} }}");
            assert_eq!(count("crates/auth/src/service.rs", &test), 0, "{text}");
        }
    }

    #[test]
    fn sql_stays_in_stores_and_tests() {
        for text in ["SELECT 1", "INSERT INTO a", "UPDATE a SET b = 1", "DELETE FROM a"] {
            let text = format!("const A: &str = {text:?};");
            assert_eq!(count("crates/delivery/src/service.rs", &text), 1, "{text}");
            assert_eq!(count("crates/delivery/src/store.rs", &text), 0, "{text}");
            assert_eq!(count("crates/delivery/src/store/log.rs", &text), 0, "{text}");
            assert_eq!(count("crates/mls/src/provider/keys.rs", &text), 0, "{text}");
            assert_eq!(count("crates/delivery/tests/log.rs", &text), 0, "{text}");
        }
        let macro_text = "fn f() { query!(\"SELECT 1\") }";
        assert_eq!(count("crates/delivery/src/service.rs", macro_text), 1);
    }

    #[test]
    fn anyhow_is_for_programs() {
        let text = "use anyhow::Result;";
        assert_eq!(count("crates/auth/src/service.rs", text), 1);
        assert_eq!(count("crates/server/src/router.rs", text), 1);
        assert_eq!(count("crates/server/src/main.rs", text), 0);
        assert_eq!(count("crates/cli/src/lib.rs", text), 0);
    }

    #[test]
    fn unsafe_is_refused_even_in_tests() {
        assert_eq!(count("crates/auth/tests/a.rs", "fn f() { unsafe { g() } }"), 1);
        assert_eq!(count("crates/auth/src/a.rs", "/// unsafe\nfn f() {}"), 0);
        assert_eq!(count("crates/faultvfs/src/a.rs", "fn f() { unsafe { g() } }"), 0);
    }
}
