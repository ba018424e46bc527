//! The server's identity on disk.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;

use qpc_transport::{CERTIFICATE_FILE, KEY_FILE, ServerIdentity, TransportError};

use crate::support::{identity, now_ms};

fn kind(result: Result<impl Sized, TransportError>) -> (String, io::ErrorKind) {
    let Some(TransportError::Identity { path, source }) = result.err() else {
        panic!("an error of a file");
    };
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    (name, source.kind())
}

#[test]
fn an_identity_survives_its_files_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let saved = identity();
    saved.save(dir.path()).unwrap();
    let mode = fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let loaded = ServerIdentity::load(dir.path()).unwrap();
    assert_eq!(loaded.fingerprint(), saved.fingerprint());
    assert_eq!(loaded.expires_at_ms().unwrap(), saved.expires_at_ms().unwrap());
    assert!(!format!("{loaded:?}").contains("PRIVATE"));
}

#[test]
fn saving_never_overwrites_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let first = identity();
    first.save(dir.path()).unwrap();
    let exists = io::ErrorKind::AlreadyExists;
    assert_eq!(kind(identity().save(dir.path())), (CERTIFICATE_FILE.to_owned(), exists));
    fs::remove_file(dir.path().join(CERTIFICATE_FILE)).unwrap();
    assert_eq!(kind(identity().save(dir.path())), (KEY_FILE.to_owned(), exists));
    first.save_certificate(dir.path()).unwrap();
    let loaded = ServerIdentity::load(dir.path()).unwrap();
    assert_eq!(loaded.fingerprint(), first.fingerprint());
}

#[test]
fn a_renewal_keeps_the_key_and_replaces_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let first = identity();
    first.save(dir.path()).unwrap();
    // What a crash in an earlier renewal leaves behind is no obstacle.
    fs::write(dir.path().join("tls.crt.new"), "half").unwrap();
    let later = now_ms() + 1_000_000_000;
    let renewed = first.renew(&["a.example".to_owned()], later).unwrap();
    renewed.save_certificate(dir.path()).unwrap();
    let loaded = ServerIdentity::load(dir.path()).unwrap();
    assert_eq!(loaded.fingerprint(), first.fingerprint());
    let gained = loaded.expires_at_ms().unwrap() - first.expires_at_ms().unwrap();
    assert!((999_998_000..=1_000_002_000).contains(&gained), "{gained}");
    assert!(!dir.path().join("tls.crt.new").exists());
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (key, certificate) = (dir.path().join(KEY_FILE), dir.path().join(CERTIFICATE_FILE));
    let load = || kind(ServerIdentity::load(dir.path()));
    assert_eq!(load(), (KEY_FILE.to_owned(), io::ErrorKind::NotFound));

    identity().save(dir.path()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(load(), (KEY_FILE.to_owned(), io::ErrorKind::PermissionDenied));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    identity().save_certificate(dir.path()).unwrap();
    let invalid = io::ErrorKind::InvalidData;
    assert_eq!(load(), (CERTIFICATE_FILE.to_owned(), invalid), "of another key");
    fs::write(&certificate, "no PEM").unwrap();
    assert_eq!(load(), (CERTIFICATE_FILE.to_owned(), invalid));
    fs::write(&key, "no PEM").unwrap();
    assert_eq!(load(), (KEY_FILE.to_owned(), invalid));
}

#[test]
fn hosts_that_no_certificate_carries_and_absurd_clocks_are_no_panic() {
    let generated = ServerIdentity::generate(&["häuschen".to_owned()], now_ms());
    assert!(matches!(generated.unwrap_err(), TransportError::Certificate(_)));
    ServerIdentity::generate(&["::1".to_owned()], u64::MAX).unwrap();
    ServerIdentity::generate(&["10.0.0.1".to_owned()], 0).unwrap();
}
