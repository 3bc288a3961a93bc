//! Bringing segments to the disk while they are written, not all at once at a checkpoint:
//! an fsync of a hundred MiB holds up every commit of the disk meanwhile.
//!
//! Logs tell of what they wrote to a segment; one task begins to bring it to the disk, whole
//! pieces one after the other, so that it takes no more than one of the disk's threads. A
//! hint throughout: nothing is durable by it, what finds the queue full is left to the
//! checkpoint, and a crash loses nothing by losing it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use weir_base::DiskFile;

/// Bytes of a piece: large enough for a disk that turns, small before an fsync.
const WRITE_BACK_BYTES: u64 = 1024 * 1024;
/// Pieces that may wait.
const PIECES_MAX: usize = 64;

struct Piece {
    file: Arc<dyn DiskFile>,
    offset: u64,
    len: u64,
}

/// What waits to be brought to the disk.
#[derive(Default)]
pub(crate) struct WriteBack {
    pieces: Mutex<VecDeque<Piece>>,
    wake: Notify,
}

impl WriteBack {
    /// The file was written from `begin` to `end`: the pieces that this made whole are to be
    /// brought to the disk. Not the rest, whose last block will be written again.
    pub(crate) fn wrote(&self, file: &Arc<dyn DiskFile>, begin: u64, end: u64) {
        let offset = begin - begin % WRITE_BACK_BYTES;
        let len = end - end % WRITE_BACK_BYTES - offset;
        if len == 0 {
            return;
        }
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if pieces.len() < PIECES_MAX {
            let file = file.clone();
            pieces.push_back(Piece { file, offset, len });
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
                Some(piece) => piece.file.write_back(piece.offset, piece.len).await,
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

    #[tokio::test]
    async fn what_became_whole_is_taken_once_and_a_full_queue_takes_nothing() {
        const PIECE: u64 = WRITE_BACK_BYTES;
        let disk = SimDisk::new(&Entropy::from_seed([1; 32]));
        let file = disk.open("f", OpenMode::Create).await.unwrap();
        let all = WriteBack::default();
        all.wrote(&file, 64, PIECE - 1);
        all.wrote(&file, PIECE - 1, 3 * PIECE + 5);
        all.wrote(&file, 3 * PIECE + 5, 3 * PIECE + 9);
        all.wrote(&file, 3 * PIECE + 9, 4 * PIECE);
        let taken: Vec<_> = std::iter::from_fn(|| all.next()).collect();
        let taken: Vec<_> = taken.iter().map(|p| (p.offset, p.len)).collect();
        assert_eq!(taken, [(0, 3 * PIECE), (3 * PIECE, PIECE)]);
        for n in 0..2 * PIECES_MAX as u64 {
            all.wrote(&file, n * PIECE, (n + 1) * PIECE);
        }
        let waiting = std::iter::from_fn(|| all.next()).count();
        assert_eq!(waiting, PIECES_MAX);
    }
}
