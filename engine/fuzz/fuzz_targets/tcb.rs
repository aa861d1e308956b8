//! [`standin_fuzz::tcb`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::tcb::run(data));
