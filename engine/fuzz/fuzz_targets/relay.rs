//! [`standin_fuzz::relay`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::relay::run(data));
