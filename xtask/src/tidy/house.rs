//! The crate table: who may use whom, by manifest and by import.
//! The same table stands in ARCHITECTURE.md and, for direct dependencies, in deny.toml.

use super::Finding;
use super::source::Source;
use crate::tokens::Kind;
use crate::tree::Text;

/// A crate (without `qpc-`) and the crates of ours that it may use outside tests.
const TABLE: [(&str, &[&str]); 13] = [
    ("proto", &[]),
    ("storage", &[]),
    ("faultvfs", &[]),
    ("credential", &["proto"]),
    ("transport", &["proto"]),
    ("auth", &["proto", "storage", "credential"]),
    ("delivery", &["proto", "storage", "credential"]),
    ("server", &["proto", "storage", "credential", "transport", "auth", "delivery"]),
    ("mls", &["proto", "storage", "credential"]),
    ("client", &["proto", "storage", "credential", "transport", "mls"]),
    ("cli", &["client"]),
    ("sim", &SIM),
    ("xtask", &[]),
];
const SIM: [&str; 9] =
    ["proto", "storage", "credential", "transport", "auth", "delivery", "server", "mls", "client"];
/// The one crate with `unsafe`. It writes its lints out, because `forbid` can't be softened.
const UNSAFE: &str = "faultvfs";
/// Crates that get time, async and randomness from their caller.
const PURE: [&str; 3] = ["auth", "delivery", "mls"];

fn row(house: &str) -> Option<&'static [&'static str]> {
    TABLE.iter().find(|(name, _)| *name == house).map(|(_, uses)| *uses)
}

/// Whether `house` may use `other`; in tests all but the server beside clients is open.
fn may_use(house: &str, other: &str, is_test: bool) -> bool {
    let server_side = |name: &str| matches!(name, "server" | "auth" | "delivery");
    let client_side = |name: &str| matches!(name, "client" | "mls" | "cli");
    let mixes = (other == "server" && house != "sim")
        || (server_side(house) && client_side(other))
        || (client_side(house) && server_side(other));
    let listed = row(house).is_some_and(|uses| uses.contains(&other));
    house == other || listed || (is_test && !mixes)
}

/// Names of our crates in the code of `source`.
pub(crate) fn imports(source: &Source) -> Vec<Finding> {
    let house = source.house();
    let mut findings = Vec::new();
    for leaf in &source.leaves {
        let Kind::Ident(name) = &leaf.kind else {
            continue;
        };
        let Some(other) = name.strip_prefix("qpc_").filter(|other| row(other).is_some()) else {
            continue;
        };
        if house != "fuzz" && !may_use(house, other, source.is_test_line(leaf.line)) {
            let message = format!("{house} must not use {name}");
            findings.push(Finding::new(&source.path, leaf.line, message));
        }
    }
    findings
}

/// The dependencies and lints that a member's manifest declares.
pub(crate) fn manifest(text: &Text) -> Vec<Finding> {
    let find = |message: String| Finding::new(&text.path, 1, message);
    let folder = text.path.trim_end_matches("/Cargo.toml");
    let house = folder.strip_prefix("crates/").unwrap_or(folder);
    if text.path == "Cargo.toml" || folder == "fuzz" {
        return Vec::new();
    }
    if row(house).is_none() {
        return vec![find(format!("`{house}` is not in the crate table of xtask"))];
    }
    let manifest: toml::Table = match text.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![find(format!("does not parse: {error}"))],
    };
    let mut findings = Vec::new();
    findings.extend(lints(house, &manifest).map(&find));
    for (name, is_test) in dependencies(&manifest) {
        let ours = name.strip_prefix("qpc-");
        if ours.is_some_and(|other| !may_use(house, other, is_test)) {
            findings.push(find(format!("{house} must not depend on {name}")));
        }
        if name == "tokio" && !is_test && PURE.contains(&house) {
            findings.push(find(format!("{house} has no async: no tokio")));
        }
    }
    findings
}

fn lints(house: &str, manifest: &toml::Table) -> Option<String> {
    let lint = |path: &[&str]| {
        let lints = manifest.get("lints");
        path.iter().fold(lints, |lints, name| lints.and_then(|table| table.get(name)))
    };
    if house == UNSAFE {
        let explained = lint(&["clippy", "undocumented_unsafe_blocks"]);
        return (explained.and_then(toml::Value::as_str) != Some("deny"))
            .then(|| "has `unsafe`: wants `undocumented_unsafe_blocks = \"deny\"`".into());
    }
    (lint(&["workspace"]).and_then(toml::Value::as_bool) != Some(true))
        .then(|| "wants `[lints] workspace = true`".into())
}

/// Package names a manifest depends on, and whether only its tests do.
fn dependencies(manifest: &toml::Table) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let of_targets = targets.into_iter().flatten().filter_map(|(_, table)| table.as_table());
    for table in std::iter::once(manifest).chain(of_targets) {
        for (section, is_test) in
            [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
        {
            let section = table.get(section).and_then(toml::Value::as_table);
            for (key, value) in section.into_iter().flatten() {
                let package = value.get("package").and_then(toml::Value::as_str);
                found.push((package.unwrap_or(key).to_owned(), is_test));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::source::fixture;
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn imported(path: &str, text: &str) -> usize {
        imports(&fixture(path, text)).len()
    }

    fn declared(path: &str, text: &str) -> usize {
        manifest(&Text { path: path.into(), text: text.into() }).len()
    }

    #[test]
    fn the_architecture_page_has_the_same_table() {
        let page = include_str!("../../../ARCHITECTURE.md");
        let rows = page.lines().filter(|line| line.starts_with("| `")).map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            (cells[0].trim_matches('`'), cells[2])
        });
        let table = TABLE.map(|(name, uses)| match uses {
            [] => (name, "–".to_owned()),
            uses => (name, uses.join(", ")),
        });
        let table = table.iter().map(|(name, uses)| (*name, uses.as_str()));
        assert_eq!(rows.collect::<Vec<_>>(), table.collect::<Vec<_>>());
    }

    #[test]
    fn services_never_import_each_other() {
        assert_eq!(imported("crates/auth/src/a.rs", "use qpc_delivery::log;"), 1);
        assert_eq!(imported("crates/delivery/src/a.rs", "fn f() { qpc_auth::g() }"), 1);
        assert_eq!(imported("crates/delivery/src/a.rs", "use qpc_proto::ids;"), 0);
    }

    #[test]
    fn the_server_never_sees_the_group_engine() {
        assert_eq!(imported("crates/server/src/a.rs", "use qpc_mls::Group;"), 1);
        let text = "#[cfg(test)]\nmod tests { use qpc_mls::Group; }";
        assert_eq!(imported("crates/server/src/a.rs", text), 1);
    }

    #[test]
    fn only_the_simulator_sees_the_server_beside_clients() {
        assert_eq!(imported("crates/client/tests/a.rs", "use qpc_server::Server;"), 1);
        assert_eq!(imported("crates/cli/tests/a.rs", "use qpc_server::Server;"), 1);
        assert_eq!(imported("crates/sim/src/a.rs", "use qpc_server::Server;"), 0);
        assert_eq!(imported("crates/server/src/main.rs", "use qpc_server::Server;"), 0);
    }

    #[test]
    fn tests_may_use_more() {
        assert_eq!(imported("crates/transport/tests/a.rs", "use qpc_storage::Key;"), 0);
        assert_eq!(imported("crates/transport/src/a.rs", "use qpc_storage::Key;"), 1);
    }

    #[test]
    fn manifests_follow_the_table_under_any_name() {
        let with = |text: &str| format!("{LINTS}{text}");
        let path = "crates/delivery/Cargo.toml";
        assert_eq!(declared(path, &with("[dependencies]\nqpc-proto.workspace = true")), 0);
        assert_eq!(declared(path, &with("[dependencies]\nqpc-auth.workspace = true")), 1);
        assert_eq!(declared(path, &with("[build-dependencies]\nqpc-auth.workspace = true")), 1);
        let renamed = with("[dependencies]\na = { package = \"qpc-auth\" }");
        assert_eq!(declared(path, &renamed), 1);
        let target = with("[target.'cfg(unix)'.dependencies]\nqpc-auth.workspace = true");
        assert_eq!(declared(path, &target), 1);
    }

    #[test]
    fn manifests_of_pure_crates_have_no_tokio() {
        let text = format!("{LINTS}[dependencies]\ntokio.workspace = true");
        assert_eq!(declared("crates/mls/Cargo.toml", &text), 1);
        assert_eq!(declared("crates/client/Cargo.toml", &text), 0);
    }

    #[test]
    fn a_crate_takes_the_lints_and_stands_in_the_table() {
        assert_eq!(declared("crates/mls/Cargo.toml", "[dependencies]"), 1);
        assert_eq!(declared("crates/unknown/Cargo.toml", LINTS), 1);
        let explained = "[lints.clippy]\nundocumented_unsafe_blocks = \"deny\"";
        assert_eq!(declared("crates/faultvfs/Cargo.toml", explained), 0);
        assert_eq!(declared("crates/faultvfs/Cargo.toml", "[lints.clippy]"), 1);
        assert_eq!(declared("crates/mls/Cargo.toml", explained), 1);
    }
}
