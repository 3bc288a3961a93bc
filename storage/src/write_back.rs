//! Bringing segments to the disk while they are written, not all at once at a checkpoint:
//! an fsync of a hundred MiB holds up every commit of the disk meanwhile.
//!
//! Logs tell of what they wrote to a segment; one task brings it to the disk, piece after
//! piece, each waited for, so that no more than one stands before an fsync. What goes on
//! where a waiting piece ends is added to it: the busier the disk, the larger the pieces.
//! What nobody will read leaves the page cache then, and others' pages stay.
//!
//! A hint throughout: nothing is durable by it, what finds the queue full is left to the
//! checkpoint, and a crash loses nothing by losing it.

use std::collections::VecDeque;
use std::ops::Range;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use weir_base::{CacheHint, DiskFile};

/// Pieces begin and end at multiples of so many bytes: small before an fsync.
const PIECE_BYTES: u64 = 256 * 1024;
/// Bytes of a piece that grew while it waited: large enough for a disk that turns.
const PIECE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Pieces that may wait.
const PIECES_MAX: usize = 64;

struct Piece {
    file: Arc<dyn DiskFile>,
    offset: u64,
    len: u64,
    hint: CacheHint,
}

impl Piece {
    /// Adds `other` if it goes on where this ends.
    fn grow(&mut self, other: &Piece) -> bool {
        let goes_on = ptr::addr_eq(Arc::as_ptr(&self.file), Arc::as_ptr(&other.file))
            && self.offset + self.len == other.offset
            && self.hint == other.hint
            && self.len + other.len <= PIECE_BYTES_MAX;
        if goes_on {
            self.len += other.len;
        }
        goes_on
    }
}

/// What waits to be brought to the disk.
#[derive(Default)]
pub(crate) struct WriteBack {
    pieces: Mutex<VecDeque<Piece>>,
    wake: Notify,
}

impl WriteBack {
    /// These bytes of the file were written: the pieces that this made whole are to be
    /// brought to the disk. Not the rest, whose last block will be written again.
    pub(crate) fn wrote(&self, file: &Arc<dyn DiskFile>, bytes: Range<u64>, hint: CacheHint) {
        let offset = bytes.start - bytes.start % PIECE_BYTES;
        let len = bytes.end - bytes.end % PIECE_BYTES - offset;
        if len == 0 {
            return;
        }
        let file = file.clone();
        let piece = Piece {
            file,
            offset,
            len,
            hint,
        };
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if !pieces.iter_mut().any(|waiting| waiting.grow(&piece)) && pieces.len() < PIECES_MAX {
            pieces.push_back(piece);
            drop(pieces);
            self.wake.notify_one();
        }
    }

    fn next(&self) -> Option<Piece> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.pop_front()
    }

    /// Brings piece after piece to the disk.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            match self.next() {
                Some(Piece {
                    file,
                    offset,
                    len,
                    hint,
                }) => file.write_back(offset, len, hint).await,
                None => self.wake.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_base::{Disk, Entropy, OpenMode};

    use super::*;
    use crate::SimDisk;

    const PIECE: u64 = PIECE_BYTES;
    const MOST: u64 = PIECE_BYTES_MAX;

    async fn file() -> Arc<dyn DiskFile> {
        let disk = SimDisk::new(&Entropy::from_seed([1; 32]));
        disk.open("f", OpenMode::Create).await.unwrap()
    }

    fn taken(all: &WriteBack) -> Vec<(u64, u64)> {
        let taken = std::iter::from_fn(|| all.next());
        taken.map(|piece| (piece.offset, piece.len)).collect()
    }

    #[tokio::test]
    async fn what_became_whole_is_taken_once() {
        let (file, all) = (file().await, WriteBack::default());
        all.wrote(&file, 64..PIECE - 1, CacheHint::Keep);
        all.wrote(&file, PIECE - 1..3 * PIECE + 5, CacheHint::Keep);
        assert_eq!(taken(&all), [(0, 3 * PIECE)]);
        all.wrote(&file, 3 * PIECE + 5..3 * PIECE + 9, CacheHint::Keep);
        all.wrote(&file, 3 * PIECE + 9..4 * PIECE, CacheHint::Keep);
        assert_eq!(taken(&all), [(3 * PIECE, PIECE)]);
    }

    #[tokio::test]
    async fn pieces_grow_while_they_wait_and_a_full_queue_takes_no_more() {
        let (one, two, all) = (file().await, file().await, WriteBack::default());
        for n in 0..=MOST / PIECE {
            all.wrote(&one, n * PIECE..(n + 1) * PIECE, CacheHint::Keep);
            all.wrote(&two, n * PIECE..(n + 1) * PIECE, CacheHint::Drop);
        }
        let end = MOST + PIECE;
        all.wrote(&two, end..end + PIECE, CacheHint::Keep);
        let rest = [(MOST, PIECE), (MOST, PIECE), (end, PIECE)];
        assert_eq!(taken(&all), [[(0, MOST); 2].as_slice(), &rest].concat());
        for n in 0..2 * PIECES_MAX as u64 {
            all.wrote(&one, n * MOST..(n + 1) * MOST, CacheHint::Keep);
        }
        assert_eq!(taken(&all).len(), PIECES_MAX);
    }
}
