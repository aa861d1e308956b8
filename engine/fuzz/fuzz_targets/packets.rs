//! [`standin_fuzz::packets`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::packets::run(data));
