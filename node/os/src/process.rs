//! What the kernel tells of this process, in files that it makes up in memory: no disk
//! is asked.

use std::fs;

/// Bytes of memory that are resident; `None` where the kernel does not say.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    resident_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Files and sockets that are open; `None` where the kernel does not say.
#[must_use]
pub fn open_files() -> Option<usize> {
    // One of them is the directory itself.
    Some(
        fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1),
    )
}

fn resident_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(resident_in("Name: x\nVmRSS:\t  12 kB\n"), Some(12 * 1024));
        assert_eq!(resident_in("Name: x\n"), None);
        assert!(resident_bytes().is_none_or(|bytes| bytes > 100 * 1024));
        assert!(open_files().is_none_or(|files| files >= 3));
    }
}
