//! One file of a partition's log: a head and frames behind it.
//!
//! ```text
//!  0 "WEIRSEG1" | 8 version u32 | 12 generation u32 | 16 base offset u64
//! 24 crc of the frame before u32 | 28 partition u32 | 32 topic 16 bytes
//! 48 made at i64 | 56 sealed bytes u32 | 60 crc u32 | 64 frames
//! ```
//! The file may be longer than its frames: space is reserved ahead and reads as zero.
//! Only the last segment of a log is written to; the others change by being replaced
//! (compaction) or removed (retention, cuts).

pub mod frame;
pub mod index;
mod walk;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;
use weir_base::{Disk, DiskFile, Offset, OpenMode, Timestamp, TopicPartition, Uuid};

pub(crate) use walk::{Walk, Walked};

use frame::{u32_at, u64_at};
use index::SegmentIndex;

/// Bytes before the first frame.
pub const SEGMENT_HEAD_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"WEIRSEG1";
const VERSION: u32 = 1;

/// A segment's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHead {
    /// The log it belongs to.
    pub partition: TopicPartition,
    /// The log's generation when it was made.
    pub generation: u32,
    /// Its first offset.
    pub base: Offset,
    /// Checksum of the frame before its first: where the chain goes on.
    pub previous: u32,
    /// Broker time when it was made.
    pub made_at: Timestamp,
    /// Of a compacted segment, where its frames end; 0 for all others.
    pub sealed_bytes: u32,
}

impl SegmentHead {
    /// The head's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![0; 64];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &self.generation.to_le_bytes());
        put(16, &self.base.0.to_le_bytes());
        put(24, &self.previous.to_le_bytes());
        put(28, &self.partition.index.0.to_le_bytes());
        put(32, &self.partition.topic.0);
        put(48, &self.made_at.0.to_le_bytes());
        put(56, &self.sealed_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes.into()
    }

    /// The head in `bytes`, if intact.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<SegmentHead> {
        let bytes: &[u8; 64] = bytes.first_chunk()?;
        let intact = bytes.starts_with(MAGIC)
            && u32_at(bytes, 8) == VERSION
            && u32_at(bytes, 60) == crc32c::crc32c(&bytes[..60]);
        let mut topic = [0; 16];
        topic.copy_from_slice(&bytes[32..48]);
        intact.then(|| SegmentHead {
            partition: TopicPartition::new(Uuid(topic), u32_at(bytes, 28)),
            generation: u32_at(bytes, 12),
            base: Offset(u64_at(bytes, 16)),
            previous: u32_at(bytes, 24),
            made_at: Timestamp(u64_at(bytes, 48).cast_signed()),
            sealed_bytes: u32_at(bytes, 56),
        })
    }
}

/// A segment: its name, its file once opened, its index once needed.
pub(crate) struct Segment {
    disk: Arc<dyn Disk>,
    pub(crate) path: String,
    pub(crate) base: Offset,
    file: OnceCell<Arc<dyn DiskFile>>,
    index: Mutex<SegmentIndex>,
    /// The index in its file was looked for.
    index_loaded: OnceCell<()>,
}

impl Segment {
    /// The segment at `base` in `directory`; touches nothing.
    pub(crate) fn at(disk: Arc<dyn Disk>, directory: &str, base: Offset) -> Arc<Segment> {
        Arc::new(Segment {
            disk,
            path: format!("{directory}/{}", file_name(base)),
            base,
            file: OnceCell::new(),
            index: Mutex::new(SegmentIndex::new(SEGMENT_HEAD_BYTES)),
            index_loaded: OnceCell::new(),
        })
    }

    /// Makes the file anew, with its head. The name is durable after the next directory sync.
    pub(crate) async fn make(&self, head: SegmentHead) -> io::Result<()> {
        let file = self.disk.open(&self.path, OpenMode::Create).await?;
        file.truncate(0).await?;
        file.write_at_and_sync(0, vec![head.encode()]).await?;
        self.file.set(file).ok();
        self.index_loaded.set(()).ok();
        Ok(())
    }

    /// The open file.
    pub(crate) async fn file(&self) -> io::Result<&Arc<dyn DiskFile>> {
        self.file
            .get_or_try_init(|| self.disk.open(&self.path, OpenMode::Existing))
            .await
    }

    /// The head on the disk, if intact.
    pub(crate) async fn head(&self) -> io::Result<Option<SegmentHead>> {
        let bytes = self.file().await?.read_at(0, 64).await?;
        Ok(SegmentHead::decode(&bytes))
    }

    /// A walk over the frames from the first on, to `limit`. If the head is intact the first has
    /// to name what it says.
    pub(crate) async fn walk(&self, limit: u64, step: usize) -> io::Result<Walk> {
        let chain = self.head().await?.map(|head| head.previous);
        let file = self.file().await?.clone();
        Ok(Walk::new(file, SEGMENT_HEAD_BYTES, limit, step).after(chain))
    }

    pub(crate) fn index(&self) -> MutexGuard<'_, SegmentIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its stored index lies.
    pub(crate) fn index_path(&self) -> String {
        format!("{}.index", self.path)
    }

    /// Where compaction writes what is to replace it.
    pub(crate) fn replacement_path(&self) -> String {
        format!("{}.compacted", self.path)
    }

    /// Where the producers' state at its base lies.
    pub(crate) fn producers_path(&self) -> String {
        format!("{}.producers", self.path)
    }

    /// Looks for the stored index, once.
    pub(crate) async fn load_index(&self) {
        self.index_loaded
            .get_or_init(|| async {
                if let Some(stored) = crate::sidecar::load(&self.disk, &self.index_path()).await {
                    let mut index = self.index();
                    if index.covered_to() == SEGMENT_HEAD_BYTES {
                        *index = stored;
                    }
                }
            })
            .await;
    }

    /// The stored index is of other content.
    pub(crate) fn forget_stored_index(&self) {
        self.index_loaded.set(()).ok();
    }

    /// Stores the index beside the file, as a hint.
    pub(crate) async fn store_index(&self) -> io::Result<()> {
        let index = self.index().clone();
        crate::sidecar::store(&self.disk, &self.index_path(), &index).await
    }
}

/// The file name of the segment at `base`; names sort as offsets do.
pub(crate) fn file_name(base: Offset) -> String {
    format!("{:020}.segment", base.0)
}

/// The base of the segment file `name`.
pub(crate) fn base_of(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".segment")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok().map(Offset))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_reads_back_and_notices_every_flipped_bit() {
        let head = SegmentHead {
            partition: TopicPartition::new(Uuid([7; 16]), 3),
            generation: 4,
            base: Offset(1 << 40),
            previous: 99,
            made_at: Timestamp(-5),
            sealed_bytes: 77,
        };
        let bytes = head.encode();
        assert_eq!(SegmentHead::decode(&bytes), Some(head));
        for bit in 0..64 * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHead::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn names_and_bases_agree() {
        assert_eq!(base_of(&file_name(Offset(42))), Some(Offset(42)));
        for name in [
            "x.segment",
            "00000000000000000042.segment.index",
            "+0000000000000000042.segment",
        ] {
            assert_eq!(base_of(name), None, "{name}");
        }
    }
}
