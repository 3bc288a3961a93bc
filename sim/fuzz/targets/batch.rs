//! See `weir_sim::fuzz::batch`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| weir_sim::fuzz::batch(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    weir_fuzz::change("batch", data, size, max, seed)
});
