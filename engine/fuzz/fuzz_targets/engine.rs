//! [`standin_fuzz::engine`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::engine::run(data));
