//! Reads the text files of the workspace in a stable order.
//! Never enters build output, version control or fuzzing corpora.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// A file's path from the workspace root, with `/`, and its text.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) path: String,
    pub(crate) text: String,
}

const SKIPPED: [&str; 7] = [
    ".git",
    "target",
    "docs/book",
    "fuzz/target",
    "fuzz/corpus",
    "fuzz/artifacts",
    "fuzz/coverage",
];
const SUFFIXES: [&str; 6] = [".rs", ".md", ".toml", ".yml", ".proto", ".sh"];

/// All Rust, Markdown, TOML, YAML, protobuf and shell files below `root`, sorted by path.
pub(crate) fn read(root: &Path) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    descend(root, "", &mut texts)?;
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(texts)
}

fn descend(root: &Path, folder: &str, texts: &mut Vec<Text>) -> Result<()> {
    let place = root.join(folder);
    let entries = fs::read_dir(&place).with_context(|| format!("cannot list {folder:?}"))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if entry.file_type()?.is_dir() {
            if !SKIPPED.contains(&path.as_str()) {
                descend(root, &path, texts)?;
            }
        } else if path == ".ci/run" || SUFFIXES.iter().any(|suffix| path.ends_with(suffix)) {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("cannot read {path} as UTF-8"))?;
            texts.push(Text { path, text });
        }
    }
    Ok(())
}
