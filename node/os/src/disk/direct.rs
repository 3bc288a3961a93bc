//! Writes past the page cache, durable when they end.
//!
//! A commit writes whole blocks that are not read again before a restart. Through the page
//! cache they are copied, marked, and looked for by the fdatasync that follows; written
//! directly and synced by the same call they are on their way to the disk at once, and a
//! disk that can is told to keep just them (FUA) instead of emptying its cache. Where the
//! file system or the alignment does not allow it, the page cache and fdatasync serve.
//!
//! Such a write makes nothing durable but itself; what was written through the page cache
//! before is the caller's care. The kernel keeps the two views of a file in step, so reads
//! need none.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use bytes::Bytes;

/// What offset, length and memory must be multiples of: no disk has larger blocks.
const ALIGNMENT: usize = 4096;
/// Bytes of one write, and so of memory kept for it.
const BYTES_MAX: usize = 1024 * 1024;

/// A file's second way in, opened when it is first needed.
pub(super) struct Direct {
    file: OnceLock<Option<File>>,
    /// The file system opens files so, and then refuses to write.
    is_refused: AtomicBool,
}

impl Direct {
    pub(super) fn new() -> Direct {
        Direct {
            file: OnceLock::new(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// Writes `chunks` to `file` at `offset`, durably. `false` if it has to be done through
    /// the page cache, whatever may have been written already.
    pub(super) fn write(
        &self,
        file: &File,
        offset: u64,
        chunks: &[Bytes],
        buffer: &Mutex<AlignedBuffer>,
    ) -> io::Result<bool> {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let fits = bytes <= BYTES_MAX
            && bytes.is_multiple_of(ALIGNMENT)
            && offset.is_multiple_of(ALIGNMENT as u64);
        if !fits || self.is_refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some(direct) = self.file.get_or_init(|| reopen(file).ok()) else {
            return Ok(false);
        };
        // Another commit has it: two data directories do not share a pool.
        let Ok(mut buffer) = buffer.try_lock() else {
            return Ok(false);
        };
        let aligned = buffer.filled(chunks);
        loop {
            match direct.write_at(aligned, offset) {
                Ok(written) => return Ok(written == bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.is_refused.store(true, Ordering::Relaxed);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
impl Direct {
    /// As on a file system that refuses.
    pub(super) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }
}

/// The same file, whatever its name is by now.
fn reopen(file: &File) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Memory that begins where the disk wants it to.
#[derive(Default)]
pub(super) struct AlignedBuffer {
    memory: Vec<u8>,
}

impl AlignedBuffer {
    /// `chunks` one after the other, which are no more than [`BYTES_MAX`] together.
    fn filled(&mut self, chunks: &[Bytes]) -> &[u8] {
        if self.memory.is_empty() {
            // Fresh from the system, and so no memory but for the pages written to.
            self.memory = vec![0; BYTES_MAX + ALIGNMENT];
        }
        let begin = self.memory.as_ptr().align_offset(ALIGNMENT);
        let mut end = begin;
        for chunk in chunks {
            self.memory[end..end + chunk.len()].copy_from_slice(chunk);
            end += chunk.len();
        }
        &self.memory[begin..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fill: u8) -> Bytes {
        vec![fill; ALIGNMENT].into()
    }

    #[test]
    fn whole_blocks_pass_the_page_cache_by_and_are_read_through_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let options = || OpenOptions::new().read(true).write(true).clone();
        let file = options().create(true).truncate(true).open(&path).unwrap();
        file.set_len(4 * ALIGNMENT as u64).unwrap();
        file.write_all_at(&[9; 2 * ALIGNMENT], 0).unwrap();
        // A name that is gone is no hindrance.
        std::fs::remove_file(&path).unwrap();
        let (direct, buffer) = (Direct::new(), Mutex::default());
        let chunks = [block(1).slice(..7), block(2).slice(7..), block(3)];
        let done = direct.write(&file, ALIGNMENT as u64, &chunks, &buffer);
        if !done.unwrap() {
            // A file system without it; nothing to be seen then.
            assert!(direct.is_refused.load(Ordering::Relaxed) || direct.file.get().is_some());
            return;
        }
        let mut back = vec![0; 4 * ALIGNMENT];
        file.read_exact_at(&mut back, 0).unwrap();
        let expected = [block(9), chunks.concat().into(), block(0)].concat();
        assert!(back == expected);
    }

    #[test]
    fn what_is_not_aligned_or_too_much_is_left_to_the_page_cache() {
        let file = tempfile::tempfile().unwrap();
        let (direct, buffer) = (Direct::new(), Mutex::default());
        let many: Vec<Bytes> = (0..=BYTES_MAX / ALIGNMENT).map(|_| block(1)).collect();
        for (offset, chunks) in [
            (1, vec![block(1)]),
            (0, vec![block(1).slice(1..)]),
            (0, many),
        ] {
            assert!(!direct.write(&file, offset, &chunks, &buffer).unwrap());
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert!(direct.file.get().is_none(), "not even opened");
    }
}
