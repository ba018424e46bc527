//! A copy of the working tree with a build folder of its own, both kept from run to run: only what
//! has changed is written, and built, again. Never writes outside of `target/mutants`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::patch::Mutant;
use crate::shell;

const PLACE: &str = "target/mutants";

/// The copied tree, unpatched.
pub(super) struct TreeCopy {
    pub(super) tree: PathBuf,
    pub(super) build: PathBuf,
}

impl TreeCopy {
    /// Copies all files that git knows or would add.
    pub(super) fn take(root: &Path) -> Result<Self> {
        let place = root.join(PLACE);
        let copy = Self { tree: place.join("tree"), build: place.join("build") };
        let list = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let files = shell::output(root, &list).context("git does not list the tree's files")?;
        let mut known = BTreeSet::new();
        // A file that was deleted and not staged is listed still.
        for file in files.split_terminator('\0').filter(|file| root.join(file).is_file()) {
            let content = fs::read(root.join(file)).with_context(|| file.to_owned())?;
            write_anew(&copy.tree.join(file), &content)?;
            known.insert(copy.tree.join(file));
        }
        remove_others(&copy.tree, &known)?;
        copy.seed()?;
        Ok(copy)
    }

    /// Runs `body` on the patched tree.
    pub(super) fn patched<T>(
        &self,
        mutant: &Mutant,
        body: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let path = |file: &String| self.tree.join(file);
        let before = mutant.files.iter().map(|file| fs::read(path(file)));
        let before: Vec<_> = before.collect::<Result<_, _>>().context("a file to patch")?;
        self.apply(mutant)?;
        let result = body();
        for (file, content) in mutant.files.iter().zip(before) {
            fs::write(path(file), content).with_context(|| file.clone())?;
        }
        result
    }

    fn apply(&self, mutant: &Mutant) -> Result<()> {
        let mut git = Command::new("git")
            .arg("apply")
            .current_dir(&self.tree)
            // Within a repository git would take the paths from its root.
            .env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree))
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start git")?;
        git.stdin.take().context("git has an input")?.write_all(mutant.text.as_bytes())?;
        ensure!(git.wait()?.success(), "{} does not apply", mutant.name);
        Ok(())
    }

    /// Begins with the libraries of others that were built for the tree itself: they are the same,
    /// and most of the work.
    fn seed(&self) -> Result<()> {
        let debug = self.build.join("debug");
        if debug.exists() {
            return Ok(());
        }
        // This program was built into the same folder as the tests.
        let own = std::env::current_exe()?;
        let built = own.parent().context("a program lies in a folder")?;
        fs::create_dir_all(debug.join("deps"))?;
        for name in [".fingerprint", "build"] {
            let (from, to) = (built.join(name), debug.join(name));
            let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
            // Cargo compares times, which `std::fs::copy` does not keep.
            shell::run(&self.tree, &["cp", "-a", &from, &to])?;
            for entry in fs::read_dir(to.as_ref())? {
                let entry = entry?;
                if is_ours(&entry.file_name().to_string_lossy()) {
                    fs::remove_dir_all(entry.path())?;
                }
            }
        }
        for entry in fs::read_dir(built.join("deps"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kept = [".rlib", ".rmeta", ".so"].iter().any(|suffix| name.ends_with(suffix));
            if kept && !is_ours(&name) {
                fs::hard_link(entry.path(), debug.join("deps").join(name))?;
            }
        }
        Ok(())
    }
}

/// Whether something built is of this workspace.
fn is_ours(name: &str) -> bool {
    name.contains("qpc") || name.contains("xtask")
}

/// What is the same keeps its time, so that it is not built again.
fn write_anew(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, content).with_context(|| path.display().to_string())
}

fn remove_others(folder: &Path, known: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let (kind, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
        if kind?.is_dir() {
            remove_others(&path, known)?;
        } else if !known.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written_and_what_is_gone_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (same, other, gone) =
            (dir.path().join("a/same"), dir.path().join("a/other"), dir.path().join("b/gone"));
        for path in [&same, &other, &gone] {
            write_anew(path, b"one").unwrap();
        }
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        for path in [&same, &other] {
            fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        }
        write_anew(&same, b"one").unwrap();
        write_anew(&other, b"two").unwrap();
        assert_eq!(time(&same), old);
        assert_ne!(time(&other), old);
        remove_others(dir.path(), &[same.clone(), other].into()).unwrap();
        assert!(same.exists() && !gone.exists());
    }

    #[test]
    fn a_patch_is_undone_whatever_happened_under_it() {
        let dir = tempfile::tempdir().unwrap();
        let copy = TreeCopy { tree: dir.path().join("tree"), build: dir.path().join("build") };
        let file = copy.tree.join("crates/a/src/b.rs");
        write_anew(&file, b"one\ntwo\nthree\n").unwrap();
        let text = "Mutant: a\nKilled-by: --workspace --lib b\n\n\
                    diff --git a/crates/a/src/b.rs b/crates/a/src/b.rs\n\
                    --- a/crates/a/src/b.rs\n+++ b/crates/a/src/b.rs\n\
                    @@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";
        let mutant = Mutant::parse("a", text.to_owned()).unwrap();
        let seen = copy.patched(&mutant, || Ok(fs::read_to_string(&file)?)).unwrap();
        assert_eq!(seen, "one\n2\nthree\n");
        assert!(copy.patched(&mutant, || -> Result<()> { anyhow::bail!("no") }).is_err());
        assert_eq!(fs::read(&file).unwrap(), b"one\ntwo\nthree\n");
        write_anew(&file, b"another\n").unwrap();
        assert!(copy.patched(&mutant, || Ok(())).is_err());
    }
}
