//! libFuzzer's way into the checks of `checks/key_package.rs`. Checks nothing itself.
#![no_main]

#[path = "../checks/key_package.rs"]
mod key_package;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    key_package::check(data);
});
