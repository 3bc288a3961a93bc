//! Must fail: see `weir_sim::fuzz::greedy_canary`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_sim::fuzz::greedy_canary(data));
