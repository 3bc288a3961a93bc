//! What the targets share: half of the changes are libfuzzer's, half know the format.

use weir_base::Entropy;
use weir_sim::fuzz::TARGETS;

/// Changes the first `size` bytes of `data` in place, to at most `max`; gives the new size.
pub fn change(target: &str, data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let known = TARGETS.iter().find(|known| known.name == target);
    let Some(known) = known.filter(|_| seed % 2 == 0) else {
        return libfuzzer_sys::fuzzer_mutate(data, size, max);
    };
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let input = (known.change)(&Entropy::from_seed(bytes), &data[..size], &data[..size]);
    let size = input.len().min(max).min(data.len());
    data[..size].copy_from_slice(&input[..size]);
    size
}
