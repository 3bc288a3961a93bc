//! Must fail: see `weir_sim::fuzz::canary`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_sim::fuzz::canary(data));
