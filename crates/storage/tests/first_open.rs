//! The first opens of a process, all at once: SQLCipher's own start-up does not survive that.
//! A binary of its own, because only the first open of a process can show it.

use std::sync::Barrier;

use qpc_storage::{Durability, Key, Options, Store};

#[test]
fn the_first_opens_of_a_process_may_be_concurrent() {
    const THREADS: usize = 16;
    let dir = tempfile::tempdir().unwrap();
    let options =
        Options::new(Key::from_bytes([7; 32]), vec![]).with_durability(Durability::Process);
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let path = dir.path().join(format!("{number}.db"));
            let (barrier, options) = (&barrier, &options);
            scope.spawn(move || {
                barrier.wait();
                Store::open(&path, options).unwrap();
            });
        }
    });
}
