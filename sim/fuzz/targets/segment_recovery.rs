//! See `weir_sim::fuzz::segment_recovery`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| weir_sim::fuzz::segment_recovery(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    weir_fuzz::change("segment_recovery", data, size, max, seed)
});
