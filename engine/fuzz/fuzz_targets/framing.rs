//! [`standin_fuzz::framing`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::framing::run(data));
