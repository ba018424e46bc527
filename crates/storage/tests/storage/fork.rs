//! A store belongs to the process that opened it. Nothing here forks without starting a program.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use qpc_storage::{Reader, StorageError, Store};

use crate::{Place, done, insert, options, stored};

/// Ambiguous, and so an error of the compiler, for a type that can be cloned.
trait NeverCloned<Which> {
    fn holds() {}
}
impl<T> NeverCloned<()> for T {}
impl<T: Clone> NeverCloned<u8> for T {}

#[test]
fn case_176_a_store_and_its_readers_are_one_of_a_kind() {
    <Store as NeverCloned<_>>::holds();
    <Reader as NeverCloned<_>>::holds();
}

/// What a child says: whether it could open the store, and what it inherited of it.
fn report(path: &Path) -> String {
    let opened = match Store::open(path, &options()) {
        Err(StorageError::Locked) => "locked".to_owned(),
        other => format!("{other:?}"),
    };
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    let inherited = targets.filter(|target| target.starts_with(path.parent().unwrap())).count();
    format!("opened: {opened}, inherited: {inherited}")
}

/// The other process of the next test, which tells it the path; alone it has nothing to do.
#[test]
#[ignore = "the child of case_176_no_connection_crosses_into_a_child"]
fn child() {
    let mut path = String::new();
    std::io::stdin().read_to_string(&mut path).unwrap();
    if !path.is_empty() {
        println!("{}", report(Path::new(&path)));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn case_176_no_connection_crosses_into_a_child() {
    let place = Place::new();
    let mut store = place.open();
    let _reader = store.reader().unwrap();
    done(store.transact(|tx| insert(tx, "before")).unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fork::child", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let path = place.path().canonicalize().unwrap();
    child.stdin.take().unwrap().write_all(path.to_str().unwrap().as_bytes()).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains("opened: locked, inherited: 0"), "{said}");
    done(store.transact(|tx| insert(tx, "after")).unwrap());
    assert_eq!(stored(&store), ["after", "before"]);
}
