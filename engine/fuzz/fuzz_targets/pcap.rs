//! [`standin_fuzz::pcap`] under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| standin_fuzz::pcap::run(data));
