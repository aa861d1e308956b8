//! [`standin_fuzz::neighbour`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::neighbour::run(data));
