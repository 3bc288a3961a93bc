//! The record batch: Kafka's v2 format, kept byte for byte.
//!
//! ```text
//!  0 base offset i64 | 8 batch length i32 | 12 leader epoch i32 | 16 magic i8 | 17 crc u32
//! 21 attributes i16 | 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64
//! 43 producer id i64 | 51 producer epoch i16 | 53 base sequence i32 | 57 record count i32
//! 61 records
//! ```
//!
//! The CRC-32C covers byte 21 to the end, so the broker may assign base offset and
//! leader epoch without touching it. A [`RecordBatch`] therefore holds the 61 bytes of
//! the head by value and the records as a shared slice of the buffer they arrived in:
//! stamping copies nothing.

mod builder;
mod compression;
mod header;
mod record;
mod scan;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use builder::BatchBuilder;
pub use compression::{CheckedRecords, Decompressor, RecordsCheck, compress, decompress};
pub use header::{Attributes, BatchHeader, Compression};
pub use record::{Record, RecordHeader, read_records, read_records_if};

use crate::limits::BATCH_BYTES_CEILING;
use crate::{LeaderEpoch, Offset};

/// Bytes of a batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes before those that the batch length counts.
const LENGTH_PREFIX_BYTES: usize = 12;

/// Why bytes are no acceptable record batch. Nothing of such a batch is stored.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum BatchError {
    /// Fewer bytes than the header, or than the header says.
    #[error("record batch needs {needed} bytes, has {available}")]
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        available: usize,
    },
    /// The length field is impossible.
    #[error("record batch length {length} is out of range")]
    Length {
        /// The field's value.
        length: i32,
    },
    /// Not format version 2.
    #[error("record batch has magic {magic}, only 2 is supported")]
    Magic {
        /// The version found.
        magic: i8,
    },
    /// The checksum does not match.
    #[error("record batch checksum is {actual:#010x}, its header says {expected:#010x}")]
    Checksum {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        actual: u32,
    },
    /// Record count and offset delta contradict each other or the records.
    #[error("record batch says {count} records and last offset delta {last_offset_delta}")]
    Count {
        /// Record count field.
        count: i32,
        /// Last offset delta field.
        last_offset_delta: i32,
    },
    /// A record inside does not parse.
    #[error("record {index} of the batch is malformed")]
    Record {
        /// Its position in the batch.
        index: usize,
    },
    /// What should be compressed records is not.
    #[error("records of the batch do not decompress")]
    Decompress,
    /// Compressed records that are larger than allowed.
    #[error("records of the batch decompress to more than {max} bytes: send smaller batches")]
    Expands {
        /// The limit in bytes.
        max: usize,
    },
    /// A compression codec number that does not exist.
    #[error("record batch names unknown compression codec {codec}")]
    Codec {
        /// The number.
        codec: i16,
    },
    /// Bytes follow the batch where exactly one was expected.
    #[error("{extra} bytes follow the record batch")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

impl BatchError {
    fn count(count: u32, last_offset_delta: u32) -> BatchError {
        let wire = |value| i32::try_from(value).unwrap_or(i32::MAX);
        BatchError::Count {
            count: wire(count),
            last_offset_delta: wire(last_offset_delta),
        }
    }
}

/// One record batch with a well-formed header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBatch {
    header: BatchHeader,
    head: [u8; BATCH_HEADER_BYTES],
    body: Bytes,
}

impl RecordBatch {
    /// Parses exactly one batch. Checks everything but the checksum and the records.
    ///
    /// # Errors
    /// Any [`BatchError`] except `Checksum` and `Record`.
    pub fn parse(bytes: &Bytes) -> Result<RecordBatch, BatchError> {
        let (batch, used) = Self::parse_prefix(bytes)?;
        match bytes.len() - used {
            0 => Ok(batch),
            extra => Err(BatchError::Trailing { extra }),
        }
    }

    /// Parses the first of several batches; also gives its length in bytes.
    ///
    /// # Errors
    /// As [`RecordBatch::parse`], without `Trailing`.
    pub fn parse_prefix(bytes: &Bytes) -> Result<(RecordBatch, usize), BatchError> {
        let mut head = [0; BATCH_HEADER_BYTES];
        let available = bytes.len();
        let source = bytes
            .get(..BATCH_HEADER_BYTES)
            .ok_or(BatchError::Truncated {
                needed: BATCH_HEADER_BYTES,
                available,
            })?;
        head.copy_from_slice(source);
        let header = BatchHeader::decode(&head)?;
        let size = header.size();
        if available < size {
            return Err(BatchError::Truncated {
                needed: size,
                available,
            });
        }
        Ok((
            Self {
                header,
                head,
                body: bytes.slice(BATCH_HEADER_BYTES..size),
            },
            size,
        ))
    }

    /// Parses a run of whole batches.
    ///
    /// # Errors
    /// As [`RecordBatch::parse_prefix`], at the first bad one.
    pub fn parse_all(mut bytes: Bytes) -> Result<Vec<RecordBatch>, BatchError> {
        let mut batches = Vec::new();
        while !bytes.is_empty() {
            let (batch, used) = Self::parse_prefix(&bytes)?;
            bytes = bytes.slice(used..);
            batches.push(batch);
        }
        Ok(batches)
    }

    /// This batch with other records, and with length, codec and checksum to match: `body`
    /// is `count` of its records, compressed as `codec` says.
    ///
    /// # Errors
    /// `Length` if they are too large for a batch.
    pub fn with_records(
        &self,
        body: Bytes,
        count: u32,
        codec: Compression,
    ) -> Result<RecordBatch, BatchError> {
        let length = BATCH_HEADER_BYTES - LENGTH_PREFIX_BYTES + body.len();
        let mut header = self.header;
        header.length = i32::try_from(length).unwrap_or(i32::MAX);
        size_from_length(header.length)?;
        header.record_count = count;
        header.attributes.set_compression(codec);
        let mut batch = Self::from_parts(header, body);
        batch.header.crc = batch.checksum();
        batch.head = batch.header.encode();
        Ok(batch)
    }

    /// This batch up to a later offset and time: for one without records, which then
    /// stands for more offsets.
    #[must_use]
    pub fn stretched(&self, last_offset_delta: u32, newest: crate::Timestamp) -> RecordBatch {
        let mut header = self.header;
        header.last_offset_delta = last_offset_delta;
        header.max_timestamp = header.max_timestamp.max(newest);
        let mut batch = Self::from_parts(header, self.body.clone());
        batch.header.crc = batch.checksum();
        batch.head = batch.header.encode();
        batch
    }

    fn from_parts(header: BatchHeader, body: Bytes) -> RecordBatch {
        Self {
            header,
            head: header.encode(),
            body,
        }
    }

    /// The decoded header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// First offset.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    /// One past the last offset.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.header.base_offset + u64::from(self.header.last_offset_delta) + 1
    }

    /// The epoch of the leader that appended it.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.header.leader_epoch
    }

    /// Bytes on the wire.
    #[must_use]
    pub fn size(&self) -> usize {
        BATCH_HEADER_BYTES + self.body.len()
    }

    /// The records' bytes, compressed as sent.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The head's bytes.
    #[must_use]
    pub fn head(&self) -> &[u8; BATCH_HEADER_BYTES] {
        &self.head
    }

    /// The batch as two chunks for vectored writing; the body is shared.
    #[must_use]
    pub fn chunks(&self) -> [Bytes; 2] {
        [Bytes::copy_from_slice(&self.head), self.body.clone()]
    }

    /// The batch in one piece (copies).
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        [&self.head[..], &self.body[..]].concat().into()
    }

    /// Assigns position and epoch; the two fields outside the checksum.
    #[must_use]
    pub fn stamped(mut self, base_offset: Offset, epoch: LeaderEpoch) -> RecordBatch {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = epoch;
        self.head[..8].copy_from_slice(&base_offset.to_wire().to_be_bytes());
        self.head[12..16].copy_from_slice(&epoch.to_wire().to_be_bytes());
        self
    }

    /// Sets timestamp type "log append time" and the time, and the checksum anew.
    #[must_use]
    pub fn with_log_append_time(mut self, at: crate::Timestamp) -> RecordBatch {
        self.header.attributes.set_log_append_time();
        self.header.max_timestamp = at;
        self.header.crc = 0;
        self.head = self.header.encode();
        self.header.crc = self.checksum();
        self.head = self.header.encode();
        self
    }

    /// Verifies the checksum over all bytes.
    ///
    /// # Errors
    /// [`BatchError::Checksum`].
    pub fn verify_checksum(&self) -> Result<(), BatchError> {
        let actual = self.checksum();
        if actual == self.header.crc {
            Ok(())
        } else {
            Err(BatchError::Checksum {
                expected: self.header.crc,
                actual,
            })
        }
    }

    fn checksum(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.head[21..]), &self.body)
    }

    /// What a broker checks of a batch from a client at once: the checksum, and for an
    /// uncompressed batch that its records are as many and as numbered as it says. Those of a
    /// compressed batch are for [`RecordsCheck`], whose cost wants to be spread.
    ///
    /// # Errors
    /// `Checksum`, `Count` or `Record`.
    pub fn verify(&self) -> Result<(), BatchError> {
        self.verify_checksum()?;
        let BatchHeader {
            record_count,
            last_offset_delta,
            ..
        } = self.header;
        if record_count != last_offset_delta + 1 {
            return Err(BatchError::count(record_count, last_offset_delta));
        }
        if self.header.attributes.compression() == Compression::None {
            record::verify_records(&self.body, record_count)?;
        }
        Ok(())
    }

    /// Whether a record of an uncompressed batch that was verified has a header whose name
    /// begins so.
    #[must_use]
    pub fn has_header(&self, prefix: &[u8]) -> bool {
        record::has_header(&self.body, self.header.record_count, prefix)
    }

    /// The records of an uncompressed batch, or of `body` decompressed by the caller.
    ///
    /// # Errors
    /// `Record` or `Count` if they do not parse.
    pub fn records(&self) -> Result<Vec<Record>, BatchError> {
        read_records(&self.header, &self.body)
    }
}

/// Whether `length` (the field) is possible, and the whole batch's size.
fn size_from_length(length: i32) -> Result<usize, BatchError> {
    let size = usize::try_from(length)
        .ok()
        .and_then(|l| l.checked_add(LENGTH_PREFIX_BYTES));
    size.filter(|s| (BATCH_HEADER_BYTES..=BATCH_BYTES_CEILING as usize).contains(s))
        .ok_or(BatchError::Length { length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn batch() -> RecordBatch {
        BatchBuilder::new(Timestamp(1_000))
            .record(Some(b"k"), Some(b"v1"))
            .record(None, Some(b"v2"))
            .build()
    }

    #[test]
    fn a_built_batch_parses_and_verifies() {
        let batch = batch();
        let parsed = RecordBatch::parse(&batch.to_bytes()).unwrap();
        assert_eq!(parsed, batch);
        parsed.verify().unwrap();
        let records = parsed.records().unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
        assert_eq!(records[1].value.as_deref(), Some(&b"v2"[..]));
        assert_eq!(records[1].offset, Offset(1));
    }

    #[test]
    fn stamping_leaves_the_checksum_valid() {
        let stamped = batch().stamped(Offset(41), LeaderEpoch(7));
        stamped.verify().unwrap();
        let parsed = RecordBatch::parse(&stamped.to_bytes()).unwrap();
        assert_eq!(
            (parsed.base_offset(), parsed.end_offset()),
            (Offset(41), Offset(43))
        );
        assert_eq!(parsed.leader_epoch(), LeaderEpoch(7));
    }

    #[test]
    fn log_append_time_gets_a_new_checksum() {
        let batch = batch().with_log_append_time(Timestamp(5_000));
        batch.verify().unwrap();
        assert_eq!(RecordBatch::parse(&batch.to_bytes()).unwrap(), batch);
        assert_eq!(batch.records().unwrap()[0].timestamp, Timestamp(5_000));
    }

    #[test]
    fn every_flipped_bit_behind_the_crc_is_noticed() {
        let bytes = batch().to_bytes();
        for at in 17..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            let verdict = RecordBatch::parse(&bad.into()).and_then(|b| b.verify());
            assert!(verdict.is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = batch().to_bytes();
        for len in 0..bytes.len() {
            assert!(RecordBatch::parse(&bytes.slice(..len)).is_err(), "{len}");
        }
    }

    #[test]
    fn a_lying_count_is_refused() {
        let mut header = *batch().header();
        header.record_count = 3;
        header.last_offset_delta = 2;
        let mut lying = RecordBatch::from_parts(header, batch().body().clone());
        lying.header.crc = lying.checksum();
        lying.head = lying.header.encode();
        let error = RecordBatch::parse(&lying.to_bytes())
            .and_then(|b| b.verify())
            .unwrap_err();
        assert!(
            matches!(error, BatchError::Count { .. } | BatchError::Record { .. }),
            "{error}"
        );
    }

    #[test]
    fn lengths_out_of_range_allocate_nothing() {
        for length in [i32::MIN, -1, 0, 48, i32::MAX] {
            let mut bytes = batch().to_bytes().to_vec();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            let error = RecordBatch::parse(&bytes.into()).unwrap_err();
            assert_eq!(error, BatchError::Length { length });
        }
    }
}
