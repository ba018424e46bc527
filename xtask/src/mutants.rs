//! Breaks the product on purpose, by the patches in crates/sim/mutants, and demands that a test
//! notices: `cargo xtask mutants`. Works on a copy of the tree; never changes the tree itself.

mod copy;
mod patch;
mod trial;

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use self::copy::TreeCopy;
use self::patch::Mutant;
use self::trial::Verdict;
use crate::{cases, shell, tree};

const FOLDER: &str = "crates/sim/mutants";
/// How many a run of the CI takes.
const ROTATING: usize = 3;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only check that each patch applies to the tree and names a test that exists.
    #[arg(long, conflicts_with_all = ["rotating", "names"])]
    check: bool,
    /// Run three, chosen by the hash of the commit.
    #[arg(long, conflicts_with = "names")]
    rotating: bool,
    /// Run these, by the names of their files; none: all.
    names: Vec<String>,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let all = read(root)?;
    let chosen = if options.check {
        return check(root, &all);
    } else if options.rotating {
        let commit = shell::output(root, &["git", "rev-parse", "HEAD"]);
        rotating(&all, &commit.context("no commit to choose by")?)?
    } else if options.names.is_empty() {
        all.iter().collect()
    } else {
        options.names.iter().map(|name| by_name(&all, name)).collect::<Result<_>>()?
    };
    try_all(root, &chosen)
}

/// All mutants, by name.
fn read(root: &Path) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    for entry in fs::read_dir(root.join(FOLDER)).context(FOLDER)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| name.clone())?;
        mutants.push(Mutant::parse(&name, text).with_context(|| format!("{FOLDER}: {name}"))?);
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

fn by_name<'a>(all: &'a [Mutant], name: &str) -> Result<&'a Mutant> {
    let found = all.iter().find(|mutant| mutant.name == name);
    found.with_context(|| format!("no mutant {name:?} in {FOLDER}"))
}

/// As far from each other as they can be, from a place that the commit decides.
fn rotating<'a>(all: &'a [Mutant], commit: &str) -> Result<Vec<&'a Mutant>> {
    ensure!(all.len() >= ROTATING, "fewer than {ROTATING} mutants");
    let digits = commit.get(..8).context("a commit's hash is longer")?;
    let start = usize::try_from(u32::from_str_radix(digits, 16)?)? % all.len();
    let step = all.len() / ROTATING;
    Ok(all.iter().cycle().skip(start).step_by(step).take(ROTATING).collect())
}

fn check(root: &Path, all: &[Mutant]) -> Result<()> {
    let texts = tree::read(root)?;
    let mut problems = 0;
    for mutant in all {
        let patch = format!("{FOLDER}/{}.patch", mutant.name);
        if shell::output(root, &["git", "apply", "--check", &patch]).is_none() {
            println!("{patch}: does not apply: git apply --check {patch}");
            problems += 1;
        }
        let mut files = texts.iter().filter(|text| mutant.is_of_target(&text.path));
        let is_named = |name: &String| name.contains(&mutant.filter);
        if !files.any(|text| cases::test_names(text).iter().any(is_named)) {
            println!("{patch}: no test is called {:?} in {:?}", mutant.filter, mutant.targets);
            problems += 1;
        }
    }
    if problems > 0 {
        bail!("mutants: {problems} problem(s)");
    }
    println!("mutants: {} apply, and each names a test", all.len());
    Ok(())
}

/// Tries each; before that, their tests must pass on the tree as it is.
fn try_all(root: &Path, mutants: &[&Mutant]) -> Result<()> {
    let copy = TreeCopy::take(root)?;
    trial::unbroken(&copy, mutants)?;
    let width = mutants.iter().map(|mutant| mutant.name.len()).max().unwrap_or(0);
    let mut alive = Vec::new();
    for mutant in mutants {
        let began = now();
        let verdict = trial::run(&copy, mutant)?;
        let seconds = began.elapsed().as_secs();
        println!("{seconds:5} s  {:width$}  {verdict}", mutant.name);
        if !matches!(verdict, Verdict::Killed(_)) {
            println!("         {}\n{}", mutant.what, verdict.told());
            alive.push(mutant.name.as_str());
        }
    }
    if !alive.is_empty() {
        bail!("no test kills {}", alive.join(", "));
    }
    println!("mutants: {} of {} killed", mutants.len(), mutants.len());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the table shows how long each took")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<Mutant> {
        names.iter().map(|name| patch::fixture(name)).collect()
    }

    #[test]
    fn a_commit_chooses_three_that_differ_and_all_come_in_turn() {
        for count in 3..40 {
            let names: Vec<_> = (0..count).map(|n| format!("m{n}")).collect();
            let all = named(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let mut seen = std::collections::BTreeSet::new();
            for commit in 0..count {
                let chosen = rotating(&all, &format!("{commit:08x}0123")).unwrap();
                let chosen: std::collections::BTreeSet<_> =
                    chosen.into_iter().map(|mutant| mutant.name.clone()).collect();
                assert_eq!(chosen.len(), ROTATING, "{count}");
                seen.extend(chosen);
            }
            assert_eq!(seen.len(), count);
        }
        assert!(rotating(&named(&["one", "two"]), "0123456789").is_err());
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert!(by_name(&named(&["one"]), "one").is_ok());
        assert!(by_name(&named(&["one"]), "two").is_err());
    }
}
