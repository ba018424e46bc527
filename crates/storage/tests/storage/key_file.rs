//! Key files: what is written, what is refused. Never leaves a key outside the test's directory.

use std::fs;

use qpc_storage::{Key, StorageError};

use crate::Place;

const BYTES: [u8; 32] = *b"0123456789abcdef0123456789ABCDEF";

fn reason(result: Result<impl std::fmt::Debug, StorageError>) -> &'static str {
    match result {
        Err(StorageError::KeyFile { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[cfg(unix)]
fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_comes_back_as_it_was_written() {
    let place = Place::new();
    Key::from_bytes(BYTES).write_new(&place.path()).unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), BYTES);
    assert_eq!(Key::read(&place.path()).unwrap().as_bytes(), &BYTES);
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let place = Place::new();
    fs::write(place.path(), b"precious").unwrap();
    let refused = Key::from_bytes(BYTES).write_new(&place.path());
    assert!(reason(refused).contains("never overwritten"));
    assert_eq!(fs::read(place.path()).unwrap(), b"precious");
}

#[cfg(unix)]
#[test]
fn a_key_file_is_private_or_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    Key::from_bytes(BYTES).write_new(&place.path()).unwrap();
    let mode = fs::metadata(place.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for open in [0o640, 0o604, 0o620, 0o602, 0o610] {
        set_mode(&place.path(), open);
        assert!(reason(Key::read(&place.path())).contains("chmod 600"), "{open:o}");
    }
    set_mode(&place.path(), 0o400);
    Key::read(&place.path()).unwrap();
}

#[test]
fn a_wrong_length_is_refused() {
    for (bytes, word) in [(&BYTES[..31], "shorter"), (&[0; 33][..], "longer"), (b"", "shorter")] {
        let place = Place::new();
        fs::write(place.path(), bytes).unwrap();
        #[cfg(unix)]
        set_mode(&place.path(), 0o600);
        assert!(reason(Key::read(&place.path())).contains(word));
    }
    assert!(reason(Key::read(&Place::new().path())).contains("does not exist"));
}
