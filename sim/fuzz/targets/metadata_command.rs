//! See `weir_sim::fuzz::metadata_command`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| weir_sim::fuzz::metadata_command(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    weir_fuzz::change("metadata_command", data, size, max, seed)
});
