//! [`standin_fuzz::pair`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::pair::run(data));
