//! What the allocator keeps of what was freed. Alone in its process: what other tests hold at the
//! same time would count, too.

#![cfg(target_env = "gnu")]

use weir_os::{memory::keep_small, process::resident_bytes};

/// Large buffers with small ones between them, which stay: a heap could give nothing back.
#[test]
fn what_is_freed_goes_back() {
    const BUFFERS: usize = 50;
    const BYTES: usize = 2 * 1024 * 1024;
    keep_small();
    // The first that is freed would make the next of its size part of a heap.
    drop(std::hint::black_box(vec![1u8; BYTES]));
    let Some(before) = resident_bytes() else {
        return;
    };
    let (large, small): (Vec<_>, Vec<_>) = (0..BUFFERS)
        .map(|_| (vec![1u8; BYTES], Box::new([1u8; 64])))
        .unzip();
    drop(std::hint::black_box(large));
    let more = resident_bytes().unwrap_or(0).saturating_sub(before);
    assert!(more < (BUFFERS * BYTES / 4) as u64, "{more} bytes are kept");
    drop(std::hint::black_box(small));
}
