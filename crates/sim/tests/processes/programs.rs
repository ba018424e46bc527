//! Where the programs under test lie: beside this test, built by it, so that `cargo test` is
//! enough.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;

/// The built program of that name.
pub(crate) fn program(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(build);
    let path = folder().join(name);
    assert!(path.is_file(), "{} is missing: cargo build --workspace --bins", path.display());
    path
}

/// `target/debug` of `target/debug/deps/processes-0123456789abcdef`.
fn folder() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().to_owned()
}

/// Cargo gives a test the paths of its own package's programs alone, and builds no others.
fn build() {
    let folder = folder();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--bins", "--profile", profile])
        .arg("--target-dir")
        .arg(folder.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success(), "cargo build --workspace --bins failed");
}
