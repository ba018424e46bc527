//! The committed wire types are what `proto/qpc/v1` generates; `QPC_WRITE=1` writes them anew.
#![allow(clippy::disallowed_methods, reason = "a switch for `cargo xtask codegen`")]

use std::path::Path;

#[test]
fn committed_code_matches_the_contract() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let protos = root.join("../proto");
    let files = ["common", "auth", "delivery", "content"].map(|n| format!("qpc/v1/{n}.proto"));
    let descriptors = protox::compile(files, [protos]).expect("the contract compiles");
    let out = tempfile::tempdir().expect("a temporary folder");
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .out_dir(out.path())
        .compile_fds(descriptors)
        .expect("code is generated");
    let fresh = std::fs::read_to_string(out.path().join("qpc.v1.rs")).expect("generated file");
    let committed = root.join("../crates/proto/src/wire/qpc.v1.rs");
    if std::env::var_os("QPC_WRITE").is_some() {
        std::fs::write(&committed, &fresh).expect("the committed file is writable");
    }
    let kept = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(kept == fresh, "drift: run `cargo xtask codegen` and commit the result");
}
