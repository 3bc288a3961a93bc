//! See `weir_sim::fuzz::group_record`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| weir_sim::fuzz::group_record(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    weir_fuzz::change("group_record", data, size, max, seed)
});
