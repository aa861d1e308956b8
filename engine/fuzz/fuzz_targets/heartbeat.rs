//! [`standin_fuzz::heartbeat`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::heartbeat::run(data));
