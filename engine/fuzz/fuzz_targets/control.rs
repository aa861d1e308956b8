//! [`standin_fuzz::control`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::control::run(data));
