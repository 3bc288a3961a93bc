//! The write-ahead log's format.
//!
//! ```text
//! file:   0 "WEIRWAL1" | 8 version u32 | 16 number u64 | 24 first lsn u64
//!        32 storage uuid | 48 salt u32 | 60 crc u32 | 4096 groups
//! record: 0 magic u32 | 4 crc u32 | 8 lsn u64 | 16 topic | 32 partition u32
//!        36 length u32 | 40 frame crc u32 | 44 zero u32 | 48 the frame, as in a segment
//! ```
//! Little endian. Numbers (lsn) rise by one a record, across files; a recycled file's old
//! records have lower ones and so end the replay. A record's CRC covers bytes 8 to 48,
//! among them the frame's CRC, which covers the rest. It begins with the file's salt, a
//! random number, so that bytes inside a client's message never pass for a record.

use bytes::{Bytes, BytesMut};
use weir_base::{RecordBatch, TopicPartition, Uuid};

use crate::segment::frame::{FRAME_PROBE_BYTES, Frame, u32_at, u64_at};

/// Groups begin at multiples of this, so that a commit never reads a page to change
/// part of it, nor rewrites a sector that holds committed records.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Bytes of a record before its frame.
pub(crate) const RECORD_HEAD_BYTES: usize = 48;
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"WWR1");
const FILE_MAGIC: &[u8; 8] = b"WEIRWAL1";
const VERSION: u32 = 1;

/// A file's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHead {
    /// Rises with every file begun.
    pub(crate) number: u64,
    /// Number of its first record.
    pub(crate) first_lsn: u64,
    /// The data directory it belongs to.
    pub(crate) storage: Uuid,
    /// Where the checksums of its records begin.
    pub(crate) salt: u32,
}

impl FileHead {
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = vec![0; BLOCK_BYTES];
        bytes[..8].copy_from_slice(FILE_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_lsn.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.storage.0);
        bytes[48..52].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<FileHead> {
        let bytes: &[u8; 64] = bytes.first_chunk()?;
        let intact = bytes.starts_with(FILE_MAGIC)
            && u32_at(bytes, 8) == VERSION
            && u32_at(bytes, 60) == crc32c::crc32c(&bytes[..60]);
        let mut storage = [0; 16];
        storage.copy_from_slice(&bytes[32..48]);
        intact.then_some(FileHead {
            number: u64_at(bytes, 16),
            first_lsn: u64_at(bytes, 24),
            storage: Uuid(storage),
            salt: u32_at(bytes, 48),
        })
    }
}

/// Appends the head of a record with `frame` to `out`.
pub(crate) fn put_record_head(
    salt: u32,
    lsn: u64,
    partition: TopicPartition,
    frame: &Frame,
    out: &mut BytesMut,
) {
    let mut head = [0; RECORD_HEAD_BYTES];
    head[..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
    head[8..16].copy_from_slice(&lsn.to_le_bytes());
    head[16..32].copy_from_slice(&partition.topic.0);
    head[32..36].copy_from_slice(&partition.index.0.to_le_bytes());
    let length = u32::try_from(frame.size()).unwrap_or(u32::MAX);
    head[36..40].copy_from_slice(&length.to_le_bytes());
    head[40..44].copy_from_slice(&frame.crc.to_le_bytes());
    let crc = crc32c::crc32c_append(salt, &head[8..]);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&head);
}

/// Whether the bytes, which are no record, are what is left of the one numbered `lsn`: it
/// was written, and torn or rotten since. One changed bit anywhere in it does not hide
/// that, and what the file held before it was recycled does not pass for it, since its
/// numbers are lower and its checksums begin with another salt.
pub(crate) fn was_written(bytes: &[u8], salt: u32, lsn: u64) -> bool {
    let Some(head) = bytes.first_chunk::<RECORD_HEAD_BYTES>() else {
        return false;
    };
    let mut renumbered = *head;
    renumbered[8..16].copy_from_slice(&lsn.to_le_bytes());
    u64_at(head, 8) == lsn || u32_at(head, 4) == crc32c::crc32c_append(salt, &renumbered[8..])
}

/// A record read back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) lsn: u64,
    pub(crate) partition: TopicPartition,
    pub(crate) frame: Frame,
}

impl Record {
    /// The record at the front of `bytes`, if all of it is intact.
    pub(crate) fn decode(bytes: &Bytes, salt: u32) -> Option<Record> {
        let head: &[u8; RECORD_HEAD_BYTES] = bytes.first_chunk()?;
        if u32_at(head, 0) != RECORD_MAGIC
            || u32_at(head, 4) != crc32c::crc32c_append(salt, &head[8..])
        {
            return None;
        }
        let probe = bytes.get(RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + FRAME_PROBE_BYTES)?;
        let frame = Frame::probe(probe)
            .filter(|f| f.crc == u32_at(head, 40) && f.size() == u32_at(head, 36) as usize)?;
        frame.batch(&bytes.slice(RECORD_HEAD_BYTES..))?;
        let mut topic = [0; 16];
        topic.copy_from_slice(&head[16..32]);
        Some(Record {
            lsn: u64_at(head, 8),
            partition: TopicPartition::new(Uuid(topic), u32_at(head, 32)),
            frame,
        })
    }

    /// Bytes it takes.
    pub(crate) fn size(&self) -> usize {
        RECORD_HEAD_BYTES + self.frame.size()
    }
}

/// The batches in one write to the log, and whose they are: for who stands between a node
/// and its disk. Nothing of bytes that no group begins with; what they were salted with is
/// not asked.
#[must_use]
pub fn batches_in(write: &Bytes) -> Vec<(TopicPartition, RecordBatch)> {
    let mut batches = Vec::new();
    let mut rest = write.clone();
    while let Some(head) = rest.first_chunk::<RECORD_HEAD_BYTES>()
        && u32_at(head, 0) == RECORD_MAGIC
        && let Some(probe) = rest.get(RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + FRAME_PROBE_BYTES)
        && let Some(frame) = Frame::probe(probe)
        && let Some(batch) = frame.batch(&rest.slice(RECORD_HEAD_BYTES..))
    {
        let mut topic = [0; 16];
        topic.copy_from_slice(&head[16..32]);
        batches.push((TopicPartition::new(Uuid(topic), u32_at(head, 32)), batch));
        rest = rest.slice(RECORD_HEAD_BYTES + frame.size()..);
    }
    batches
}

#[cfg(test)]
mod tests {
    use weir_base::batch::BatchBuilder;
    use weir_base::{LeaderEpoch, Offset, Timestamp};

    use super::*;
    use crate::segment::frame::FrameContext;

    const SALT: u32 = 7;

    fn record(salt: u32, lsn: u64) -> BytesMut {
        let batch = BatchBuilder::new(Timestamp(1))
            .record(None, Some(b"value"))
            .build()
            .stamped(Offset(3), LeaderEpoch(1));
        let context = FrameContext {
            generation: 1,
            durable: Offset(3),
            appended_at: Timestamp(1),
        };
        let mut framed = BytesMut::new();
        let frame = Frame::encode(&batch, 0, context, &mut framed);
        framed.extend_from_slice(batch.body());
        let mut bytes = BytesMut::new();
        let partition = TopicPartition::new(Uuid([5; 16]), 2);
        put_record_head(salt, lsn, partition, &frame, &mut bytes);
        bytes.extend_from_slice(&framed);
        bytes
    }

    #[test]
    fn a_record_with_any_bit_flipped_was_written_and_is_none() {
        let whole = record(SALT, 9);
        assert!(Record::decode(&whole.clone().freeze(), SALT).is_some());
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(was_written(&bad, SALT, 9), "bit {bit}");
            let bad = bad.freeze();
            assert!(Record::decode(&bad, SALT).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn the_batches_of_a_write_are_told_up_to_what_is_none() {
        let two = [record(SALT, 9).freeze(), record(8, 10).freeze()].concat();
        let padded = Bytes::from([two.as_slice(), &[0; BLOCK_BYTES]].concat());
        let batches = batches_in(&padded);
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0].0, TopicPartition::new(Uuid([5; 16]), 2));
        assert_eq!(batches[1].1.base_offset(), Offset(3));
        assert!(batches_in(&Bytes::from(vec![0; BLOCK_BYTES])).is_empty());
        assert!(batches_in(&padded.slice(1..)).is_empty());
        assert_eq!(batches_in(&padded.slice(..two.len() - 1)).len(), 1);
    }

    #[test]
    fn what_a_recycled_file_held_before_was_not() {
        assert!(!was_written(&record(0x5eed_cafe, 8), SALT, 9));
        assert!(!was_written(&[0; RECORD_HEAD_BYTES], SALT, 9));
        assert!(!was_written(&[], SALT, 9));
    }
}
