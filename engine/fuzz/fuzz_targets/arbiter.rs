//! [`standin_fuzz::arbiter`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::arbiter::run(data));
