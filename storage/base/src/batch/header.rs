//! The fixed 61 bytes at the front of a batch.

use super::{BATCH_HEADER_BYTES, BatchError, size_from_length};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// A batch's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the batch after the length field.
    pub length: i32,
    /// Epoch of the leader that appended it; -1 on the wire before that, 0 here.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Last offset the batch takes minus its first.
    pub last_offset_delta: u32,
    /// Base of the records' timestamp deltas.
    pub base_timestamp: Timestamp,
    /// Largest timestamp in the batch, or the append time.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// Its epoch; -1 without a producer.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record; -1 without a producer.
    pub base_sequence: i32,
    /// Number of records: one an offset as produced, fewer after compaction.
    pub record_count: u32,
}

impl BatchHeader {
    /// The whole batch's size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        // `decode` and the builder admit only lengths for which this holds.
        size_from_length(self.length).unwrap_or(BATCH_HEADER_BYTES)
    }

    /// Whether it takes part in idempotence.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.producer_id != ProducerId::NONE
    }

    /// Decodes and checks a header. Fewer records than offsets are legal here, since
    /// compaction leaves such batches; [`super::RecordBatch::verify`] refuses them from producers.
    ///
    /// # Errors
    /// `Length`, `Magic`, `Codec` or `Count`.
    pub fn decode(bytes: &[u8; BATCH_HEADER_BYTES]) -> Result<BatchHeader, BatchError> {
        let length = i32::from_be_bytes(field(bytes, 8));
        size_from_length(length)?;
        let magic = i8::from_be_bytes(field(bytes, 16));
        if magic != 2 {
            return Err(BatchError::Magic { magic });
        }
        let attributes = Attributes(i16::from_be_bytes(field(bytes, 21)));
        if attributes.codec() > 4 {
            return Err(BatchError::Codec {
                codec: attributes.codec(),
            });
        }
        let delta = i32::from_be_bytes(field(bytes, 23));
        let count = i32::from_be_bytes(field(bytes, 57));
        let (last_offset_delta, record_count) = u32::try_from(delta)
            .ok()
            .zip(u32::try_from(count).ok())
            .filter(|(delta, count)| u64::from(*count) <= u64::from(*delta) + 1)
            .ok_or(BatchError::Count {
                count,
                last_offset_delta: delta,
            })?;
        Ok(BatchHeader {
            base_offset: Offset::from_wire(i64::from_be_bytes(field(bytes, 0))).unwrap_or_default(),
            length,
            leader_epoch: LeaderEpoch::from_wire(i32::from_be_bytes(field(bytes, 12)))
                .unwrap_or_default(),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes,
            last_offset_delta,
            base_timestamp: Timestamp(i64::from_be_bytes(field(bytes, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(field(bytes, 35))),
            producer_id: ProducerId(i64::from_be_bytes(field(bytes, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(bytes, 51))),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count,
        })
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.base_offset.to_wire().to_be_bytes());
        put(8, &self.length.to_be_bytes());
        put(12, &self.leader_epoch.to_wire().to_be_bytes());
        put(16, &2i8.to_be_bytes());
        put(17, &self.crc.to_be_bytes());
        put(21, &self.attributes.0.to_be_bytes());
        put(23, &self.last_offset_delta.to_be_bytes());
        put(27, &self.base_timestamp.0.to_be_bytes());
        put(35, &self.max_timestamp.0.to_be_bytes());
        put(43, &self.producer_id.0.to_be_bytes());
        put(51, &self.producer_epoch.0.to_be_bytes());
        put(53, &self.base_sequence.to_be_bytes());
        put(57, &self.record_count.to_be_bytes());
        bytes
    }
}

fn field<const N: usize>(bytes: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// Codec and flags of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;

    /// The codec's number.
    #[must_use]
    pub fn codec(self) -> i16 {
        self.0 & 0x07
    }

    /// The codec. Numbers that do not exist were refused when the header was decoded.
    #[must_use]
    pub fn compression(self) -> Compression {
        match self.codec() {
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => Compression::None,
        }
    }

    pub(super) fn set_compression(&mut self, codec: Compression) {
        let number = match codec {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        };
        self.0 = self.0 & !0x07 | number;
    }

    /// Whether timestamps are the broker's.
    #[must_use]
    pub fn is_log_append_time(self) -> bool {
        self.0 & Self::LOG_APPEND_TIME != 0
    }

    /// Whether it belongs to a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether it holds a control record, which consumers skip.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    pub(super) fn set_log_append_time(&mut self) {
        self.0 |= Self::LOG_APPEND_TIME;
    }

    pub(super) fn set_control(&mut self) {
        self.0 |= Self::CONTROL;
    }
}

/// How a batch's records are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}
