//! The fuzzing corpora, replayed by the compiler and on the machine of every change. The checks are
//! those of the fuzz targets; a panic there shows the file's name in the output of the test.
//!
//! Files called `seed-` must be taken and those called `refused-` must not; the others were found
//! by fuzzing and may be either.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

#[path = "../../../../fuzz/checks/frame.rs"]
mod frame;
#[path = "../../../../fuzz/checks/key_package.rs"]
pub(crate) mod key_package;
#[path = "../../../../fuzz/checks/requests.rs"]
pub(crate) mod requests;

use crate::seeds;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder(target)).unwrap().map(|file| file.unwrap());
    files
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap())
        })
        .collect()
}

fn replay(target: &str, check: impl Fn(&[u8]) -> bool) {
    for (name, bytes) in corpus(target) {
        println!("fuzz/corpus/{target}/{name}");
        let taken = check(&bytes);
        assert!(taken || !name.starts_with("seed-"), "{name} must be taken");
        assert!(!taken || !name.starts_with("refused-"), "{name} must be refused");
    }
}

#[test]
fn frames_of_the_corpus() {
    replay("frame", frame::check);
}

#[test]
fn bodies_of_the_corpus() {
    replay("requests", requests::check);
}

#[test]
fn signed_objects_of_the_corpus() {
    replay("key_package", key_package::check);
}

/// A corpus made from an old encoding would still pass and no longer reach what it was made for.
#[test]
fn the_seeds_are_of_today_s_encoding() {
    for (target, seeds) in seeds::all() {
        let named = |name: &str| name.starts_with("seed-") || name.starts_with("refused-");
        let mut corpus = corpus(target);
        corpus.retain(|name, _| named(name));
        assert!(corpus == seeds, "write_seeds makes the seeds of {target} anew");
    }
}

#[test]
#[ignore = "writes fuzz/corpus"]
fn write_seeds() {
    for (target, seeds) in seeds::all() {
        fs::create_dir_all(folder(target)).unwrap();
        for (name, bytes) in seeds {
            fs::write(folder(target).join(name), bytes).unwrap();
        }
    }
}
