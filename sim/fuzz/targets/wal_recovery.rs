//! See `weir_sim::fuzz::wal_recovery`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|data: &[u8]| weir_sim::fuzz::wal_recovery(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
    weir_fuzz::change("wal_recovery", data, size, max, seed)
});
