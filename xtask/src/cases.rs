//! Keeps docs/cases.toml honest: which test covers which numbered case, and which are open.
//! Titles and reasons are written by people; lists of tests come from the code.

mod scan;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::tree;
use table::Table;

pub(crate) use scan::test_names;

const TABLE: &str = "docs/cases.toml";
const PAGE: &str = "docs/testing/cases.md";

#[derive(clap::Args)]
pub(crate) struct Mode {
    /// Fail where table, page and code differ (this is also the default).
    #[arg(long, conflicts_with = "write")]
    check: bool,
    /// Take the lists of tests from the code and render the page.
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(root: &Path, mode: &Mode) -> Result<()> {
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    let table_text = read(TABLE)?;
    let texts = tree::read(root)?;
    let (tests, mut problems) = scan::tests(&texts);
    let (fresh, unplaced) = Table::parse(&table_text)?.renewed(&tests);
    problems.extend(unplaced);
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("cases: {} problem(s)", problems.len());
    }
    let files = [(TABLE, fresh.to_toml()), (PAGE, fresh.to_markdown())];
    for (path, content) in &files {
        if mode.write {
            fs::write(root.join(path), content).with_context(|| (*path).to_owned())?;
        } else if read(path).unwrap_or_default() != *content {
            bail!("{path} is not what the code says: run `cargo xtask cases --write`");
        }
    }
    println!("cases: {}", fresh.counts());
    Ok(())
}
