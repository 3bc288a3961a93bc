//! The frame around every stored batch, in segments and in the write-ahead log alike.
//!
//! ```text
//!  0 magic u32 | 4 crc u32 | 8 previous crc u32 | 12 generation u32 | 16 epoch u32
//! 20 batch length u32 | 24 base offset u64 | 32 end offset u64 | 40 durable end u64
//! 48 appended at i64 | 56 the batch, byte for byte
//! ```
//! Little endian. The CRC-32C covers the head from byte 8 and the batch's first 21
//! bytes, among them the batch's own checksum, which covers the rest: no payload byte is
//! summed twice. Each frame names its predecessor's CRC, so that bytes of another
//! history never pass for the next frame (S-10, I2).
//!
//! `durable end` is what the log knew to be durable when it wrote the frame. Recovery
//! uses it to tell a torn tail from corruption: a bad frame at X behind which a good one
//! says "durable beyond X" did reach the disk once (reliability 3.5, S-16).

use bytes::{Bytes, BytesMut};
use weir_base::batch::BATCH_HEADER_BYTES;
use weir_base::limits::BATCH_BYTES_CEILING;
use weir_base::{LeaderEpoch, Offset, RecordBatch, Timestamp};

/// Bytes of a frame before its batch.
pub const FRAME_HEAD_BYTES: usize = 56;
/// The first four bytes of every frame.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"WRF1");
/// Bytes of the batch that the frame's own checksum covers.
const BATCH_BYTES_COVERED: usize = 21;
/// Bytes needed to check a frame's head.
pub const FRAME_PROBE_BYTES: usize = FRAME_HEAD_BYTES + BATCH_BYTES_COVERED;

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its checksum, which the next frame names.
    pub crc: u32,
    /// The checksum of the frame before it.
    pub previous: u32,
    /// The log's generation: counts its cuts.
    pub generation: u32,
    /// The batch's leader epoch.
    pub epoch: LeaderEpoch,
    /// Bytes of the batch.
    pub length: u32,
    /// First offset.
    pub base: Offset,
    /// One past the last offset.
    pub end: Offset,
    /// The log's durable end when it was written.
    pub durable: Offset,
    /// Broker time of the append.
    pub appended_at: Timestamp,
}

/// What every frame of one append shares.
#[derive(Debug, Clone, Copy)]
pub struct FrameContext {
    /// The log's generation.
    pub generation: u32,
    /// The log's durable end.
    pub durable: Offset,
    /// Broker time.
    pub appended_at: Timestamp,
}

impl Frame {
    /// Appends head and batch head for `batch` to `out`; the body is written from where
    /// it lies. Returns the frame.
    pub fn encode(
        batch: &RecordBatch,
        previous: u32,
        context: FrameContext,
        out: &mut BytesMut,
    ) -> Frame {
        let mut frame = Frame {
            crc: 0,
            previous,
            generation: context.generation,
            epoch: batch.leader_epoch(),
            // A parsed batch is below the ceiling, which fits.
            length: u32::try_from(batch.size()).unwrap_or(u32::MAX),
            base: batch.base_offset(),
            end: batch.end_offset(),
            durable: context.durable,
            appended_at: context.appended_at,
        };
        let mut head = frame.head_bytes();
        frame.crc = checksum(&head, batch.head());
        head[4..8].copy_from_slice(&frame.crc.to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(batch.head());
        frame
    }

    fn head_bytes(&self) -> [u8; FRAME_HEAD_BYTES] {
        let mut bytes = [0; FRAME_HEAD_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &FRAME_MAGIC.to_le_bytes());
        put(4, &self.crc.to_le_bytes());
        put(8, &self.previous.to_le_bytes());
        put(12, &self.generation.to_le_bytes());
        put(16, &self.epoch.0.to_le_bytes());
        put(20, &self.length.to_le_bytes());
        put(24, &self.base.0.to_le_bytes());
        put(32, &self.end.0.to_le_bytes());
        put(40, &self.durable.0.to_le_bytes());
        put(48, &self.appended_at.0.to_le_bytes());
        bytes
    }

    /// The frame whose first [`FRAME_PROBE_BYTES`] are at the front of `bytes`, if its
    /// head is intact. Says nothing yet about the rest of the batch.
    #[must_use]
    pub fn probe(bytes: &[u8]) -> Option<Frame> {
        let head: &[u8; FRAME_HEAD_BYTES] = bytes.first_chunk()?;
        let batch = bytes.get(FRAME_HEAD_BYTES..FRAME_PROBE_BYTES)?;
        if u32_at(head, 0) != FRAME_MAGIC {
            return None;
        }
        let frame = Frame {
            crc: u32_at(head, 4),
            previous: u32_at(head, 8),
            generation: u32_at(head, 12),
            epoch: LeaderEpoch(u32_at(head, 16)),
            length: u32_at(head, 20),
            base: Offset(u64_at(head, 24)),
            end: Offset(u64_at(head, 32)),
            durable: Offset(u64_at(head, 40)),
            appended_at: Timestamp(u64_at(head, 48).cast_signed()),
        };
        let possible = (BATCH_HEADER_BYTES..=BATCH_BYTES_CEILING as usize)
            .contains(&(frame.length as usize))
            && frame.base < frame.end;
        (possible && checksum(head, batch) == frame.crc).then_some(frame)
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn size(&self) -> usize {
        FRAME_HEAD_BYTES + self.length as usize
    }

    /// The batch in `bytes`, which begin with this frame: parsed and checked against
    /// the head and its own checksum.
    #[must_use]
    pub fn batch(&self, bytes: &Bytes) -> Option<RecordBatch> {
        if bytes.len() < self.size() {
            return None;
        }
        let batch = RecordBatch::parse(&bytes.slice(FRAME_HEAD_BYTES..self.size())).ok()?;
        let same = batch.base_offset() == self.base
            && batch.end_offset() == self.end
            && batch.leader_epoch() == self.epoch;
        (same && batch.verify_checksum().is_ok()).then_some(batch)
    }
}

fn checksum(head: &[u8; FRAME_HEAD_BYTES], batch: &[u8]) -> u32 {
    let covered = batch.get(..BATCH_BYTES_COVERED).unwrap_or(batch);
    crc32c::crc32c_append(crc32c::crc32c(&head[8..]), covered)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use weir_base::batch::BatchBuilder;

    use super::*;

    fn framed() -> (Frame, Bytes) {
        let batch = BatchBuilder::new(Timestamp(1_700_000_000_000))
            .record(Some(b"key"), Some(b"value"))
            .record(None, Some(b"second"))
            .build()
            .stamped(Offset(41), LeaderEpoch(3));
        let context = FrameContext {
            generation: 2,
            durable: Offset(40),
            appended_at: Timestamp(1_700_000_000_123),
        };
        let mut bytes = BytesMut::new();
        let frame = Frame::encode(&batch, 0xfeed_beef, context, &mut bytes);
        bytes.extend_from_slice(batch.body());
        (frame, bytes.freeze())
    }

    #[test]
    fn the_format_is_frozen() {
        let (_, bytes) = framed();
        let golden = include_bytes!("../../testdata/frame.bin");
        assert_eq!(bytes[..], golden[..]);
    }

    #[test]
    fn a_frame_reads_back() {
        let (frame, bytes) = framed();
        assert_eq!(Frame::probe(&bytes), Some(frame));
        let batch = frame.batch(&bytes).unwrap();
        assert_eq!(
            (batch.base_offset(), batch.end_offset()),
            (frame.base, frame.end)
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let (_, bytes) = framed();
        let intact = |bytes: Bytes| Frame::probe(&bytes).is_some_and(|f| f.batch(&bytes).is_some());
        assert!(intact(bytes.clone()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!intact(bad.into()), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(!intact(bytes.slice(..len)), "{len} bytes");
        }
    }
}
