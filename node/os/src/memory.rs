//! How the C library's allocator keeps what is freed. Rust's default one is it.

/// Heaps that all threads share. By default each thread gets its own, up to eight a core, which
/// costs an idle node more than all else.
const HEAPS_MAX: libc::c_int = 2;
/// Allocations of this many bytes and more go back to the kernel as soon as they are freed. By
/// default the bound rises to the largest freed so far, up to 32 MiB: after a burst of large
/// buffers, heaps full of holes are kept, half as much again as what is in use.
const RETURNED_BYTES_MIN: libc::c_int = 1024 * 1024;

/// Keeps the process small. To be called before the first thread is started. What the environment
/// asks of the allocator (`MALLOC_ARENA_MAX`, `MALLOC_MMAP_THRESHOLD_`) stays in force; a C library
/// other than glibc is left as it is.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    for (variable, option, value) in [
        ("MALLOC_ARENA_MAX", libc::M_ARENA_MAX, HEAPS_MAX),
        (
            "MALLOC_MMAP_THRESHOLD_",
            libc::M_MMAP_THRESHOLD,
            RETURNED_BYTES_MIN,
        ),
    ] {
        if std::env::var_os(variable).is_none() {
            #[expect(
                unsafe_code,
                reason = "the allocator has no other interface; two numbers, no pointers"
            )]
            // SAFETY: `mallopt` takes the allocator's own lock, and reads nothing of ours.
            unsafe {
                libc::mallopt(option, value);
            }
        }
    }
}
