//! The generated protobuf types, private to this crate: nothing else in the workspace sees `prost`.
#![allow(
    missing_docs,
    dead_code,
    unnameable_types,
    unreachable_pub,
    clippy::all,
    reason = "generated from proto/qpc/v1 by `cargo xtask codegen`"
)]

include!("wire/qpc.v1.rs");
