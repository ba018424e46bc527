//! libFuzzer's way into the checks of `checks/frame.rs`. Checks nothing itself.
#![no_main]

#[path = "../checks/frame.rs"]
mod frame;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    frame::check(data);
});
